"""MPEG-4 Part 2: the header of a video object layer (VOL), which says what all its pictures have in common.

ISO/IEC 14496-2, sections 6.2.3 and 6.3.3. Where the standard leaves room, or encoders broke it, this reads what
libavcodec reads, since the pictures come from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vidprep.codec.bitstream import BitReader
from vidprep.errors import DecodeError, UnsupportedError

_HEADER_BYTES = 256  # with both matrices it takes 160
_SIMPLE_TYPES = (1, 17)  # simple and advanced simple objects, which libavcodec takes for streams without B-VOPs


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
    return _vol_at(data, places[-1])


def start_codes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each start code's last byte, and where what follows begins."""
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        yield data[place + 3], place + 4
        place = data.find(b"\0\0\1", place + 3)


def _vol_places(data: bytes) -> list[int]:
    return [place for code, place in start_codes(data) if 0x20 <= code < 0x30]


def _vol_at(data: bytes, place: int) -> Vol:
    reader = BitReader(data[place : place + _HEADER_BYTES])
    try:
        version, low_delay = _read_vol_start(reader)
        ticks_per_second = _read_vol_time(reader)
        width, height = marked(reader, 13), marked(reader, 13)
        reader.bits(1)
        return _read_vol_tools(reader, version, width, height, ticks_per_second, low_delay)
    except EOFError as error:
        raise DecodeError(f"num_bytes={len(data) - place}: the video object layer is cut; get the file anew") from error


def marked(reader: BitReader, count: int) -> int:
    """Read a field that stands behind a marker bit."""
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
    ticks_per_second = marked(reader, 16)
    if not ticks_per_second:
        raise DecodeError("vop_time_increment_resolution=0: at least 1; the stream is damaged, get the file anew")
    if marked(reader, 1):  # fixed_vop_rate
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
