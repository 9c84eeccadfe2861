"""What the packets of a stream tell that its decoded pictures don't."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vidprep.codec.h264 import References
from vidprep.codec.pictures import seconds_of

if TYPE_CHECKING:
    import av

    Packet = av.Packet[av.VideoStream]


class PacketLog:
    """Watches packets on their way to the decoder.

    Parameters
    ----------
    context : av.VideoCodecContext
        The stream's decoder, for its codec and configuration.
    """

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._times: list[float] | None = []
        is_h264 = context.codec.canonical_name == "h264"
        self._references = References(context.extradata or b"") if is_h264 else None

    def watch(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Hand the packets on."""
        for packet in packets:
            time = seconds_of(packet.pts, packet.time_base)
            if self._times is not None and time is not None and not packet.is_discard:
                self._times.append(time)
            if self._references is not None:
                if packet.has_sidedata("new_extradata"):
                    self._references.configure(bytes(packet.get_sidedata("new_extradata")))
                self._references.read(bytes(packet))
            yield packet

    def take_times(self) -> list[float]:
        """Return the presentation times in seconds of all packets so far, in their order, and note no more."""
        times, self._times = self._times or [], None
        return times

    @property
    def motion_exact(self) -> bool:
        """Ask when a picture is out: False if an H.264 packet held vectors that may mean one of several pictures."""
        references = self._references
        return references is None or (references.has_begun and references.are_exact)

    @property
    def has_fields(self) -> bool:
        """True once an H.264 packet held a picture coded in fields."""
        return self._references is not None and self._references.are_of_fields
