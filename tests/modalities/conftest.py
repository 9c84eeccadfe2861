"""Streams of known content for the modalities' tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidprep.codec.writer import write_video

STREAMS: dict[str, dict[str, Any]] = {
    "p.avi": {"gop": 6},
    "b.avi": {"num_b_frames": 2},
    "closed.mp4": {"num_b_frames": 2, "gop": 11, "options": {"flags": "+cgop", "mpv_flags": "+strict_gop"}},
    "qpel.avi": {"num_b_frames": 1, "options": {"flags": "+qpel"}},
    "four_mv.avi": {"options": {"flags": "+mv4"}},
    "odd.avi": {"num_b_frames": 2, "size": (67, 49)},
    "h264.mp4": {"codec": "h264", "quantiser": 24, "options": {"refs": "1"}},
    "h264_b.mp4": {"codec": "h264", "num_b_frames": 2, "quantiser": 24},
    "mpeg2.mkv": {"codec": "mpeg2video", "num_b_frames": 2},
}


def moving_frames(num_frames: int, size: tuple[int, int] = (80, 64)) -> list[NDArray[np.uint8]]:
    """A smooth texture that moves by (2, 1) a frame, and a patch before it that moves by (-3, 0)."""
    width, height = size
    rng = np.random.default_rng(7)
    waves = np.cumsum(rng.normal(size=(height + 64, width + 128, 3)), axis=0)
    waves = np.cumsum(waves - waves.mean(axis=0), axis=1)
    scene = (255 * (waves - waves.min()) / np.ptp(waves)).astype(np.uint8)
    frames = []
    for k in range(num_frames):
        picture = scene[k : k + height, 2 * k : 2 * k + width].copy()
        left = width - 24 - 3 * k % (width - 32)
        picture[16:32, left : left + 16] = scene[:16, :16] ^ 255
        frames.append(picture)
    return frames


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the file of one of STREAMS, 20 frames long, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("streams")

    def path_of(name: str) -> Path:
        if not (folder / name).exists():
            options = dict(STREAMS[name])
            write_video(folder / name, moving_frames(20, options.pop("size", (80, 64))), **options)
        return folder / name

    return path_of
