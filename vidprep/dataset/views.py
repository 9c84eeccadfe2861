"""Views: which part of the pictures, at which size, flipped or not; one for all arrays of a clip.

A view is planned before anything is decoded, so that only its part is. Each step of a transform takes the view so far
and returns the next: crops are placed in the picture as it stands after the steps before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from vidprep.errors import UsageError


@dataclass(frozen=True, slots=True)
class View:
    """A part of stored pictures, and the size that it is brought to.

    Attributes
    ----------
    x, y, box_width, box_height : float
        The part, in pixels of the stored pictures.
    width, height : int
        The size that it is brought to, in pixels.
    is_flipped : bool
        Whether left and right are exchanged afterwards.
    """

    x: float
    y: float
    box_width: float
    box_height: float
    width: int
    height: int
    is_flipped: bool = False

    @classmethod
    def whole(cls, width: int, height: int) -> View:
        """Return the view of whole pictures."""
        return cls(0, 0, width, height, width, height)

    def resized(self, width: int, height: int) -> View:
        """Bring the same part to another size."""
        return replace(self, width=width, height=height)

    def cropped(self, x: int, y: int, width: int, height: int) -> View:
        """Take a part of this view, in its own pixels, flipped as it is shown."""
        if self.is_flipped:
            x = self.width - x - width
        across, down = self.box_width / self.width, self.box_height / self.height
        return View(
            self.x + x * across, self.y + y * down, width * across, height * down, width, height, self.is_flipped
        )

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """The part in whole pixels: left, top, width and height."""
        left, top = round(self.x), round(self.y)
        right, bottom = round(self.x + self.box_width), round(self.y + self.box_height)
        return left, top, max(right - left, 1), max(bottom - top, 1)

    @property
    def is_resized(self) -> bool:
        """Whether the part is brought to another size than its own."""
        return self.crop[2:] != (self.width, self.height)


class Step(Protocol):
    """One step of a transform."""

    @property
    def num_views(self) -> int:
        """Views of each clip: 3 for three crops."""

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the next view; ``number`` counts from 0 to ``num_views``."""


@dataclass(frozen=True, slots=True)
class ShortSide:
    """Brings the short side to a size in pixels, the aspect kept."""

    size: int
    num_views: ClassVar[int] = 1

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the view at that size."""
        scale = self.size / min(view.width, view.height)
        return view.resized(round(view.width * scale), round(view.height * scale))


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """A square crop, anywhere."""

    size: int
    num_views: ClassVar[int] = 1

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return a crop."""
        if min(view.width, view.height) < self.size:
            raise UsageError(f"size={self.size}: the view is {view.width}x{view.height}; put ShortSide before the crop")
        x, y = (int(rng.integers(side - self.size + 1)) for side in (view.width, view.height))
        return view.cropped(x, y, self.size, self.size)


@dataclass(frozen=True, slots=True)
class Flip:
    """Exchanges left and right with a probability; vectors then point the other way."""

    probability: float = 0.5
    num_views: ClassVar[int] = 1

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the view, flipped or not."""
        return replace(view, is_flipped=view.is_flipped != (rng.random() < self.probability))


def num_views(steps: Sequence[Step]) -> int:
    """Return how many views of a clip a transform gives."""
    return int(np.prod([step.num_views for step in steps], dtype=np.int64))


def plan_view(steps: Sequence[Step], width: int, height: int, number: int, rng: np.random.Generator) -> View:
    """Return view ``number`` of pictures of some width and height in pixels."""
    view = View.whole(width, height)
    for step in steps:
        number, own = divmod(number, step.num_views)
        view = step(view, own, rng)
    return view
