"""Bitstream headers: what the decoder does not export.

ITU-T H.264 section 7.3.2.1.1 (sequence parameter set).
"""

from __future__ import annotations

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


class BitReader:
    """Reads unsigned fields and Exp-Golomb codes from bytes, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        """Read ``count`` bits; EOFError past the end."""
        if count > self._left:
            raise EOFError(f"count={count}: only {self._left} bits are left")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """Read an unsigned Exp-Golomb code, ``ue(v)`` (H.264 section 9.1)."""
        num_zeros = 0
        while not self.bits(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.bits(num_zeros)

    def signed(self) -> int:
        """Read a signed Exp-Golomb code, ``se(v)``."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def h264_motion_exact(extradata: bytes) -> bool:
    """Tell whether each exported H.264 vector can only mean one picture.

    True if the sequence parameter set allows one reference frame and all frames are progressive: the exported
    vectors name a direction, not which of several references they point to.

    Parameters
    ----------
    extradata : bytes
        The decoder's configuration, ``avcC`` or Annex B; without a parameter set the answer is False.
    """
    sps = _find_sps(extradata)
    if sps is None:
        return False
    try:
        num_reference_frames, progressive = _read_sps(sps)
    except EOFError:
        return False
    return num_reference_frames <= 1 and progressive


def h264_displays_as_coded(extradata: bytes) -> bool:
    """Tell whether pictures are displayed in decoding order: picture order count type 2 (H.264 section 8.2.1.3)."""
    sps = _find_sps(extradata)
    try:
        return sps is not None and _skip_to_order_count(sps).unsigned() == 2
    except EOFError:
        return False


def _find_sps(extradata: bytes) -> bytes | None:
    if extradata[:1] == b"\x01" and len(extradata) > 8:  # avcC: 5 bytes, count, then length and unit
        length = int.from_bytes(extradata[6:8], "big")
        unit = extradata[8 : 8 + length]
        return unit if unit and unit[0] & 31 == 7 else None
    for unit in extradata.split(b"\x00\x00\x01")[1:]:
        if unit and unit[0] & 31 == 7:
            return unit
    return None


def _skip_to_order_count(unit: bytes) -> BitReader:
    reader = BitReader(unit[1:].replace(b"\x00\x00\x03", b"\x00\x00"))  # take out emulation prevention
    profile = reader.bits(8)
    reader.bits(16)  # constraints and level
    reader.unsigned()  # id
    if profile in _HIGH_PROFILES:
        _skip_high_profile_fields(reader)
    reader.unsigned()  # log2_max_frame_num_minus4
    return reader


def _read_sps(unit: bytes) -> tuple[int, bool]:
    reader = _skip_to_order_count(unit)
    _skip_order_count(reader)
    num_reference_frames = reader.unsigned()
    reader.bits(1)  # gaps_in_frame_num_value_allowed_flag
    reader.unsigned()  # width in macroblocks
    reader.unsigned()  # height in map units
    return num_reference_frames, bool(reader.bits(1))  # frame_mbs_only_flag


def _skip_high_profile_fields(reader: BitReader) -> None:
    chroma_format = reader.unsigned()
    if chroma_format == 3:
        reader.bits(1)
    reader.unsigned()  # luma bit depth
    reader.unsigned()  # chroma bit depth
    reader.bits(1)
    if reader.bits(1):  # scaling matrices
        for i in range(8 if chroma_format != 3 else 12):
            if reader.bits(1):
                _skip_scaling_list(reader, 16 if i < 6 else 64)


def _skip_scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.signed()) % 256
        last = following or last


def _skip_order_count(reader: BitReader) -> None:
    kind = reader.unsigned()
    if kind == 0:
        reader.unsigned()
    elif kind == 1:
        reader.bits(1)
        reader.signed()
        reader.signed()
        for _ in range(reader.unsigned()):
            reader.signed()
