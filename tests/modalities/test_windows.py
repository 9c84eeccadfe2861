"""Windows of sound: against a loop over columns, the paper's own transform, and clicks at known times."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modalities.conftest import moving_frames
from vidprep.codec.audio import Audio
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import ShardError, UsageError
from vidprep.modalities import spectrogram
from vidprep.modalities.base import Settings, Span
from vidprep.modalities.windows import check_seconds, num_columns, read_windows, silence

Sample = tuple[dict[str, bytes], dict[str, Any]]
NOISE = (0.3 * np.random.default_rng(0).normal(size=60000)).astype(np.float32)
HOPS = {"tbn": 0.005, "mel": 512 / 22050}


def sample_of(array: NDArray[np.float32] | None, recipe: str = "tbn", start_seconds: float = 0.0) -> Sample:
    facts: dict[str, Any] = {"recipe": {"spectrogram_recipe": recipe}, "spectrogram": {}}
    if array is None:
        return {}, facts
    facts["spectrogram"] = {"audio_start_seconds": start_seconds, "num_columns": array.shape[1]}
    return {"spectrogram.npy": spectrogram.encode(array)}, facts


@pytest.mark.parametrize(
    ("recipe", "seconds", "expected"), [("tbn", 1.279, 256), ("tbn", 0.005, 2), ("tbn", 0.0049, 1), ("mel", 1.279, 56)]
)
def test_columns_of_a_window(recipe: str, seconds: float, expected: int) -> None:
    assert num_columns(recipe, seconds) == expected
    assert read_windows(*sample_of(None, recipe), [0.0], seconds).shape[2] == expected


@given(
    recipe=st.sampled_from(["tbn", "mel"]),
    length=st.integers(1, 400),
    start=st.floats(-1, 1),
    centres=st.lists(st.floats(-9, 9), min_size=1, max_size=4),
    seconds=st.floats(0.01, 3),
)
def test_each_column_is_the_nearest_one_or_silence(
    recipe: str, length: int, start: float, centres: list[float], seconds: float
) -> None:
    bins, hop = spectrogram.RECIPES[recipe].num_bins, HOPS[recipe]
    sound = np.random.default_rng(length).normal(0, 30, (bins, length)).astype(np.float32)
    windows = read_windows(*sample_of(sound, recipe, start), centres, seconds)
    assert windows.dtype == np.float32
    quiet = np.float32(silence(recipe, sound))
    for window, centre in zip(windows, centres, strict=True):
        first = round((centre - seconds / 2 - start) / hop)
        if abs(abs((centre - seconds / 2 - start) / hop - first) - 0.5) < 1e-6:
            continue  # halfway between two columns: the last bit of a float decides
        for i, column in enumerate(window.T):
            heard = 0 <= first + i < length
            np.testing.assert_array_equal(column, sound[:, first + i] if heard else quiet)


@pytest.mark.parametrize("begin", [0.0, 0.4, 1.0])
def test_the_papers_transform_of_the_window_alone(begin: float) -> None:
    """Kazakos et al.: the window's samples alone, and zeros beyond them, which three columns at each edge hear."""
    whole = spectrogram.extract(Audio(NOISE, 24000, 0.0), "tbn")
    first = round(begin * 24000)
    alone = spectrogram.extract(Audio(NOISE[first : first + round(1.279 * 24000)], 24000, 0.0), "tbn")
    (window,) = read_windows(*sample_of(whole), [begin + 1.279 / 2])
    assert window.shape == alone.shape == (256, 256)
    np.testing.assert_allclose(window[:, 3:-3], alone[:, 3:-3], atol=2e-3)
    assert np.abs(window - alone).max() > 0.1


@pytest.mark.parametrize("recipe", ["tbn", "mel"])
def test_silence_is_what_silence_has(recipe: str) -> None:
    rate = spectrogram.RECIPES[recipe].sample_rate_hz
    nothing = spectrogram.extract(Audio(np.zeros(20000, np.float32), rate, 0.0), recipe)
    assert np.unique(nothing).tolist() == [np.float32(silence(recipe, nothing))] == [np.float32(silence(recipe))]
    half = spectrogram.extract(Audio(np.concatenate([NOISE[:20000], np.zeros(20000, np.float32)]), rate, 0.0), recipe)
    assert np.unique(half[:, -3:]).tolist() == [np.float32(silence(recipe, half))]
    np.testing.assert_array_equal(read_windows(*sample_of(half, recipe), [-5.0, 99.0]), half.min())
    np.testing.assert_array_equal(read_windows(*sample_of(None, recipe), [0.5]), nothing.min())


@pytest.mark.parametrize("recipe", ["tbn", "mel"])
@pytest.mark.parametrize("span", [Span(), Span(0.52, 1.4)])
def test_a_click_lies_in_the_middle_of_its_window(tmp_path: Path, recipe: str, span: Span) -> None:
    """From the file on: the window around a time holds the sound of that time, cut segments included."""
    audio = np.zeros(48000, np.float32)
    audio[round(0.88 * 24000)] = 1.0
    path = tmp_path / "click.avi"
    write_video(path, moving_frames(50), audio=audio, sample_rate_hz=24000, audio_codec="pcm_s16le")
    modality = spectrogram.Spectrogram(Settings(spectrogram_recipe=recipe))
    entries = dict(modality.finish(Video(path), span))
    facts = {"recipe": {"spectrogram_recipe": recipe}, "spectrogram": modality.facts()}
    for shift in (0.0, 0.12):
        (window,) = read_windows(entries, facts, [0.88 - shift], 0.5)
        loudest = np.argmax(window.astype(float).sum(axis=0)) * HOPS[recipe]
        assert loudest == pytest.approx(0.25 + shift, abs=HOPS[recipe])


def test_bad_windows() -> None:
    for seconds in (0.0, -1.0, 301.0, math.nan):
        with pytest.raises(UsageError, match=r"window_seconds=.*: must be above 0, and at most 300"):
            check_seconds(seconds)
    entries, facts = sample_of(np.zeros((256, 9), np.float32))
    facts["spectrogram"]["num_columns"] = 10
    with pytest.raises(ShardError, match=r"spectrogram: \(256, 9\) of float32: the json says"):
        read_windows(entries, facts, [0.0])
