"""The writer's files, read back with PyAV: what was asked for is what is there."""

import itertools
import resource
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprep.codec.writer import write_video
from vidprep.errors import TranscodeError, UsageError

LETTERS = {1: "I", 2: "P", 3: "B"}
CLOSED = {"flags": "+cgop", "mpv_flags": "+strict_gop"}


def moving_frames(num_frames: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> list[NDArray[np.uint8]]:
    """Smooth blocks that move by (2, 1) a frame: predictable, so that the encoder has use for P and B."""
    width, height = size
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 9, width // 8 + 17, 3))
    scene = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [scene[k % 64 : k % 64 + height, 2 * k % 128 : 2 * k % 128 + width] for k in range(num_frames)]


def noise_frames(num_frames: int, size: tuple[int, int] = (64, 48)) -> list[NDArray[np.uint8]]:
    """Nothing in common between two frames: every one is a scene cut."""
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 256, (num_frames, size[1], size[0], 3), dtype=np.uint8))


def tone(num_samples: int, frequency_hz: float = 440.0, sample_rate_hz: int = 44100) -> NDArray[np.float32]:
    time = np.arange(num_samples) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time) * np.hanning(num_samples)).astype(np.float32)


def read(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return list(container.decode(video=0))


def read_sound(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
    return samples.astype(np.float32) / (32768 if samples.dtype == np.int16 else 1)


def picture_types(path: Path) -> str:
    return "".join(LETTERS[frame.pict_type] for frame in read(path))


def psnr(path: Path, frames: list[NDArray[np.uint8]]) -> float:
    decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in read(path)])
    return float(10 * np.log10(255**2 / np.mean((decoded.astype(float) - np.stack(frames)) ** 2)))


# Structure


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("v.avi", {}, "IPPPPPPPPPPPIPPPPPPPPPPPIP"),
        ("v.mp4", {"gop": 5}, "IPPPPIPPPPIPPPPIPPPPIPPPPI"),
        ("v.mkv", {"gop": 1}, "I" * 26),
        ("v.avi", {"num_b_frames": 1, "gop": 6}, "IBPBPBIBPBPBIBPBPBIBPBPBIP"),
        ("v.avi", {"num_b_frames": 2}, "IBBPBBPBBPBBIBBPBBPBBPBBIP"),
        ("v.mp4", {"num_b_frames": 2, "gop": 11, "options": CLOSED}, "IBBPBBPBBPPIBBPBBPBBPPIBBP"),
        ("v.mp4", {"codec": "h264"}, "IPPPPPPPPPPPIPPPPPPPPPPPIP"),
        ("v.mp4", {"codec": "h264", "num_b_frames": 2}, "IBBPBBPBBPBPIBBPBBPBBPBPIP"),
        ("v.mkv", {"codec": "mpeg2video", "num_b_frames": 2}, "IBBPBBPBBPBBIBBPBBPBBPBBIP"),
        ("v.mpg", {"codec": "mpeg1video"}, "IPPPPPPPPPPPIPPPPPPPPPPPIP"),
        ("v.mkv", {"codec": "hevc"}, "IPPPPPPPPPPPIPPPPPPPPPPPIP"),
        ("v.webm", {"codec": "vp9"}, "IPPPPPPPPPPPIPPPPPPPPPPPIP"),
    ],
)
def test_picture_types(tmp_path: Path, name: str, arguments: dict[str, Any], expected: str) -> None:
    write_video(tmp_path / name, moving_frames(26), **arguments)
    assert picture_types(tmp_path / name) == expected


@pytest.mark.parametrize("codec", ["mpeg4", "h264", "mpeg2video"])
def test_a_scene_cut_starts_no_group(tmp_path: Path, codec: str) -> None:
    write_video(tmp_path / "v.mkv", noise_frames(14), codec=codec)
    assert picture_types(tmp_path / "v.mkv") == "IPPPPPPPPPPPIP"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_frames=st.integers(1, 20), gop=st.integers(1, 9), width=st.integers(16, 50), height=st.integers(16, 50))
def test_any_length_group_and_size(tmp_path: Path, num_frames: int, gop: int, width: int, height: int) -> None:
    path = tmp_path / "v.avi"
    write_video(path, moving_frames(num_frames, (width, height)), gop=gop)
    decoded = read(path)
    assert [LETTERS[frame.pict_type] for frame in decoded] == ["IP"[k % gop > 0] for k in range(num_frames)]
    assert {(frame.width, frame.height) for frame in decoded} == {(width, height)}


def test_size_rate_and_codec_are_in_the_file(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    write_video(tmp_path / "v.mp4", moving_frames(3, (80, 46)), fps=rate, codec="h264", pixel_format="yuv444p")
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (80, 46)
        assert stream.average_rate == rate
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv444p")


def test_options_reach_the_encoder_and_win(tmp_path: Path) -> None:
    frames = noise_frames(4)
    write_video(tmp_path / "plain.avi", frames)
    write_video(tmp_path / "gray.avi", frames, options={"flags": "+gray"})
    write_video(tmp_path / "b.avi", frames, num_b_frames=2, options={"bf": "0"})
    assert np.ptp(read(tmp_path / "gray.avi")[0].to_ndarray()[48:]) == 0  # no colour
    assert np.ptp(read(tmp_path / "plain.avi")[0].to_ndarray()[48:]) > 0
    assert picture_types(tmp_path / "b.avi") == "IPPP"
    for name in ("plain.avi", "gray.avi"):  # the flags were added to the bit-exact one, not put in its place
        content = (tmp_path / name).read_bytes()
        assert b"Lavc" not in content
        assert b"Lavf" not in content


def test_frames_are_read_and_written_one_by_one(tmp_path: Path) -> None:
    sizes: list[int] = []

    def generate() -> Iterator[NDArray[np.uint8]]:
        for frame in noise_frames(40, (320, 240)):
            yield frame
            sizes.append((tmp_path / "v.avi").stat().st_size)

    write_video(tmp_path / "v.avi", generate(), num_b_frames=2)
    assert 0 < sizes[10] < sizes[20] < sizes[30] < (tmp_path / "v.avi").stat().st_size


def test_container_format_stands_in_for_the_suffix(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", moving_frames(3))
    write_video(tmp_path / "v.avi.part", moving_frames(3), container_format="avi")
    assert (tmp_path / "v.avi.part").read_bytes() == (tmp_path / "v.avi").read_bytes()


# Bytes and pictures


@pytest.mark.parametrize("name", ["v.avi", "v.mp4", "v.mkv"])
@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
def test_equal_input_gives_equal_bytes(tmp_path: Path, name: str, codec: str) -> None:
    sound = tone(12 * 1764)
    contents = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        write_video(path, moving_frames(12, (160, 128)), codec=codec, num_b_frames=2, audio=sound)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    write_video(tmp_path / name, moving_frames(12, (160, 128), seed=1), codec=codec, num_b_frames=2, audio=sound)
    assert (tmp_path / name).read_bytes() != contents[0]


def test_an_array_that_is_not_contiguous_gives_the_same_bytes(tmp_path: Path) -> None:
    frames = [frame[:, ::-1] for frame in moving_frames(3)]
    write_video(tmp_path / "view.avi", frames)
    write_video(tmp_path / "copy.avi", [frame.copy() for frame in frames])
    assert (tmp_path / "view.avi").read_bytes() == (tmp_path / "copy.avi").read_bytes()


def test_a_lossless_codec_returns_the_pixels(tmp_path: Path) -> None:
    frames = noise_frames(5, (50, 37))
    write_video(tmp_path / "v.mkv", frames, codec="ffv1", pixel_format="bgr0", quantiser=None)
    for decoded, frame in zip(read(tmp_path / "v.mkv"), frames, strict=True):
        np.testing.assert_array_equal(decoded.to_ndarray(format="rgb24"), frame)


@pytest.mark.parametrize("codec", ["mpeg4", "h264", "mpeg2video", "vp9"])
def test_the_quantiser_trades_size_for_closeness(tmp_path: Path, codec: str) -> None:
    grey = [np.repeat(frame[..., :1], 3, axis=2) for frame in moving_frames(8)]  # no colour: no subsampling
    sizes, closeness = [], []
    for quantiser in (1, 4, 16):
        path = tmp_path / f"{quantiser}.mkv"
        write_video(path, grey, codec=codec, quantiser=quantiser)
        sizes.append(path.stat().st_size)
        closeness.append(psnr(path, grey))
    assert sizes[0] > sizes[1] > sizes[2]
    assert closeness[0] > closeness[1] > closeness[2]
    assert closeness[0] > 40


def test_without_a_quantiser_the_encoder_aims_at_its_own_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "own.avi", noise_frames(25), quantiser=None)
    write_video(tmp_path / "fine.avi", noise_frames(25), quantiser=1)
    assert (tmp_path / "own.avi").stat().st_size < (tmp_path / "fine.avi").stat().st_size / 2


# Time


@pytest.mark.parametrize("num_b_frames", [0, 2])
@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate(tmp_path: Path, suffix: str, codec: str, num_b_frames: int) -> None:
    stamps = [0, 40, 90, 91, 200, 333, 1000, 1033, 1066, 2500]
    path = tmp_path / f"v{suffix}"
    write_video(path, moving_frames(10), codec=codec, num_b_frames=num_b_frames, pts=stamps)
    decoded = read(path)
    assert [frame.pts * frame.time_base for frame in decoded] == [Fraction(stamp, 1000) for stamp in stamps]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("num_b_frames", [0, 2])
def test_constant_rate_starts_at_zero(tmp_path: Path, suffix: str, num_b_frames: int) -> None:
    write_video(tmp_path / f"v{suffix}", moving_frames(10), num_b_frames=num_b_frames, fps=25)
    decoded = read(tmp_path / f"v{suffix}")
    assert [frame.pts * frame.time_base for frame in decoded] == [Fraction(k, 25) for k in range(10)]


@pytest.mark.parametrize("audio_codec", [None, "mp3", "pcm_s16le"])
@pytest.mark.parametrize("num_b_frames", [0, 2])
def test_avi_has_no_gap(tmp_path: Path, num_b_frames: int, audio_codec: str | None) -> None:
    """The delay of the sound's encoder once pushed the picture and left an empty packet behind the first."""
    sound = {} if audio_codec is None else {"audio": tone(20 * 1764), "audio_codec": audio_codec}
    write_video(tmp_path / "v.avi", moving_frames(20), num_b_frames=num_b_frames, **sound)
    stamps = [frame.pts for frame in read(tmp_path / "v.avi")]
    assert {after - before for before, after in itertools.pairwise(stamps)} == {1}
    with av.open(str(tmp_path / "v.avi")) as container:
        assert container.streams.video[0].average_rate == 25
        assert all(packet.size for packet in container.demux(video=0) if packet.dts is not None)


# Sound


def test_uncompressed_sound_comes_back(tmp_path: Path) -> None:
    sound = tone(16000, sample_rate_hz=16000)
    write_video(tmp_path / "v.mkv", moving_frames(25), audio=sound, sample_rate_hz=16000, audio_codec="pcm_s16le")
    np.testing.assert_allclose(read_sound(tmp_path / "v.mkv"), sound, atol=1 / 32768)
    with av.open(str(tmp_path / "v.mkv")) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.sample_rate, stream.codec_context.channels) == (16000, 1)


@pytest.mark.parametrize(("suffix", "delay"), [(".avi", 1105), (".mkv", 0)])
def test_compressed_sound_and_its_delay(tmp_path: Path, suffix: str, delay: int) -> None:
    """Matroska says how much the encoder put in front, and the decoder cuts it off; AVI can't say it."""
    sound = tone(25 * 1764, frequency_hz=1000)
    write_video(tmp_path / f"v{suffix}", moving_frames(25), audio=sound)
    decoded = read_sound(tmp_path / f"v{suffix}")
    assert len(sound) <= len(decoded) - delay <= len(sound) + 1152
    np.testing.assert_allclose(decoded[delay : delay + len(sound)], sound, atol=0.04)  # one sample off is 0.07


def test_sound_may_be_shorter_or_longer_than_the_picture(tmp_path: Path) -> None:
    for num_samples in (100, 3 * 44100):
        write_video(tmp_path / "v.mkv", moving_frames(25), audio=tone(num_samples), audio_codec="pcm_s16le")
        assert len(read_sound(tmp_path / "v.mkv")) == num_samples
        assert len(read(tmp_path / "v.mkv")) == 25


def test_sound_and_picture_are_interleaved(tmp_path: Path) -> None:
    """A player, and a reader that goes through the file once, finds sound next to the picture it belongs to."""
    write_video(tmp_path / "v.avi", moving_frames(100), audio=tone(100 * 1764))
    with av.open(str(tmp_path / "v.avi")) as container:
        seconds = {"video": 0.0, "audio": 0.0}
        for packet in container.demux():
            if packet.dts is not None:
                seconds[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(seconds["video"] - seconds["audio"]) < 0.2


# What can't be meant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": []}, "num_frames=0"),
        ({"frames": [np.zeros((8, 8), np.uint8)]}, "frame.shape=(8, 8)"),
        ({"frames": [np.zeros((16, 16, 4), np.uint8)]}, "frame.shape=(16, 16, 4)"),
        ({"frames": [np.zeros((16, 16, 3), np.float32)]}, "frame.dtype=float32"),
        ({"frames": [*moving_frames(3), *moving_frames(1, (32, 32))]}, "frame.shape=(32, 32, 3)"),
        ({"codec": "nosuch"}, "codec='nosuch'"),
        ({"codec": "vp9", "container_format": "avi", "audio": tone(9), "audio_codec": "nosuch"}, "codec='nosuch'"),
        ({"container_format": "webm"}, "codec='mpeg4'"),
        ({"container_format": "nosuch"}, "container_format='nosuch'"),
        ({"pixel_format": "nosuch"}, "pixel_format='nosuch'"),
        ({"options": {"nosuch": "1"}}, "options=['nosuch']"),
        ({"gop": 0}, "gop=0"),
        ({"num_b_frames": -1}, "num_b_frames=-1"),
        ({"quantiser": 0}, "quantiser=0"),
        ({"pts": [0, 40]}, "len(pts)=2"),
        ({"pts": [0, 40, 80, 120]}, "len(pts)=4"),
        ({"pts": [0, 40, 40]}, "pts=40, 40"),
        ({"audio": np.zeros((2, 9), np.float32)}, "audio.shape=(2, 9)"),
    ],
)
def test_bad_arguments_are_refused_and_leave_no_file(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_video(tmp_path / "v.avi", **{"frames": moving_frames(3), **arguments})
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [{"pixel_format": "rgb24"}, {"codec": "h264", "frames": moving_frames(2, (33, 33))}]
)
def test_a_refusal_of_the_encoder_leaves_no_file(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(TranscodeError, match=r"path=.*v\.mp4.*check the options"):
        write_video(tmp_path / "v.mp4", **{"frames": moving_frames(3), **arguments})
    assert list(tmp_path.iterdir()) == []


def test_an_error_between_two_frames_leaves_no_file(tmp_path: Path) -> None:
    def generate() -> Iterator[NDArray[np.uint8]]:
        yield from noise_frames(30, (320, 240))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "v.avi", generate(), audio=tone(44100))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(TranscodeError, match="the space left"):
            write_video(tmp_path / "v.avi", noise_frames(20, (320, 240)), quantiser=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_created_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_video(tmp_path / "no" / "v.avi", moving_frames(1))
    (tmp_path / "v.avi").mkdir()
    with pytest.raises(IsADirectoryError):
        write_video(tmp_path / "v.avi", moving_frames(1))
    assert (tmp_path / "v.avi").is_dir()
