"""What the frames of a video add up to: groups of pictures, picture types, how much of the picture moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

Facts = dict[str, str]
"""What is said of a video, by name, in the order of the lines."""


class Survey:
    """Counts that are gathered frame by frame, without pictures.

    Motion is counted on P-frames alone, where each pixel has one vector or, in an intra block, none.

    Parameters
    ----------
    width, height : int
        Size of the picture in pixels; parts of blocks beyond it don't count.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._types: list[str] = []
        self._num_pixels = self._num_covered = self._num_moving = 0
        self._summed_length = 0.0

    def add(self, picture_type: str, vectors: NDArray[np.void]) -> None:
        """Count one frame and its block vectors [shape=(N,), dtype=BLOCK_DTYPE]."""
        self._types.append(picture_type)
        if picture_type != "P":
            return
        sides = (
            _overlap(vectors[f"dst_{x}"], vectors[w], size) for x, w, size in zip("xy", "wh", self._size, strict=True)
        )
        area = np.prod(list(sides), axis=0)
        lengths = np.hypot(vectors["motion_x"], vectors["motion_y"]) / np.maximum(vectors["motion_scale"], 1)
        self._num_pixels += self._size[0] * self._size[1]
        self._num_covered += int(area.sum())
        self._num_moving += int(area[lengths > 0].sum())
        self._summed_length += float((area * lengths).sum())

    @property
    def picture_types(self) -> str:
        """One letter a frame, in display order."""
        return "".join(self._types)

    def facts(self) -> Facts:
        """Return what was counted."""
        types = self.picture_types
        starts = [i for i, picture_type in enumerate(types) if picture_type == "I"]
        lengths = [end - start for start, end in pairwise([*starts, len(types)])]
        return {
            "picture types": ", ".join(f"{types.count(letter)} {letter}" for letter in "IPB"),
            "GOPs": _groups(lengths),
            "P-frame area": self._shares(),
            "mean vector": self._mean_length(),
        }

    def _shares(self) -> str:
        if not self._num_pixels:
            return "- (no P-frames)"
        intra, still, moving = (
            100 * number / self._num_pixels
            for number in (
                max(self._num_pixels - self._num_covered, 0),
                self._num_covered - self._num_moving,
                self._num_moving,
            )
        )
        return f"{intra:.1f} % intra, {still:.1f} % still, {moving:.1f} % moving"

    def _mean_length(self) -> str:
        if not self._num_moving:
            return "- (nothing moves)"
        return f"{self._summed_length / self._num_moving:.2f} pixels, where P-frames move"


def _groups(lengths: Sequence[int]) -> str:
    if len(set(lengths)) < 2:
        return f"{len(lengths)} of {lengths[0] if lengths else 0} frames"
    return f"{len(lengths)} of {min(lengths)} to {max(lengths)} frames, median {median(lengths):g}"


def _overlap(centres: NDArray[np.int16], sides: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Return how many pixels of each block's side lie inside the picture."""
    starts = centres.astype(np.int64) - sides // 2
    return np.asarray(np.maximum(np.minimum(starts + sides, size) - np.maximum(starts, 0), 0))


def choose_frames(picture_types: str, num_frames: int, stored: Sequence[int] | None = None) -> list[int]:
    """Return frames evenly over a video, one from the middle half of each of ``num_frames`` equal parts.

    There it is the frame with the most frames since its I-frame, because motion and residual build up from zero.

    Parameters
    ----------
    picture_types : str
        One letter a frame.
    num_frames : int
        All of them if there are fewer.
    stored : sequence of int, optional
        Indices of the frames to choose from; positions in this sequence are returned.
    """
    starts = list(accumulate((i if letter == "I" else 0 for i, letter in enumerate(picture_types)), max))
    depths = [i - starts[i] for i in (range(len(starts)) if stored is None else stored)]
    count = min(num_frames, len(depths))
    chosen = []
    for start, end in pairwise([i * len(depths) // max(count, 1) for i in range(count + 1)]):
        margin, middle = (end - start) // 4, (start + end - 1) / 2
        chosen.append(max(range(start + margin, end - margin), key=lambda i: (depths[i], -abs(i - middle))))
    return chosen


def aligned(facts: Facts) -> str:
    """Return facts as lines of ``name: value`` with the values below each other."""
    width = max(map(len, facts), default=0) + 1
    return "\n".join(f"{f'{name}:':<{width}} {value}" for name, value in facts.items())


def exactness(motion_exact: bool) -> str:
    """Say whether the vectors are those of the stream, and what to do if not."""
    if motion_exact:
        return "yes"
    return "no: vectors may refer to several pictures or to fields, or are global; extract --codec mpeg4 is exact"


def sizes(bytes_by_kind: Mapping[str, int]) -> str:
    """List the sizes of kinds of entries, the largest first."""
    ordered = sorted(bytes_by_kind.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind} {_size(num_bytes)}" for kind, num_bytes in ordered)


def _size(num_bytes: int) -> str:
    if num_bytes < 1000:
        return f"{num_bytes} B"
    return f"{num_bytes / 1e3:.1f} kB" if num_bytes < 10**6 else f"{num_bytes / 1e6:.1f} MB"
