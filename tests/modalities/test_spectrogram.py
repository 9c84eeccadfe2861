"""Spectrograms against librosa, SciPy and plain NumPy, and where their columns lie in time."""

import io
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from modalities.conftest import moving_frames
from vidprep.codec.audio import Audio
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.modalities import spectrogram
from vidprep.modalities.base import Settings, Span

MEL, TBN = spectrogram.RECIPES["mel"], spectrogram.RECIPES["tbn"]


def noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.3 * np.random.default_rng(seed).normal(size=num_samples)).astype(np.float32)


def tone(frequency_hz: float, seconds: float, sample_rate_hz: int) -> NDArray[np.float32]:
    time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def clicks(times: list[float], seconds: float, sample_rate_hz: int) -> NDArray[np.float32]:
    samples = np.zeros(round(seconds * sample_rate_hz), np.float32)
    for time in times:
        samples[round(time * sample_rate_hz)] = 1.0
    return samples


def video_with(
    path: Path, audio: NDArray[np.float32] | None, sample_rate_hz: int = 24000, num_frames: int = 25
) -> Video:
    """A 25 fps video whose sound is kept as it is."""
    write_video(path, moving_frames(num_frames), audio=audio, sample_rate_hz=sample_rate_hz, audio_codec="pcm_s16le")
    return Video(path)


def entry_of(video: Video, recipe: str, span: Span | None = None) -> tuple[NDArray[np.float32], dict[str, object]]:
    modality = spectrogram.Spectrogram(Settings(spectrogram_recipe=recipe))
    [(name, data)] = modality.finish(video, span or Span())
    assert name == "spectrogram.npy"
    decoded = spectrogram.Spectrogram.decode({name: data}, {})
    assert decoded is not None
    return decoded, modality.facts()


# Values


def test_mel_is_what_librosa_gives() -> None:
    samples = noise(30000)
    power = librosa.feature.melspectrogram(y=samples, sr=22050)  # the library's own conventions, all of them
    expected = librosa.power_to_db(power)
    actual = spectrogram.extract(Audio(samples, 22050, 0.0))
    np.testing.assert_array_equal(actual, expected)
    assert actual.shape == (128, 1 + 30000 // 512)
    assert actual.dtype == np.float32


def test_mel_in_plain_numpy() -> None:
    samples = noise(20000, seed=1)
    window = scipy.signal.get_window("hann", 2048)
    padded = np.pad(samples.astype(float), 1024)
    parts = np.stack([padded[i : i + 2048] * window for i in range(0, len(padded) - 2047, 512)])
    power = librosa.filters.mel(sr=22050, n_fft=2048, n_mels=128) @ (np.abs(np.fft.rfft(parts)) ** 2).T
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    expected = np.maximum(decibels, decibels.max() - 80)
    np.testing.assert_allclose(spectrogram.extract(Audio(samples, 22050, 0.0)), expected, atol=2e-3)


def test_tbn_in_plain_numpy() -> None:
    """Window 240 in the middle of 511 samples, every 120 samples, zeros before and after."""
    samples = noise(5000, seed=2)
    window = np.zeros(511)
    window[135:375] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(240) / 240)
    padded = np.pad(samples.astype(float), 255)
    parts = np.stack([padded[i : i + 511] * window for i in range(0, len(padded) - 510, 120)])
    expected = np.log(np.abs(np.fft.rfft(parts)) ** 2 + 1e-6).T
    actual = spectrogram.extract(Audio(samples, 24000, 0.0), "tbn")
    assert actual.shape == (256, 1 + (5000 - 1) // 120)
    np.testing.assert_allclose(actual, expected, atol=2e-3)
    assert actual.dtype == np.float32


def test_tbn_as_scipy_computes_it() -> None:
    samples = noise(6000, seed=3)
    transform = scipy.signal.ShortTimeFFT(
        np.pad(scipy.signal.get_window("hann", 240), (135, 136)), hop=120, fs=24000, phase_shift=None
    )
    power = np.abs(transform.stft(samples.astype(float), p0=0, p1=50)) ** 2
    actual = spectrogram.extract(Audio(samples, 24000, 0.0), "tbn")
    np.testing.assert_allclose(actual[:, :50], np.log(power + 1e-6), atol=2e-3)


@pytest.mark.parametrize("frequency_hz", [1000.0, 4000.0, 9000.0])
def test_a_sine_peaks_in_its_bin(frequency_hz: float) -> None:
    tbn = spectrogram.extract(Audio(tone(frequency_hz, 0.5, 24000), 24000, 0.0), "tbn")
    assert set(tbn[:, 3:-3].argmax(0)) == {round(frequency_hz * 511 / 24000)}
    mel = spectrogram.extract(Audio(tone(frequency_hz, 0.5, 22050), 22050, 0.0), "mel")
    centres = librosa.mel_frequencies(130, fmax=22050 / 2)[1:-1]
    assert set(mel[:, 3:-3].argmax(0)) == {int(np.abs(centres - frequency_hz).argmin())}


def test_silence() -> None:
    zeros = np.zeros(9000, np.float32)
    np.testing.assert_allclose(spectrogram.extract(Audio(zeros, 24000, 0.0), "tbn"), np.log(1e-6), rtol=1e-6)
    np.testing.assert_allclose(spectrogram.extract(Audio(zeros, 22050, 0.0), "mel"), -100.0)


@pytest.mark.parametrize("recipe", ["mel", "tbn"])
@pytest.mark.parametrize("num_samples", [1, 2, 119, 240, 511, 2047])
def test_a_sound_shorter_than_the_window_is_no_error_and_no_warning(recipe: str, num_samples: int) -> None:
    settings = spectrogram.RECIPES[recipe]
    actual = spectrogram.extract(Audio(noise(num_samples), settings.sample_rate_hz, 0.0), recipe)
    padded = num_samples + 2 * (settings.n_fft // 2)
    assert actual.shape == (settings.num_bins, 1 + (padded - settings.n_fft) // settings.hop_length)
    longer = spectrogram.extract(Audio(np.pad(noise(num_samples), (0, 4096)), settings.sample_rate_hz, 0.0), recipe)
    if recipe == "tbn":
        np.testing.assert_allclose(actual, longer[:, : actual.shape[1]], atol=1e-5)


# Files


@pytest.mark.parametrize("recipe", ["mel", "tbn"])
def test_round_trip_through_a_file(tmp_path: Path, recipe: str) -> None:
    rate = spectrogram.RECIPES[recipe].sample_rate_hz
    samples = tone(3000, 1.0, rate)
    video = video_with(tmp_path / "v.mkv", samples, rate)
    decoded, facts = entry_of(video, recipe)
    quantised = (np.round(samples * 32768) / 32768).astype(np.float32)
    power = np.exp(decoded) if recipe == "tbn" else 10 ** (decoded / 10)
    own = spectrogram.extract(Audio(quantised, rate, 0.0), recipe)
    expected = np.exp(own) if recipe == "tbn" else 10 ** (own / 10)
    assert decoded.shape == own.shape
    np.testing.assert_allclose(power, expected, atol=1e-3 * expected.max())
    assert facts["num_columns"] == decoded.shape[1]
    assert facts["num_bins"] == decoded.shape[0]
    assert facts["audio_start_seconds"] == pytest.approx(0.0, abs=1e-3)


def test_facts_hold_the_recipe(tmp_path: Path) -> None:
    video = video_with(tmp_path / "v.mkv", noise(24000))
    assert entry_of(video, "tbn")[1] == {
        "recipe": "tbn",
        "sample_rate_hz": 24000,
        "n_fft": 511,
        "window_length": 240,
        "hop_length": 120,
        "num_bins": 256,
        "log": "log(power + 1e-6)",
        "num_columns": 200,
        "hop_seconds": 0.005,
        "audio_start_seconds": 0.0,
    }
    assert entry_of(video, "mel")[1]["hop_seconds"] == 512 / 22050


def test_encode_is_plain_npy_and_the_same_each_time() -> None:
    array = spectrogram.extract(Audio(noise(5000), 24000, 0.0), "tbn")
    data = spectrogram.encode(array)
    np.testing.assert_array_equal(np.load(io.BytesIO(data), allow_pickle=False), array)
    assert spectrogram.encode(array.copy(order="K")) == data
    np.testing.assert_array_equal(spectrogram.decode(data), array)


# Time


@pytest.mark.parametrize("recipe", ["mel", "tbn"])
@pytest.mark.parametrize("span", [Span(), Span(0.2, None), Span(None, 0.7), Span(0.2, 0.7), Span(0.34, 0.85)], ids=str)
def test_columns_lie_where_the_facts_say(tmp_path: Path, recipe: str, span: Span) -> None:
    """Clicks of known times come out in the columns that the facts give those times."""
    times = [0.1, 0.41, 0.63, 0.9]
    video = video_with(tmp_path / "v.mkv", clicks(times, 1.0, 24000))
    decoded, facts = entry_of(video, recipe, span)
    start, hop = float(str(facts["audio_start_seconds"])), float(str(facts["hop_seconds"]))
    begin, end = span.start_seconds or 0.0, span.end_seconds or 1.0
    assert start == pytest.approx(begin, abs=1 / 24000)
    assert decoded.shape[1] * hop == pytest.approx(end - begin, abs=1.01 * hop)
    energy = decoded.astype(float).mean(0)
    for time in times:
        column = round((time - start) / hop)
        if begin <= time < end:
            near = slice(max(column - 4, 0), column + 5)
            loudest = np.flatnonzero(energy[near] >= energy[near].max() - 1) + near.start
            assert abs(np.mean(loudest) - (time - start) / hop) <= 1
    heard = [time for time in times if begin <= time < end]
    silent = np.ones(decoded.shape[1], bool)
    reach = spectrogram.RECIPES[recipe].window_length / 2 / spectrogram.RECIPES[recipe].sample_rate_hz + 2 * hop
    for time in heard:
        silent &= np.abs(start + hop * np.arange(decoded.shape[1]) - time) > reach
    assert silent.any()
    assert energy[silent].max() < energy.max() - 3  # nothing is heard where no click is


def test_a_segment_without_sound_has_no_entry(tmp_path: Path) -> None:
    video = video_with(tmp_path / "v.mkv", noise(12000))  # half as long as the picture
    modality = spectrogram.Spectrogram(Settings())
    assert list(modality.finish(video, Span(0.8, 1.0))) == []
    assert modality.facts() == {}
    assert len(list(modality.finish(video, Span(0.2, 0.4)))) == 1


def test_no_audio_no_entry(tmp_path: Path) -> None:
    modality = spectrogram.Spectrogram(Settings())
    assert list(modality.finish(video_with(tmp_path / "v.avi", None, num_frames=2), Span())) == []
    assert modality.facts() == {}
    assert spectrogram.Spectrogram.decode({"json": b"{}"}, {}) is None


def test_without_audio_librosa_is_not_imported(tmp_path: Path) -> None:
    """Its first call costs seconds."""
    video_with(tmp_path / "v.avi", None, num_frames=2)
    program = (
        "import sys; from vidprep.modalities import MODALITIES; from vidprep.modalities.base import Settings, Span\n"
        "from vidprep.codec.video import Video\n"
        f"print(list(MODALITIES['spectrogram'](Settings()).finish(Video({str(tmp_path / 'v.avi')!r}), Span())))\n"
        "print('librosa' in sys.modules, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "False False"]


def test_frames_are_not_looked_at(tmp_path: Path) -> None:
    video = video_with(tmp_path / "v.avi", None, num_frames=2)
    modality = spectrogram.Spectrogram(Settings())
    assert [list(modality.add(frame, 0)) for frame in video.frames()] == [[], []]
