"""H.264: whether each exported vector can only mean one picture, read from the headers of packets.

libavcodec names a vector's direction, not which of several references it means. A picture's vectors are certain if
its lists hold one reference each, in the default order, and these are the anchors beside it: the I or P decoded
before it for a P, the two that it is displayed between for a B (ITU-T H.264 sections 7.3.2, 7.3.3 and 8.2.4).
"""

from __future__ import annotations

from collections.abc import Iterator

from vidprep.codec.h264_headers import (
    PARAMETERS_OF_PICTURES,
    PARAMETERS_OF_SEQUENCE,
    PARTITIONS,
    SLICES,
    ParameterSets,
    Slice,
    picture_kind,
)


class References:
    """Follows the packets of one stream in decoding order.

    Parameters
    ----------
    extradata : bytes
        The decoder's configuration: ``avcC``, Annex B, or nothing if the parameter sets stand in the stream.

    Attributes
    ----------
    are_exact : bool
        Whether every vector from the first I-frame on can only mean one picture, as far as it has been read.
    are_of_fields : bool
        Whether a picture was coded in fields, or may be in some of its macroblocks.
    """

    def __init__(self, extradata: bytes) -> None:
        self.are_exact = True
        self.are_of_fields = False
        self._sets = ParameterSets()
        self._length_size = 0  # bytes before each unit; 0 for Annex B
        self._picture: Slice | None = None
        self._num_anchors = 0  # since the last IDR; 2 are as many as a B-picture needs
        self._anchor: Slice | None = None
        self._gap = 0  # from the anchor before that, in counts of display order
        self.configure(extradata)

    @property
    def has_begun(self) -> bool:
        """Whether an I-frame was read."""
        return self._picture is not None

    def configure(self, extradata: bytes) -> None:
        """Take over the parameter sets of a configuration."""
        if extradata[:1] != b"\x01":
            self.read(extradata)
            return
        self._length_size = (extradata[4] & 3) + 1 if len(extradata) > 4 else 4
        place = 5
        for mask in (0x1F, 0xFF):  # one list of each kind: its count, then lengths and units
            count = extradata[place] & mask if place < len(extradata) else 0
            place += 1
            for _ in range(count):
                size = int.from_bytes(extradata[place : place + 2], "big")
                self._read_unit(extradata[place + 2 : place + 2 + size])
                place += 2 + size

    def read(self, packet: bytes) -> None:
        """Take the next packet into account."""
        for unit in _units(packet, self._length_size):
            self._read_unit(unit)

    def _read_unit(self, unit: bytes) -> None:
        kind = unit[0] & 31 if unit else 0
        if kind in (PARAMETERS_OF_SEQUENCE, PARAMETERS_OF_PICTURES):
            self._sets.add(unit)
        elif kind in SLICES and (self.has_begun or picture_kind(unit) == "I"):
            try:
                self._follow(self._sets.slice_of(unit))
            except (EOFError, LookupError):
                self.are_exact = False
        elif kind in PARTITIONS:
            self.are_exact = False

    def _follow(self, piece: Slice) -> None:
        if piece.is_redundant:
            return
        self.are_of_fields |= piece.has_fields
        if piece.begins_picture or self._picture is None:
            self._picture = piece
            if piece.is_idr:
                self._num_anchors = 0
            self.are_exact &= self._names_neighbours(piece)
            if piece.kind != "B":
                self._add_anchor(piece)
        self.are_exact &= piece.kind == self._picture.kind and piece.has_default_references and not piece.has_fields

    def _names_neighbours(self, piece: Slice) -> bool:
        """Tell whether display order and the default order of references agree."""
        if self._anchor is None or self._num_anchors == 0:
            return piece.kind == "I"
        distance = piece.order_after(self._anchor)
        if distance is None or not self._anchor.is_reference:
            return False
        if piece.kind != "B":
            return distance > 0
        if self._num_anchors == 1 and not self._anchor.is_idr:  # displayed before the first I-frame: it is dropped
            return distance < 0
        is_between = self._num_anchors == 2 and -self._gap < distance < 0
        return is_between and not piece.is_reference and piece.num_references_kept >= 2

    def _add_anchor(self, piece: Slice) -> None:
        if self._anchor is not None and self._num_anchors:
            self._gap = piece.order_after(self._anchor) or 0
        self._anchor = piece
        self._num_anchors = min(self._num_anchors + 1, 2)


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """Cut a packet into units, by start codes or by lengths."""
    if length_size == 0:
        yield from data.split(b"\x00\x00\x01")[1:]
        return
    place = 0
    while place + length_size < len(data):
        size = int.from_bytes(data[place : place + length_size], "big")
        place += length_size
        yield data[place : place + size]
        place += size
