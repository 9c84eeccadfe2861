"""Original clips of datasets and phones, and one file of each codec and oddity."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from reference import decode, psnr, rgb_by_command

from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import VECTOR_CODECS, Video
from vidprep.errors import DecodeError, UnsupportedError


class Facts(NamedTuple):
    """What there is to know of a file; the rotation is counter-clockwise."""

    codec: str
    size: tuple[int, int]
    num_frames: int
    fps: float
    first_seconds: float = 0.0
    motion_exact: bool = True
    has_audio: bool = False
    rotation_degrees: int = 0


CODECS = {
    "av1_video.mkv": Facts("av1", (640, 360), 125, 25),
    "example.avi": Facts("mpeg4", (320, 240), 131, 25, has_audio=True),
    "h264_10bits.mp4": Facts("h264", (200, 200), 30, 30, motion_exact=False),
    "h264_sample.mp4": Facts("h264", (320, 240), 300, 25, motion_exact=False),
    "h265_video.mp4": Facts("hevc", (128, 128), 10, 10),
    "kinetics_style.mp4": Facts("h264", (340, 256), 300, 30, motion_exact=False),
    "nasa_13013_rotated.mp4": Facts("h264", (480, 270), 17, 29.97, motion_exact=False, rotation_degrees=90),
    "sine_stereo_mp2.mpg": Facts("mpeg1video", (128, 128), 100, 25, 0.54, has_audio=True),
    "test_non_zero_start.mp4": Facts("h264", (200, 112), 12, 30, 8.333008, motion_exact=False),
    "testsrc2_mpeg4.avi": Facts("mpeg4", (1280, 720), 30, 30),
    "testsrc2_odd_width_mpeg2.mp4": Facts("mpeg2video", (121, 80), 10, 25),
    "testsrc2_vp9.webm": Facts("vp9", (1280, 720), 30, 30),
    "vid_h264.mp4": Facts("h264", (1280, 720), 337, 25, has_audio=True),
    "vid_mpeg4_part2.mp4": Facts("mpeg4", (1280, 720), 337, 25),
    "video_180.mov": Facts("h264", (568, 320), 3, 30, rotation_degrees=180),
    "video_90.mov": Facts("h264", (568, 320), 3, 30, rotation_degrees=270),
}
LONG = {"vid_h264.mp4", "vid_mpeg4_part2.mp4", "testsrc2_vp9.webm", "av1_video.mkv"}
SMALL = sorted(CODECS.keys() - LONG)


def ucf101(shared: Path, name: str) -> Path:
    return shared / "data" / "UCF101" / name / f"v_{name}_g01_c01.avi"


class TestCodecs:
    @pytest.mark.parametrize("name", CODECS)
    def test_facts(self, shared: Path, name: str) -> None:
        expected, facts = CODECS[name], Video(shared / "data" / "codecs" / name).metadata
        assert (facts.codec, (facts.width, facts.height)) == (expected.codec, expected.size)
        assert facts.fps == pytest.approx(expected.fps, abs=0.01)
        assert facts.start_seconds == pytest.approx(expected.first_seconds, abs=1e-6)
        assert facts.has_audio == expected.has_audio
        assert facts.rotation_degrees % 360 == expected.rotation_degrees

    @pytest.mark.parametrize("name", SMALL)
    def test_frames(self, shared: Path, name: str) -> None:
        path, expected = shared / "data" / "codecs" / name, CODECS[name]
        plain, video = decode(path), Video(path)
        frames = list(video.frames(vectors=expected.codec in VECTOR_CODECS))
        assert len(frames) == len(plain) == expected.num_frames
        assert frames[0].pts_seconds == pytest.approx(expected.first_seconds, abs=1e-6)
        assert [frame.pts_seconds for frame in frames] == pytest.approx([frame.time for frame in plain])
        assert video.num_repaired_times == video.num_dropped_frames == 0
        assert video.motion_exact == expected.motion_exact
        cut = rgb_by_command(ffmpeg_path(), path, *expected.size)
        for frame, source, picture in zip(frames, plain, cut, strict=True):
            assert frame.picture_type == source.picture_type
            assert np.array_equal(frame.rgb(), source.rgb)
            assert np.array_equal(frame.rgb(), picture), frame
            assert len(frame.vectors) == len(source.blocks)

    @pytest.mark.parametrize("name", SMALL)
    def test_transcode(self, shared: Path, name: str) -> None:
        """All frames, at the source's times, upright; compared at the size of the recipe."""
        source = Video(shared / "data" / "codecs" / name)
        times = source.times()
        with transcode(source, Recipe(size="short:128")) as video:
            frames = list(video.frames())
            assert [frame.pts_seconds for frame in frames] == pytest.approx(times, abs=1.1e-6)
            assert (
                "".join(f.picture_type for f in frames)
                == ("I" + "P" * 11) * (len(frames) // 12) + ("I" + "P" * 11)[: len(frames) % 12]
            )
            upright = frames[0].width > frames[0].height
            turned = CODECS[name].rotation_degrees % 180 == 90
            assert upright != turned or CODECS[name].size[0] == CODECS[name].size[1]

    @pytest.mark.parametrize("name", sorted(LONG))
    def test_the_first_frames_of_long_ones(self, shared: Path, name: str) -> None:
        source = Video(shared / "data" / "codecs" / name)
        with transcode(source, Recipe(), end_seconds=0.5) as video:
            frames = list(video.frames(track="residual"))
            assert len(frames) == round(CODECS[name].fps / 2 + 0.01)
            assert (frames[0].width, frames[0].height) == (340, 256)

    @pytest.mark.parametrize("name", [n for n, facts in CODECS.items() if facts.codec not in VECTOR_CODECS])
    def test_no_vectors(self, shared: Path, name: str) -> None:
        video = Video(shared / "data" / "codecs" / name)
        with pytest.raises(UnsupportedError, match=rf"codec={CODECS[name].codec}: .*transcode"):
            video.frames(track="motion")

    def test_corrupt_on_purpose(self, shared: Path) -> None:
        video = Video(shared / "data" / "codecs" / "corrupted.mp4")
        with pytest.raises(DecodeError, match=r"corrupted\.mp4"):
            list(video.frames())
        with pytest.raises(DecodeError, match=r"corrupted\.mp4: ffmpeg gave up"):
            transcode(video, Recipe())

    @pytest.mark.parametrize("window", [(0.1, 0.33), (None, 0.2), (0.2, None), (0.05, 0.3)])
    def test_segment_of_a_clip_with_a_late_start(self, shared: Path, window: tuple[float | None, float | None]) -> None:
        start, end = window
        source = Video(shared / "data" / "codecs" / "test_non_zero_start.mp4")
        origin = round(1e6 * source.metadata.start_seconds)
        ticks = [round(1e6 * time) - origin for time in source.times()]
        wanted = [t for t in ticks if (start or 0) * 1e6 <= t + 0.5 and (end is None or t < end * 1e6)]
        assert 0 < len(wanted) < len(ticks)
        with transcode(source, Recipe(size="native"), start_seconds=start, end_seconds=end) as video:
            assert [round(1e6 * time) - origin for time in video.times()] == pytest.approx(wanted, abs=1.1)
            assert len(list(video.frames())) == len(wanted)

    def test_the_sine(self, shared: Path) -> None:
        """MP2 in a program stream; its sound begins 11 ms before the picture."""
        audio = Video(shared / "data" / "codecs" / "sine_stereo_mp2.mpg").audio(24000)
        assert audio is not None
        assert audio.start_seconds == pytest.approx(-0.0109, abs=1e-3)
        middle = audio.samples[24000:48000] * np.hanning(24000)
        spectrum = np.abs(np.fft.rfft(middle))
        peak = int(np.argmax(spectrum))
        assert spectrum[peak - 2 : peak + 3].sum() > 0.95 * spectrum.sum()

    def test_many_channels(self, shared: Path) -> None:
        audio = Video(shared / "data" / "codecs" / "vid_h264.mp4").audio(24000, start_seconds=4.0, end_seconds=6.0)
        assert audio is not None
        assert audio.samples.shape == (48000,)
        assert 0 < np.abs(audio.samples).max() <= 1


class TestUcf101:
    def test_packed_bitstream(self, shared: Path) -> None:
        """Timestamps are not monotonic in output order, as the packer numbers them; here they are."""
        path = ucf101(shared, "ApplyEyeMakeup")
        raw = [frame.time for frame in decode(path)]
        assert raw != sorted(raw)  # type: ignore[type-var]
        video = Video(path)
        frames = list(video.frames())
        assert [frame.pts_seconds for frame in frames] == pytest.approx([0.04 * i for i in range(1, 165)])
        assert video.num_repaired_times == sum(a != b for a, b in zip(raw, sorted(raw), strict=True))  # type: ignore[type-var]
        letters = "".join(frame.picture_type for frame in frames)
        assert (letters.count("I"), letters.count("P"), letters.count("B")) == (1, 55, 108)
        assert {frame.gop_index for frame in frames} == {0}

    def test_packed_bitstream_is_in_display_order(self, shared: Path) -> None:
        """Neighbours look alike: each frame is closer to the next than the frames around both are to each other."""
        frames = [frame.rgb().astype(float) for frame in Video(ucf101(shared, "ApplyEyeMakeup")).frames(vectors=False)]
        near = [np.abs(a - b).mean() for a, b in pairwise(frames)]
        swapped = [np.abs(a - b).mean() for a, b in zip(frames, frames[3:], strict=False)]
        assert np.mean(np.array(near[1:-1]) < np.array(swapped)) > 0.9

    @pytest.mark.parametrize("name", ["ApplyEyeMakeup", "BaseballPitch", "Basketball"])
    def test_transcode(self, shared: Path, name: str) -> None:
        source = Video(ucf101(shared, name))
        with transcode(source, Recipe()) as video:
            frames = list(video.frames())
            assert [f.pts_seconds for f in frames] == pytest.approx(source.times(), abs=1.1e-6)
            assert all((f.picture_type == "I") == (f.index % 12 == 0) for f in frames)

    @pytest.mark.parametrize("window", [(0.0, 0.5), (1.0, 1.5), (2.5, 3.25), (6.2, None)])
    def test_segment_of_the_packed_bitstream(self, shared: Path, window: tuple[float, float | None]) -> None:
        """One I-frame in 164 frames: all that comes before a segment must be decoded, and none of it kept."""
        start, end = window
        source = Video(ucf101(shared, "ApplyEyeMakeup"))
        wanted = [f for f in source.frames(vectors=False) if start <= f.pts_seconds < (end or 99)]
        with transcode(source, Recipe(size="native"), start_seconds=start, end_seconds=end) as video:
            frames = list(video.frames())
        assert [f.pts_seconds for f in frames] == pytest.approx([f.pts_seconds for f in wanted], abs=1.1e-6)
        for frame, original in zip(frames, wanted, strict=True):
            assert psnr(frame.rgb(), original.rgb()) > 38

    def test_same_transcoding_as_coviar(self, shared: Path) -> None:
        """The golden streams were made by CoViAR's recipe; ours gives the same pictures but for the version."""
        with transcode(Video(ucf101(shared, "Basketball")), Recipe()) as video:
            golden = Video(shared / "golden" / "coviar" / "v_Basketball_g01_c01.m4v")
            for ours, theirs in zip(video.frames(), golden.frames(), strict=True):
                assert ours.picture_type == theirs.picture_type
                assert psnr(ours.rgb(), theirs.rgb()) > 45


class TestPhones:
    """EgoGestAR: every twelfth of 217 clips, H.264 with and without B-frames, MPEG-4, constant and variable rate."""

    def test_times_and_counts_agree_between_both_decoders(self, shared: Path) -> None:
        paths = sorted((shared / "data" / "EgoGestAR").rglob("*.mp4"))[::12]
        assert len(paths) > 10
        for path in paths:
            source = Video(path)
            window = {"end_seconds": 1.0}
            with transcode(source, Recipe(size="short:64"), **window) as video:  # type: ignore[arg-type]
                times = video.times()
            origin = source.metadata.start_seconds
            frames = source.frames(vectors=False, end_seconds=1.0)
            expected = [f.pts_seconds for f in frames if round(1e6 * (f.pts_seconds - origin)) < 1_000_000]
            assert times == pytest.approx(expected, abs=1.1e-6), path.name
            assert len(times) > 5
