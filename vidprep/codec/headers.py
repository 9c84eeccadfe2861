"""Picture headers: what a packet holds, as far as it can be told without decoding it.

ISO/IEC 14496-2 section 6.2 (MPEG-4), ISO/IEC 11172-2 and 13818-2 section 6.2 (MPEG-1 and 2), ITU-T H.264 section
7.3, ITU-T H.263 section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from vidprep.codec.bitstream import BitReader
from vidprep.codec.h264_headers import picture_kind
from vidprep.codec.mpeg4 import Vol, read_vol
from vidprep.codec.mpeg4_vop import Vop, read_vop
from vidprep.errors import DecodeError, UnsupportedError

_START = b"\x00\x00\x01"
_HEAD_BYTES = 64  # the fields that are read stand within them


@dataclass(frozen=True, slots=True)
class Header:
    """What a packet's picture is.

    Attributes
    ----------
    letter : str
        I, P, B, S, or N for a packet without a picture.
    is_entry : bool
        Whether decoding may begin here.
    is_closed : bool
        Whether B-frames right after it in decoding order do without the picture before.
    is_interlaced : bool
    vop : Vop or None
        MPEG-4's own header; its times count ``ticks_per_second``.
    """

    letter: str
    is_entry: bool = False
    is_closed: bool = False
    is_interlaced: bool = False
    vop: Vop | None = None
    ticks_per_second: int = 1


NO_PICTURE = Header("N")


class HeaderReader:
    """Reads the packets of one stream in decoding order, and finds the parameter sets that they need.

    Parameters
    ----------
    codec : str
        A name in READERS.
    extradata : bytes
        Parameter sets that the container holds, as start-coded units; used where the first packet brings none.

    Attributes
    ----------
    head : bytes
        The parameter sets that the first packet begins with.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self.head = b""
        self._extradata = extradata
        self._codec = _CODECS[codec]
        self._sets: dict[bytes, None] = {}

    def read(self, data: bytes) -> Header:
        """Return what a packet holds.

        Raises
        ------
        UnsupportedError
            If it can't be decoded apart from other packets, or parameter sets change.
        """
        units = [unit for unit in data.split(_START)[1:] if unit]
        sets = [unit.rstrip(b"\0") for unit in units if self._codec.is_set(unit)]
        if not self._sets:
            self._begin(data, sets)
        for unit in sets:
            if unit not in self._sets:
                raise UnsupportedError(
                    f"parameter_set={unit[:16].hex()}...: it changes within the stream, so that a group of pictures "
                    "can't be decoded alone; transcode it (--codec mpeg4)"
                )
        try:
            return self._codec.read(data, units, list(self._sets))
        except EOFError as error:
            raise DecodeError(f"picture header of {len(data)} bytes: it is cut; get the file anew") from error

    def _begin(self, data: bytes, sets: list[bytes]) -> None:
        self.head = data[: self._codec.find_picture(data)] if sets else self._extradata
        for unit in self.head.split(_START)[1:]:
            if unit and self._codec.is_set(unit):
                self._sets[unit.rstrip(b"\0")] = None
        if not self._sets and self._codec.needs_sets:
            raise UnsupportedError("num_parameter_sets=0: the stream has no header; transcode it (--codec mpeg4)")


@dataclass(frozen=True, slots=True)
class _Codec:
    is_set: Callable[[bytes], bool]
    find_picture: Callable[[bytes], int]
    read: Callable[[bytes, list[bytes], list[bytes]], Header]
    needs_sets: bool = True


def _find(data: bytes, *kinds: int) -> int:
    places = (data.find(_START + bytes([kind])) for kind in kinds)
    return min((place for place in places if place >= 0), default=0)


def _only_picture(pictures: list[bytes]) -> bytes | None:
    if len(pictures) > 1:
        raise UnsupportedError(
            f"num_pictures={len(pictures)} in one packet: a packet must hold one frame; transcode it (--codec mpeg4)"
        )
    return pictures[0] if pictures else None


def _is_mpeg4_set(unit: bytes) -> bool:
    return 0x20 <= unit[0] <= 0x2F


def _read_mpeg4(data: bytes, units: list[bytes], sets: list[bytes]) -> Header:
    if _only_picture([unit for unit in units if unit[0] == 0xB6]) is None:
        return NO_PICTURE
    layer = _layer(sets[0])
    vop = read_vop(data, layer)
    if vop is None or not vop.coded:
        return NO_PICTURE
    if vop.picture_type == "B" and (layer.interlaced or layer.low_delay):
        raise UnsupportedError(
            f"is_interlaced={layer.interlaced}, low_delay={layer.low_delay} with B-frames: decoding them takes the "
            "frames before the group of pictures; transcode it (--codec mpeg4)"
        )
    return Header(
        vop.picture_type,
        is_entry=vop.picture_type == "I",
        is_interlaced=layer.interlaced,
        vop=vop,
        ticks_per_second=layer.ticks_per_second,
    )


@lru_cache(maxsize=16)
def _layer(unit: bytes) -> Vol:
    return read_vol(_START + unit)


def _is_mpeg2_set(unit: bytes) -> bool:
    return unit[0] == 0xB3 or (unit[0] == 0xB5 and len(unit) > 1 and unit[1] >> 4 in (1, 3))


def _read_mpeg2(data: bytes, units: list[bytes], sets: list[bytes]) -> Header:
    picture = _only_picture([unit for unit in units if unit[0] == 0])
    if picture is None:
        return NO_PICTURE
    letter = "NIPBNNNN"[BitReader(picture[1:3]).bits(13) & 7]
    if letter == "N":
        raise UnsupportedError("picture_coding_type: must be I, P or B; transcode it (--codec mpeg4)")
    is_interlaced = False
    extension = next((unit for unit in units if unit[0] == 0xB5 and unit[1] >> 4 == 8), None)
    if extension is not None:
        reader = BitReader(extension[1:_HEAD_BYTES])
        reader.bits(22)
        if reader.bits(2) != 3:
            raise UnsupportedError("picture_structure=field: a picture must be a frame; transcode it (--codec mpeg4)")
        reader.bits(8)
        is_interlaced = not reader.bits(1) and not _is_progressive_sequence(sets)
    group = next((unit for unit in units if unit[0] == 0xB8), None)
    is_closed = group is not None and bool(BitReader(group[1:5]).bits(26) & 1)
    return Header(letter, is_entry=letter == "I", is_closed=is_closed, is_interlaced=is_interlaced)


def _is_progressive_sequence(sets: list[bytes]) -> bool:
    extension = next((unit for unit in sets if unit[0] == 0xB5 and unit[1] >> 4 == 1), None)
    return extension is not None and bool(BitReader(extension[1:3]).bits(13) & 1)


def _is_h264_set(unit: bytes) -> bool:
    return unit[0] & 31 in (7, 8)


def _find_slice(data: bytes) -> int:
    place = data.find(_START)
    while place >= 0 and data[place + 3] & 31 not in (1, 2, 5):
        place = data.find(_START, place + 3)
    return max(place - (data[place - 1 : place] == b"\0"), 0)


def _read_h264(data: bytes, units: list[bytes], sets: list[bytes]) -> Header:
    slices = [unit for unit in units if unit[0] & 31 in (1, 2, 5)]
    if not slices:
        return NO_PICTURE
    _only_picture([unit for unit in slices if BitReader(unit[1:_HEAD_BYTES]).unsigned() == 0])
    letter = picture_kind(slices[0])
    if letter is None:
        raise EOFError
    return Header(letter, is_entry=slices[0][0] & 31 == 5)


def _read_h263(data: bytes, units: list[bytes], sets: list[bytes]) -> Header:
    reader = BitReader(data[:_HEAD_BYTES])
    if reader.bits(22) != 32:
        return NO_PICTURE
    reader.bits(8 + 5)
    source_format = reader.bits(3)
    if source_format != 7:
        letter = "IP"[reader.bits(1)]
        reader.bits(3)
        has_size, is_pair = True, bool(reader.bits(1))
    else:
        has_size = reader.bits(3) == 1
        if has_size:
            reader.bits(18)
        kind = reader.bits(3)
        letter, is_pair = "IPPBIPNN"[kind], kind == 2
    if is_pair or letter == "N":
        raise UnsupportedError("picture_type=PB: a packet must hold one frame; transcode it (--codec mpeg4)")
    return Header(letter, is_entry=letter == "I" and has_size)


_CODECS = {
    "mpeg4": _Codec(_is_mpeg4_set, lambda data: _find(data, 0xB6, 0xB3), _read_mpeg4),
    "mpeg1video": _Codec(_is_mpeg2_set, lambda data: _find(data, 0xB8, 0x00), _read_mpeg2),
    "mpeg2video": _Codec(_is_mpeg2_set, lambda data: _find(data, 0xB8, 0x00), _read_mpeg2),
    "h264": _Codec(_is_h264_set, _find_slice, _read_h264),
    "h263": _Codec(lambda unit: False, lambda data: 0, _read_h263, needs_sets=False),
}
