"""Packing a video: its compressed stream, and a table of its packets, without decoding it.

The stream stays as it is coded; what containers keep outside (headers, timestamps, where packets begin) goes in
front of it or into the table, so that any group of pictures can be decoded alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from vidprep.codec.demuxed import CodedPacket, CodedStream, in_display_order, read_stream
from vidprep.codec.h264 import References
from vidprep.codec.macroblocks import can_parse
from vidprep.codec.table import ENTRIES
from vidprep.codec.timing import microseconds
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, UnsupportedError


@dataclass(frozen=True, slots=True)
class PackedStream:
    """An elementary stream and what is known of its packets (in decoding order) and frames (in display order).

    Attributes
    ----------
    data : bytes
        The stream; plain tools play it.
    codec : str
        FFmpeg's name.
    num_header_bytes : int
        How much of ``data`` a decoder needs before any entry point: the parameter sets that it begins with.
    width, height : int
        Size in pixels.
    color : tuple of int
        Colour range and space that the container states, as libavutil numbers them; the stream's own win.
    offsets, sizes : tuple of int
        Where each packet stands in ``data``, in bytes.
    packet_types : str
        One letter a packet: I, P, B, or N for one without a picture.
    display_indices : tuple of int or None
        Which frame each packet holds; None for one without a picture.
    entry_points : tuple of int
        Numbers of the packets where decoding may begin.
    picture_types : str
        One letter a frame.
    pts_seconds : tuple of float
        Presentation time of each frame, as :meth:`Video.frames` gives it.
    num_dropped_frames, num_repaired_times : int
        As the attributes of :class:`Video` after reading.
    motion_exact : bool
        As :attr:`Video.motion_exact` after reading.
    is_interlaced : bool
        Whether pictures are coded in fields, so that their vectors mean nothing.
    """

    data: bytes
    codec: str
    num_header_bytes: int
    width: int
    height: int
    color: tuple[int, int]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    packet_types: str
    display_indices: tuple[int | None, ...]
    entry_points: tuple[int, ...]
    picture_types: str
    pts_seconds: tuple[float, ...]
    num_dropped_frames: int
    num_repaired_times: int
    motion_exact: bool
    is_interlaced: bool

    @property
    def entry(self) -> str:
        """Name of the sample's entry."""
        return ENTRIES[self.codec]

    def facts(self) -> dict[str, Any]:
        """Return the packet table, for the sample's json under ``"packets"``."""
        return {
            "codec": self.codec,
            "num_header_bytes": self.num_header_bytes,
            "width": self.width,
            "height": self.height,
            "color": list(self.color),
            "offsets": list(self.offsets),
            "sizes": list(self.sizes),
            "picture_types": self.packet_types,
            "display_indices": list(self.display_indices),
            "entry_points": list(self.entry_points),
            "is_interlaced": self.is_interlaced,
        }


def pack(video: Video, *, start_seconds: float | None = None, end_seconds: float | None = None) -> PackedStream:
    """Take a video's packets as they are, without decoding them.

    Parameters
    ----------
    video : Video
        A file or a raw stream.
    start_seconds, end_seconds : float, optional
        Time relative to the first frame. The stream begins at the entry point displayed at or before the start and
        ends as :meth:`Video.frames` does.

    Returns
    -------
    PackedStream
        Frames, picture types and times are those of ``video.frames``, from that entry point on.

    Raises
    ------
    UnsupportedError
        If the stream can't be packed so that each group of pictures decodes alone, exactly.
    DecodeError
        If the stream is damaged, or holds no I-frame.
    """
    codec = video.metadata.codec
    if codec not in ENTRIES:
        raise UnsupportedError(
            f"codec={codec}: has no raw form ({', '.join(sorted(ENTRIES))} have); transcode it (--codec mpeg4)"
        )
    stream = read_stream(video, start_seconds)
    video.num_dropped_frames, video.num_repaired_times = video._num_dropped_before, 0
    shown, num_before = _choose(video, in_display_order(codec, stream), start_seconds, end_seconds)
    if not shown:
        limit = "" if end_seconds is None else f" before end_seconds={end_seconds}"
        raise DecodeError(
            f"num_frames=0 in {video.name}: no I-frame found{limit}; check start and end, or get the file anew"
        )
    times = [
        packet.time
        for packet in stream.packets
        if not (packet.letter == "N" or packet.time is None or packet.is_discard)
    ]
    video.num_dropped_frames += video.num_before(shown[0][0], times, start_seconds, num_before)
    return _lay_out(video, stream, shown)


_Shown = list[tuple[CodedPacket, float]]  # packets of frames in display order, with their times


def _choose(video: Video, packets: list[CodedPacket], start: float | None, end: float | None) -> tuple[_Shown, int]:
    """Cut the frames as :meth:`Video.frames` does, and at the entry point at or before the start.

    Returned with them is how many pictures come before the first I-frame.
    """
    shown: _Shown = []
    num_before = num_kept = num_repaired = 0
    for packet, time in video._timed(iter(packets)):
        ticks = microseconds(time - video.metadata.start_seconds)
        if not shown and packet.letter != "I":
            num_before += 1
            continue
        if start is not None and packet.header.is_entry and ticks <= microseconds(start):
            shown, num_kept = [], 0
        if num_kept == len(shown) and not _is_past(ticks, end, shown):
            num_kept += 1
            num_repaired = video.num_repaired_times
        shown.append((packet, time))
    video.num_repaired_times = num_repaired
    last = max((packet.number for packet, _ in shown[:num_kept]), default=-1)
    kept = [(packet, time) for packet, time in shown if packet.number <= last]  # later ones may be referred to
    return kept, num_before


def _is_past(ticks: int, end: float | None, shown: _Shown) -> bool:
    return end is not None and ticks >= microseconds(end) and (not shown or shown[-1][0].letter != "B")


def _lay_out(video: Video, stream: CodedStream, shown: _Shown) -> PackedStream:
    """Make the table, numbered from the first frame on, and leave out what is displayed before it."""
    first, last = shown[0][0].number, max(packet.number for packet, _ in shown)
    indices = {packet.number: index for index, (packet, _) in enumerate(shown)}
    kept = [
        packet
        for packet in stream.packets[first : last + 1]
        if packet.number in indices or packet.is_discard or packet.letter == "N"
    ]
    before = b"" if kept[0].data.startswith(stream.head) else stream.head
    sizes = [len(packet.data) for packet in kept]
    is_exact, is_interlaced = _motion(video.metadata.codec, stream.head, kept)
    return PackedStream(
        data=b"".join([before, *(packet.data for packet in kept)]),
        codec=video.metadata.codec,
        num_header_bytes=len(stream.head),
        width=video.metadata.width,
        height=video.metadata.height,
        color=stream.color,
        offsets=tuple(accumulate(sizes[:-1], initial=len(before))),
        sizes=tuple(sizes),
        packet_types="".join(packet.letter for packet in kept),
        display_indices=tuple(indices.get(packet.number) for packet in kept),
        entry_points=tuple(i for i, packet in enumerate(kept) if packet.header.is_entry and not packet.is_discard),
        picture_types="".join(packet.letter for packet, _ in shown),
        pts_seconds=tuple(time for _, time in shown),
        num_dropped_frames=video.num_dropped_frames,
        num_repaired_times=video.num_repaired_times,
        motion_exact=is_exact,
        is_interlaced=is_interlaced,
    )


def _motion(codec: str, head: bytes, packets: Sequence[CodedPacket]) -> tuple[bool, bool]:
    """Tell whether vectors are exact, and whether they are of fields."""
    if codec == "h264":
        references = References(head)
        for packet in packets:
            references.read(packet.data)
        return references.are_exact and not references.are_of_fields, references.are_of_fields
    letters = {packet.header.letter for packet in packets}
    is_interlaced = any(packet.header.is_interlaced for packet in packets)
    is_lost = codec == "mpeg4" and ("S" in letters or ("B" in letters and not can_parse(head)))
    return not (is_interlaced or is_lost), is_interlaced
