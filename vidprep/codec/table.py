"""The packet table of a packed stream: checked once, then asked which packets some frames need."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import add
from typing import Any

from vidprep.errors import ShardError

ENTRIES = {
    "mpeg4": "video.m4v",
    "h264": "video.h264",
    "mpeg1video": "video.m1v",
    "mpeg2video": "video.m2v",
    "h263": "video.h263",
}
"""Codecs that have a raw form, and the name of a sample's entry."""

_MAX_SIDE = 16384  # of a picture, in pixels


class PacketTable:
    """Where the packets stand in a stream's bytes and which frames they hold.

    Parameters
    ----------
    facts : mapping
        The sample's json: ``packets``, ``picture_types``, ``pts_seconds``, ``width``, ``height``.
    num_bytes : int
        Length of the stream.

    Attributes
    ----------
    codec, picture_types : str
        FFmpeg's name; one letter for each frame in display order.
    num_header_bytes, width, height : int
    color : tuple of int
        Colour range and space.
    offsets, sizes : list of int
        For each packet in decoding order.
    frame_of_packet : list of int or None
        Index of the frame in each packet.
    pts_seconds : list of float
        For each frame.
    is_interlaced : bool
        Whether pictures are coded in fields.

    Raises
    ------
    ShardError
        If the table contradicts itself or the stream.
    """

    def __init__(self, facts: Mapping[str, Any], num_bytes: int) -> None:
        try:
            self._read(facts)
            self._check(num_bytes)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise _damaged(f"packets={type(error).__name__} {error}", "the table must be complete") from error

    def _read(self, facts: Mapping[str, Any]) -> None:
        packets = facts["packets"]
        self.codec: str = packets["codec"]
        self.num_header_bytes: int = packets["num_header_bytes"]
        self.width: int = facts["width"]
        self.height: int = facts["height"]
        color_range, color_space = packets["color"]
        self.color: tuple[int, int] = int(color_range), int(color_space)
        _require(all(0 <= number < 256 for number in self.color), f"color={self.color}", "must be numbers of libavutil")
        self.offsets: list[int] = packets["offsets"]
        self.sizes: list[int] = packets["sizes"]
        self.frame_of_packet: list[int | None] = packets["display_indices"]
        self.picture_types: str = facts["picture_types"]
        self.pts_seconds: list[float] = facts["pts_seconds"]
        self.is_interlaced: bool = packets["is_interlaced"]
        self._packet_types: str = packets["picture_types"]
        self._entries: list[int] = packets["entry_points"]
        self._packet_of_frame = {frame: i for i, frame in enumerate(self.frame_of_packet) if frame is not None}
        self._entry_frames = [self.frame_of_packet[i] or 0 for i in self._entries]

    def _check(self, num_bytes: int) -> None:
        num_packets, num_frames = len(self.offsets), len(self.picture_types)
        _require(self.codec in ENTRIES, f"codec={self.codec}", f"must be one of {', '.join(ENTRIES)}")
        sides = (self.width, self.height)
        _require(all(0 < side <= _MAX_SIDE for side in sides), f"width, height={sides}", f"1 to {_MAX_SIDE}")
        lengths = [len(column) for column in (self.sizes, self.frame_of_packet, self._packet_types)]
        _require(
            lengths == 3 * [num_packets], f"num_packets={num_packets}, {lengths}", "must be the same in all columns"
        )
        _require({*map(type, self.offsets), *map(type, self.sizes)} == {int}, "offsets, sizes", "must be whole numbers")
        _require(min(self.sizes) > 0 and min(self.offsets) >= 0, "offsets, sizes", "must not be negative")
        end = max(map(add, self.offsets, self.sizes))
        _require(end <= num_bytes, f"end={end}", f"the stream has {num_bytes} bytes")
        _require(0 <= self.num_header_bytes <= num_bytes, f"num_header_bytes={self.num_header_bytes}", "too many")
        frames = sorted(self._packet_of_frame)
        complete = frames == list(range(num_frames)) and self.frame_of_packet.count(None) == num_packets - num_frames
        _require(complete, f"num_frames={num_frames}", "each frame must be in one packet")
        letters = "".join(map(self._packet_types.__getitem__, map(self._packet_of_frame.__getitem__, frames)))
        _require(letters == self.picture_types, "picture_types", "frames and packets must have the same")
        _require(len(self.pts_seconds) == num_frames, f"num_times={len(self.pts_seconds)}", f"must be {num_frames}")
        entries = self._entries == sorted(set(self._entries)) and self._entry_frames == sorted(self._entry_frames)
        intra = all(self._packet_types[i] == "I" for i in self._entries)
        _require(
            entries and intra and self._entry_frames[0] == 0, "entry_points", "must be I-frames, the first included"
        )

    def runs(self, frames: Sequence[int]) -> Iterator[list[int]]:
        """Split frames (indices, increasing) where all frames from one entry point to the next are left out."""
        run: list[int] = []
        last = None
        for frame in frames:
            entry = bisect_right(self._entry_frames, frame)
            if last is not None and entry > last + 1:
                yield run
                run = []
            run.append(frame)
            last = entry
        yield run

    def packets_for(self, frames: Sequence[int], *, vectors: bool) -> list[int]:
        """Return the numbers of the packets to decode for some frames (indices, increasing), from an entry point on.

        B-frames that are not wanted are left out where no frame can refer to them. With ``vectors``, one more anchor
        follows, or the last one again: an anchor that its decoder gives out only when it is asked comes without them.
        """
        first = self._entries[bisect_right(self._entry_frames, frames[0]) - 1]
        end = max(self._packet_of_frame[frame] for frame in frames) + 1
        if self.codec == "h264":
            return list(range(first, end))
        wanted = {self._packet_of_frame[frame] for frame in frames}
        packets = [i for i in range(first, end) if self._packet_types[i] != "B" or i in wanted]
        if vectors:
            following = (i for i in range(end, len(self.sizes)) if self._packet_types[i] in "IP")
            packets.append(next(following, max(i for i in packets if self._packet_types[i] in "IP")))
        return packets

    def gop_start(self, frame: int) -> int:
        """Return the index of the I-frame at or before a frame."""
        return self.picture_types.rindex("I", 0, frame + 1)

    def next_anchor(self, frame: int) -> int:
        """Return the index of the first frame at or after ``frame`` that is no B-frame; the last one at most."""
        num_b_frames = len(self.picture_types) - frame - len(self.picture_types[frame:].lstrip("B"))
        return min(frame + num_b_frames, len(self.picture_types) - 1)


def _require(condition: bool, value: str, rule: str) -> None:
    if not condition:
        raise _damaged(value, rule)


def _damaged(value: str, rule: str) -> ShardError:
    return ShardError(f"{value}: {rule}; the sample is damaged, run vidprep verify")
