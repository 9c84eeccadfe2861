"""Accumulated residuals: what is left over when the I-frame is moved along the motion."""

from pathlib import Path

import numpy as np
import pytest
from mpeg4_streams import decode_exactly
from numpy.typing import NDArray
from reference import (
    STREAMS,
    accumulated_residuals,
    moving_texture,
    residual_magnitude,
    source_maps,
    texture,
    warp,
)

from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UnsupportedError


@pytest.fixture(scope="module", params=STREAMS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return STREAMS[request.param].write(write_video, tmp_path_factory.mktemp("streams"), request.param)


class TestIdentities:
    def test_warped_intra_frame_plus_residual_is_the_frame(self, path: Path) -> None:
        num_moved = num_changed = 0
        for frame in Video(path).frames(track="residual"):
            rgb = frame.rgb().copy()
            if frame.picture_type == "I":
                intra = rgb
            motion, residual = frame.accumulated_motion(), frame.accumulated_residual()
            assert residual.dtype == np.int16
            if frame.picture_type == "B" or frame.gop_position:
                num_moved += np.count_nonzero(motion)
                num_changed += np.count_nonzero(residual)
            assert np.array_equal(warp(intra, motion) + residual, rgb), frame
        assert num_moved > 1000
        assert num_changed > 1000

    def test_the_picture_alone_may_be_followed(self, path: Path) -> None:
        both = Video(path).frames(track="residual")
        for frame, expected in zip(Video(path).frames(track="picture"), both, strict=True):
            assert np.array_equal(frame.accumulated_residual(), expected.accumulated_residual()), frame
            assert np.array_equal(frame.accumulated_residual_magnitude(), expected.accumulated_residual_magnitude())
            for copy in (True, False):
                with pytest.raises(UnsupportedError, match=r'track="picture" carries no displacements.*track="motion"'):
                    frame.accumulated_motion(copy=copy)

    def test_equals_the_oracle(self, path: Path) -> None:
        decoded = decode_exactly(path)
        letters = [frame.picture_type for frame in decoded]
        maps = source_maps(letters, [frame.blocks for frame in decoded], *decoded[0].luma.shape)
        expected = accumulated_residuals(letters, [frame.rgb for frame in decoded], maps)
        for frame, residual in zip(Video(path).frames(track="residual"), expected, strict=True):
            assert np.array_equal(frame.accumulated_residual(), residual), frame

    def test_bytes(self, path: Path) -> None:
        for frame in Video(path).frames(track="residual"):
            exact = frame.accumulated_residual() + 128
            shifted, num_clipped = frame.accumulated_residual_uint8()
            assert np.array_equal(shifted, np.clip(exact, 0, 255))
            assert num_clipped == np.count_nonzero((exact < 0) | (exact > 255))

    def test_magnitude(self, path: Path) -> None:
        for frame in Video(path).frames(track="residual"):
            expected = residual_magnitude(frame.accumulated_residual(), 4)
            np.testing.assert_allclose(frame.accumulated_residual_magnitude(), expected, rtol=1e-6)
            assert np.array_equal(frame.accumulated_residual_magnitude(4), frame.accumulated_residual_magnitude())

    def test_intra_frames_are_zero(self, path: Path) -> None:
        for frame in Video(path).frames(track="residual"):
            if frame.picture_type == "I":
                assert not frame.accumulated_residual().any()
                assert (frame.accumulated_residual_uint8()[0] == 128).all()
                assert not frame.accumulated_residual_magnitude(1).any()

    def test_reading_is_repeatable(self, path: Path) -> None:
        """Reading one array must not change what the others, or a second reading, give."""
        quiet = Video(path).frames(track="residual")
        for frame, alone in zip(Video(path).frames(track="residual"), quiet, strict=True):
            for _ in range(2):
                frame.accumulated_motion()
                frame.motion(future=True)
                frame.accumulated_residual_uint8()
                frame.accumulated_residual_magnitude()
                first = frame.accumulated_residual()
            assert np.array_equal(first, alone.accumulated_residual())


class TestKnownContent:
    def test_still_video(self, tmp_path: Path) -> None:
        write_video(tmp_path / "still.avi", [texture(48, 64)] * 6, gop=6, quantiser=2)
        for frame in Video(tmp_path / "still.avi").frames(track="residual"):
            assert np.abs(frame.accumulated_residual()).max() <= 8  # what a finer second coding changes
            assert not frame.accumulated_motion().any()

    def test_moved_texture_is_predicted(self, tmp_path: Path) -> None:
        """Motion compensation must beat the difference of the frames by far, or it has the wrong sign."""
        frames = moving_texture(5, 128, 96, (4, -2))  # even steps, so that the halved chroma moves in whole pixels too
        write_video(tmp_path / "moved.avi", frames, gop=5, quantiser=2)
        for frame in Video(tmp_path / "moved.avi").frames(track="residual"):
            rgb = frame.rgb().astype(int)
            if frame.picture_type == "I":
                intra = rgb
                continue
            inside = slice(16, -16)
            residual = np.abs(frame.accumulated_residual()[inside, inside]).mean()
            assert residual < 0.2 * np.abs(rgb - intra)[inside, inside].mean(), frame


class TestOut:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Video:
        write_video(tmp_path / "a.avi", moving_texture(5, 70, 50), gop=5)
        return Video(tmp_path / "a.avi")

    def test_out_is_used(self, video: Video) -> None:
        signed, shifted = np.full((50, 70, 3), 9, np.int16), np.full((50, 70, 3), 9, np.uint8)
        for frame in video.frames(track="residual"):
            assert frame.accumulated_residual(out=signed) is signed
            assert frame.accumulated_residual_uint8(out=shifted)[0] is shifted
            assert np.array_equal(signed, frame.accumulated_residual())
            assert np.array_equal(shifted, frame.accumulated_residual_uint8()[0])

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((50, 70, 3), np.float32),
            np.zeros((49, 70, 3), np.int16),
            np.zeros((50, 71, 3), np.int16),
            np.zeros((50, 70), np.int16),
            np.zeros((50, 70, 4), np.int16)[..., :3],
        ],
    )
    def test_wrong_out(self, video: Video, out: NDArray[np.int16]) -> None:
        frame = next(video.frames(track="residual"))
        with pytest.raises(UnsupportedError, match=r"out\.shape=.*int16, of shape \(50, 70, 3\)"):
            frame.accumulated_residual(out=out)
        with pytest.raises(UnsupportedError, match=r"out\.shape=.*uint8, of shape \(50, 70, 3\)"):
            frame.accumulated_residual_uint8(out=out)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ApplyEyeMakeup", "Basketball"])
def test_real_clips(shared: Path, name: str) -> None:
    path = shared / "data" / "UCF101" / name / f"v_{name}_g01_c01.avi"
    for frame in Video(path).frames(track="residual"):
        if frame.picture_type == "I":
            intra = frame.rgb().copy()
        warped = warp(intra, frame.accumulated_motion())
        assert np.array_equal(warped + frame.accumulated_residual(), frame.rgb()), frame
