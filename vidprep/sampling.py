"""Which frames of a video: pure functions from times to indices.

:class:`Selection` says which frames an extraction stores. The classes of clips say which stored frames a training or
a test takes: each gives, for a video's times, the frames of its clip number ``clip`` of ``num_clips``, and always the
same number of them (but :class:`WholeVideo`).

Rates
-----
With ``fps`` the frames of a video are those on screen at the first time and every 1 / fps seconds from there: a frame
comes again where the video is slower. So a clip is what it would be of a video that was extracted at that rate.

Short videos
------------
Where a video has fewer frames than a clip spans, ``short`` says which one stands at each place of the span:

- ``"loop"``: the video again from its start, as often as it takes (Hara et al., CVPR 2018; the default of clips).
- ``"edge"``: the last frame again (Charades: Sydorov et al., BMVC 2019; AdaFocus's segments).
- ``"repeat"``: each frame equally often, in order (TSN's segments in tests; the default of segments).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from vidprep.errors import ShardError, UsageError

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


def on_screen(times: Sequence[float], fps: float) -> list[int]:
    """Return the frame that is on screen at each ``times[0] + i / fps``; a frame may come several times, or never.

    The last frame stays on screen for as long as a frame does on average.
    """
    if len(times) < 2:
        return list(range(len(times)))
    shown_seconds = (times[-1] - times[0]) * len(times) / (len(times) - 1)
    num_ticks = max(math.ceil((shown_seconds - _TOLERANCE_SECONDS) * fps), 1)
    ticks = (times[0] + i / fps + _TOLERANCE_SECONDS for i in range(num_ticks))
    return [bisect_right(times, tick) - 1 for tick in ticks]


def at_rate(times: Sequence[float], fps: float) -> list[int]:
    """Return the frames of :func:`on_screen`, each once."""
    return sorted(set(on_screen(times, fps)))


class Clips(Protocol):
    """A rule that chooses frames of a video."""

    @property
    def num_clips(self) -> int:
        """Clips of each video in an epoch."""

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return the frames of a clip: positions among the times, in the order in which they are shown.

        Parameters
        ----------
        times : sequence of float
            Presentation times of the stored frames in seconds, strictly increasing; ShardError if there are none.
        clip : int
            From 0 to ``num_clips``, exclusive.
        rng : Generator
            The only source of chance.
        """


Short = Literal["loop", "edge", "repeat"]
_SHORT: dict[str, Callable[[int, int, int], int]] = {  # place in the span, frames of the video, places of the span
    "loop": lambda place, num_frames, span: place % num_frames,
    "edge": lambda place, num_frames, span: min(place, num_frames - 1),
    "repeat": lambda place, num_frames, span: (2 * place + 1) * num_frames // (2 * span),
}


@dataclass(frozen=True, slots=True)
class RandomClip:
    """One clip that begins anywhere, for training: Hara et al., 16 frames; SlowFast and SGS, 32 with stride 2.

    All possible starts are equally likely. (Hara's loader never takes the last two.)

    Attributes
    ----------
    length, stride : int
        Frames of a clip, and the distance from one to the next in frames.
    fps : float, optional
        Frames a second that are counted, by their times; else each stored one.
    short : {"loop", "edge", "repeat"}
        What happens to videos that are shorter than a clip.
    """

    length: int = 16
    stride: int = 1
    fps: float | None = None
    short: Short = "loop"
    num_clips: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.fps, self.short, length=self.length, stride=self.stride)

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return the frames of a clip that begins anywhere."""
        return _window(self, times, lambda last: int(rng.integers(last + 1)))


@dataclass(frozen=True, slots=True)
class UniformClips:
    """Clips at equal distances, the first at the beginning and the last at the end, for tests.

    Clip ``i`` begins at ``floor(i * last / (count - 1))``, where ``last`` is the last possible start: the windows of
    Charades (PyVideoResearch, shifts ``linspace(0, 1, 10)``) and the dense test of TSM. One clip alone is the middle
    one. (Hara's loader rounds the distance up, so that the last clips may be missing; SlowFast's divides by ``count``,
    so that the end of a video is never seen.)

    Attributes
    ----------
    count : int
        Clips of each video.
    length, stride, fps, short
        As in :class:`RandomClip`.
    """

    count: int = 10
    length: int = 16
    stride: int = 1
    fps: float | None = None
    short: Short = "loop"

    def __post_init__(self) -> None:
        _check(self.fps, self.short, count=self.count, length=self.length, stride=self.stride)

    @property
    def num_clips(self) -> int:
        """Clips of each video in an epoch."""
        return self.count

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return the frames of one of the clips; UsageError if there is no such clip."""
        if not 0 <= clip < self.count:
            raise UsageError(f"clip={clip}: must be one of count={self.count} clips, from 0 on")
        return _window(self, times, lambda last: clip * last // (self.count - 1) if self.count > 1 else last // 2)


@dataclass(frozen=True, slots=True)
class Segments:
    """One frame of each of ``count`` equal parts of a video (TSN: Wang et al., ECCV 2016; AdaFocus: 16, TSM: 8).

    For training, ``random=True``: parts are ``n // count`` frames long, and each gives any of its frames; so the last
    ``n % count`` frames are never seen, as in the loaders of TSN and TSM. For tests, the middle: frame
    ``floor((i + 1/2) * n / count)``. Videos of fewer than ``count`` frames give the same frames in both, by ``short``.
    (TSN's loader trains these on their first frame alone.)

    Attributes
    ----------
    count : int
        Frames of a clip.
    random : bool
        Whether any frame of a part is taken, or the one in its middle.
    short : {"repeat", "edge", "loop"}
        What happens to videos of fewer frames.
    """

    count: int = 3
    random: bool = False
    short: Short = "repeat"
    num_clips: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(None, self.short, count=self.count)

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return one frame of each part."""
        num_frames = len(_frames(times, None))
        if num_frames < self.count:
            return [_SHORT[self.short](i, num_frames, self.count) for i in range(self.count)]
        if not self.random:
            return uniform(num_frames, self.count)
        length = num_frames // self.count
        return [i * length + int(offset) for i, offset in enumerate(rng.integers(length, size=self.count))]


@dataclass(frozen=True, slots=True)
class WholeVideo:
    """All frames, or each ``stride``-th, or those at a rate: clips are as long as their videos."""

    stride: int = 1
    fps: float | None = None
    num_clips: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.fps, "loop", stride=self.stride)

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        """Return all frames."""
        return list(_frames(times, self.fps)[:: self.stride])


def _check(fps: float | None, short: str, **counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise UsageError(f"{name}={count!r}: must be a whole number from 1 on, such as {name}=16")
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps <= 1000):
        raise UsageError(f"fps={fps!r}: must be above 0 and at most 1000 frames a second; leave it out for all frames")
    if short not in _SHORT:
        raise UsageError(f"short={short!r}: must be one of {', '.join(_SHORT)}")


def _frames(times: Sequence[float], fps: float | None) -> Sequence[int]:
    """Return the frames that a rule counts; ShardError if there are none."""
    if not times:
        raise ShardError("num_frames=0: a clip needs a frame; run vidprep verify, or extract the sample anew")
    return range(len(times)) if fps is None else on_screen(times, fps)


def _window(rule: RandomClip | UniformClips, times: Sequence[float], place: Callable[[int], int]) -> list[int]:
    """Return a clip that begins where ``place`` says, given the last possible start."""
    frames = _frames(times, rule.fps)
    span = (rule.length - 1) * rule.stride + 1
    start = place(max(len(frames) - span, 0))
    places = range(start, start + span, rule.stride)
    if len(frames) < span:
        return [frames[_SHORT[rule.short](i, len(frames), span)] for i in places]
    return [frames[i] for i in places]
