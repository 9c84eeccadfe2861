"""H.264's parameter sets and slice headers, as far as references need them (ITU-T H.264 section 7.3)."""

from __future__ import annotations

from dataclasses import dataclass

from vidprep.codec.bitstream import BitReader

SLICES, PARTITIONS = (1, 5), (2, 3, 4)
PARAMETERS_OF_SEQUENCE, PARAMETERS_OF_PICTURES = 7, 8
_IDR = 5
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_KINDS = "PBIPI"  # SP and SI count as P and I
_HEADER_BYTES = 96  # more than a slice header with one reference a list takes


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence parameter set."""

    num_references: int
    chroma_format: int  # 0 for separate planes too
    has_separate_planes: bool
    num_frame_number_bits: int
    order_kind: int
    num_order_bits: int
    has_order_deltas: bool
    is_progressive: bool
    is_adaptive: bool


@dataclass(frozen=True, slots=True)
class Pictures:
    """A picture parameter set."""

    sequence_id: int
    has_field_order: bool
    num_references: tuple[int, int]
    is_weighted: dict[str, bool]
    has_redundant: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """What a slice header says of references.

    Attributes
    ----------
    kind : {"I", "P", "B"}
    has_default_references : bool
        One reference a list at most, the first of the default order, and the reference decoded last is kept.
    order : int or None
        Place in display order, modulo ``2**num_order_bits``; None where it is not counted.
    """

    kind: str
    begins_picture: bool
    is_idr: bool
    is_reference: bool
    is_redundant: bool
    has_fields: bool
    has_default_references: bool
    num_references_kept: int
    order: int | None
    num_order_bits: int

    def order_after(self, other: Slice) -> int | None:
        """Return by how many counts of display order it follows a neighbour; None if they don't count them."""
        if self.order is None or other.order is None:
            return None
        period = 1 << self.num_order_bits
        return (self.order - other.order + period // 2 - 1) % period - period // 2 + 1


class ParameterSets:
    """The parameter sets of a stream so far, by their numbers."""

    def __init__(self) -> None:
        self._sequences: dict[int, Sequence] = {}
        self._pictures: dict[int, Pictures] = {}

    def add(self, unit: bytes) -> None:
        """Read a parameter set; what can't be read is forgotten, with what it replaces."""
        is_sequence = unit[0] & 31 == PARAMETERS_OF_SEQUENCE
        reader = BitReader(_payload(unit))
        try:
            if is_sequence:
                self._sequences.update([_read_sequence(reader)])
            else:
                self._pictures.update([_read_pictures(reader)])
        except (EOFError, LookupError):
            (self._sequences if is_sequence else self._pictures).clear()

    def slice_of(self, unit: bytes) -> Slice:
        """Read a slice header; EOFError or LookupError if that can't be done."""
        reader = BitReader(_payload(unit[:_HEADER_BYTES]))
        first_macroblock, kind = reader.unsigned(), _KINDS[reader.unsigned() % 5]
        pictures = self._pictures[reader.unsigned()]
        sequence = self._sequences[pictures.sequence_id]
        is_idr, is_reference = unit[0] & 31 == _IDR, bool(unit[0] & 0x60)
        is_field, order = _read_place(reader, sequence, pictures, is_idr=is_idr)
        is_redundant = pictures.has_redundant and reader.unsigned() > 0
        is_default = _read_references(reader, sequence, pictures, kind)
        if is_default and is_reference:
            is_default = _keeps_neighbours(reader, is_idr=is_idr)
        return Slice(
            kind=kind,
            begins_picture=first_macroblock == 0,
            is_idr=is_idr,
            is_reference=is_reference,
            is_redundant=is_redundant,
            has_fields=is_field or sequence.is_adaptive,
            has_default_references=is_default,
            num_references_kept=sequence.num_references,
            order=order,
            num_order_bits=sequence.num_order_bits,
        )


def picture_kind(unit: bytes) -> str | None:
    """Return the kind of a slice, which needs no parameter set; None if it is cut."""
    reader = BitReader(_payload(unit[:16]))
    try:
        reader.unsigned()
        return _KINDS[reader.unsigned() % 5]
    except EOFError:
        return None


def _payload(unit: bytes) -> bytes:
    return unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")  # take out emulation prevention


def _read_sequence(reader: BitReader) -> tuple[int, Sequence]:
    profile = reader.bits(8)
    reader.bits(16)  # constraints and level
    sequence_id = reader.unsigned()
    chroma_format, has_separate_planes = 1, False
    if profile in _HIGH_PROFILES:
        chroma_format, has_separate_planes = _read_high_profile_fields(reader)
    num_frame_number_bits = reader.unsigned() + 4
    order_kind, num_order_bits, has_order_deltas = _read_order_kind(reader)
    if order_kind == 2:  # display order is decoding order
        num_order_bits = num_frame_number_bits
    num_references = reader.unsigned()
    reader.bits(1)  # gaps_in_frame_num_value_allowed_flag
    reader.unsigned()  # width in macroblocks
    reader.unsigned()  # height in map units
    is_progressive = bool(reader.bits(1))  # frame_mbs_only_flag
    return sequence_id, Sequence(
        num_references=num_references,
        chroma_format=0 if has_separate_planes else chroma_format,
        has_separate_planes=has_separate_planes,
        num_frame_number_bits=num_frame_number_bits,
        order_kind=order_kind,
        num_order_bits=num_order_bits,
        has_order_deltas=has_order_deltas,
        is_progressive=is_progressive,
        is_adaptive=not is_progressive and bool(reader.bits(1)),  # mb_adaptive_frame_field_flag
    )


def _read_high_profile_fields(reader: BitReader) -> tuple[int, bool]:
    chroma_format = reader.unsigned()
    has_separate_planes = chroma_format == 3 and bool(reader.bits(1))
    reader.unsigned()  # luma bit depth
    reader.unsigned()  # chroma bit depth
    reader.bits(1)
    if reader.bits(1):  # scaling matrices
        for i in range(8 if chroma_format != 3 else 12):
            if reader.bits(1):
                _skip_scaling_list(reader, 16 if i < 6 else 64)
    return chroma_format, has_separate_planes


def _skip_scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.signed()) % 256
        last = following or last


def _read_order_kind(reader: BitReader) -> tuple[int, int, bool]:
    """Return pic_order_cnt_type, the bits of a count, and whether slices carry differences."""
    kind, num_bits, has_deltas = reader.unsigned(), 0, False
    if kind == 0:
        num_bits = reader.unsigned() + 4
    elif kind == 1:
        has_deltas = not reader.bits(1)
        reader.signed()
        reader.signed()
        for _ in range(reader.unsigned()):
            reader.signed()
    return kind, num_bits, has_deltas


def _read_pictures(reader: BitReader) -> tuple[int, Pictures]:
    pictures_id, sequence_id = reader.unsigned(), reader.unsigned()
    reader.bits(1)  # entropy coding
    has_field_order = bool(reader.bits(1))
    if reader.unsigned():
        raise LookupError("slice groups are of no use: libavcodec does not decode them")
    num_references = reader.unsigned() + 1, reader.unsigned() + 1
    is_weighted = {"P": bool(reader.bits(1)), "B": reader.bits(2) == 1}
    for _ in range(3):
        reader.signed()  # quantisers
    reader.bits(2)
    return pictures_id, Pictures(sequence_id, has_field_order, num_references, is_weighted, bool(reader.bits(1)))


def _read_place(reader: BitReader, sequence: Sequence, pictures: Pictures, *, is_idr: bool) -> tuple[bool, int | None]:
    """Read from frame_num to the order counts; return whether it is a field, and its place in display order."""
    if sequence.has_separate_planes:
        reader.bits(2)
    frame_number = reader.bits(sequence.num_frame_number_bits)
    is_field = not sequence.is_progressive and bool(reader.bits(1))
    if is_field:
        reader.bits(1)
    if is_idr:
        reader.unsigned()
    if sequence.order_kind == 2:
        return is_field, frame_number
    order = reader.bits(sequence.num_order_bits) if sequence.order_kind == 0 else None
    if sequence.order_kind == 0 or sequence.has_order_deltas:
        for _ in range(sequence.order_kind + (pictures.has_field_order and not is_field)):
            reader.signed()
    return is_field, order


def _read_references(reader: BitReader, sequence: Sequence, pictures: Pictures, kind: str) -> bool:
    """Read up to the marking of pictures; return whether each list holds one reference, the default order's first."""
    if kind == "I":
        return True
    if kind == "B":
        reader.bits(1)  # direct prediction
    num_lists = 2 if kind == "B" else 1
    counts = list(pictures.num_references[:num_lists])
    if reader.bits(1):
        counts = [reader.unsigned() + 1 for _ in range(num_lists)]
    for _ in range(num_lists):
        if reader.bits(1) and not (kind == "P" and _puts_last_first(reader)):
            return False
    if max(counts) > 1:
        return False
    if pictures.is_weighted[kind]:
        _skip_weights(reader, sequence, num_lists)
    return True


def _puts_last_first(reader: BitReader) -> bool:
    """Read changes to a list's order; return whether it still begins with the reference decoded last."""
    is_last_first = reader.unsigned() == 0 and reader.unsigned() == 0  # one less than its number
    while is_last_first and reader.unsigned() != 3:
        reader.unsigned()
    return is_last_first


def _skip_weights(reader: BitReader, sequence: Sequence, num_lists: int) -> None:
    planes = (1, 2) if sequence.chroma_format else (1,)
    for _ in planes:
        reader.unsigned()  # denominators
    for _ in range(num_lists):
        for num_pairs in planes:
            if reader.bits(1):
                for _ in range(2 * num_pairs):
                    reader.signed()


def _keeps_neighbours(reader: BitReader, *, is_idr: bool) -> bool:
    """Read the marking of pictures; return whether it forgets none but those before the last reference."""
    if is_idr:
        return reader.bits(2) & 1 == 0  # long_term_reference_flag
    if reader.bits(1):
        while command := reader.unsigned():
            if command != 1 or reader.unsigned() == 0:
                return False
    return True
