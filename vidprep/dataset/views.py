"""Views: which part of the pictures, at which size, flipped or not; one for all arrays of a clip.

A view is planned before anything is decoded, so that only its part is. Each step of a transform takes the view so far
and returns the next: crops are placed in the picture as it stands after the steps before, in its own pixels. So steps
can come in any order, and a crop after a resize is the same part as the resize of a smaller crop; it is read once, and
resized once.

Rounding
--------
Steps are followed without rounding. What is read in the end, :attr:`View.crop`, has whole stored pixels: each edge goes
to the nearest one, so that it moves by at most half a stored pixel (a part that is narrower than a pixel is the pixel
that holds its middle). Sizes that come out of a view, and vectors, count from the rounded part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vidprep.errors import UsageError

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


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

    def flipped(self) -> View:
        """Exchange left and right of the same part."""
        return replace(self, is_flipped=not self.is_flipped)

    def cropped(self, x: int, y: int, width: int, height: int) -> View:
        """Take a part of this view, in its own pixels, as it is shown; UsageError if it reaches beyond the view."""
        self._check((x, y, width, height))
        if self.is_flipped:
            x = self.width - x - width
        across, down = self.box_width / self.width, self.box_height / self.height
        return View(
            self.x + x * across, self.y + y * down, width * across, height * down, width, height, self.is_flipped
        )

    def focused(self, box: Box, width: int, height: int) -> View:
        """Show a part of this view, in its own pixels, at another size: of the stored pixels, not of the view's.

        So an object that a network found in a view is seen with all the detail that is stored, flipped as the view is
        (Sydorov et al., BMVC 2019, section 4.2).

        Raises
        ------
        UsageError
            If the box reaches beyond the view, or is empty.
        """
        self._check(box)
        return View(*self.to_source(box), width, height, self.is_flipped)

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """The part in whole stored pixels: left, top, width and height; never empty, never beyond the pictures."""
        (left, width), (top, height) = _pixels(self.x, self.box_width), _pixels(self.y, self.box_height)
        return left, top, width, height

    @property
    def is_resized(self) -> bool:
        """Whether the part is brought to another size than its own."""
        return self.crop[2:] != (self.width, self.height)

    def to_source(self, box: Box) -> Box:
        """Return where a box of this view, in its pixels, stands in the stored pictures, in theirs.

        The inverse of all that the view does to the part that was read (:attr:`crop`): of the flip, the resize and the
        crop. Nothing is rounded.
        """
        x, y, width, height = box
        left, top, crop_width, crop_height = self.crop
        across, down = crop_width / self.width, crop_height / self.height
        if self.is_flipped:
            x = self.width - x - width
        return left + x * across, top + y * down, width * across, height * down

    def from_source(self, box: Box) -> Box:
        """Return where a box of the stored pictures, in their pixels, stands in this view; perhaps beyond it."""
        x, y, width, height = box
        left, top, crop_width, crop_height = self.crop
        across, down = self.width / crop_width, self.height / crop_height
        x, y, width, height = (x - left) * across, (y - top) * down, width * across, height * down
        return (self.width - x - width if self.is_flipped else x), y, width, height

    def _check(self, box: Box) -> None:
        x, y, width, height = box
        if not (
            x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= self.width and y + height <= self.height
        ):
            raise UsageError(
                f"box={box}: x, y, width and height must lie within the view, {self.width}x{self.height} pixels;"
                " cut the box at its edges"
            )


def _pixels(start: float, length: float) -> tuple[int, int]:
    """Return the first pixel and the number of pixels of an interval."""
    first, end = math.floor(start + 0.5), math.floor(start + length + 0.5)
    return (first, end - first) if end > first else (math.floor(start + length / 2), 1)


class Step(Protocol):
    """One step of a transform: see :mod:`vidprep.dataset.steps`."""

    @property
    def num_views(self) -> int:
        """Views of each clip: 3 for three crops."""

    @property
    def resizes(self) -> bool:
        """Whether it may bring a part to another size than its own."""

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the next view; ``number`` counts from 0 to ``num_views``, exclusive."""


def num_views(steps: Sequence[Step]) -> int:
    """Return how many views of a clip a transform gives."""
    return math.prod(step.num_views for step in steps)


def may_resize(steps: Sequence[Step]) -> bool:
    """Tell whether any view of a transform may have another size than its part: vectors are fractions then."""
    return any(step.resizes for step in steps)


def plan_view(steps: Sequence[Step], width: int, height: int, number: int, rng: np.random.Generator) -> View:
    """Return view ``number`` of pictures of some width and height in pixels; the first step's views change fastest."""
    view = View.whole(width, height)
    for step in steps:
        number, own = divmod(number, step.num_views)
        view = step(view, own, rng)
    return view
