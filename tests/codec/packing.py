"""What tests of packed streams share: streams, the sample's json, and frames as comparable values."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from reference import STREAMS

from vidprep.codec.frame import Frame
from vidprep.codec.packed import PackedStream
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.writer import write_video

PACKABLE = sorted(STREAMS.keys() - {"flv1"})
REAL = [
    "UCF101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
    "UCF101/BaseballPitch/v_BaseballPitch_g01_c01.avi",
    "UCF101/Basketball/v_Basketball_g01_c01.avi",
    "codecs/example.avi",
    "codecs/h264_10bits.mp4",
    "codecs/h264_sample.mp4",
    "codecs/kinetics_style.mp4",
    "codecs/nasa_13013_rotated.mp4",
    "codecs/sine_stereo_mp2.mpg",
    "codecs/test_non_zero_start.mp4",
    "codecs/testsrc2_mpeg4.avi",
    "codecs/testsrc2_odd_width_mpeg2.mp4",
    "codecs/video_90.mov",
    "EgoGestAR/carret/carret_1.mp4",
    "EgoGestAR/del/del_4.mp4",
    "EgoGestAR/square/square_17.mp4",
    "EgoGestAR/star/star_16.mp4",
]
"""All codecs and containers among the real clips, the packed bitstream included."""
VECTOR_FIELDS = ["source", "w", "h", "src_x", "src_y", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale"]


def write_stream(name: str, folder: Path) -> Path:
    """One of STREAMS, 26 frames long."""
    return STREAMS[name].write(write_video, folder, name)


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg command."""
    command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def facts_of(stream: PackedStream) -> dict[str, Any]:
    """What a sample's json says of its stream."""
    return {
        "key": "clip",
        "packets": stream.facts(),
        "picture_types": stream.picture_types,
        "pts_seconds": list(stream.pts_seconds),
        "width": stream.width,
        "height": stream.height,
        "frame_indices": list(range(len(stream.pts_seconds))),
    }


def unpack(stream: PackedStream) -> PackedVideo:
    """Open a packed stream."""
    return PackedVideo(stream.data, facts_of(stream))


def place(frame: Frame) -> tuple[Any, ...]:
    """All that a frame says of itself in numbers."""
    return frame.index, frame.gop_index, frame.gop_position, frame.picture_type, frame.pts_seconds


def values(frame: Frame) -> tuple[Any, ...]:
    """A frame's place, picture and vectors, to be compared."""
    vectors = [frame.vectors[name].tobytes() for name in VECTOR_FIELDS]
    return *place(frame), frame.rgb().tobytes(), *vectors


def tracked_values(frame: Frame) -> tuple[Any, ...]:
    """All arrays of a tracked frame, to be compared."""
    return *values(frame), frame.accumulated_motion().tobytes(), frame.accumulated_residual().tobytes()


def without_place(frames: Iterable[Frame]) -> list[tuple[Any, ...]]:
    """Type, time, picture and vectors of frames that may be numbered otherwise."""
    return [values(frame)[3:] for frame in frames]


def differing(one: Any, two: Any) -> list[int]:
    """Where two lists of values differ, for a short message."""
    return [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]


def rgb_bytes(frames: Iterable[Frame]) -> list[bytes]:
    return [np.ascontiguousarray(frame.rgb()).tobytes() for frame in frames]
