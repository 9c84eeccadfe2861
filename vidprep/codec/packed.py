"""Packing a video: its compressed stream, and a table of its packets, without decoding it.

The stream stays as it is coded; what containers keep outside (headers, timestamps, where packets begin) goes in
front of it or into the table, so that any group of pictures can be decoded alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import av

from vidprep.codec.bitstream import h264_displays_as_coded
from vidprep.codec.container import decoding, seek, video_stream
from vidprep.codec.headers import Header, HeaderReader
from vidprep.codec.pictures import damaged, seconds_of
from vidprep.codec.timing import microseconds
from vidprep.codec.video import SEEK_MARGIN_SECONDS, Video
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec.pictures import Packet

ENTRIES = {
    "mpeg4": "video.m4v",
    "h264": "video.h264",
    "mpeg1video": "video.m1v",
    "mpeg2video": "video.m2v",
    "h263": "video.h263",
}
"""Codecs that have a raw form, and the name of a sample's entry."""

_FILTERS = {"mpeg4": "mpeg4_unpack_bframes", "h264": "h264_mp4toannexb"}  # one picture a packet; start codes
_WITHOUT_VECTORS = {codec: "BS" if codec == "mpeg4" else "" for codec in ENTRIES}
_PACKED_MARK = re.compile(rb"(DivX\d+[Bb]?\d*)p")
_ENCODER = re.compile(rb"\x00\x00\x01\xb2.{0,8}(Lavc|FFmpe|ffmpeg|XviD|DivX)", re.DOTALL)
_TAGS_OF_ENCODERS = frozenset({"XVID", "XVIX", "RMP4", "ZMP4", "SIPP", "DIVX", "UMP4"})


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
    stream = _read_stream(video, start_seconds)
    video.num_dropped_frames, video.num_repaired_times = video._num_dropped_before, 0
    shown = _choose(video, _in_display_order(codec, stream), start_seconds, end_seconds)
    if not shown:
        limit = "" if end_seconds is None else f" before end_seconds={end_seconds}"
        raise DecodeError(
            f"num_frames=0 in {video.name}: no I-frame found{limit}; check start and end, or get the file anew"
        )
    return _lay_out(video, stream, shown)


@dataclass(slots=True)
class _Packet:
    """A packet and its picture's timestamp, which is called as in a decoded picture."""

    number: int
    data: bytes
    header: Header
    pts: int | None
    time: float | None

    @property
    def letter(self) -> str:
        return self.header.letter.replace("S", "P")


@dataclass(frozen=True, slots=True)
class _Stream:
    packets: list[_Packet]
    head: bytes
    color: tuple[int, int]


_Shown = list[tuple[_Packet, float]]  # packets of frames in display order, with their times


def _read_stream(video: Video, start: float | None) -> _Stream:
    stream = _demux(video, start)
    if start and not any(packet.header.is_entry for packet in stream.packets[:1]):
        stream = _demux(video, None)  # the container calls a key frame what is no entry point
    first = next((packet.header for packet in stream.packets if packet.header.letter == "I"), None)
    if first is not None and not first.is_entry:
        raise UnsupportedError(
            f"codec={video.metadata.codec} in {video.name}: decoding can't begin at its first I-frame alone, as that "
            "refers to what is missing; transcode it (--codec mpeg4)"
        )
    return stream


def _demux(video: Video, start: float | None) -> _Stream:
    codec = video.metadata.codec
    with video._container() as container, decoding(video.name):
        stream = video_stream(container, video.name)
        context = stream.codec_context
        if start:
            seek(container, start + video.metadata.start_seconds - SEEK_MARGIN_SECONDS)
        reader = HeaderReader(codec, _extradata(context))
        packets = []
        for packet in _filtered(container.demux(stream), _FILTERS.get(codec), stream):
            if packet.is_corrupt:
                raise damaged(packet, video.name)
            if packet.size:
                time = seconds_of(packet.pts, stream.time_base)
                data = bytes(packet)
                packets.append(_Packet(len(packets), data, reader.read(data), packet.pts, time))
        _check_tag(context.codec_tag, reader.head, video.name)
        return _Stream(packets, reader.head, (int(context.color_range), int(context.colorspace)))


def _filtered(packets: Iterator[Packet], name: str | None, stream: av.VideoStream) -> Iterator[Packet]:
    if name is None:
        yield from packets
        return
    bitstream_filter = av.BitStreamFilterContext(name, stream)
    for packet in packets:
        if packet.size:
            yield from bitstream_filter.filter(packet)
    yield from bitstream_filter.filter(None)


def _extradata(context: av.VideoCodecContext) -> bytes:
    """Return the container's parameter sets; MPEG-4's no longer say that the bitstream is packed."""
    return _PACKED_MARK.sub(rb"\1\0", context.extradata or b"")


def _check_tag(tag: str, head: bytes, name: str) -> None:
    """Refuse a decoder's guess of the encoder, and so of its faults, by what only the container holds."""
    if tag.upper() in _TAGS_OF_ENCODERS and not _ENCODER.search(head):
        raise UnsupportedError(
            f"codec_tag={tag} in {name}: only the container names the encoder, on which decoding depends; transcode it "
            "(--codec mpeg4)"
        )


def _in_display_order(codec: str, stream: _Stream) -> list[_Packet]:
    """Return the packets whose pictures a decoder shows, in the order in which it does."""
    packets = [packet for packet in stream.packets if packet.letter != "N"]
    if codec != "h264":
        return list(_delayed_by_one(packets, skips_lone_p=codec.endswith("video")))
    times = {packet.pts for packet in packets}
    if None not in times and len(times) == len(packets):
        return sorted(packets, key=lambda packet: packet.pts or 0)
    if times == {None} and h264_displays_as_coded(stream.head):
        return packets
    raise UnsupportedError(
        "pts=none or not unique: without presentation times the display order of H.264 is unknown; put the video "
        "into an MP4 or Matroska file, or transcode it (--codec mpeg4)"
    )


def _delayed_by_one(packets: list[_Packet], *, skips_lone_p: bool) -> Iterator[_Packet]:
    """Yield B-frames at once and anchors when the next one comes; without its references a B-frame is not shown."""
    waiting = None
    num_anchors, is_closed = 0, False
    for packet in packets:
        if packet.letter == "B":
            if num_anchors >= 2 or (num_anchors == 1 and is_closed):
                yield packet
            continue
        if packet.letter == "P" and not num_anchors and skips_lone_p:
            continue
        if waiting is not None:
            yield waiting
        waiting, num_anchors, is_closed = packet, num_anchors + 1, packet.header.is_closed
    if waiting is not None:
        yield waiting


def _choose(video: Video, packets: list[_Packet], start: float | None, end: float | None) -> _Shown:
    """Cut the frames as :meth:`Video.frames` does, and at the entry point at or before the start."""
    shown: _Shown = []
    num_kept = num_repaired = 0
    for packet, time in video._timed(iter(packets)):
        ticks = microseconds(time - video.metadata.start_seconds)
        if not shown and packet.letter != "I":
            video.num_dropped_frames += 1
            continue
        if start is not None and packet.header.is_entry and ticks <= microseconds(start):
            shown, num_kept = [], 0
        if num_kept == len(shown) and not _is_past(ticks, end, shown):
            num_kept += 1
            num_repaired = video.num_repaired_times
        shown.append((packet, time))
    video.num_repaired_times = num_repaired
    last = max((packet.number for packet, _ in shown[:num_kept]), default=-1)
    return [(packet, time) for packet, time in shown if packet.number <= last]  # later ones may be referred to


def _is_past(ticks: int, end: float | None, shown: _Shown) -> bool:
    return end is not None and ticks >= microseconds(end) and (not shown or shown[-1][0].letter != "B")


def _lay_out(video: Video, stream: _Stream, shown: _Shown) -> PackedStream:
    """Number packets and frames anew, from the first frame on; leave out what is displayed before it."""
    first, last = shown[0][0].number, max(packet.number for packet, _ in shown)
    indices = {packet.number: index for index, (packet, _) in enumerate(shown)}
    kept = [packet for packet in stream.packets[first : last + 1] if packet.number in indices or packet.letter == "N"]
    before = b"" if kept[0].data.startswith(stream.head) else stream.head
    sizes = [len(packet.data) for packet in kept]
    headers = [packet.header for packet, _ in shown]
    loses_vectors = any(header.letter in _WITHOUT_VECTORS[video.metadata.codec] for header in headers)
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
        entry_points=tuple(i for i, packet in enumerate(kept) if packet.header.is_entry),
        picture_types="".join(packet.letter for packet, _ in shown),
        pts_seconds=tuple(time for _, time in shown),
        num_dropped_frames=video.num_dropped_frames,
        num_repaired_times=video.num_repaired_times,
        motion_exact=video.metadata.motion_exact
        and not loses_vectors
        and not any(header.is_interlaced for header in headers),
    )
