"""The facts of a video."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What a container says of its video, and what vidprep makes of it.

    Attributes
    ----------
    codec, container, pixel_format : str
        Names as FFmpeg gives them.
    width, height : int
        Size of the coded picture in pixels, before any rotation.
    sample_aspect_ratio : float
        Width of a pixel over its height; 1.0 where unknown.
    rotation_degrees : int
        Counter-clockwise rotation that a player applies.
    fps : float
        Average frame rate that the container claims; 0.0 where it claims none.
    start_seconds : float
        Time of the first video packet.
    container_start_seconds : float
        Time of the first packet of any stream.
    duration_seconds : float or None
        The container's claim; it may be wrong.
    has_audio : bool
        Whether there is an audio stream that can be decoded.
    """

    codec: str
    container: str
    pixel_format: str
    width: int
    height: int
    sample_aspect_ratio: float
    rotation_degrees: int
    fps: float
    start_seconds: float
    container_start_seconds: float
    duration_seconds: float | None
    has_audio: bool
