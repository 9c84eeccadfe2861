"""MPEG-4 Part 2: the headers of video object planes (VOPs), which are the pictures, and their times.

ISO/IEC 14496-2, sections 6.2.5 and 6.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vidprep.codec.bitstream import BitReader
from vidprep.codec.mpeg4 import Vol, marked, start_codes
from vidprep.errors import DecodeError

_GROUP_CODE, _VOP_CODE = 0xB3, 0xB6
_HEADER_BYTES = 256  # the time may take a bit a second
_DC_THRESHOLDS = (99, 13, 15, 17, 19, 21, 23, 0)  # table 6-21: the quantiser from which DC is coded like AC


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


def read_vop(data: bytes, vol: Vol) -> Vop | None:
    """Read the header of the first VOP in a packet; None if there is none.

    Raises
    ------
    DecodeError
        If it is damaged or cut.
    """
    group = None
    try:
        for code, place in start_codes(data):
            if code == _GROUP_CODE:
                group = _group_seconds(BitReader(data[place : place + 4]))
            if code == _VOP_CODE:
                return _read_vop(BitReader(data[place : place + _HEADER_BYTES]), vol, group, 8 * place)
    except EOFError as error:
        raise DecodeError("video_object_plane: its header is cut; get the file anew") from error
    return None


def _group_seconds(reader: BitReader) -> int:
    hours, minutes = reader.bits(5), reader.bits(6)
    return 3600 * hours + 60 * minutes + marked(reader, 6)


def _read_vop(reader: BitReader, vol: Vol, group_seconds: int | None, start: int) -> Vop:
    picture_type = "IPBS"[reader.bits(2)]
    modulo_seconds = 0
    while reader.bits(1):
        modulo_seconds += 1
    increment_ticks = marked(reader, vol.tick_bits)
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
