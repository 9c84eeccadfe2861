"""Motion: block vectors, the dense field, and displacements to the I-frame, on streams that were encoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from mpeg4_streams import decode_exactly
from numpy.typing import NDArray
from reference import (
    STREAMS,
    Decoded,
    accumulated_motion,
    busy_frames,
    moving_texture,
    source_maps,
    texture,
)
from reference import dense_motion as slow_dense_motion

from vidprep.codec.anchors import MAX_CONSECUTIVE_B_FRAMES
from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.frame import Frame
from vidprep.codec.motion import accumulate_vectors, track_frames
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError


@dataclass
class Case:
    """A stream, and what plain PyAV and the oracle make of it."""

    name: str
    path: Path
    decoded: list[Decoded]

    @property
    def letters(self) -> str:
        return "".join(frame.picture_type for frame in self.decoded)

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.decoded[0].rgb.shape[:2]
        return height, width

    @cached_property
    def accumulated(self) -> list[NDArray[np.int16]]:
        blocks = [frame.blocks for frame in self.decoded]
        return accumulated_motion(source_maps(self.letters, blocks, *self.size))


@pytest.fixture(scope="module", params=STREAMS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = STREAMS[request.param].write(write_video, tmp_path_factory.mktemp("streams"), request.param)
    return Case(request.param, path, decode_exactly(path))


class TestStreams:
    def test_they_hold_what_the_oracle_should_see(self, case: Case) -> None:
        """Else the comparisons below would compare zeros."""
        blocks = np.concatenate([frame.blocks for frame in case.decoded if len(frame.blocks)])
        moved = (blocks["dst_x"] != blocks["src_x"]) | (blocks["dst_y"] != blocks["src_y"])
        assert np.count_nonzero(moved) > 100
        assert case.letters.count("I") >= 2
        assert ("B" in case.letters) == STREAMS[case.name].has_b_frames
        assert (blocks["source"] > 0).any() == STREAMS[case.name].has_b_frames
        if "4mv" in case.name:
            assert (blocks["w"] == 8).any()

    def test_vectors(self, case: Case) -> None:
        for frame, expected in zip(Video(case.path).frames(), case.decoded, strict=True):
            assert frame.vectors.dtype == BLOCK_DTYPE
            assert len(frame.vectors) == len(expected.blocks)
            for name in BLOCK_DTYPE.names or () if len(expected.blocks) else ():
                assert np.array_equal(frame.vectors[name], expected.blocks[name]), name
            if frame.picture_type == "I":
                assert not len(frame.vectors)

    def test_dense_field(self, case: Case) -> None:
        for frame, expected in zip(Video(case.path).frames(), case.decoded, strict=True):
            for future in (False, True):
                direction = 1 if future else -1
                slow = slow_dense_motion(expected.blocks, *case.size, direction=direction)
                assert np.array_equal(frame.motion(future=future), slow), frame

    @pytest.mark.parametrize("track", ["motion", "residual"])
    def test_accumulated_motion(self, case: Case, track: str) -> None:
        frames = Video(case.path).frames(track=track)  # type: ignore[arg-type]
        for frame, expected in zip(frames, case.accumulated, strict=True):
            motion = frame.accumulated_motion()
            assert motion.dtype == np.int16
            assert np.array_equal(motion, expected), frame

    def test_from_stored_vectors(self, case: Case) -> None:
        out = np.empty((len(case.decoded), *case.size, 2), np.int16)
        accumulate_vectors([frame.vectors for frame in Video(case.path).frames()], case.letters, out)
        assert np.array_equal(out, case.accumulated)

    def test_intra_frames_are_zero(self, case: Case) -> None:
        intra = [frame for frame in Video(case.path).frames(track="motion") if _is_zero_intra(frame)]
        assert len(intra) == case.letters.count("I")


def _is_zero_intra(frame: Frame) -> bool:
    if frame.picture_type != "I":
        return False
    assert not frame.motion().any()
    assert not frame.accumulated_motion().any()
    return True


@pytest.fixture(scope="module", params=["mpeg4", "h264"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A texture, all of which moves by (3, -2) a frame."""
    path = tmp_path_factory.mktemp("whole") / "whole.mp4"
    options = {"refs": "1"} if request.param == "h264" else {"mbd": "rd"}
    write_video(path, moving_texture(8, 128, 96), codec=request.param, gop=8, quantiser=2, options=options)
    return path


class TestKnownMotion:
    """Content of known motion; the encoder's search finds it in whole pixels."""

    def test_whole_picture(self, whole: Path) -> None:
        frames = Video(whole).frames(track="motion")
        assert next(frames).picture_type == "I"
        for frame in frames:
            inside = frame.motion()[16:-16, 16:-16]
            assert (inside == (3, -2)).all(axis=-1).mean() > 0.98, frame

    def test_it_accumulates(self, whole: Path) -> None:
        for frame in Video(whole).frames(track="motion"):
            i = frame.index
            inside = frame.accumulated_motion()[16 : 80 - 2 * i, 16 + 3 * i : -16]
            assert (inside == (3 * i, -2 * i)).all(axis=-1).mean() > 0.95, frame

    def test_square(self, tmp_path: Path) -> None:
        """A textured square moves over a still ground: its blocks move, the ground does not."""
        ground, square = texture(96, 128, seed=3), texture(48, 48, seed=4)
        frames = [ground.copy() for _ in range(4)]
        for i, frame in enumerate(frames):
            frame[40 - 2 * i :][:48, 24 + 3 * i :][:, :48] = square
        write_video(tmp_path / "square.avi", frames, gop=4, quantiser=2)
        for frame in list(Video(tmp_path / "square.avi").frames())[1:]:
            motion = frame.motion()
            assert (motion[48:64, 48:64] == (3, -2)).all(), frame  # the macroblock that the square covers throughout
            assert not motion[:, 96:].any()
            assert not motion[:, :16].any()

    def test_future_vectors_point_the_other_way(self, tmp_path: Path) -> None:
        """After a scene cut, B-frames can only look ahead."""
        frames = [texture(96, 128, seed=9), *moving_texture(3, 128, 96)]
        write_video(tmp_path / "cut.mkv", frames, codec="mpeg2video", num_b_frames=2, quantiser=2)
        _, first, second, anchor = Video(tmp_path / "cut.mkv").frames()
        assert (first.picture_type, second.picture_type, anchor.picture_type) == ("B", "B", "P")
        for frame, step in ((first, (-6, 4)), (second, (-3, 2))):
            inside = frame.motion(future=True)[16:-16, 16:-16]
            assert (inside == step).all(axis=-1).mean() > 0.9, frame

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_still_video(self, tmp_path: Path, codec: str) -> None:
        write_video(tmp_path / "still.mp4", [texture(48, 64)] * 6, codec=codec, gop=6)
        for frame in Video(tmp_path / "still.mp4").frames(track="motion"):
            assert not frame.motion().any()
            assert not frame.accumulated_motion().any()


class TestCurrentFrame:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Video:
        write_video(tmp_path / "a.avi", busy_frames(14, 64, 48), gop=12, num_b_frames=2)
        return Video(tmp_path / "a.avi")

    def test_stale_frames_raise(self, video: Video) -> None:
        kept: list[Frame] = []
        for frame in video.frames(track="residual"):
            frame.accumulated_motion()
            frame.accumulated_residual()
            for old in kept:
                for read in (
                    old.accumulated_motion,
                    old.accumulated_residual,
                    old.accumulated_residual_uint8,
                    old.accumulated_residual_magnitude,
                ):
                    with pytest.raises(UnsupportedError, match=rf"index={old.index}: .*before asking for the next"):
                        read()
            kept = [*kept[-4:], frame]
        assert len(kept) == 5

    def test_untracked_frames_raise(self, video: Video) -> None:
        frame = next(video.frames())
        with pytest.raises(UnsupportedError, match=r'index=0: .*track="residual"'):
            frame.accumulated_motion()
        with pytest.raises(UnsupportedError, match=r'track="residual"'):
            frame.accumulated_residual()

    def test_motion_track_carries_no_picture(self, video: Video) -> None:
        frame = next(video.frames(track="motion"))
        for read in (frame.accumulated_residual, frame.accumulated_residual_magnitude):
            with pytest.raises(UnsupportedError, match=r'track="motion" carries no picture'):
                read()

    def test_copies_are_kept_and_views_are_the_tracks_own(self, video: Video) -> None:
        again = [frame.accumulated_motion() for frame in video.frames(track="motion")]
        num_overwritten, previous = 0, None
        for frame, copy in zip(video.frames(track="motion"), again, strict=True):
            view = frame.accumulated_motion(copy=False)
            assert np.array_equal(view, copy)
            assert np.shares_memory(view, frame.accumulated_motion(copy=False))
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 0
            num_overwritten += previous is not None and np.shares_memory(view, previous)
            previous = view
        assert num_overwritten > 0
        assert any(copy.any() for copy in again)

    def test_vectors_and_pictures_outlive_the_iterator(self, video: Video) -> None:
        kept = list(video.frames())
        for frame, again in zip(kept, Video(video.source).frames(), strict=True):  # type: ignore[arg-type]
            assert np.array_equal(frame.rgb(), again.rgb())
            assert np.array_equal(frame.vectors, again.vectors)

    def test_out_is_used(self, video: Video) -> None:
        out = np.full((48, 64, 2), 5, np.int16)
        for frame in video.frames(track="motion"):
            assert frame.accumulated_motion(out=out) is out
            assert np.array_equal(out, frame.accumulated_motion())
            assert frame.motion(out=out) is out
            assert np.array_equal(out, frame.motion())

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((48, 64, 2), np.int32),
            np.zeros((47, 64, 2), np.int16),
            np.zeros((48, 63, 2), np.int16),
            np.zeros((49, 64, 2), np.int16),
            np.zeros((2, 48, 64), np.int16),
            np.zeros((48, 128, 2), np.int16)[:, ::2],
        ],
    )
    def test_wrong_out(self, video: Video, out: NDArray[np.int16]) -> None:
        frame = next(video.frames(track="motion"))
        for read in (frame.motion, frame.accumulated_motion):
            with pytest.raises(UnsupportedError, match=r"out\.shape=.*\(48, 64, 2\)"):
                read(out=out)


def test_endless_b_frames_are_refused(tmp_path: Path) -> None:
    """A hostile stream must not fill the memory with frames that wait for their anchor."""
    write_video(tmp_path / "a.avi", busy_frames(3, 64, 48))
    first = next(Video(tmp_path / "a.avi").frames())

    def frames() -> Iterator[Frame]:
        yield first
        for i in range(1, 10**6):
            frame = Frame(
                first._picture,
                first._converter,
                index=i,
                picture_type="B",
                pts_seconds=i / 25,
                gop_index=0,
                gop_position=i,
            )
            yield frame

    with pytest.raises(DecodeError, match=rf"num_consecutive_b_frames={MAX_CONSECUTIVE_B_FRAMES + 1} .*transcode"):
        list(track_frames(frames(), with_picture=False))


def test_packed_xvid_clip(shared: Path) -> None:
    """UCF101's XviD packed bitstream: B-frames, 4MV, vectors over the edge and one I-frame in 164 frames."""
    path = shared / "data" / "UCF101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi"
    decoded = decode_exactly(path)
    letters = "".join(frame.picture_type for frame in decoded)
    assert (letters.count("I"), letters.count("B"), len(letters)) == (1, 108, 164)
    assert letters[45] == "P"
    maps = source_maps(letters[:46], [frame.blocks for frame in decoded[:46]], 240, 320)
    frames = islice(Video(path).frames(track="motion"), 46)
    for frame, motion in zip(frames, accumulated_motion(maps), strict=True):
        assert np.array_equal(frame.accumulated_motion(), motion), frame
