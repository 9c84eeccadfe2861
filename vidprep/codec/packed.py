"""Packing a video: its compressed stream, and a table of its packets, without decoding it.

The stream stays as it is coded; what containers keep outside (headers, timestamps, where packets begin) goes in
front of it or into the table, so that any group of pictures can be decoded alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidprep.codec.video import Video

ENTRIES = {
    "mpeg4": "video.m4v",
    "h264": "video.h264",
    "mpeg1video": "video.m1v",
    "mpeg2video": "video.m2v",
    "h263": "video.h263",
}
"""Codecs that have a raw form, and the name of a sample's entry."""


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
    raise NotImplementedError
