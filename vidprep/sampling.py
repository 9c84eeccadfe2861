"""Which frames of a video: pure functions from times to indices.

:class:`Selection` says which frames an extraction stores. The classes of clips say which stored frames a training or
a test takes: each gives, for a video's times, the frames of its clip number ``clip`` of ``num_clips``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from vidprep.errors import UsageError

_TOLERANCE_SECONDS = 1e-6  # times are known to the microsecond


@dataclass(frozen=True, slots=True)
class Selection:
    """A rule that picks the frames to store.

    Attributes
    ----------
    kind : {"all", "uniform", "stride", "fps"}
    number : float
        Frames for ``uniform``, step for ``stride``, frames a second for ``fps``; 0 for ``all``.
    """

    kind: str
    number: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read ``all``, ``uniform:16``, ``stride:2`` or ``fps:8``; UsageError if it is none of them."""
        kind, _, number = text.partition(":")
        if text == "all":
            return cls("all")
        if kind in ("uniform", "stride") and number.isdecimal() and int(number) > 0:
            return cls(kind, int(number))
        if kind == "fps" and number.replace(".", "", 1).isdecimal() and 0 < float(number) <= 1000:
            return cls(kind, float(number))
        raise UsageError(f"frames={text}: must be all, uniform:COUNT, stride:STEP or fps:RATE, with positive numbers")

    def indices(self, times: Sequence[float]) -> list[int]:
        """Return the wanted indices, increasing and without repeats.

        Parameters
        ----------
        times : sequence of float
            Presentation time of each frame in seconds, strictly increasing.
        """
        if self.kind == "uniform":
            return uniform(len(times), int(self.number))
        if self.kind == "stride":
            return list(range(0, len(times), int(self.number)))
        if self.kind == "fps":
            return at_rate(times, self.number)
        return list(range(len(times)))


def uniform(num_frames: int, count: int) -> list[int]:
    """Return the middle frame of each of ``count`` equal parts; all frames if there are fewer."""
    if num_frames <= count:
        return list(range(num_frames))
    return [(2 * i + 1) * num_frames // (2 * count) for i in range(count)]


def at_rate(times: Sequence[float], fps: float) -> list[int]:
    """Return the frames that are on screen at ``times[0] + i / fps``; each at most once.

    The last frame stays on screen for as long as a frame does on average.
    """
    if len(times) < 2:
        return list(range(len(times)))
    shown_seconds = (times[-1] - times[0]) * len(times) / (len(times) - 1)
    num_ticks = max(math.ceil((shown_seconds - _TOLERANCE_SECONDS) * fps), 1)
    ticks = (times[0] + i / fps + _TOLERANCE_SECONDS for i in range(num_ticks))
    return sorted({bisect_right(times, tick) - 1 for tick in ticks})


class Clips(Protocol):
    """A rule that chooses frames of a video."""

    @property
    def num_clips(self) -> int:
        """Clips of each video in an epoch."""

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return the frames of a clip: positions among the times, not decreasing, as many for each video."""


@dataclass(frozen=True, slots=True)
class RandomClip:
    """One random clip of ``length`` frames, ``stride`` apart, as for training (METHODS: Hara et al., SlowFast).

    A shorter video is read again from its start, as often as it takes.
    """

    length: int = 16
    stride: int = 1
    num_clips: ClassVar[int] = 1

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return the frames of a clip that begins anywhere."""
        span = (self.length - 1) * self.stride + 1
        start = int(rng.integers(max(len(times) - span, 0) + 1))
        return [(start + i * self.stride) % len(times) for i in range(self.length)]
