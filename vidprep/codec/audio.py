"""The sound track of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from vidprep.codec.damage import Damage

_GAP_SECONDS = 0.1  # containers round timestamps, and some encoders prime the first frames
_MAX_GAP_SECONDS = 300.0  # as long as a sample may be
_TAIL_SECONDS = 0.1  # decoded beyond a wanted end, so that the resampler's filter sees the sound on both sides of it


@dataclass(frozen=True, slots=True)
class Audio:
    """A mono sound track.

    Attributes
    ----------
    samples : ndarray [shape=(N,), dtype=float32, range about -1 to 1]
    sample_rate_hz : int
    start_seconds : float
        Time of the first sample on the video's clock.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    start_seconds: float


def decode_audio(
    container: InputContainer, stream: av.AudioStream, sample_rate_hz: int, end: float | None, damage: Damage
) -> tuple[NDArray[np.float32], float]:
    """Decode to mono at a wanted rate, up to ``end`` seconds; return the samples and the time of the first.

    Gaps in the timestamps are filled with silence, so that what follows keeps its time.
    """
    track = _Track(sample_rate_hz)
    for frame in _decode(container, stream, damage):
        time = frame.time if frame.pts is not None else None
        if end is not None and time is not None and time >= end + _TAIL_SECONDS:
            break
        track.add(frame, time)
    track.flush()
    samples = np.concatenate(track.parts).astype(np.float32) if track.parts else np.empty(0, np.float32)
    samples *= 2.0**-31
    return samples, track.first or 0.0


def _decode(container: InputContainer, stream: av.AudioStream, damage: Damage) -> Iterator[av.AudioFrame]:
    for packet in damage.each(container.demux(stream)):
        yield from damage.attempt(partial(stream.decode, packet)) or ()


def cut_audio(
    samples: NDArray[np.float32], first: float, sample_rate_hz: int, start: float | None, end: float | None
) -> Audio | None:
    """Keep the samples from ``start`` to before ``end`` seconds; ``first`` is the time of the first one."""
    skip = 0 if start is None else max(round((start - first) * sample_rate_hz), 0)
    stop = None if end is None else max(round((end - first) * sample_rate_hz), 0)
    if not samples[skip:stop].size:
        return None
    return Audio(samples[skip:stop].copy(), sample_rate_hz, first + skip / sample_rate_hz)


class _Track:
    """Samples that grow frame by frame."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.first: float | None = None
        self.parts: list[NDArray[np.int32]] = []
        self._expected: float | None = None  # when the next frame begins if there is no gap
        self._skipped_seconds = 0.0  # by which the clock was set forward
        self._setup: tuple[str, str, int] | None = None  # a broadcast may change it between two programmes
        self._begin()

    def add(self, frame: av.AudioFrame, time: float | None) -> None:
        if self.first is None:
            self.first = self._expected = time or 0.0
        assert self._expected is not None
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self._setup:
            self.flush()
            self._setup = setup
        if time is not None and time - self._expected > _MAX_GAP_SECONDS:
            self._skipped_seconds += time - self._expected  # no gap, but a clock that was set anew
            self._expected = time
        if time is not None and time - self._expected > _GAP_SECONDS:
            self.flush()
            elapsed_seconds = time - self._skipped_seconds - self.first
            missing = round(elapsed_seconds * self.sample_rate_hz) - sum(map(len, self.parts))
            self.parts.append(np.zeros(max(missing, 0), np.int32))
            self._expected = time
        self._expected += frame.samples / frame.sample_rate
        frame.pts = None
        self.parts += [part.to_ndarray()[0] for part in self._resampler.resample(frame)]

    def flush(self) -> None:
        self.parts += [part.to_ndarray()[0] for part in self._resampler.resample(None)]
        self._begin()

    def _begin(self) -> None:
        # Whole numbers, because libswresample scales a mix to mono down to full range for these only; in float, two
        # equal channels come out 1.41 times as loud as each of them.
        self._resampler = av.AudioResampler(format="s32", layout="mono", rate=self.sample_rate_hz)
