"""What a container and its first frame say of a video."""

from __future__ import annotations

from fractions import Fraction

import av
from av.container import InputContainer

from vidprep.codec.container import decoding
from vidprep.codec.metadata import VideoMetadata
from vidprep.codec.pictures import seconds_of
from vidprep.errors import DecodeError


def read_metadata(container: InputContainer, stream: av.VideoStream, rotation_degrees: int) -> VideoMetadata:
    """Return the facts of an open container's video stream."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    aspect = stream.sample_aspect_ratio
    return VideoMetadata(
        codec=context.codec.canonical_name,  # a decoder's own name may differ: libdav1d, flv, msmpeg4
        container=container.format.name,
        pixel_format=context.pix_fmt or "unknown",
        width=context.width,
        height=context.height,
        sample_aspect_ratio=float(aspect) if aspect else 1.0,
        rotation_degrees=rotation_degrees,
        fps=float(rate) if rate else 0.0,
        start_seconds=seconds_of(stream.start_time, stream.time_base) or 0.0,
        container_start_seconds=seconds_of(container.start_time, Fraction(1, av.time_base)) or 0.0,
        duration_seconds=seconds_of(stream.duration, stream.time_base)
        or seconds_of(container.duration, Fraction(1, av.time_base)),
        has_audio=any(audio.codec_context is not None for audio in container.streams.audio),
    )


def rotation_of(container: InputContainer, stream: av.VideoStream, name: str) -> int:
    """Return by how many degrees a player turns the picture, counter-clockwise; the first frame knows."""
    stream.codec_context.thread_count = 1
    with decoding(name):
        first = next(container.decode(stream), None)
    if first is None:
        raise DecodeError(f"num_frames=0 in {name}: no frame could be decoded; the file is damaged or cut")
    return first.rotation
