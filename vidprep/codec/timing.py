"""Presentation times: in order, none missing, one a frame."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from vidprep.errors import DecodeError

RESOLUTION_SECONDS = 1e-6  # times are stored to the microsecond, and must differ there too
REORDER_WINDOW = 16  # pictures that any codec may hold back
Picture = TypeVar("Picture")


class HasTime(Protocol):
    """What has a timestamp: a picture, or the packet that will be one."""

    @property
    def pts(self) -> int | None:
        """In ticks."""

    @property
    def time(self) -> float | None:
        """In seconds."""


Stamped = TypeVar("Stamped", bound=HasTime)


def microseconds(seconds: float) -> int:
    """Return a time in whole microseconds; times are compared so, for 2.28 - 1.4 is not quite 0.88."""
    return round(seconds * 1_000_000)


def repair_times(
    times: Iterable[float | None], step_seconds: float, window: int = REORDER_WINDOW
) -> Iterator[tuple[float, bool]]:
    """Make presentation times strictly increase, in display order; yield each with whether it was changed.

    Times that arrive out of order within ``window`` frames are sorted (packed bitstreams number their frames in
    decoding order); a missing time, or one that still does not increase, becomes its predecessor's plus a step, or half
    the way to the next one if that is nearer.

    Parameters
    ----------
    times : iterable of float or None
        Seconds, as the decoder gives them.
    step_seconds : float
        Nominal duration of a frame.
    """
    source = iter(times)
    waiting: list[float | None] = []
    known: list[float] = []
    last: float | None = None
    for time in source:
        waiting.append(time)
        if time is not None:
            heapq.heappush(known, time)
        if len(waiting) > window:
            last, repaired = _next_time(waiting, known, last, step_seconds)
            yield last, repaired
    while waiting:
        last, repaired = _next_time(waiting, known, last, step_seconds)
        yield last, repaired


def with_repaired_times(
    pictures: Iterator[Stamped], step_seconds: float, window: int
) -> Iterator[tuple[Stamped, float, bool]]:
    """Yield pictures with their repaired times, and whether these were changed; see :func:`repair_times`."""
    waiting: deque[Stamped] = deque()  # not tee, which keeps dozens of pictures alive: more than a cache holds

    def times() -> Iterator[float | None]:
        for picture in pictures:
            waiting.append(picture)
            yield None if picture.pts is None else picture.time

    for time, repaired in repair_times(times(), step_seconds, window):
        yield waiting.popleft(), time, repaired


def _next_time(
    waiting: list[float | None], known: list[float], last: float | None, step_seconds: float
) -> tuple[float, bool]:
    own = waiting.pop(0)
    time = heapq.heappop(known) if own is not None else None
    if time is None or (last is not None and time <= last + RESOLUTION_SECONDS):
        time = 0.0 if last is None else last + min([step_seconds, *_halves(last, known)])
    return time, time != own


def _halves(last: float, known: list[float]) -> list[float]:
    halves = ((later - last) / 2 for later in known)
    return [half for half in halves if half > RESOLUTION_SECONDS]


def zip_exactly(pictures: Iterator[Picture], times: Sequence[float], name: str) -> Iterator[tuple[Picture, float]]:
    """Pair each picture with its time; DecodeError if their numbers differ."""
    count = 0
    for count, picture in enumerate(pictures, 1):
        if count > len(times):
            break
        yield picture, times[count - 1]
    if count != len(times):
        raise DecodeError(
            f"num_frames={count} in {name} and num_timestamps={len(times)}: they must agree; the source "
            "is damaged, get it anew"
        )
