"""MPEG-4 Part 2 headers: the video object layer (VOL) and the video object planes (VOPs), which are its pictures.

ISO/IEC 14496-2, sections 6.2 and 6.3. Where the standard leaves room, or encoders broke it, this reads what
libavcodec reads, since the pictures come from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vidprep.codec.bitstream import BitReader
from vidprep.errors import DecodeError, UnsupportedError

_GROUP_CODE, _VOP_CODE = 0xB3, 0xB6
_HEADER_BYTES = 256  # a VOL with both matrices takes 160; a VOP's time may take one bit a second
_SIMPLE_TYPES = (1, 17)  # simple and advanced simple objects, which libavcodec takes for streams without B-VOPs
_DC_THRESHOLDS = (99, 13, 15, 17, 19, 21, 23, 0)  # table 6-21: the quantiser from which DC is coded like AC


@dataclass(frozen=True, slots=True)
class Vol:
    """What a video object layer says of all its pictures.

    Attributes
    ----------
    width, height : int
        Size in pixels, as shown.
    ticks_per_second : int
        ``vop_time_increment_resolution``.
    low_delay : bool
        The promise that no B-VOPs come; encoders break it.
    quarter_sample : bool
        Vectors count quarter pixels, not half pixels.
    interlaced, sprite, data_partitioned, reversible_vlc, resync_marker_disable : bool
        Coding tools; ``sprite`` is global motion compensation too.
    mpeg_quantisation, custom_matrices : bool
        Dequantisation with matrices (``quant_type``), and whether they are the stream's own.
    other_tools : tuple of str
        Names of further tools that no parser here knows.
    """

    width: int
    height: int
    ticks_per_second: int
    low_delay: bool
    quarter_sample: bool
    interlaced: bool
    sprite: bool
    data_partitioned: bool
    reversible_vlc: bool
    resync_marker_disable: bool
    mpeg_quantisation: bool
    custom_matrices: bool
    other_tools: tuple[str, ...]

    @property
    def tick_bits(self) -> int:
        """Number of bits of a VOP's time increment."""
        return max((self.ticks_per_second - 1).bit_length(), 1)

    @property
    def mb_shape(self) -> tuple[int, int]:
        """Rows and columns of macroblocks."""
        return (self.height + 15) // 16, (self.width + 15) // 16


@dataclass(frozen=True, slots=True)
class Vop:
    """The header of one picture.

    Attributes
    ----------
    picture_type : str
        ``"I"``, ``"P"``, ``"B"`` or ``"S"``; nothing behind an S-VOP's ``coded`` is read.
    coded : bool
        Whether there is a picture at all; if not, the last one stays.
    group_seconds : int or None
        Time of the group header before it, if there is one.
    modulo_seconds, increment_ticks : int
        The VOP's time, which :class:`Clock` makes sense of.
    rounding_type : int
        0, or 1: interpolated pixels are rounded down.
    dc_threshold : int
        Quantiser from which on intra DC coefficients are coded like the others (``intra_dc_vlc_thr``).
    quantiser : int
        Of the first macroblock.
    past_fcode, future_fcode : int
        Range of the vectors; 1 where there are none.
    position : int
        Bit of the data where macroblocks begin.
    """

    picture_type: str
    coded: bool
    group_seconds: int | None
    modulo_seconds: int
    increment_ticks: int
    rounding_type: int = 0
    dc_threshold: int = 0
    quantiser: int = 0
    past_fcode: int = 1
    future_fcode: int = 1
    position: int = 0


class Clock:
    """Follows the VOPs' times in decoding order, for the temporal distances that direct mode scales vectors by."""

    def __init__(self) -> None:
        self._seconds = self._past_seconds = self._anchor_ticks = self._span = 0

    def step(self, vop: Vop, ticks_per_second: int) -> tuple[int, int]:
        """Return ticks from the past anchor to this VOP and to the next anchor (TRB and TRD, section 7.6.9.5.2)."""
        if vop.group_seconds is not None:
            self._seconds = vop.group_seconds
        if vop.picture_type == "B":
            ticks = (self._past_seconds + vop.modulo_seconds) * ticks_per_second + vop.increment_ticks
            return (self._span - self._anchor_ticks + ticks) & 0xFFFF, self._span
        self._past_seconds = self._seconds
        self._seconds += vop.modulo_seconds
        ticks = self._seconds * ticks_per_second + vop.increment_ticks
        self._span = (ticks - self._anchor_ticks) & 0xFFFF
        self._anchor_ticks = ticks
        return self._span, self._span


def has_vol(data: bytes) -> bool:
    """Tell whether a configuration or a packet holds a video object layer."""
    return bool(_vol_places(data))


def has_short_header(data: bytes) -> bool:
    """Tell whether a packet begins like H.263, which MPEG-4 Part 2 includes as its short video header."""
    return data[:2] == b"\0\0" and data[2:3] >= b"\x80"


def read_vol(data: bytes) -> Vol:
    """Read the last video object layer in a decoder's configuration or a packet.

    Raises
    ------
    DecodeError
        If there is none, or it is cut.
    UnsupportedError
        If the object is not a rectangle, or the stream is H.263's short header.
    """
    places = _vol_places(data)
    if not places and has_short_header(data):
        raise UnsupportedError("short_video_header=1: H.263 in MPEG-4's clothes; transcode it (--codec mpeg4)")
    if not places:
        raise DecodeError(f"num_vols=0 in {len(data)} bytes: no video object layer; the stream is damaged or cut")
    return _vol_at(data, places[-1])[0]


def with_height(data: bytes, height: int) -> bytes:
    """Return the same bytes with another height in each video object layer; the decoder then shows more rows.

    Parameters
    ----------
    data : bytes
        A decoder's configuration or a packet.
    height : int
        Pixels, 1 to 8191.
    """
    if not 0 < height < 1 << 13:
        raise UnsupportedError(f"height={height}: the field holds 1 to 8191; transcode it smaller (--size)")
    patched = bytearray(data)
    for place in _vol_places(data):
        end = place + (_vol_at(data, place)[1] + 7) // 8  # the field reaches back over 13 bits at most two bytes
        shift = 8 * (end - place) - _vol_at(data, place)[1]
        window = int.from_bytes(patched[end - 3 : end])
        patched[end - 3 : end] = (window & ~(0x1FFF << shift) | height << shift).to_bytes(3)
    return bytes(patched)


def read_vop(data: bytes, vol: Vol) -> Vop | None:
    """Read the header of the first VOP in a packet; None if there is none.

    Raises
    ------
    DecodeError
        If it is damaged or cut.
    """
    group = None
    try:
        for code, place in _start_codes(data):
            if code == _GROUP_CODE:
                group = _group_seconds(BitReader(data[place : place + 4]))
            if code == _VOP_CODE:
                return _read_vop(BitReader(data[place : place + _HEADER_BYTES]), vol, group, 8 * place)
    except EOFError as error:
        raise DecodeError("video_object_plane: its header is cut; get the file anew") from error
    return None


def _start_codes(data: bytes) -> Iterator[tuple[int, int]]:
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        yield data[place + 3], place + 4
        place = data.find(b"\0\0\1", place + 3)


def _vol_places(data: bytes) -> list[int]:
    return [place for code, place in _start_codes(data) if 0x20 <= code < 0x30]


def _vol_at(data: bytes, place: int) -> tuple[Vol, int]:
    """Read a VOL; the second is the bit at which its height ends."""
    reader = BitReader(data[place : place + _HEADER_BYTES])
    try:
        version, low_delay = _read_vol_start(reader)
        ticks_per_second = _read_vol_time(reader)
        width, height = (_marked(reader, 13), _marked(reader, 13))
        end = reader.position
        reader.bits(1)
        return _read_vol_tools(reader, version, width, height, ticks_per_second, low_delay), end
    except EOFError as error:
        raise DecodeError(f"num_bytes={len(data) - place}: the video object layer is cut; get the file anew") from error


def _marked(reader: BitReader, count: int) -> int:
    reader.bits(1)
    return reader.bits(count)


def _read_vol_start(reader: BitReader) -> tuple[int, bool]:
    reader.bits(1)  # random_accessible_vol
    object_type = reader.bits(8)
    version = 1
    if reader.bits(1):
        version = reader.bits(4)
        reader.bits(3)
    if reader.bits(4) == 15:  # aspect_ratio_info: extended
        reader.bits(16)
    low_delay = object_type in _SIMPLE_TYPES
    if reader.bits(1):  # vol_control_parameters
        reader.bits(2)
        low_delay = bool(reader.bits(1))
        if reader.bits(1):  # vbv_parameters
            reader.bits(79)
    return version, low_delay


def _read_vol_time(reader: BitReader) -> int:
    shape = reader.bits(2)
    if shape:
        raise UnsupportedError(f"video_object_layer_shape={shape}: only rectangles; transcode it (--codec mpeg4)")
    ticks_per_second = _marked(reader, 16)
    if not ticks_per_second:
        raise DecodeError("vop_time_increment_resolution=0: at least 1; the stream is damaged, get the file anew")
    if _marked(reader, 1):  # fixed_vop_rate
        reader.bits(max((ticks_per_second - 1).bit_length(), 1))
    return ticks_per_second


def _read_vol_tools(
    reader: BitReader, version: int, width: int, height: int, ticks_per_second: int, low_delay: bool
) -> Vol:
    interlaced, obmc = bool(reader.bits(1)), not reader.bits(1)
    sprite = reader.bits(1 if version == 1 else 2)
    if sprite:
        reader.bits(56 if sprite == 1 else 0)
        reader.bits(9 if sprite == 2 else 10)
    n_bit = reader.bits(1) and reader.bits(8) != 0x58
    mpeg_quantisation = bool(reader.bits(1))
    custom_matrices = mpeg_quantisation and any([_skip_matrix(reader), _skip_matrix(reader)])
    quarter_sample = version != 1 and bool(reader.bits(1))
    complexity = not reader.bits(1)  # its fields follow: what is read from here on is not used, but refused
    resync_marker_disable, data_partitioned = bool(reader.bits(1)), bool(reader.bits(1))
    reversible_vlc = data_partitioned and bool(reader.bits(1))
    new_prediction = version != 1 and bool(reader.bits(1))
    reader.bits(3 if new_prediction else 0)
    reduced_resolution = version != 1 and bool(reader.bits(1))
    tools = {"overlapped block motion compensation": obmc, "more or fewer than 8 bits": n_bit,
             "complexity estimation": complexity, "NEWPRED": new_prediction,
             "reduced resolution": reduced_resolution, "scalability": reader.bits(1)}  # fmt: skip
    return Vol(
        width=width,
        height=height,
        ticks_per_second=ticks_per_second,
        low_delay=low_delay,
        quarter_sample=quarter_sample,
        interlaced=interlaced,
        sprite=bool(sprite),
        data_partitioned=data_partitioned,
        reversible_vlc=reversible_vlc,
        resync_marker_disable=resync_marker_disable,
        mpeg_quantisation=mpeg_quantisation,
        custom_matrices=custom_matrices,
        other_tools=tuple(name for name, used in tools.items() if used),
    )


def _skip_matrix(reader: BitReader) -> bool:
    if not reader.bits(1):
        return False
    for _ in range(64):
        if not reader.bits(8):
            break
    return True


def _group_seconds(reader: BitReader) -> int:
    hours, minutes = reader.bits(5), reader.bits(6)
    return 3600 * hours + 60 * minutes + _marked(reader, 6)


def _read_vop(reader: BitReader, vol: Vol, group_seconds: int | None, start: int) -> Vop:
    picture_type = "IPBS"[reader.bits(2)]
    modulo_seconds = 0
    while reader.bits(1):
        modulo_seconds += 1
    increment_ticks = _marked(reader, vol.tick_bits)
    if not reader.bits(1):
        raise DecodeError("marker=0 after vop_time_increment: the header is damaged; get the file anew")
    vop = Vop(picture_type, bool(reader.bits(1)), group_seconds, modulo_seconds, increment_ticks)
    if not vop.coded or picture_type == "S":
        return vop
    rounding_type = reader.bits(1) if picture_type == "P" else 0
    dc_threshold = _DC_THRESHOLDS[reader.bits(3)]
    reader.bits(2 if vol.interlaced else 0)
    quantiser = reader.bits(5)
    past_fcode = reader.bits(3) if picture_type != "I" else 1
    future_fcode = reader.bits(3) if picture_type == "B" else 1
    if not (quantiser and past_fcode and future_fcode):
        raise DecodeError(
            f"quantiser={quantiser}, fcodes={past_fcode}, {future_fcode}: none may be 0; the header is damaged"
        )
    return replace(
        vop,
        rounding_type=rounding_type,
        dc_threshold=dc_threshold,
        quantiser=quantiser,
        past_fcode=past_fcode,
        future_fcode=future_fcode,
        position=start + reader.position,
    )
