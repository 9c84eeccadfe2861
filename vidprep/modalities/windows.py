"""Windows of a stored spectrogram around moments of the video, silence where there is no sound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import UsageError
from vidprep.modalities.spectrogram import RECIPES, Spectrogram

TBN_SECONDS = 1.279  # 256 columns of the temporal binding network's recipe
_MAX_SECONDS = 300.0
_TOLERANCE = 1e-6
_NO_POWER_DB = float(10 * np.log10(np.float32(1e-10)))  # librosa takes no power for less, in floats of 32 bits
_RANGE_DB = 80.0


def check_seconds(window_seconds: float) -> None:
    """Refuse windows that can't be; UsageError."""
    if not 0 < window_seconds <= _MAX_SECONDS:
        raise UsageError(f"window_seconds={window_seconds}: must be above 0, and at most {_MAX_SECONDS:.0f}")


def num_columns(recipe: str, window_seconds: float) -> int:
    """Return the columns whose centres lie in a window that begins at one of them: 256 for ``tbn`` and 1.279 s."""
    return math.floor(window_seconds / _hop_seconds(recipe) + _TOLERANCE) + 1


def silence(recipe: str, spectrogram: NDArray[np.float32] | None = None) -> float:
    """Return what silence has in a spectrogram.

    For ``tbn`` log(1e-6). For ``mel`` the floor: 80 dB below the peak of the whole sound, at least -100 dB, which it
    is where there is no sound at all.
    """
    if recipe == "tbn":
        return math.log(1e-6)
    return max(_NO_POWER_DB, -math.inf if spectrogram is None else float(spectrogram.max()) - _RANGE_DB)


def read_windows(
    entries: Mapping[str, bytes],
    facts: Mapping[str, Any],
    centres_seconds: Sequence[float],
    window_seconds: float = TBN_SECONDS,
) -> NDArray[np.float32]:
    """Return windows of a sample's spectrogram [shape=(num_windows, bins, columns), dtype=float32].

    The columns are those of the whole sound: the first one of a window is the one nearest to the window's begin, so
    that a window is off by half a hop at most (2.5 ms for ``tbn``), and its edges hear what lies beyond them. (The
    temporal binding network, Kazakos et al., ICCV 2019, transforms each window alone: zeros lie beyond its edges. And
    it moves windows that reach beyond the sound back into it.) Before and after the sound, and in a video without
    one, there is :func:`silence`.

    Parameters
    ----------
    entries : mapping
        A sample's files by name, without the key.
    facts : mapping
        The sample's json.
    centres_seconds : sequence of float
        The middles of the windows, in seconds from the video's start.
    window_seconds : float
        Their length.

    Raises
    ------
    ShardError
        If the spectrogram is damaged.
    """
    recipe = facts["recipe"]["spectrogram_recipe"]
    spectrogram = Spectrogram.decode(entries, facts)
    columns, hop_seconds = num_columns(recipe, window_seconds), _hop_seconds(recipe)
    shape = (len(centres_seconds), RECIPES[recipe].num_bins, columns)
    windows = np.full(shape, silence(recipe, spectrogram), np.float32)
    if spectrogram is None:
        return windows
    audio_start = facts["spectrogram"]["audio_start_seconds"]
    for window, centre in zip(windows, centres_seconds, strict=True):
        begin = math.floor((centre - window_seconds / 2 - audio_start) / hop_seconds + 0.5)
        heard = spectrogram[:, max(begin, 0) : max(begin + columns, 0)]
        window[:, max(-begin, 0) : max(-begin, 0) + heard.shape[1]] = heard
    return windows


def _hop_seconds(recipe: str) -> float:
    return RECIPES[recipe].hop_length / RECIPES[recipe].sample_rate_hz
