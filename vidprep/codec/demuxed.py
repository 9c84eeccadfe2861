"""A video's packets, without decoding them: one picture each, what it is, and when it is displayed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from vidprep.codec.container import decoding, seek, video_stream
from vidprep.codec.h264 import References
from vidprep.codec.headers import Header, HeaderReader
from vidprep.codec.mpeg4_vop import Clock
from vidprep.codec.pictures import damaged, filtered, seconds_of
from vidprep.codec.video import SEEK_MARGIN_SECONDS, Video
from vidprep.errors import UnsupportedError

if TYPE_CHECKING:
    pass

_FILTERS = {"mpeg4": "mpeg4_unpack_bframes", "h264": "h264_mp4toannexb"}  # one picture a packet; start codes
_PACKED_MARK = re.compile(rb"(DivX\d+[Bb]?\d*)p")
_ENCODER = re.compile(rb"\x00\x00\x01\xb2.{0,8}(Lavc|FFmpe|ffmpeg|XviD|DivX)", re.DOTALL)
_TAGS_OF_ENCODERS = frozenset({"XVID", "XVIX", "RMP4", "ZMP4", "SIPP", "DIVX", "UMP4"})


@dataclass(slots=True)
class CodedPacket:
    """A packet and what is known of its picture.

    Attributes
    ----------
    number : int
        Position in decoding order.
    pts, time : int or None, float or None
        The picture's timestamp, in ticks and seconds, called as in a decoded picture.
    is_discard : bool
        Whether the container hides it (an edit list), so that it is decoded for others to refer to, and not shown.
    """

    number: int
    data: bytes
    header: Header
    pts: int | None
    time: float | None
    is_discard: bool

    @property
    def letter(self) -> str:
        """I, P (for an S-picture too), B, or N for a packet without a picture."""
        return self.header.letter.replace("S", "P")


@dataclass(frozen=True, slots=True)
class CodedStream:
    """The packets in decoding order, the parameter sets in front, and the container's colour range and space."""

    packets: list[CodedPacket]
    head: bytes
    color: tuple[int, int]


def read_stream(video: Video, start: float | None) -> CodedStream:
    """Read all packets, or those from the entry point before a time (seconds from the video's start).

    Raises
    ------
    UnsupportedError
        If frames can't be decoded from the first I-frame on as one pass does it.
    DecodeError
        If a packet is damaged.
    """
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


def _demux(video: Video, start: float | None) -> CodedStream:
    codec = video.metadata.codec
    with video._container() as container, decoding(video.name):
        stream = video_stream(container, video.name)
        context = stream.codec_context
        if start:
            seek(container, start + video.metadata.start_seconds - SEEK_MARGIN_SECONDS)
        reader = HeaderReader(codec, _extradata(context))
        packets: list[CodedPacket] = []
        for packet in filtered(container.demux(stream), _FILTERS.get(codec), stream):
            if packet.is_corrupt:
                raise damaged(packet, video.name)
            if packet.size:
                time = seconds_of(packet.pts, stream.time_base)
                data, hidden = bytes(packet), packet.is_discard
                packets.append(CodedPacket(len(packets), data, reader.read(data), packet.pts, time, hidden))
        _check_tag(context.codec_tag, reader.head, video.name)
        return CodedStream(packets, reader.head, (int(context.color_range), int(context.colorspace)))


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


def in_display_order(codec: str, stream: CodedStream) -> list[CodedPacket]:
    """Return the packets whose pictures a decoder shows, in the order in which it does.

    Raises
    ------
    UnsupportedError
        If that order is unknown.
    """
    packets = [packet for packet in stream.packets if packet.letter != "N"]
    if codec != "h264":
        return [packet for packet in _delayed_by_one(packets) if not packet.is_discard]
    packets = [packet for packet in packets if not packet.is_discard]
    times = {packet.pts for packet in packets}
    if None not in times and len(times) == len(packets):
        return sorted(packets, key=lambda packet: packet.pts or 0)
    if times == {None} and References(stream.head).display_as_coded:
        return packets
    raise UnsupportedError(
        "pts=none or not unique: without presentation times the display order of H.264 is unknown; put the video "
        "into an MP4 or Matroska file, or transcode it (--codec mpeg4)"
    )


def _delayed_by_one(packets: list[CodedPacket]) -> Iterator[CodedPacket]:
    """Yield B-frames at once and anchors when the next one comes.

    A B-frame without its past anchor is not shown, unless its group is closed; for a P-frame without one the
    decoder invents it. Nor is a B-frame of MPEG-4 whose time is not between those of its anchors.
    """
    waiting: CodedPacket | None = None
    has_past, clock = False, Clock()
    for packet in packets:
        vop = packet.header.vop
        past, span = (1, 2) if vop is None else clock.step(vop, packet.header.ticks_per_second)
        if packet.letter == "B":
            if has_past and 0 < past < span:
                yield packet
            continue
        has_past = waiting is not None or packet.letter == "P" or packet.header.is_closed
        if waiting is not None:
            yield waiting
        waiting = packet
    if waiting is not None:
        yield waiting
