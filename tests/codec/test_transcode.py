"""The recipe: real GOPs, the wanted size, the source's own times, and nothing left behind."""

import errno
import os
import resource
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from reference import busy_frames, decode, moving_texture, psnr, texture

from vidprep.codec.transcode import Recipe, ffmpeg_path, ffmpeg_version, output_size, transcode
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, TranscodeError, UnsupportedError, UsageError

NATIVE = Recipe(size="native")
VOP = b"\x00\x00\x01\xb6"


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def noise(num_frames: int, width: int = 64, height: int = 48) -> list[NDArray[np.uint8]]:
    """Every frame is a scene cut."""
    return [texture(height, width, seed=100 + i) for i in range(num_frames)]


def encoded_bytes(video: Video) -> bytes:
    assert not isinstance(video.source, Path)
    video.source.seek(0)
    return video.source.read()


def letters(video: Video) -> str:
    return "".join(frame.picture_type for frame in video.frames(vectors=False))


class TestStructure:
    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    @pytest.mark.parametrize("gop", [1, 5, 12])
    def test_gops_are_as_long_as_asked_for(self, tmp_path: Path, codec: str, gop: int) -> None:
        """Scene cuts in each frame shorten no group, and there are no B-frames."""
        write_video(tmp_path / "a.avi", noise(40), codec="mjpeg", pixel_format="yuvj420p")
        with transcode(Video(tmp_path / "a.avi"), Recipe(codec, "native", gop)) as video:
            assert letters(video) == (("I" + "P" * (gop - 1)) * 40)[:40]
            assert video.metadata.codec == codec
            assert video.metadata.pixel_format == "yuv420p"

    @pytest.mark.parametrize(
        ("codec", "more"),
        [
            ("mpeg4", {"-qscale:v": "1", "-sc_threshold": "1000000000"}),
            ("h264", {"-refs": "1", "-x264-params": "scenecut=0:weightp=0:b-pyramid=none:open-gop=0"}),
        ],
    )
    def test_command_forbids_what_these_sources_may_not_provoke(
        self, tmp_path: Path, codec: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At quantiser 1 the encoder finds no scene cut, and one thread is as good as two for a small picture."""
        write_video(tmp_path / "a.avi", busy_frames(2, 64, 48))
        log = tmp_path / "arguments"
        TestCommand.script(tmp_path, f'printf "%s\\n" "$@" >"{log}"; exec "{ffmpeg_path()}" "$@"', monkeypatch)
        with transcode(Video(tmp_path / "a.avi"), Recipe(codec, "native", 7)):
            source, _, output = log.read_text().partition("-filter_complex")
        values = dict(pairwise(output.splitlines()))
        expected = {"-g": "7", "-keyint_min": "7", "-bf": "0", "-threads": "1", "-flags": "+bitexact", **more}
        assert {name: values.get(name) for name in expected} == expected
        assert dict(pairwise(source.splitlines()))["-threads"] == "1"

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_pictures_and_motion_survive(self, tmp_path: Path, codec: str) -> None:
        frames = moving_texture(14, 128, 96)
        write_video(tmp_path / "a.mkv", frames, codec="h264", quantiser=4, num_b_frames=2)
        with transcode(Video(tmp_path / "a.mkv"), Recipe(codec, "native")) as video:
            sources = decode(tmp_path / "a.mkv")
            for frame, source in zip(video.frames(track="residual"), sources, strict=True):
                assert psnr(frame.rgb(), source.rgb) > 30
                if frame.picture_type == "P":
                    moved = (frame.motion()[16:-16, 16:-16] == (3, -2)).all(axis=-1)
                    assert moved.mean() > 0.9, frame

    def test_mpeg4_is_at_quantiser_one(self, tmp_path: Path) -> None:
        """The finest there is: the second coding changes next to nothing."""
        write_video(tmp_path / "a.avi", busy_frames(13, 64, 48), quantiser=8)
        with transcode(Video(tmp_path / "a.avi"), NATIVE) as video:
            for frame, source in zip(video.frames(), decode(tmp_path / "a.avi"), strict=True):
                assert psnr(frame.rgb(), source.rgb) > 38

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_same_bytes_twice(self, tmp_path: Path, codec: str) -> None:
        write_video(tmp_path / "a.mp4", busy_frames(20), codec="h264", num_b_frames=2)
        results = []
        for _ in range(2):
            with transcode(Video(tmp_path / "a.mp4"), Recipe(codec)) as video:
                results.append((encoded_bytes(video), video.times()))
        assert results[0] == results[1]

    def test_one_frame(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", [np.zeros((16, 16, 3), np.uint8)])
        for codec in ("mpeg4", "h264"):
            with transcode(Video(tmp_path / "a.avi"), Recipe(codec, "native")) as video:
                assert letters(video) == "I"


class TestColours:
    """MPEG-4 states neither matrix nor range: its decoders take BT.601 and limited range, so it must be that."""

    PATCHES = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]], np.uint8)

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"pixel_format": "yuvj420p"},
            {"pixel_format": "yuv444p"},
            {"pixel_format": "yuv420p10le"},
            {"options": {"colorspace": "bt709"}},
            {"options": {"colorspace": "bt709", "color_range": "pc"}},
        ],
        ids=lambda options: str(options.get("pixel_format", options.get("options"))),
    )
    def test_colours_of_the_source(self, tmp_path: Path, codec: str, options: dict[str, Any]) -> None:
        picture = np.tile(self.PATCHES.repeat(16, axis=0), (48, 1, 1))
        write_video(tmp_path / "a.mp4", [picture], codec="h264", quantiser=2, **options)
        source = decode(tmp_path / "a.mp4")[0].rgb
        with transcode(Video(tmp_path / "a.mp4"), Recipe(codec, "native")) as video:
            coded = next(video.frames()).rgb()
        centres = slice(8, None, 16)
        difference = coded[24, centres].astype(int) - source[24, centres]
        assert np.abs(difference).max() <= 6, coded[24, centres]


class TestSize:
    @pytest.mark.parametrize(
        ("size", "source", "expected"),
        [
            ("340x256", (640, 480), (340, 256)),
            ("341x255", (64, 48), (341, 255)),
            ("native", (97, 81), (97, 81)),
            ("short:256", (640, 480), (342, 256)),
            ("short:256", (480, 640), (256, 342)),
            ("short:256", (1920, 1080), (456, 256)),
            ("short:256", (64, 48), (64, 48)),
            ("short:256", (65, 49), (64, 48)),  # never upscaled; even, for the encoder
            ("short:32", (33, 1000), (32, 970)),
            ("short:16", (4096, 16), (4096, 16)),
        ],
    )
    def test_output_size(self, size: str, source: tuple[int, int], expected: tuple[int, int]) -> None:
        assert output_size(size, *source) == expected

    @pytest.mark.parametrize(
        "size", ["", "big", "340", "340x", "x256", "15x256", "340x5000", "-340x256", "short:", "short:8", "1x2x3"]
    )
    def test_wrong_sizes(self, size: str) -> None:
        with pytest.raises(UsageError, match=rf"size={size}: must be WIDTHxHEIGHT or short:N"):
            Recipe(size=size)

    @pytest.mark.parametrize("gop", [0, -1, 601])
    def test_wrong_gop(self, gop: int) -> None:
        with pytest.raises(UsageError, match=rf"gop={gop}: must be between 1 and 600"):
            Recipe(gop=gop)

    def test_wrong_codec(self) -> None:
        with pytest.raises(UsageError, match="codec=vp9: must be one of mpeg4, h264"):
            Recipe("vp9")

    @pytest.mark.parametrize("size", ["340x256", "short:32", "native", "48x80"])
    @pytest.mark.parametrize("source", [(96, 80), (97, 81)])
    def test_encoded_size_and_content(self, tmp_path: Path, size: str, source: tuple[int, int]) -> None:
        write_video(tmp_path / "a.avi", moving_texture(3, *source, (0, 0)), quantiser=2)
        with transcode(Video(tmp_path / "a.avi"), Recipe(size=size)) as video:
            frame = next(video.frames())
            assert (frame.width, frame.height) == output_size(size, *source)
            original = Image.fromarray(decode(tmp_path / "a.avi")[0].rgb).convert("L")
            resized = original.resize((frame.width, frame.height), Image.Resampling.BICUBIC)
            assert psnr(np.asarray(Image.fromarray(frame.rgb()).convert("L")), np.asarray(resized)) > 28

    def test_h264_takes_even_sizes_only(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(2, 65, 48))
        for size in ("native", "341x256", "340x255"):
            with pytest.raises(UnsupportedError, match=r"size=.*: H\.264 takes even sizes only"):
                transcode(Video(tmp_path / "a.avi"), Recipe("h264", size))

    def test_square_pixels(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mkv", busy_frames(3, 64, 48))
        ffmpeg("-i", tmp_path / "a.mkv", "-c", "copy", "-aspect", "16:9", tmp_path / "wide.mkv")
        with transcode(Video(tmp_path / "wide.mkv"), NATIVE) as video:
            assert (video.metadata.width, video.metadata.height) == (85, 48)
            assert video.metadata.sample_aspect_ratio == 1.0

    @pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
    def test_rotated_clips_come_upright(self, tmp_path: Path, degrees: int, turns: int) -> None:
        write_video(tmp_path / "a.mp4", busy_frames(3, 64, 48), quantiser=2)
        ffmpeg("-display_rotation", str(degrees), "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
        with transcode(Video(tmp_path / "turned.mp4"), NATIVE) as video:
            assert video.metadata.rotation_degrees == 0
            for frame, source in zip(video.frames(), decode(tmp_path / "a.mp4"), strict=True):
                upright = np.rot90(source.rgb, turns)  # counter-clockwise
                assert frame.rgb().shape == upright.shape
                assert psnr(frame.rgb(), upright) > 30

    @pytest.mark.parametrize(("codec", "suffix", "form"), [("mpeg4", "m4v", "m4v"), ("h264", "h264", "h264")])
    def test_size_change_is_scaled(self, tmp_path: Path, codec: str, suffix: str, form: str) -> None:
        """What reading refuses, and names this as the cure for."""
        still = moving_texture(5, 96, 96, (0, 0))
        small = [np.asarray(Image.fromarray(frame).resize((48, 48), Image.Resampling.BOX)) for frame in still]
        for name, frames in (("1", still), ("2", small)):
            write_video(tmp_path / name, frames, codec=codec, container_format=form)
        whole = tmp_path / f"whole.{suffix}"
        whole.write_bytes((tmp_path / "1").read_bytes() + (tmp_path / "2").read_bytes())
        with transcode(Video(whole), Recipe(gop=5)) as video:
            pictures = [frame.rgb() for frame in video.frames()]
            assert len(pictures) == 10
            assert letters(video) == "IPPPPIPPPP"
            assert {picture.shape for picture in pictures} == {(256, 340, 3)}
            assert psnr(pictures[0], pictures[9]) > 20  # the same texture


SOURCES: dict[str, dict[str, Any]] = {
    "a.avi": {},
    "b.avi": {"num_b_frames": 2},  # its first frame is shown at 0.04 s
    "h264.mp4": {"codec": "h264", "num_b_frames": 2, "gop": 30},
    "long.mkv": {"codec": "h264", "num_b_frames": 3, "gop": 90},
    "ntsc.avi": {"fps": 30},
    "late.ts": {"codec": "h264", "num_b_frames": 2, "gop": 60},
    "late.mpg": {"codec": "mpeg2video", "gop": 50},
    "raw.m4v": {"container_format": "m4v"},
}
WINDOWS = [(None, None), (0.0, 1.0), (None, 0.35), (0.1, 0.33), (0.52, 1.1), (2.52, 3.12), (3.03, 3.2), (3.0, None)]


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sources") / str(request.param)
    write_video(path, moving_texture(100, 48, 32), **SOURCES[request.param])
    return path


class TestTimes:
    @pytest.mark.parametrize("window", WINDOWS)
    def test_segment(self, source: Path, window: tuple[float | None, float | None]) -> None:
        """Exactly the frames with start <= t < end, with their times and pictures."""
        start, end = window
        video = Video(source)
        origin, every = video.metadata.start_seconds, list(video.frames(vectors=False))
        wanted = [f for f in every if _is_inside(f.pts_seconds - origin, start, end)]
        assert wanted
        with transcode(video, NATIVE, start_seconds=start, end_seconds=end) as encoded:
            frames = list(encoded.frames())
        assert [frame.pts_seconds for frame in frames] == pytest.approx([f.pts_seconds for f in wanted], abs=1.1e-6)
        assert encoded.num_dropped_frames == 0
        for frame, original in zip(frames, wanted, strict=True):
            assert psnr(frame.rgb(), original.rgb()) > 33, frame

    def test_segments_partition(self, source: Path) -> None:
        video = Video(source)
        times = video.times()
        joined: list[float] = []
        for start, end in [(None, 0.7), (0.7, 1.48), (1.48, 3.0), (3.0, None)]:
            with transcode(video, NATIVE, start_seconds=start, end_seconds=end) as part:
                joined += part.times()
        assert joined == pytest.approx(times, abs=1.1e-6)

    def test_variable_rate(self, tmp_path: Path) -> None:
        pts = [0, 40, 50, 200, 210, 900, 1000, 1033, 1066, 1100, 5000, 5001, 80000, 3600000]
        write_video(tmp_path / "a.mkv", busy_frames(len(pts), 64, 48), pts=pts)
        with transcode(Video(tmp_path / "a.mkv"), Recipe()) as video:
            assert video.times() == [t / 1000 for t in pts]
            assert len(list(video.frames())) == len(pts)

    def test_empty_window(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(5, 64, 48))
        for start, end in ((5.0, None), (0.05, 0.06), (0.1, 0.1)):
            with pytest.raises(DecodeError, match=r"num_frames=0 of .*no frame lies in the wanted time"):
                transcode(Video(tmp_path / "a.avi"), NATIVE, start_seconds=start, end_seconds=end)

    def test_reading_ends_with_the_window(self, tmp_path: Path) -> None:
        """Damage after the wanted part is never seen: what lies beyond is not read."""
        write_video(tmp_path / "a.avi", busy_frames(200, 64, 48))
        data = bytearray((tmp_path / "a.avi").read_bytes())
        place = int(0.7 * len(data))
        data[place : place + 4000] = bytes(range(250)) * 16
        (tmp_path / "a.avi").write_bytes(data)
        with pytest.raises(DecodeError):
            transcode(Video(tmp_path / "a.avi"), NATIVE)
        with transcode(Video(tmp_path / "a.avi"), NATIVE, end_seconds=1.0) as video:
            assert len(video.times()) == 25

    def test_cut_before_its_first_i_frame(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.m4v", busy_frames(25, 64, 48), gop=12, container_format="m4v")
        data = (tmp_path / "a.m4v").read_bytes()
        starts = [i for i in range(len(data)) if data.startswith(VOP, i)]
        (tmp_path / "a.m4v").write_bytes(data[: starts[0]] + data[starts[3] :])
        clean = list(Video(tmp_path / "a.m4v").frames())
        with transcode(Video(tmp_path / "a.m4v"), NATIVE) as video:
            assert video.num_dropped_frames == 9
            frames = list(video.frames())
            assert video.num_dropped_frames == 9
        steps = np.diff([frame.pts_seconds for frame in frames])
        assert steps == pytest.approx(np.diff([frame.pts_seconds for frame in clean]))
        for frame, original in zip(frames, clean, strict=True):
            assert psnr(frame.rgb(), original.rgb()) > 33

    def test_no_i_frame(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.m4v", busy_frames(25, 64, 48), gop=25, container_format="m4v")
        data = (tmp_path / "a.m4v").read_bytes()
        starts = [i for i in range(len(data)) if data.startswith(VOP, i)]
        (tmp_path / "a.m4v").write_bytes(data[: starts[0]] + data[starts[3] :])
        with pytest.raises(DecodeError, match=r"num_frames=0 in .*no I-frame could be decoded"):
            transcode(Video(tmp_path / "a.m4v"), NATIVE)


def _is_inside(time: float, start: float | None, end: float | None) -> bool:
    """Compared in whole microseconds, as containers don't keep more."""
    ticks = round(1e6 * time)
    return (start is None or round(1e6 * start) <= ticks) and (end is None or ticks < round(1e6 * end))


class TestTraces:
    """No file is left behind, whatever happens."""

    def test_success(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(5, 64, 48))
        (tmp_path / "spool").mkdir()
        with transcode(Video(tmp_path / "a.avi"), NATIVE, folder=tmp_path / "spool") as video:
            assert not list((tmp_path / "spool").iterdir())  # no name even while it is open
            assert len(video.times()) == 5
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avi", "spool"]
        assert not list((tmp_path / "spool").iterdir())

    def test_descriptors_are_closed(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(5, 64, 48))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with transcode(Video(tmp_path / "a.avi"), NATIVE) as video:
                list(video.frames())
            with pytest.raises(DecodeError):
                transcode(Video(tmp_path / "a.avi"), NATIVE, start_seconds=9.0)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_damaged_source(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(24))
        data = bytearray((tmp_path / "a.avi").read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(64)
        (tmp_path / "a.avi").write_bytes(data)
        (tmp_path / "spool").mkdir()
        with pytest.raises(DecodeError, match=r"a\.avi: ffmpeg gave up .*damaged") as caught:
            transcode(Video(tmp_path / "a.avi"), NATIVE, folder=tmp_path / "spool")
        assert "0x" not in str(caught.value)  # the same words in every run
        assert not list((tmp_path / "spool").iterdir())

    def test_only_files(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(2, 64, 48))
        with (tmp_path / "a.avi").open("rb") as file, pytest.raises(UnsupportedError, match="source=stream"):
            transcode(Video(file), NATIVE)


class TestCommand:
    """``VIDPREP_FFMPEG`` and a command that fails."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_video(tmp_path / "a.avi", busy_frames(5, 64, 48))
        return tmp_path / "a.avi"

    @staticmethod
    def script(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "fake").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "fake").chmod(0o755)
        monkeypatch.setenv("VIDPREP_FFMPEG", str(folder / "fake"))

    @pytest.mark.parametrize("value", ["/nowhere/ffmpeg", "no-such-ffmpeg", "/etc/passwd"])
    def test_no_such_command(self, path: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VIDPREP_FFMPEG", value)
        for call in (ffmpeg_path, lambda: transcode(Video(path), NATIVE)):
            with pytest.raises(TranscodeError, match=rf"VIDPREP_FFMPEG={value}: no such command"):
                call()

    def test_override_is_used(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = ffmpeg_path()
        self.script(path.parent, f'touch "{path.parent}/used"; exec "{real}" "$@"', monkeypatch)
        assert ffmpeg_path() == str(path.parent / "fake")
        with transcode(Video(path), NATIVE) as video:
            assert len(video.times()) == 5
        assert (path.parent / "used").exists()

    def test_not_an_ffmpeg(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script(path.parent, "echo no ffmpeg >&2; exit 3", monkeypatch)
        ffmpeg_version.cache_clear()
        with pytest.raises(TranscodeError, match=r"it does not run.*no ffmpeg.*set VIDPREP_FFMPEG"):
            ffmpeg_version()

    def test_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VIDPREP_FFMPEG", raising=False)
        ffmpeg_version.cache_clear()
        stated = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=True).stdout
        assert stated.startswith(f"ffmpeg version {ffmpeg_version()} ")

    def test_it_gives_up(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script(path.parent, "echo '[x @ 0xdeadbeef] no luck' >&2; exit 1", monkeypatch)
        with pytest.raises(DecodeError, match=r"a\.avi: ffmpeg gave up \(\[x\] no luck\)"):
            transcode(Video(path), NATIVE)

    def test_it_is_killed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script(path.parent, "kill -9 $$", monkeypatch)
        with pytest.raises(TranscodeError, match=r"ended by signal 9 on .*a\.avi: no message"):
            transcode(Video(path), NATIVE)

    def test_it_loses_a_frame(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Frames and timestamps must agree in number, or the video fails."""
        real = ffmpeg_path()
        self.script(path.parent, f'"{real}" "$@" | head -c -2000', monkeypatch)
        with transcode(Video(path), NATIVE) as video, pytest.raises(DecodeError):
            list(video.frames())

    def test_full_disk_by_message(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script(path.parent, "echo 'Error writing trailer: No space left on device' >&2; exit 228", monkeypatch)
        with pytest.raises(OSError, match="No space left") as caught:
            transcode(Video(path), NATIVE)
        assert caught.value.errno == errno.ENOSPC

    @pytest.mark.parametrize(
        ("body", "number"),
        [
            ("kill -XFSZ $$", errno.ENOSPC),
            ("echo 'Error opening filters: Cannot allocate memory' >&2; exit 244", errno.ENOMEM),
            ("echo 'ff_frame_thread_init: Resource temporarily unavailable' >&2; exit 245", errno.ENOMEM),
        ],
    )
    def test_the_machine_is_short_of_something(
        self, path: Path, body: str, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No reason to call the file damaged."""
        self.script(path.parent, body, monkeypatch)
        with pytest.raises(OSError, match=r"a\.avi") as caught:
            transcode(Video(path), NATIVE)
        assert caught.value.errno == number

    def test_short_of_time_is_no_full_disk(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script(path.parent, "kill -XCPU $$", monkeypatch)
        with pytest.raises(TranscodeError, match=r"ended by signal 24 on .*a\.avi"):
            transcode(Video(path), NATIVE)

    def test_full_disk_by_limit(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", noise(30, 160, 128))
        video, limits = Video(tmp_path / "a.avi"), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        try:
            with pytest.raises(OSError, match="No space left") as caught:
                transcode(video, Recipe())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.ENOSPC
