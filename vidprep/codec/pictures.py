"""Packets in, pictures out: the one place where libavcodec decodes video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import av
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from vidprep.codec.damage import Damage
from vidprep.codec.frame import Frame
from vidprep.errors import DecodeError, UnsupportedError

PICTURE_TYPES = {PictureType.I: "I", PictureType.P: "P", PictureType.B: "B", PictureType.S: "P", PictureType.SI: "I",
                 PictureType.SP: "P", PictureType.BI: "B"}  # fmt: skip
"""The letter of each kind of picture; those that no codec here knows count as P."""

_CURE = "get the file anew, or transcode and keep it as far as it decodes (--codec mpeg4 --decode-errors keep)"

if TYPE_CHECKING:
    Packet = av.Packet[av.VideoStream]


def set_up(context: av.VideoCodecContext, *, vectors: bool, exact: bool = False) -> None:
    """Make a decoder ready: one thread, block vectors if they are wanted, and the standard's arithmetic if it must be.

    Else libavcodec may be off by one level: in its fast interpolation next to black (8x8 blocks, rounding type 1),
    and in MPEG-4's intra blocks with matrices, whose mismatch control it leaves out.
    """
    context.thread_count = 1
    context.thread_type = "SLICE"
    if exact:
        context.flags |= av.codec.context.Flags.bitexact
    if vectors:
        context.flags2 |= av.codec.context.Flags2.export_mvs


def filtered(packets: Iterable[Packet], name: str | None, stream: av.VideoStream) -> Iterator[Packet]:
    """Send packets through one of libavcodec's bitstream filters, if any; the empty one at the end follows.

    ``mpeg4_unpack_bframes`` lets each packet hold one VOP: XviD and DivX pack a P- and a B-VOP into one.
    """
    if name is None:
        yield from packets
        return
    bitstream_filter = av.BitStreamFilterContext(name, stream)
    for packet in packets:
        is_flush = not packet.size  # the filter takes a packet's data away
        yield from bitstream_filter.filter(None if is_flush else packet)
        if is_flush:
            yield packet


def decode(
    packets: Iterable[Packet], decode_packet: Callable[[Packet], list[av.VideoFrame]], damage: Damage
) -> Iterator[av.VideoFrame]:
    """Decode packets to pictures of one size, in display order.

    Raises
    ------
    DecodeError
        If a packet was cut short or damaged on its way or is refused, or a picture is damaged; unless
        ``damage`` counts this.
    UnsupportedError
        If the size changes.
    """
    size, name = None, damage.name
    for packet in damage.each(packets):
        if packet.is_corrupt:
            damage.report(damaged(packet, name))
        for picture in damage.attempt(partial(decode_packet, packet)) or ():
            if picture.is_corrupt:
                damage.report(DecodeError(f"pts_seconds={picture.time} in {name}: the frame is damaged; {_CURE}"))
            size = size or (picture.width, picture.height)
            if (picture.width, picture.height) != size:
                raise UnsupportedError(
                    f"size={picture.width}x{picture.height} after {size[0]}x{size[1]} in {name}: "
                    "the size must not change; transcode it (--codec mpeg4)"
                )
            yield picture


def damaged(packet: Packet, name: str) -> DecodeError:
    """Return the error of a packet that the demuxer marked."""
    return DecodeError(f"pts_seconds={packet_seconds(packet)} in {name}: the packet is damaged or cut; {_CURE}")


def picture_letter(picture: av.VideoFrame) -> str:
    """Return ``"I"``, ``"P"`` or ``"B"``; an S-picture counts as P."""
    return PICTURE_TYPES.get(PictureType(picture.pict_type), "P")


class Numbering:
    """Makes Frames of pictures in display order: index, and place in the group of pictures that an I-frame begins."""

    def __init__(self) -> None:
        self._converter = VideoReformatter()
        self._index = self._gop_index = self._gop_position = -1

    def frame(self, picture: av.VideoFrame, pts_seconds: float) -> Frame | None:
        """Return the next frame; None before the first I-frame."""
        letter = picture_letter(picture)
        if letter == "I":
            self._gop_index, self._gop_position = self._gop_index + 1, -1
        elif self._gop_index < 0:
            return None
        self._index += 1
        self._gop_position += 1
        return Frame(
            picture,
            self._converter,
            index=self._index,
            picture_type=letter,
            pts_seconds=pts_seconds,
            gop_index=self._gop_index,
            gop_position=self._gop_position,
        )


def packet_seconds(packet: Packet) -> float | None:
    """Return when a packet is presented, or decoded where that is all that is known; None if nothing is."""
    return seconds_of(packet.dts if packet.pts is None else packet.pts, packet.time_base)


def seconds_of(ticks: int | None, time_base: Fraction | None) -> float | None:
    """Convert a stream's ticks to seconds."""
    return None if ticks is None or time_base is None else float(ticks * time_base)
