"""Crops of frames: what is cut from the whole, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import busy_frames

from vidprep.codec import _kernels
from vidprep.codec.cropping import Cropper
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UnsupportedError

CROPS = [None, (0, 0, 96, 80), (3, 5, 17, 9), (10, 20, 80, 60), (95, 79, 1, 1), (0, 1, 96, 79)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "video.avi"
    write_video(path, busy_frames(9), num_b_frames=2, gop=6)
    return path


@pytest.mark.parametrize("crop", CROPS)
def test_all_arrays_of_a_frame(path: Path, crop: tuple[int, int, int, int] | None) -> None:
    cropper = Cropper(crop, 96, 80)
    x, y, width, height = crop or (0, 0, 96, 80)
    part = slice(y, y + height), slice(x, x + width)
    assert cropper.shape == (height, width, 3)
    for frame in Video(path).frames(track="residual"):
        np.testing.assert_array_equal(cropper.rgb(frame), frame.rgb()[part])
        np.testing.assert_array_equal(cropper.accumulated_residual(frame), frame.accumulated_residual()[part])
        out = np.empty((height, width, 3), np.int16)
        assert cropper.accumulated_residual(frame, out=out) is out
        np.testing.assert_array_equal(out, frame.accumulated_residual()[part])
        field = np.empty((height, width, 2), np.int16)
        cropper.cut(frame.accumulated_motion, field)
        np.testing.assert_array_equal(field, frame.accumulated_motion()[part])


@pytest.mark.parametrize("crop", [(60, 10, 37, 20), (61, 11, 36, 19), (96, 0, 1, 1), (60, 10, 36, 20)])
def test_small_crops_at_an_odd_edge(tmp_path: Path, crop: tuple[int, int, int, int]) -> None:
    write_video(tmp_path / "v.avi", busy_frames(3, 97, 80))
    x, y, width, height = crop
    cropper = Cropper(crop, 97, 80)
    for frame in Video(tmp_path / "v.avi").frames(vectors=False):
        np.testing.assert_array_equal(cropper.rgb(frame), frame.rgb()[y : y + height, x : x + width])


def test_residuals_need_a_tracked_frame(path: Path) -> None:
    cropper = Cropper((0, 0, 8, 8), 96, 80)
    for track in ("none", "motion"):
        frame = next(Video(path).frames(track=track))  # type: ignore[arg-type]
        with pytest.raises(UnsupportedError, match="residual"):
            cropper.accumulated_residual(frame)


def test_an_array_of_another_shape(path: Path) -> None:
    frame = next(Video(path).frames(track="residual"))
    with pytest.raises(UnsupportedError, match=r"out\.shape=\(8, 9, 3\).*must be C-contiguous.*\(8, 8, 3\)"):
        Cropper((0, 0, 8, 8), 96, 80).accumulated_residual(frame, out=np.empty((8, 9, 3), np.int16))


@given(data=st.data())
def test_subtracted_lines(data: st.DataObject) -> None:
    """Lines of any length, anywhere in padded pictures; the kernel and its Python source alike."""
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    steps = [width + data.draw(st.integers(0, 4)) for _ in range(2)]
    starts = [data.draw(st.integers(0, 7)) for _ in range(2)]
    pictures = [
        rng.integers(0, 256, start + step * height, np.uint8) for start, step in zip(starts, steps, strict=True)
    ]
    lines = [
        np.stack([picture[start + y * step :][:width] for y in range(height)]).astype(int)
        for picture, start, step in zip(pictures, starts, steps, strict=True)
    ]
    for subtract in (_kernels.subtract_lines, _kernels.subtract_lines.py_func):
        out = np.full((height, width), 999, np.int16)
        subtract(pictures[0], starts[0], steps[0], pictures[1], starts[1], steps[1], out)
        np.testing.assert_array_equal(out, lines[0] - lines[1])
