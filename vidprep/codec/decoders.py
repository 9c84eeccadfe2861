"""Decoders that outlive a clip: opening one takes as long as decoding several pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from vidprep.codec.container import decoding
from vidprep.codec.macroblocks import MacroblockParser, needs_parsing
from vidprep.codec.pictures import set_up
from vidprep.codec.single_pass import annotate
from vidprep.codec.table import PacketTable
from vidprep.codec.wanted import Wanted
from vidprep.errors import DecodeError

_MAX_IDLE = 16
_REORDER_DEPTH = 15  # the most that H.264 allows: with less, its decoder would drop pictures after a jump
_Key = tuple[str, bytes, tuple[int, int], bool, bool]


class Decoder:
    """A decoder of one kind of stream; for one clip at a time.

    Parameters
    ----------
    codec : str
        FFmpeg's name.
    color : tuple of int
        Colour range and space, where the stream itself states none.
    wanted : Wanted
        What pictures shall carry.
    """

    def __init__(self, codec: str, color: tuple[int, int], wanted: Wanted) -> None:
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, VideoCodecContext)
        set_up(context, vectors=wanted.needs_vectors, exact=wanted.coded)
        context.color_range, context.colorspace = color
        context.copy_opaque = True
        self._context = context

    def decode(
        self, table: PacketTable, data: memoryview, packets: Sequence[int], wanted: Wanted, name: str
    ) -> Iterator[av.VideoFrame]:
        """Decode some packets, the first of which is an entry point; a picture's ``pts`` is its frame's index.

        Raises
        ------
        DecodeError
            If a packet is damaged.
        """
        if table.codec == "h264":
            self._context.reorder_depth = _REORDER_DEPTH
        number = packets[0]

        def each() -> Iterator[av.Packet[av.VideoStream]]:
            nonlocal number
            for number in packets:
                yield _packet(table, data, number, with_head=number == packets[0])

        chosen = each()
        if must_parse(table, data, wanted):
            parser = MacroblockParser(bytes(data[: table.num_header_bytes]))
            chosen = annotate(chosen, parser, strict=True)
        try:
            with decoding(name):
                for packet in chosen:
                    yield from self._context.decode(packet)
                yield from self._context.decode(None)
        except DecodeError as error:
            raise DecodeError(f"frame={table.frame_of_packet[number]} of {error}") from error

    def flush(self) -> None:
        """Forget all pictures."""
        self._context.flush_buffers()


def must_parse(table: PacketTable, data: memoryview, wanted: Wanted) -> bool:
    """Tell whether the bitstream must be parsed for what is wanted."""
    if wanted.needs_macroblocks:
        return True
    head, has_b_frames = bytes(data[: table.num_header_bytes]), "B" in table.picture_types
    return table.codec == "mpeg4" and wanted.needs_vectors and needs_parsing(head, has_b_frames=has_b_frames)


def _packet(table: PacketTable, data: memoryview, number: int, *, with_head: bool) -> av.Packet[av.VideoStream]:
    """Return one packet; the first one with the parameter sets in front, unless it brings them itself."""
    offset, size = table.offsets[number], table.sizes[number]
    chunk = bytes(data[offset : offset + size])
    head = bytes(data[: table.num_header_bytes]) if with_head else b""
    if not chunk.startswith(head):
        chunk = head + chunk
    packet = cast("av.Packet[av.VideoStream]", av.Packet(len(chunk)))  # padded with zeros, which FFmpeg demands
    packet.update(chunk)
    packet.pts = table.frame_of_packet[number]
    return packet


_idle: list[tuple[_Key, Decoder]] = []  # the least recently used first
_lock = threading.Lock()


@contextmanager
def borrowed_decoder(table: PacketTable, data: memoryview, wanted: Wanted) -> Iterator[Decoder]:
    """Lend a decoder to one clip; it is kept for the next one of the same kind unless an error ends this one."""
    head = bytes(data[: table.num_header_bytes])
    key = (table.codec, head, table.color, wanted.needs_vectors, wanted.coded)
    decoder = _take(key) or Decoder(table.codec, table.color, wanted)
    yield decoder
    decoder.flush()
    with _lock:
        _idle.append((key, decoder))
        del _idle[:-_MAX_IDLE]


def _take(key: _Key) -> Decoder | None:
    with _lock:
        for i in reversed(range(len(_idle))):
            if _idle[i][0] == key:
                return _idle.pop(i)[1]
    return None
