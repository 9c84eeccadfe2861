"""Reading a video: facts, frames in display order, pictures, and everything that is refused."""

import ctypes
import gc
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from reference import STREAMS, busy_frames, decode, moving_texture, psnr, rgb_by_command

from vidprep.codec.scaler import Scaler
from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import VECTOR_CODECS, Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError

VOP = b"\x00\x00\x01\xb6"
CLOSED = {"flags": "+cgop", "mpv_flags": "+strict_gop"}


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def encoders() -> str:
    command = [ffmpeg_path(), "-hide_banner", "-encoders"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def letters(video: Video, **options: Any) -> str:
    return "".join(frame.picture_type for frame in video.frames(vectors=False, **options))


@pytest.fixture(scope="module", params=STREAMS)
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return STREAMS[request.param].write(write_video, tmp_path_factory.mktemp("streams"), request.param)


class TestFrames:
    def test_display_order_types_and_pictures(self, stream: Path) -> None:
        """The written pictures in the written order, and no B-frame taken for an anchor."""
        expected = decode(stream)
        written = busy_frames(26, *expected[0].rgb.shape[1::-1])
        frames = list(Video(stream).frames())
        assert [frame.picture_type for frame in frames] == [frame.picture_type for frame in expected]
        assert [frame.index for frame in frames] == list(range(len(expected)))
        for i, (frame, plain) in enumerate(zip(frames, expected, strict=True)):
            assert np.array_equal(frame.rgb(), plain.rgb)
            scores = [psnr(frame.rgb(), picture) for picture in written]
            assert int(np.argmax(scores)) == i

    def test_times(self, stream: Path) -> None:
        video = Video(stream)
        times = np.array([frame.pts_seconds for frame in video.frames(vectors=False)])
        assert video.times() == times.tolist()
        assert np.diff(times) == pytest.approx(1 / 25, abs=0.0011)  # Matroska and FLV keep milliseconds
        expected = np.array([frame.time for frame in decode(stream)], float)
        if np.isfinite(expected).all():
            assert times == pytest.approx(expected)
            assert video.num_repaired_times == 0

    def test_gops(self, stream: Path) -> None:
        gop_index, gop_position = -1, 0
        for frame in Video(stream).frames(vectors=False):
            intra = frame.picture_type == "I"
            gop_index, gop_position = (gop_index + 1, 0) if intra else (gop_index, gop_position + 1)
            assert (frame.gop_index, frame.gop_position) == (gop_index, gop_position)
        assert gop_index >= 1

    def test_two_passes_at_once(self, stream: Path) -> None:
        video = Video(stream)
        for one, two in zip(video.frames(track="residual"), video.frames(track="motion"), strict=True):
            assert np.array_equal(one.accumulated_motion(), two.accumulated_motion())

    def test_from_an_open_file(self, stream: Path) -> None:
        with stream.open("rb") as file, Video(file) as video:
            for one, two in zip(video.frames(), Video(stream).frames(), strict=True):
                assert np.array_equal(one.rgb(), two.rgb())
                assert np.array_equal(one.vectors, two.vectors)
            assert letters(video) == letters(Video(stream))  # a second time

    def test_closing_an_open_file(self, stream: Path) -> None:
        file = stream.open("rb")
        with Video(file):
            pass
        assert file.closed

    def test_motion_exact(self, stream: Path) -> None:
        """Known for H.264 from its header, for MPEG-4 once a B-frame was seen: libavcodec exports zeros for those."""
        video = Video(stream)
        frames = list(video.frames())
        between = [frame for frame in frames if frame.picture_type == "B"]
        if "mpeg4" in stream.name and between:
            assert not any(frame.motion(future=future).any() for frame in between for future in (False, True))
            assert not video.motion_exact
        elif "mpeg2" in stream.name:
            assert any(frame.motion().any() for frame in between)
            assert any(frame.motion(future=True).any() for frame in between)
            assert video.motion_exact
        else:
            assert video.motion_exact == (not between)

    @pytest.mark.parametrize(
        ("arguments", "is_exact"),
        [
            (("-c:v", "mpeg4"), True),
            (("-c:v", "mpeg2video"), True),
            (("-c:v", "mpeg4", "-bf", "2"), False),
            (("-c:v", "libxvid"), True),
            (("-c:v", "libxvid", "-gmc", "1"), False),
        ],
    )
    def test_motion_exact_of_global_motion(self, tmp_path: Path, arguments: tuple[str, ...], is_exact: bool) -> None:
        if arguments[1] not in encoders():
            pytest.skip(f"this ffmpeg has no {arguments[1]}")
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x80:d=1:r=25", *arguments, tmp_path / "a.mkv")
        video = Video(tmp_path / "a.mkv")
        assert len(list(video.frames())) == 25
        assert video.motion_exact == is_exact

    def test_measured_length(self, stream: Path) -> None:
        video = Video(stream)
        last = video.times()[-1] - video.metadata.start_seconds
        assert video.measure_seconds() == pytest.approx(last + 1 / 25, abs=0.045)
        assert 0.4 < video.measure_seconds(at_most=0.4) < 0.7

    def test_repr(self, stream: Path) -> None:
        height, width = decode(stream)[0].luma.shape
        assert repr(next(Video(stream).frames())).endswith(f"{width}x{height}>")


class TestPictures:
    def test_equal_frames_cut_by_the_command(self, stream: Path) -> None:
        frames = list(Video(stream).frames(vectors=False))
        siting = "center" if "mpeg1" in stream.name else "left"
        size = frames[0].width, frames[0].height
        cut = rgb_by_command(ffmpeg_path(), stream, *size, chroma_siting=siting)
        for frame, picture in zip(frames, cut, strict=True):
            assert np.array_equal(frame.rgb(), picture), frame

    @pytest.mark.parametrize(
        ("pixel_format", "codec"),
        [
            ("yuv444p", "h264"),
            ("yuv422p", "ffv1"),
            ("yuv420p10le", "h264"),
            ("yuv422p10le", "ffv1"),
            ("yuv444p10le", "ffv1"),
            ("gray", "ffv1"),
            ("bgr0", "ffv1"),
        ],
    )
    @pytest.mark.parametrize("size", [(64, 48), (65, 49)])
    def test_pixel_formats(self, tmp_path: Path, pixel_format: str, codec: str, size: tuple[int, int]) -> None:
        if codec == "h264" and "420" in pixel_format:
            size = (66, 50)
        path, written = tmp_path / "a.mkv", busy_frames(3, *size)
        write_video(path, written, codec=codec, pixel_format=pixel_format)
        siting = "left" if codec == "h264" else "center"
        cut = rgb_by_command(ffmpeg_path(), path, *size, chroma_siting=siting)
        for frame, picture, original in zip(Video(path).frames(vectors=False), cut, written, strict=True):
            assert np.array_equal(frame.rgb(), picture), frame
            if pixel_format != "gray":
                assert psnr(frame.rgb(), original) > 20
        assert Video(path).metadata.pixel_format == pixel_format

    def test_luma_is_the_decoders(self, stream: Path, tmp_path: Path) -> None:
        """The pictures come from the same decoded luma as the command's."""
        height, width = decode(stream)[0].luma.shape
        ffmpeg("-i", stream, "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", tmp_path / "y")
        luma = np.fromfile(tmp_path / "y", np.uint8).reshape(-1, height, width)
        for frame, plane in zip(decode(stream), luma, strict=True):
            full = np.clip((frame.luma.astype(float) - 16) * 255 / 219, 0, 255)
            assert np.abs(full - plane).max() <= 1  # gray is full range

    def test_rgb_is_cached_and_outlives_the_frame(self, stream: Path) -> None:
        frame = next(Video(stream).frames())
        picture, rows = frame.rgb(), frame.rgb_rows()
        assert np.shares_memory(picture, rows)
        assert np.shares_memory(picture, frame.rgb())
        before = picture.copy()
        del frame, rows
        gc.collect()
        busy = [np.full((200, 200, 3), 7, np.uint8) for _ in range(20)]
        assert np.array_equal(picture, before)
        assert len(busy) == 20

    def test_rows_hold_the_picture(self, stream: Path) -> None:
        for frame in Video(stream).frames():
            rows = frame.rgb_rows()
            assert rows.shape[0] == frame.height
            assert np.array_equal(rows[:, : 3 * frame.width].reshape(frame.rgb().shape), frame.rgb())


class TestScaler:
    @pytest.mark.parametrize("size", [(48, 40), (47, 40), (33, 27), (96, 80), (16, 16)])
    def test_equals_libswscales_area_filter(self, stream: Path, size: tuple[int, int]) -> None:
        scaler = Scaler()
        with av.open(str(stream)) as container:
            for frame, picture in zip(Video(stream).frames(vectors=False), container.decode(video=0), strict=True):
                if frame.width < size[0] or frame.height < size[1] or frame.index % 5:
                    continue
                area = Interpolation.AREA | Interpolation.FULL_CHR_H_INT  # without it, two pixels share their chroma
                options = {"format": "rgb24", "interpolation": area, "threads": 1}
                plain = picture.reformat(width=size[0], height=size[1], **options).to_ndarray()
                difference = scaler.rgb(frame, *size).astype(int) - plain
                assert np.abs(difference).max() <= 1  # each path rounds in its own way
                assert np.count_nonzero(difference) <= 0.01 * difference.size

    def test_it_averages(self, tmp_path: Path) -> None:
        """Stripes finer than an output pixel become grey, not a coarser pattern."""
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        write_video(tmp_path / "a.mkv", [stripes], codec="ffv1", pixel_format="bgr0", quantiser=None)
        small = Scaler().rgb(next(Video(tmp_path / "a.mkv").frames(vectors=False)), 16, 16)
        assert np.abs(small.astype(int) - 128).max() <= 2


class TestWindow:
    """Frames from a start to an end, in seconds from the video's start."""

    @pytest.mark.parametrize("window", [(0.0, 1.0), (0.5, 0.9), (2.01, 2.3), (3.0, None), (None, 0.35), (3.3, 3.5)])
    @pytest.mark.parametrize(
        "options",
        [
            {"suffix": ".avi"},
            {"suffix": ".avi", "num_b_frames": 2},
            {"suffix": ".mp4", "codec": "h264", "num_b_frames": 2, "gop": 30},
            {"suffix": ".mkv", "num_b_frames": 2, "options": CLOSED},
            {"suffix": ".ts", "codec": "h264", "num_b_frames": 2, "gop": 60},
            {"suffix": ".mpg", "codec": "mpeg2video", "gop": 50},
            {"suffix": ".m4v", "container_format": "m4v"},
        ],
        ids=lambda options: f"{options['suffix']}-{options.get('num_b_frames', 0)}",
    )
    def test_window(self, tmp_path: Path, options: dict[str, Any], window: tuple[float | None, float | None]) -> None:
        start, end = window
        path = tmp_path / f"a{options['suffix']}"
        arguments = {name: value for name, value in options.items() if name != "suffix"}
        write_video(path, moving_texture(100, 48, 32), **arguments)
        video = Video(path)
        every = {frame.pts_seconds: frame for frame in video.frames(vectors=False)}
        origin = video.metadata.start_seconds
        wanted = [t for t in every if (start or 0) <= t - origin and (end is None or t - origin < end)]
        assert wanted
        frames = list(video.frames(vectors=False, start_seconds=start, end_seconds=end))
        assert frames[0].picture_type == "I"
        times = [frame.pts_seconds for frame in frames]
        assert set(wanted) <= set(times) <= set(every)
        if end is not None:  # the last frame before the end, or the anchor that it needs
            beyond = [frame for frame in frames if frame.pts_seconds - origin >= end]
            assert all(frame.picture_type == "B" for frame in beyond[:-1])
            assert not beyond or frames[-len(beyond) - 1].picture_type == "B"
        for frame in frames:
            assert np.array_equal(frame.rgb(), every[frame.pts_seconds].rgb())

    def test_accumulated_arrays_are_those_of_the_whole(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", busy_frames(100, 64, 48), num_b_frames=2, options=CLOSED)
        video = Video(tmp_path / "a.mp4")
        whole = {f.pts_seconds: f.accumulated_residual() for f in video.frames(track="residual")}
        tracked = video.frames(track="residual", start_seconds=2.5, end_seconds=3.1)
        part = [(f.pts_seconds, f.accumulated_residual()) for f in tracked]
        assert len(part) < 60
        for time, residual in part:
            if time - video.metadata.start_seconds < 3.1:
                assert np.array_equal(residual, whole[time])

    def test_nothing_before_the_end(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(5, 64, 48))
        with pytest.raises(DecodeError, match=r"num_frames=0 .*end_seconds=-1\.0"):
            list(Video(tmp_path / "a.avi").frames(end_seconds=-1.0))


class TestOddStreams:
    @pytest.fixture
    def raw(self, tmp_path: Path) -> tuple[Path, list[int]]:
        """A raw MPEG-4 stream and the places of its pictures."""
        write_video(tmp_path / "raw.m4v", busy_frames(25, 64, 48), gop=12, container_format="m4v")
        data = (tmp_path / "raw.m4v").read_bytes()
        starts = [i for i in range(len(data)) if data.startswith(VOP, i)]
        assert len(starts) == 25
        return tmp_path / "raw.m4v", starts

    def test_cut_before_its_first_i_frame(self, raw: tuple[Path, list[int]]) -> None:
        path, starts = raw
        clean = [frame.rgb().copy() for frame in Video(path).frames()]
        data = path.read_bytes()
        path.write_bytes(data[: starts[0]] + data[starts[3] :])
        video = Video(path)
        frames = list(video.frames(track="residual"))
        assert video.num_dropped_frames == 12 - 3
        assert len(frames) == 25 - 12
        assert frames[0].picture_type == "I"
        assert (frames[0].index, frames[0].gop_index, frames[0].gop_position) == (0, 0, 0)
        for frame, picture in zip(frames, clean[12:], strict=True):
            assert np.array_equal(frame.rgb(), picture)
        assert letters(video) == letters(video)
        assert video.num_dropped_frames == 9  # counted anew in each pass

    def test_no_i_frame(self, raw: tuple[Path, list[int]]) -> None:
        path, starts = raw
        data = path.read_bytes()
        path.write_bytes(data[: starts[0]] + data[starts[3] : starts[11]])
        with pytest.raises(DecodeError, match=r"num_frames=0 in .*raw\.m4v: no I-frame could be decoded"):
            list(Video(path).frames())

    def test_one_frame(self, raw: tuple[Path, list[int]]) -> None:
        path, starts = raw
        path.write_bytes(path.read_bytes()[: starts[1]])
        residuals = [frame.accumulated_residual() for frame in Video(path).frames(track="residual")]
        assert len(residuals) == 1
        assert not residuals[0].any()

    def test_open_gop_at_the_start(self, tmp_path: Path) -> None:
        """A file cut at a later I-frame begins with two B-frames whose past anchor is missing."""
        write_video(tmp_path / "a.mkv", busy_frames(37, 64, 48), codec="mpeg2video", num_b_frames=2, gop=12)
        with av.open(str(tmp_path / "a.mkv")) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
            (tmp_path / "cut.m2v").write_bytes(b"".join(bytes(packet) for packet in packets[keys[1] :]))
        plain = [frame.picture_type for frame in decode(tmp_path / "cut.m2v")]
        video = Video(tmp_path / "cut.m2v")
        kept = "".join(frame.picture_type for frame in video.frames(track="motion"))
        assert kept == "".join(plain).lstrip("B")
        assert video.num_dropped_frames == len(packets) - keys[1] - len(kept) == 2  # libavcodec skips them in silence

    @pytest.mark.parametrize(("codec", "suffix"), [("mpeg4", "m4v"), ("h264", "h264"), ("mpeg2video", "m2v")])
    def test_size_change(self, tmp_path: Path, codec: str, suffix: str) -> None:
        parts = [tmp_path / f"{i}.{suffix}" for i in range(2)]
        for path, size in zip(parts, [(64, 48), (96, 80)], strict=True):
            form = {"m4v": "m4v", "h264": "h264", "m2v": "mpeg2video"}[suffix]
            write_video(path, busy_frames(5, *size), codec=codec, container_format=form)
        whole = tmp_path / f"whole.{suffix}"
        whole.write_bytes(b"".join(path.read_bytes() for path in parts))
        with pytest.raises(UnsupportedError, match=r"size=96x80 after 64x48 in .*whole.*transcode"):
            list(Video(whole).frames(vectors=False))

    def test_frame_counts_come_from_decoding(self, tmp_path: Path) -> None:
        """The container's header claims another number."""
        write_video(tmp_path / "a.avi", busy_frames(14, 64, 48))
        data = bytearray((tmp_path / "a.avi").read_bytes())
        place = data.index(b"avih") + 8 + 16  # dwTotalFrames
        assert int.from_bytes(data[place : place + 4], "little") == 14
        data[place : place + 4] = (900).to_bytes(4, "little")
        place = data.index(b"strh") + 8 + 32  # dwLength
        data[place : place + 4] = (900).to_bytes(4, "little")
        (tmp_path / "a.avi").write_bytes(data)
        assert len(Video(tmp_path / "a.avi").times()) == 14

    def test_one_equal_time_changes_alone(self, tmp_path: Path) -> None:
        """In a stream without B-frames too, though none of its frames waits for another."""
        write_video(tmp_path / "a.mkv", busy_frames(6, 64, 48))  # it says 25 frames a second
        with av.open(str(tmp_path / "a.mkv")) as old, av.open(str(tmp_path / "equal.mkv"), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for i, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
                packet.pts, packet.dts = 100 + 10 * (1 if i == 2 else i), 90 + i  # a muxer takes no equal dts
                packet.stream = stream
                new.mux(packet)
        expected = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15]
        video = Video(tmp_path / "equal.mkv")
        assert video.times() == pytest.approx(expected)
        assert video.num_repaired_times == 1
        with transcode(video, Recipe()) as encoded:
            assert encoded.times() == pytest.approx(expected)

    def test_variable_rate(self, tmp_path: Path) -> None:
        pts = [0, 40, 50, 200, 210, 900, 1000, 1033, 1066, 1100, 5000, 5001]
        write_video(tmp_path / "a.mkv", busy_frames(12, 64, 48), pts=pts)
        assert Video(tmp_path / "a.mkv").times() == pytest.approx([t / 1000 for t in pts])

    def test_given_times(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.m4v", busy_frames(4, 64, 48), container_format="m4v")
        times = [0.5, 0.75, 3.0, 9.0]
        video = Video(tmp_path / "a.m4v", frame_times=times)
        assert [frame.pts_seconds for frame in video.frames()] == times
        assert video.times() == times
        for wrong in (times[:3], [*times, 10.0]):
            with pytest.raises(DecodeError, match=rf"num_timestamps={len(wrong)}"):
                list(Video(tmp_path / "a.m4v", frame_times=wrong).frames())


class TestMetadata:
    def test_facts(self, tmp_path: Path) -> None:
        frames = busy_frames(20, 64, 48)
        sound = np.zeros(44100, np.float32)
        write_video(tmp_path / "a.mkv", frames, fps=Fraction(30000, 1001), audio=sound)
        facts = Video(tmp_path / "a.mkv").metadata
        assert (facts.codec, facts.width, facts.height) == ("mpeg4", 64, 48)
        assert "matroska" in facts.container
        assert facts.pixel_format == "yuv420p"
        assert facts.fps == pytest.approx(29.97, abs=0.01)
        assert facts.has_audio
        assert (facts.sample_aspect_ratio, facts.rotation_degrees, facts.start_seconds) == (1.0, 0, 0.0)
        write_video(tmp_path / "b.avi", frames)
        facts = Video(tmp_path / "b.avi").metadata
        assert (facts.container, facts.has_audio, facts.fps) == ("avi", False, 25.0)
        assert facts.duration_seconds == pytest.approx(0.8)

    def test_sample_aspect_ratio(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mkv", busy_frames(3, 64, 48))
        ffmpeg("-i", tmp_path / "a.mkv", "-c", "copy", "-aspect", "16:9", tmp_path / "wide.mkv")
        assert Video(tmp_path / "wide.mkv").metadata.sample_aspect_ratio == pytest.approx(4 / 3)

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotation(self, tmp_path: Path, degrees: int) -> None:
        write_video(tmp_path / "a.mp4", busy_frames(3, 64, 48))
        ffmpeg("-display_rotation", str(degrees), "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
        assert Video(tmp_path / "turned.mp4").metadata.rotation_degrees % 360 == degrees

    @pytest.mark.parametrize("codec", sorted(VECTOR_CODECS))
    def test_vector_codecs(self, tmp_path: Path, codec: str) -> None:
        """Each codec on the list really gives vectors, under this very name."""
        size = (176, 144)  # H.263 knows five sizes
        encoder = {"msmpeg4v3": "msmpeg4"}.get(codec, codec)
        write_video(tmp_path / "a.avi", moving_texture(6, *size), codec=encoder, gop=6)
        video = Video(tmp_path / "a.avi")
        assert video.metadata.codec == codec
        assert any(frame.motion().any() for frame in video.frames())

    @pytest.mark.parametrize("codec", ["hevc", "vp9", "ffv1", "mjpeg"])
    def test_codecs_without_vectors(self, tmp_path: Path, codec: str) -> None:
        pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        write_video(tmp_path / "a.mkv", busy_frames(3, 64, 48), codec=codec, pixel_format=pixel_format)
        video = Video(tmp_path / "a.mkv")
        for options in ({}, {"track": "motion"}, {"track": "residual", "vectors": False}):
            with pytest.raises(UnsupportedError, match=rf"codec={codec}: .*no motion vectors.*transcode"):
                video.frames(**options)  # type: ignore[arg-type]
        assert len(list(video.frames(vectors=False))) == 3

    def test_vectors_can_be_left_out(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", busy_frames(4, 64, 48))
        assert any(len(frame.vectors) for frame in Video(tmp_path / "a.avi").frames())
        assert not any(len(frame.vectors) for frame in Video(tmp_path / "a.avi").frames(vectors=False))


def _zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("All work and no play makes Jack a dull boy.\n" * 100)


def _broken_link(path: Path) -> None:
    path.symlink_to("gone.mp4")


def _link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def _audio_only(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-f", "mp4", path)


def _cover_picture(path: Path) -> None:
    cover = ("-f", "lavfi", "-i", "testsrc=s=64x48:d=0.04")
    tune = ("-f", "lavfi", "-i", "sine=duration=0.2")
    ffmpeg(*tune, *cover, "-c:v", "mjpeg", "-disposition:v", "attached_pic", "-f", "mp4", path)


BAD_FILES = {
    _zero_bytes: r"size_bytes=0 of .*: an empty file",
    _text: r"no video of a known kind",
    Path.mkdir: r"directory",
    _broken_link: r"-> gone\.mp4: No such file",
    _link_loop: r"symbolic links",
    Path.exists: r"No such file",  # makes nothing
    os.mkfifo: r"not a regular file",
    _audio_only: r"num_video_streams=0",
    _cover_picture: r"num_video_streams=0",
}


@pytest.mark.parametrize("make", BAD_FILES, ids=lambda make: make.__name__.strip("_"))
def test_bad_files(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(DecodeError, match=BAD_FILES[make]) as caught:
        Video(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a b.c.avi", "-x.avi", "pipe:1.avi", "%03d.avi", "\u65e5\u672c.avi", "q'uo;te,[x].avi", "a\udcff.avi"]
)
def test_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that mean something else to FFmpeg or to a shell; the last is not valid UTF-8."""
    monkeypatch.chdir(tmp_path)
    write_video("plain.avi", busy_frames(3, 64, 48))
    os.rename("plain.avi", name)
    video = Video(name)
    assert len(video.times()) == 3
    with transcode(video, Recipe(size="native")) as encoded:
        assert len(encoded.times()) == 3


class TestPlaylists:
    """A playlist or script named like a video opens neither the network nor another file."""

    @pytest.fixture
    def server(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            yield listener

    @staticmethod
    def playlists(server: socket.socket) -> dict[str, str]:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/secret.avi"
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
        return {
            "ffconcat": "ffconcat version 1.0\nfile secret.avi\n",
            "hls": f"{head}secret.avi\n#EXT-X-ENDLIST\n",
            "hls-network": f"{head}{url}\n#EXT-X-ENDLIST\n",
            "ffconcat-network": f"ffconcat version 1.0\nfile '{url}'\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
            "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
        }

    @pytest.mark.parametrize("kind", ["ffconcat", "hls", "hls-network", "ffconcat-network", "sdp", "dash"])
    def test_refused_and_nothing_opened(self, tmp_path: Path, server: socket.socket, kind: str) -> None:
        write_video(tmp_path / "secret.avi", busy_frames(3, 64, 48))
        path = tmp_path / "list.mp4"
        shutil.copy(tmp_path / "secret.avi", path)
        video = Video(path)  # so that the command's own list is tried too
        path.write_text(self.playlists(server)[kind])
        with FileWatch(tmp_path / "secret.avi") as watch:
            with pytest.raises(DecodeError):
                Video(path)
            with pytest.raises(DecodeError):
                transcode(video, Recipe())
            assert not watch.was_opened()
        with pytest.raises(BlockingIOError):
            server.accept()

    def test_the_watch_sees_what_plain_ffmpeg_opens(self, tmp_path: Path, server: socket.socket) -> None:
        """The test above can fail: without the list of formats the same script is followed."""
        write_video(tmp_path / "secret.avi", busy_frames(3, 64, 48))
        (tmp_path / "list.mp4").write_text(self.playlists(server)["ffconcat"])
        with FileWatch(tmp_path / "secret.avi") as watch, av.open(str(tmp_path / "list.mp4")) as container:
            assert len(list(container.decode(video=0))) == 3
            assert watch.was_opened()

    @pytest.mark.parametrize("name", ["http://127.0.0.1:9/a.mp4", "concat:a.avi|b.avi", "data:video/mp4;base64,AA"])
    def test_addresses_are_file_names(self, name: str) -> None:
        with pytest.raises(DecodeError, match="No such file"):
            Video(name)


class FileWatch:
    """Tells whether a file was opened, by inotify."""

    OPENED, NON_BLOCKING = 0x20, os.O_NONBLOCK

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "FileWatch":
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(self.NON_BLOCKING)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(self.path), self.OPENED) > 0
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def was_opened(self) -> bool:
        try:
            return bool(os.read(self.descriptor, 4096))
        except BlockingIOError:
            return False


class TestDamage:
    """Flipped bits: an error that says so, or the frames; the command and PyAV agree which."""

    @pytest.mark.parametrize("options", [{"codec": "mpeg4"}, {"codec": "h264"}, {"codec": "mpeg4", "num_b_frames": 2}])
    def test_flipped_bits(self, tmp_path: Path, options: dict[str, Any]) -> None:
        write_video(tmp_path / "clean.mp4", busy_frames(24, 64, 48), **options)
        data = (tmp_path / "clean.mp4").read_bytes()
        num_frames, num_refused = len(Video(tmp_path / "clean.mp4").times()), 0
        rng, path = np.random.default_rng(0), tmp_path / "bad.mp4"
        for num_flips in [1, 3, 20] * 6:
            bad = bytearray(data)
            for place in rng.integers(len(data) // 5, len(data) * 3 // 4, num_flips):
                bad[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            try:
                frames = list(Video(path).frames(track="residual"))
            except DecodeError as error:
                assert "bad.mp4" in str(error)
                num_refused += 1
            else:
                assert len(frames) <= num_frames
        assert num_refused >= 9  # most are seen; a few flips give a stream that is as good as another

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
    @pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
    def test_truncated(self, tmp_path: Path, suffix: str, share: float) -> None:
        path = tmp_path / f"a{suffix}"
        write_video(path, busy_frames(24, 64, 48))
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(DecodeError, match=path.name):
            list(Video(path).frames())

    def test_a_stream_of_open_length_is_not_cut(self, tmp_path: Path) -> None:
        """Matroska written to a pipe says nowhere how long it is."""
        write_video(tmp_path / "a.mkv", busy_frames(24, 64, 48))
        command = [
            ffmpeg_path(),
            "-loglevel",
            "error",
            "-i",
            str(tmp_path / "a.mkv"),
            "-c",
            "copy",
            "-f",
            "matroska",
            "-",
        ]
        piped = subprocess.run(command, capture_output=True, check=True).stdout
        (tmp_path / "piped.mkv").write_bytes(piped)
        assert len(Video(tmp_path / "piped.mkv").times()) == 24


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Many frames must need no more memory than a few, with B-frames and every array read.

    Nor may a frame wait for the garbage collector: it knows nothing of the pictures' size.
    """

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc/self/statm: the resident memory can't be read")
    texture = moving_texture(25, 96, 80)
    frames = (texture[i % 25] for i in range(2000))
    write_video(tmp_path / "long.avi", frames, num_b_frames=2)
    early = 0
    gc.collect()
    gc.disable()
    try:
        for frame in Video(tmp_path / "long.avi").frames(track="residual"):
            frame.rgb()
            frame.motion()
            frame.accumulated_motion()
            frame.accumulated_residual()
            if frame.index == 300:
                early = resident_bytes()
    finally:
        gc.enable()
    assert frame.index > 1990
    assert resident_bytes() - early < 10_000_000  # 1700 pictures in two forms are 60 MB
