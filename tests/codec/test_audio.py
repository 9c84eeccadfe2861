"""The sound track: the same wave at the same time, whatever the container, the rate and the channels."""

import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import moving_texture

from vidprep.codec.audio import Audio
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError
from vidprep.pipelines.inspect import inspect_source

RATE = 44100


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def chirp(num_seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """A tone that rises from 200 to 2000 Hz: no two moments of it are alike."""
    t = np.arange(round(num_seconds * rate)) / rate
    return (0.8 * np.sin(2 * np.pi * (200 * t + 900 / num_seconds * t**2))).astype(np.float32)


def heard(path: Path, rate: int, **window: float) -> Audio:
    audio = Video(path).audio(rate, **window)
    assert audio is not None
    assert audio.sample_rate_hz == rate
    assert audio.samples.dtype == np.float32
    assert audio.samples.ndim == 1
    return audio


@pytest.fixture(scope="module", params=[".mkv", ".avi", ".mov"])
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of video with uncompressed sound."""
    path = tmp_path_factory.mktemp("sound") / f"a{request.param}"
    write_video(path, moving_texture(100, 48, 32), audio=chirp(4), audio_codec="pcm_s16le")
    return path


class TestUncompressed:
    def test_the_samples_as_written(self, exact: Path) -> None:
        audio = heard(exact, RATE)
        assert audio.start_seconds == pytest.approx(0, abs=1e-9)
        assert audio.samples.shape == (4 * RATE,)
        assert np.abs(audio.samples - chirp(4)).max() < 1 / 32768

    @pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 48000])
    def test_resampled(self, exact: Path, rate: int) -> None:
        """The same wave on another grid, not delayed by the filter."""
        audio = heard(exact, rate)
        assert abs(audio.samples.size - 4 * rate) <= 1
        wave = chirp(4, rate)[: audio.samples.size]
        inside = slice(100, -100)  # the filter sees silence before the start and after the end
        assert np.abs(audio.samples - wave)[inside].max() < 0.002

    @pytest.mark.parametrize("window", [(0.0, 1.0), (0.25, 0.75), (2.0, 3.0), (2.345, 2.456), (3.5, 4.5), (3.1, 4.0)])
    @pytest.mark.parametrize("rate", [RATE, 16000])
    def test_segment(self, exact: Path, window: tuple[float, float], rate: int) -> None:
        """To the sample: the segment is a slice of the whole."""
        start, end = window
        whole = heard(exact, rate)
        part = heard(exact, rate, start_seconds=start, end_seconds=end)
        first, last = round(start * rate), min(round(end * rate), whole.samples.size)
        assert part.samples.size == last - first
        assert part.start_seconds == pytest.approx(start, abs=0.51 / rate)
        assert np.abs(part.samples - whole.samples[first:last]).max() < 1e-3

    def test_open_ended_segments(self, exact: Path) -> None:
        whole = heard(exact, RATE).samples
        assert np.array_equal(heard(exact, RATE, start_seconds=3.2).samples, whole[round(3.2 * RATE) :])
        assert np.array_equal(heard(exact, RATE, end_seconds=0.7).samples, whole[: round(0.7 * RATE)])

    def test_segments_join_without_a_seam(self, exact: Path) -> None:
        bounds = [0.0, 0.5, 1.7, 2.9, 4.0]
        parts = [heard(exact, RATE, start_seconds=a, end_seconds=b).samples for a, b in pairwise(bounds)]
        assert np.array_equal(np.concatenate(parts), heard(exact, RATE).samples)

    def test_nothing_in_the_window(self, exact: Path) -> None:
        assert Video(exact).audio(RATE, start_seconds=10.0, end_seconds=11.0) is None
        assert Video(exact).audio(RATE, start_seconds=1.0, end_seconds=1.0) is None


class TestCompressed:
    @pytest.mark.parametrize(
        ("suffix", "codec"), [(".avi", "mp3"), (".mp4", "aac"), (".mkv", "libopus"), (".mpg", "mp2")]
    )
    def test_a_tone_survives(self, tmp_path: Path, suffix: str, codec: str) -> None:
        rate = 48000
        t = np.arange(2 * rate) / rate
        tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
        options = {"codec": "mpeg2video"} if suffix == ".mpg" else {}
        path = tmp_path / f"a{suffix}"
        frames = moving_texture(50, 48, 32)
        write_video(path, frames, audio=tone, sample_rate_hz=rate, audio_codec=codec, **options)  # type: ignore[arg-type]
        audio = heard(path, 24000)
        assert audio.start_seconds == pytest.approx(0, abs=0.06)
        assert audio.samples.size / 24000 == pytest.approx(2, abs=0.08)
        middle = audio.samples[12000:36000]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
        assert int(np.argmax(spectrum)) == 440  # one second: the bins are 1 Hz wide
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_video(tmp_path / "a.mp4", moving_texture(100, 48, 32), audio=chirp(4), audio_codec="aac")
        return tmp_path / "a.mp4"

    def test_segment_is_a_slice_of_the_whole(self, path: Path) -> None:
        whole, part = heard(path, RATE), heard(path, RATE, start_seconds=2.5, end_seconds=3.25)
        first = round((part.start_seconds - whole.start_seconds) * RATE)
        assert np.abs(part.samples - whole.samples[first : first + part.samples.size]).max() < 1e-4

    @pytest.mark.parametrize("start", [0.0, 1.3, 2.5, 3.001])
    def test_start_is_exact_between_the_samples(self, tmp_path: Path, start: float) -> None:
        """Resampling after a seek lands on another grid; the start tells which."""
        path = tmp_path / "a.mov"
        write_video(path, moving_texture(100, 48, 32), audio=chirp(4), audio_codec="alac")
        part = heard(path, 16000, start_seconds=start, end_seconds=start + 0.5)
        assert part.start_seconds == pytest.approx(start, abs=0.51 / 16000)
        t = part.start_seconds + np.arange(part.samples.size) / 16000
        wave = 0.8 * np.sin(2 * np.pi * (200 * t + 225 * t**2))
        inside = slice(100, -100)
        assert np.abs(part.samples - wave)[inside].max() < 0.003


class TestChannels:
    @pytest.mark.parametrize(
        ("left", "right", "expected"), [(0.9, 0.9, 0.9), (0.9, 0.0, 0.45), (0.9, -0.9, 0.0), (0.0, 0.6, 0.3)]
    )
    def test_stereo_to_mono_is_the_mean(self, tmp_path: Path, left: float, right: float, expected: float) -> None:
        wave = "sin(2*PI*440*t)"
        sound = f"aevalsrc={left}*{wave}|{right}*{wave}:d=1:s=24000"
        ffmpeg(
            *("-f", "lavfi", "-i", "testsrc=s=48x32:d=1", "-f", "lavfi", "-i", sound),
            *("-c:a", "pcm_s16le", tmp_path / "a.mkv"),
        )
        audio = heard(tmp_path / "a.mkv", 24000)
        mono = expected * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
        assert np.abs(audio.samples - mono).max() < 1e-4

    @pytest.mark.parametrize("suffix", [".mkv", ".ts"])
    @pytest.mark.parametrize("second_rate", [44100, 48000])
    def test_sound_that_changes_midway_is_read_whole(self, tmp_path: Path, suffix: str, second_rate: int) -> None:
        """A broadcast goes from stereo to mono, or to another rate, between two programmes."""
        tone = "aevalsrc=0.5*sin(2*PI*440*t)|0.5*sin(2*PI*440*t):d=1:s=44100"
        ffmpeg("-f", "lavfi", "-i", tone, "-c:a", "mp2", tmp_path / "1.mp2")
        ffmpeg("-i", tmp_path / "1.mp2", "-ac", "1", "-ar", str(second_rate), tmp_path / "2.mp2")
        (tmp_path / "a.mp2").write_bytes((tmp_path / "1.mp2").read_bytes() + (tmp_path / "2.mp2").read_bytes())
        path = tmp_path / f"a{suffix}"
        write_video(tmp_path / "v.mkv", moving_texture(50, 48, 32), codec="mpeg2video")
        ffmpeg("-i", tmp_path / "v.mkv", "-i", tmp_path / "a.mp2", "-c", "copy", path)
        samples = heard(path, 24000).samples
        assert samples.size / 24000 == pytest.approx(2, abs=0.06)
        for second in (samples[2400:21600], samples[28800:45600]):
            level = np.sqrt(np.mean(second.reshape(-1, 2400) ** 2, axis=1))
            assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
        facts = inspect_source(path, tmp_path / "sheet.png", num_frames=1).facts
        assert "audio:          from 0.0" in facts

    def test_the_first_of_two_tracks(self, tmp_path: Path) -> None:
        ffmpeg(
            *("-f", "lavfi", "-i", "testsrc=s=48x32:d=1", "-f", "lavfi", "-i", "sine=300:d=1"),
            *("-f", "lavfi", "-i", "sine=900:d=1", "-map", "0", "-map", "1", "-map", "2"),
            *("-c:a", "pcm_s16le", tmp_path / "a.mkv"),
        )
        spectrum = np.abs(np.fft.rfft(heard(tmp_path / "a.mkv", 8000).samples))
        assert int(np.argmax(spectrum)) == 300


class TestClock:
    """``start_seconds`` is on the video's clock."""

    @pytest.mark.parametrize("delay", [0.5, 1.5])
    def test_sound_that_begins_later(self, tmp_path: Path, delay: float) -> None:
        write_video(tmp_path / "a.mkv", moving_texture(100, 48, 32), audio=chirp(2), audio_codec="pcm_s16le")
        ffmpeg(
            *("-i", tmp_path / "a.mkv", "-itsoffset", str(delay), "-i", tmp_path / "a.mkv"),
            *("-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "late.mkv"),
        )
        audio = heard(tmp_path / "late.mkv", RATE)
        assert audio.start_seconds == pytest.approx(delay, abs=0.001)
        assert np.abs(audio.samples - chirp(2)).max() < 1 / 32768
        part = heard(tmp_path / "late.mkv", RATE, start_seconds=delay - 0.25, end_seconds=delay + 0.25)
        assert part.start_seconds == pytest.approx(delay, abs=0.001)
        assert np.array_equal(part.samples, audio.samples[: part.samples.size])
        assert part.samples.size == pytest.approx(RATE // 4, abs=45)
        assert Video(tmp_path / "late.mkv").audio(RATE, end_seconds=delay - 0.1) is None

    def test_video_that_begins_later(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mkv", moving_texture(50, 48, 32), audio=chirp(3), audio_codec="pcm_s16le")
        ffmpeg(
            *("-itsoffset", "1", "-i", tmp_path / "a.mkv", "-i", tmp_path / "a.mkv"),
            *("-map", "0:v", "-map", "1:a", "-c", "copy", tmp_path / "late.mkv"),
        )
        video = Video(tmp_path / "late.mkv")
        assert video.metadata.start_seconds == pytest.approx(1)
        audio = heard(tmp_path / "late.mkv", RATE)
        assert audio.start_seconds == pytest.approx(-1)
        part = heard(tmp_path / "late.mkv", RATE, start_seconds=0.0, end_seconds=1.0)
        assert part.start_seconds == pytest.approx(0, abs=1e-6)
        assert np.abs(part.samples - chirp(3)[RATE : 2 * RATE]).max() < 1 / 32768

    def test_gap_is_silent_and_what_follows_keeps_its_time(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mkv", moving_texture(50, 48, 32), audio=chirp(2), audio_codec="pcm_s16le")
        ffmpeg(
            *("-i", tmp_path / "a.mkv", "-c:v", "copy", "-c:a", "pcm_s16le"),
            *("-af", "aselect=not(between(t\\,0.5\\,1))", tmp_path / "gap.mkv"),
        )
        samples, whole = heard(tmp_path / "gap.mkv", RATE).samples, chirp(2)
        silent = np.flatnonzero(np.convolve(samples == 0, np.ones(100), "valid") == 100)
        begin, end = silent[0], silent[-1] + 100
        assert (begin / RATE, end / RATE) == (pytest.approx(0.5, abs=0.03), pytest.approx(1, abs=0.05))  # whole packets
        assert np.abs(samples[:begin] - whole[:begin]).max() < 1 / 32768
        num_left = min(samples.size, whole.size)
        assert np.abs(samples[end + 45 : num_left] - whole[end + 45 : num_left]).max() < 0.05

    def test_clock_set_anew_is_no_gap(self, tmp_path: Path) -> None:
        """Silence of three days would need gigabytes; a gap after it is filled as ever."""
        write_video(tmp_path / "a.mkv", moving_texture(50, 48, 32), audio=chirp(3), audio_codec="pcm_s16le")
        with av.open(str(tmp_path / "a.mkv")) as old, av.open(str(tmp_path / "jump.mkv"), "w") as new:
            streams = {
                stream: new.add_stream_from_template(stream) for stream in (old.streams.video[0], old.streams.audio[0])
            }
            for packet in old.demux():
                if packet.dts is None:
                    continue
                seconds = float(packet.pts * packet.time_base)
                jump = (3e5 if seconds >= 1 else 0) + (0.5 if seconds >= 2 else 0)
                if packet.stream.type == "audio":
                    packet.pts = packet.dts = packet.pts + round(jump / packet.time_base)
                packet.stream = streams[packet.stream]
                new.mux(packet)
        samples = heard(tmp_path / "jump.mkv", 8000).samples
        assert samples.size / 8000 == pytest.approx(3.5, abs=0.01)
        silent = np.flatnonzero(np.convolve(samples == 0, np.ones(100), "valid") == 100)
        assert (silent[0] / 8000, (silent[-1] + 100) / 8000) == (
            pytest.approx(2, abs=0.03),
            pytest.approx(2.5, abs=0.03),
        )


class TestNone:
    def test_no_audio_stream(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.avi", moving_texture(5, 48, 32))
        assert not Video(tmp_path / "a.avi").metadata.has_audio
        assert Video(tmp_path / "a.avi").audio(16000) is None

    def test_damaged_sound(self, tmp_path: Path) -> None:
        """An error that says so, or sound; never a crash."""
        path = tmp_path / "a.mkv"
        write_video(path, moving_texture(25, 48, 32), audio=chirp(1), audio_codec="flac")
        data = bytearray(path.read_bytes())
        rng = np.random.default_rng(0)
        for place in rng.integers(len(data) // 4, len(data) * 3 // 4, 400):
            data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            Video(path).audio(16000)
        except DecodeError as error:
            assert "the audio of" in str(error) or path.name in str(error)
