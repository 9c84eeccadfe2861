"""The levels: sizes, antialiasing, and that each comes from the decoded picture."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.modalities import pyramid
from vidprep.modalities.base import Settings


def frame_of(tmp_path: Path, picture: NDArray[np.uint8], pixel_format: str = "yuv420p") -> Frame:
    """A frame that holds just this picture, coded without loss but for the colour conversion."""
    path = tmp_path / "v.mkv"
    write_video(path, [picture], codec="ffv1", quantiser=None, pixel_format=pixel_format)
    return next(iter(Video(path).frames(vectors=False)))


def entries_of(path: Path, levels: tuple[int, ...]) -> tuple[dict[str, bytes], pyramid.Pyramid]:
    modality, entries = pyramid.Pyramid(Settings(levels=levels)), {}
    for frame in Video(path).frames():
        entries |= dict(modality.add(frame, frame.index // 4 if frame.index % 4 == 0 else None))
    return entries, modality


@pytest.mark.parametrize(
    ("size", "level", "expected"),
    [
        ((340, 256), 112, (149, 112)),
        ((256, 340), 112, (112, 149)),
        ((340, 256), 224, (298, 224)),
        ((340, 256), 256, (340, 256)),
        ((340, 256), 257, (340, 256)),
        ((64, 48), 112, (64, 48)),
        ((1000, 8), 8, (1000, 8)),
        ((1920, 1080), 56, (100, 56)),
    ],
)
def test_level_size(size: tuple[int, int], level: int, expected: tuple[int, int]) -> None:
    assert pyramid.level_size(*size, level) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(8, 4096))
def test_the_aspect_is_kept_and_nothing_grows(width: int, height: int, level: int) -> None:
    new_width, new_height = pyramid.level_size(width, height, level)
    short = min(level, width, height)
    assert min(new_width, new_height) == short
    assert new_width <= width
    assert new_height <= height
    scale = Fraction(short, min(width, height))
    assert abs(new_width - scale * width) <= Fraction(1, 2)
    assert abs(new_height - scale * height) <= Fraction(1, 2)
    assert pyramid.level_size(height, width, level) == (new_height, new_width)


@pytest.mark.parametrize("level", [16, 24, 32, 40])
def test_a_fine_checkerboard_becomes_flat_grey(tmp_path: Path, level: int) -> None:
    """Picking pixels, or interpolating between two of them, would leave black, white or a moire."""
    rows, columns = np.indices((64, 96))
    board = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    frame = frame_of(tmp_path, board)
    assert frame.rgb().std() > 100
    small = pyramid.extract(frame, level).astype(int)
    grey = round(board.mean())
    spread = 0 if 64 % level == 0 else 255 // (64 // level)  # what a window of no whole number of cells leaves
    assert abs(small.mean() - grey) <= 0.5
    assert np.abs(small - grey).max() <= spread / 2 + 1


# The full-size picture from 4:2:0 is up to 2 levels too dark: the fast path of libswscale rounds down.
@pytest.mark.parametrize(("pixel_format", "bound"), [("yuv444p", 1.5), ("yuv420p", 2.5)])
@pytest.mark.parametrize("factor", [2, 4])
def test_it_is_the_mean_of_the_pixels_below(tmp_path: Path, pixel_format: str, bound: float, factor: int) -> None:
    """Grey noise, so that the colour conversion is the same before and after the mean."""
    noise = np.random.default_rng(3).integers(40, 216, (64, 96, 1), np.uint8)
    frame = frame_of(tmp_path, np.repeat(noise, 3, axis=2), pixel_format)
    cells = frame.rgb().astype(float).reshape(64 // factor, factor, 96 // factor, factor, 3)
    small = pyramid.extract(frame, 64 // factor)
    assert np.abs(small - cells.mean((1, 3))).max() <= bound


@pytest.mark.parametrize("level", [16, 27, 32])
def test_nothing_is_shifted(tmp_path: Path, level: int) -> None:
    """A ramp stays a ramp: pixel centres of a level lie where the scale says."""
    ramp = np.broadcast_to(np.linspace(20, 230, 96)[None, :, None], (64, 96, 3)).round().astype(np.uint8)
    frame = frame_of(tmp_path, ramp, "yuv444p")
    small = pyramid.extract(frame, level).astype(float)
    centres = (np.arange(small.shape[1]) + 0.5) * 96 / small.shape[1] - 0.5
    expected = np.interp(centres, np.arange(96), frame.rgb()[0, :, 0].astype(float))
    assert np.abs(small.mean((0, 2)) - expected).max() < 1.6


def test_colours_keep_their_place(tmp_path: Path) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:], picture[32:, :48], picture[32:, 48:] = (
        (200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40),
    )  # fmt: skip
    small = pyramid.extract(frame_of(tmp_path, picture), 16).astype(int)
    assert small.shape == (16, 24, 3)
    for y, x in ((2, 3), (2, 20), (13, 3), (13, 20)):
        assert np.abs(small[y, x] - picture[4 * y, 4 * x]).max() <= 6


def test_a_level_comes_from_the_decoded_picture_and_from_no_other_level(stream: Callable[[str], Path]) -> None:
    both = entries_of(stream("b.avi"), (40, 20))[0]
    turned = entries_of(stream("b.avi"), (20, 40))[0]
    for level in (40, 20):
        alone = entries_of(stream("b.avi"), (level,))[0]
        assert len(alone) == 5
        assert alone.items() <= both.items()
        assert alone.items() <= turned.items()
    assert len(both) == 10


def test_a_level_above_the_picture_is_the_picture(stream: Callable[[str], Path]) -> None:
    for name in ("p.avi", "odd.avi"):
        for frame in Video(stream(name)).frames():
            level = pyramid.extract(frame, 112)
            assert level.shape == frame.rgb().shape
            assert np.abs(level.astype(int) - frame.rgb()).max() <= 1  # another filter for the colour planes


def test_entries_and_facts(stream: Callable[[str], Path]) -> None:
    entries, modality = entries_of(stream("odd.avi"), (112, 24))
    assert sorted(entries) == sorted(f"rgb{level}.{i:06d}.jpg" for level in (112, 24) for i in range(5))
    assert modality.facts() == {
        "format": "jpeg",
        "quality": 95,
        "subsampling": "4:2:0",
        "levels": {"112": [67, 49], "24": [33, 24]},
    }
    facts = {"pyramid": modality.facts()}
    for level, shape in ((112, (5, 49, 67, 3)), (24, (5, 24, 33, 3))):
        pictures = pyramid.decode_level(entries, level)
        assert pictures is not None
        assert pictures.shape == shape
    largest = pyramid.Pyramid.decode(entries, facts)
    np.testing.assert_array_equal(largest, pyramid.decode_level(entries, 112))
    assert pyramid.decode_level(entries, 56) is None


def test_round_trip_is_near(stream: Callable[[str], Path]) -> None:
    entries, _ = entries_of(stream("p.avi"), (32,))
    decoded = pyramid.decode_level(entries, 32)
    assert decoded is not None
    own = [pyramid.extract(frame, 32) for frame in Video(stream("p.avi")).frames() if frame.index % 4 == 0]
    error = decoded.astype(float) - np.stack(own)
    assert 0 < np.sqrt(np.mean(error**2)) < 4.5  # measured: 3.8


def test_no_levels_no_array() -> None:
    assert pyramid.Pyramid(Settings()).facts()["levels"] == {}
    assert pyramid.Pyramid.decode({}, {"pyramid": {"levels": {}}}) is None


def test_a_level_of_the_frames_own_size_is_the_frame(tmp_path: Path) -> None:
    """libswscale leaves the last columns of unscaled planes unwritten where the width is no multiple of 16."""
    write_video(tmp_path / "a.avi", [np.full((48, 84, 3), 200, np.uint8)] * 2)
    for frame in Video(tmp_path / "a.avi").frames():
        for level in (48, 4000):
            np.testing.assert_array_equal(pyramid.extract(frame, level), frame.rgb())
