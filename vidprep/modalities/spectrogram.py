"""Log spectrograms of the sound track, through librosa.

Two recipes. ``mel``: log-mel with librosa's own conventions (22050 Hz, n_fft 2048, hop 512, 128 bands, dB).
``tbn``: as the temporal binding network takes them (Kazakos et al., ICCV 2019): mono 24 kHz, window 240, hop
120, n_fft 511, ``log(|X|^2 + 1e-6)``, 256 bins.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.audio import Audio
from vidprep.codec.video import Video
from vidprep.errors import ShardError
from vidprep.modalities.base import Entry, Modality, Settings, Span, is_stored
from vidprep.reading import read_npy, readable


@dataclass(frozen=True, slots=True)
class SpectrogramRecipe:
    """Settings of a short-time Fourier transform: lengths in samples, rate in Hz."""

    sample_rate_hz: int
    n_fft: int
    window_length: int
    hop_length: int
    num_bins: int
    log: str


RECIPES = {
    "mel": SpectrogramRecipe(22050, 2048, 2048, 512, 128, "10 log10(power), floored 80 dB below the peak"),
    "tbn": SpectrogramRecipe(24000, 511, 240, 120, 256, "log(power + 1e-6)"),
}


def extract(audio: Audio, recipe: str = "mel") -> NDArray[np.float32]:
    """Return the log spectrogram [shape=(bins, frames), dtype=float32].

    Parameters
    ----------
    audio : Audio
        Mono samples at the recipe's rate.
    recipe : {"mel", "tbn"}
        The unit is dB for ``mel``, the natural logarithm of the power for ``tbn``. Column i is centred on
        ``audio.start_seconds + i * hop_length / sample_rate_hz``.
    """
    import librosa  # costs seconds: only where there is audio

    settings = RECIPES[recipe]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large")  # a short sound is padded with silence, rightly
        if recipe == "mel":
            power = librosa.feature.melspectrogram(
                y=audio.samples, sr=settings.sample_rate_hz, n_fft=settings.n_fft, hop_length=settings.hop_length
            )
            return cast("NDArray[np.float32]", librosa.power_to_db(power).astype(np.float32))
        spectrum = librosa.stft(
            audio.samples,
            n_fft=settings.n_fft,
            hop_length=settings.hop_length,
            win_length=settings.window_length,
            pad_mode="constant",
        )
    return cast("NDArray[np.float32]", np.log(np.abs(spectrum) ** 2 + 1e-6).astype(np.float32))


def encode(spectrogram: NDArray[np.float32]) -> bytes:
    """Encode a spectrogram [shape=(bins, frames), dtype=float32] as npy."""
    buffer = io.BytesIO()
    np.save(buffer, spectrogram, allow_pickle=False)
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.float32]:
    """Decode a stored spectrogram [shape=(bins, frames), dtype=float32]; ShardError if it is damaged."""
    return cast("NDArray[np.float32]", read_npy(data, "spectrogram.npy"))


class Spectrogram(Modality):
    """Entry ``spectrogram.npy``; none for a video without audio."""

    name = "spectrogram"
    from_stream = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._facts: dict[str, Any] = {}

    def finish(self, source: Video, span: Span) -> Iterator[Entry]:
        """Yield the spectrogram of the covered part of the sound track."""
        recipe = self.settings.spectrogram_recipe
        audio = source.audio(
            RECIPES[recipe].sample_rate_hz, start_seconds=span.start_seconds, end_seconds=span.end_seconds
        )
        if audio is None:
            return
        spectrogram = extract(audio, recipe)
        self._facts = {
            "recipe": recipe,
            **asdict(RECIPES[recipe]),
            "num_columns": spectrogram.shape[1],
            "hop_seconds": RECIPES[recipe].hop_length / RECIPES[recipe].sample_rate_hz,
            "audio_start_seconds": audio.start_seconds,
        }
        yield "spectrogram.npy", encode(spectrogram)

    def facts(self) -> dict[str, Any]:
        """Return the recipe and what aligns it: hop, and audio start against video start, in seconds."""
        return self._facts

    @staticmethod
    @readable("spectrogram")
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.float32] | None:
        """Return the spectrogram [shape=(bins, frames), dtype=float32]."""
        if not is_stored("spectrogram", facts, "spectrogram.npy" in entries):
            return None
        found, known = decode(entries["spectrogram.npy"]), facts.get("spectrogram", {})
        shape = (known.get("num_bins", found.shape[0]), known.get("num_columns", found.shape[1]))
        if found.shape != shape or found.dtype != np.float32:
            raise ShardError(f"spectrogram: {found.shape} of {found.dtype}: the json says {shape}; run vidprep verify")
        return found
