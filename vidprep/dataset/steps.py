"""The steps that transforms are made of: resizes, crops and flips; what each of them does, exactly.

Sizes are in pixels: one number is the side of a square, two are width and height. All choices come from the generator
alone. Where public loaders round differently, the docstring says whose rule it is.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vidprep.dataset.views import Step, View
from vidprep.errors import UsageError

Size = int | tuple[int, int]

# Where crops stand, in quarters of the room that is left: corners and middle, then what lies between them.
_FIVE = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
_THIRTEEN = (*_FIVE, (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3))
_NUM_TRIES = 10


@dataclass(frozen=True, slots=True)
class ShortSide:
    """Brings the short side to a size, the aspect kept; the long side is rounded down, as torchvision and SlowFast do.

    Attributes
    ----------
    size : int or (int, int)
        One size, or the lowest and the highest: any whole number from one to the other, equally likely (SGS: 256 to
        320; SlowFast's loader takes the two ends half as often).
    """

    size: int | tuple[int, int]
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        low, high = _sides(self, self.size)
        if low > high:
            raise UsageError(f"ShortSide(size={self.size}): the first must not be above the second; exchange them")

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the view at that size."""
        size = self.size if isinstance(self.size, int) else int(rng.integers(self.size[0], self.size[1] + 1))
        short = min(view.width, view.height)
        return view.resized(view.width * size // short, view.height * size // short)


@dataclass(frozen=True, slots=True)
class Resize:
    """Brings views to a width and a height, whatever their aspect is."""

    width: int
    height: int
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _sides(self, (self.width, self.height))

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the view at that size."""
        return view.resized(self.width, self.height)


@dataclass(frozen=True, slots=True)
class _Crop:
    """A crop of one size; each kind says where it stands in the room that is left."""

    size: Size
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _sides(self, self.size)

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return crop ``number``; UsageError if the picture is smaller."""
        width, height = _sides(self, self.size)
        if width > view.width or height > view.height:
            raise UsageError(
                f"{type(self).__name__}(size={width}x{height}): must fit into the picture, {view.width}x{view.height}"
                f" at this step; put ShortSide({max(width, height)}) before it, or take a smaller crop"
            )
        x, y = self._corner(view.width - width, view.height - height, number, rng)
        return view.cropped(x, y, width, height)

    @abstractmethod
    def _corner(self, x: int, y: int, number: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return left and top, at most ``x`` and ``y``."""


@dataclass(frozen=True, slots=True)
class RandomCrop(_Crop):
    """A crop anywhere, all places equally likely."""

    def _corner(self, x: int, y: int, number: int, rng: np.random.Generator) -> tuple[int, int]:
        return int(rng.integers(x + 1)), int(rng.integers(y + 1))


@dataclass(frozen=True, slots=True)
class CenterCrop(_Crop):
    """The crop in the middle; half a pixel goes to the even side, as torchvision has it."""

    def _corner(self, x: int, y: int, number: int, rng: np.random.Generator) -> tuple[int, int]:
        return round(x / 2), round(y / 2)


@dataclass(frozen=True, slots=True)
class ThreeCrops(_Crop):
    """Three crops along the longer side, from its beginning to its end, for tests: 10 clips x 3 crops.

    In the middle, half a pixel is rounded up, as SlowFast does; square pictures are cut from left to right.
    """

    num_views: ClassVar[int] = 3

    def _corner(self, x: int, y: int, number: int, rng: np.random.Generator) -> tuple[int, int]:
        if y > x:
            return -(-x // 2), (0, -(-y // 2), y)[number]
        return (0, -(-x // 2), x)[number], -(-y // 2)


@dataclass(frozen=True, slots=True)
class FiveCrops(_Crop):
    """The four corners and the middle, in torchvision's order: left to right, top to bottom, the middle last."""

    num_views: ClassVar[int] = 5

    def _corner(self, x: int, y: int, number: int, rng: np.random.Generator) -> tuple[int, int]:
        across, down = _FIVE[number]
        return round(x * across / 4), round(y * down / 4)


@dataclass(frozen=True, slots=True)
class TenCrops(FiveCrops):
    """The :class:`FiveCrops` of a view, and then those of the view flipped (TSN's tests)."""

    num_views: ClassVar[int] = 10

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return crop ``number``; UsageError if the picture is smaller."""
        is_mirrored, corner = divmod(number, 5)
        return FiveCrops.__call__(self, view.flipped() if is_mirrored else view, corner, rng)


@dataclass(frozen=True, slots=True)
class MultiScaleCrop:
    """A crop of one of some sizes at one of some fixed places, brought to ``size`` (TSN: Wang et al., ECCV 2016).

    Width and height are the short side times one of the scales each, rounded down, where the scales' numbers are at
    most ``max_distort`` apart; all such pairs are equally likely, and so are the places. A side within two pixels of
    ``size`` becomes it, so that nothing is resized for nothing (but never one that is not there).

    Attributes
    ----------
    size : int or (int, int)
    scales : sequence of float
        Above 0, at most 1.
    max_distort : int
        How far the scales of width and height may be apart in ``scales``: 0 keeps crops square.
    num_places : {13, 5, 0}
        13 places: corners, middles of edges, the middle, and four between it and the corners; 5: corners and middle.
        They stand in whole quarters of the room, so that the last may be three pixels short of the edge, as TSN's are.
        0: anywhere.
    """

    size: Size
    scales: tuple[float, ...] = (1, 0.875, 0.75, 0.66)
    max_distort: int = 1
    num_places: Literal[13, 5, 0] = 13
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _sides(self, self.size)
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UsageError(f"MultiScaleCrop(scales={self.scales}): must be numbers above 0 and at most 1")
        if self.max_distort < 0 or self.num_places not in (13, 5, 0):
            raise UsageError(
                f"MultiScaleCrop(max_distort={self.max_distort}, num_places={self.num_places}): must be 0 or more, and"
                " 13, 5 or 0"
            )

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return a crop at that size."""
        sides = _sides(self, self.size)
        short = min(view.width, view.height)
        widths, heights = ([_near(max(int(short * s), 1), side, short) for s in self.scales] for side in sides)
        numbers = range(len(self.scales))
        pairs = [(i, j) for i in numbers for j in numbers if abs(i - j) <= self.max_distort]
        i, j = pairs[rng.integers(len(pairs))]
        return self._place(view, widths[i], heights[j], rng).resized(*sides)

    def _place(self, view: View, width: int, height: int, rng: np.random.Generator) -> View:
        if not self.num_places:
            return RandomCrop((width, height))(view, 0, rng)
        across, down = _THIRTEEN[rng.integers(self.num_places)]
        x, y = (view.width - width) // 4 * across, (view.height - height) // 4 * down
        return view.cropped(x, y, width, height)


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """A crop of random area and aspect, brought to ``size`` (Inception: Szegedy et al., CVPR 2015; torchvision's rule).

    Ten times, an area and the logarithm of an aspect are drawn, equally likely within their bounds; the first crop that
    fits is placed anywhere. If none fits, the middle of the picture is taken, as large as the bounds of the aspect
    allow.

    Attributes
    ----------
    size : int or (int, int)
    scale : (float, float)
        Bounds of the area, as a share of the picture's.
    ratio : (float, float)
        Bounds of width / height.
    """

    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _sides(self, self.size)
        if not (0 < self.scale[0] <= self.scale[1] <= 1 and 0 < self.ratio[0] <= self.ratio[1]):
            raise UsageError(
                f"RandomResizedCrop(scale={self.scale}, ratio={self.ratio}): must be the lower and the upper bound of"
                " the share of the area, above 0 and at most 1, and of width / height, above 0"
            )

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return a crop at that size."""
        sides = _sides(self, self.size)
        log_low, log_high = (math.log(bound) for bound in self.ratio)
        for _ in range(_NUM_TRIES):
            area = view.width * view.height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(log_low, log_high))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= view.width and 0 < height <= view.height:
                return RandomCrop((width, height))(view, 0, rng).resized(*sides)
        ratio = min(max(view.width / view.height, self.ratio[0]), self.ratio[1])
        fitting = min(view.width, round(view.height * ratio)), min(view.height, round(view.width / ratio))
        return CenterCrop((max(fitting[0], 1), max(fitting[1], 1)))(view, 0, rng).resized(*sides)


@dataclass(frozen=True, slots=True)
class Flip:
    """Exchanges left and right with a probability; vectors then point the other way."""

    probability: float = 0.5
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UsageError(f"Flip(probability={self.probability}): must be from 0 to 1")

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        """Return the view, flipped or not."""
        return view.flipped() if rng.random() < self.probability else view


def _sides(step: Step, size: Size) -> tuple[int, int]:
    """Return width and height; UsageError unless they are whole numbers above 0."""
    sides = (size, size) if isinstance(size, int) else size
    if not (isinstance(sides, tuple) and len(sides) == 2 and all(isinstance(n, int) and n > 0 for n in sides)):
        raise UsageError(f"{type(step).__name__}(size={size!r}): must be a whole number of pixels, or a tuple of two")
    return sides


def _near(length: int, wanted: int, room: int) -> int:
    return wanted if abs(length - wanted) < 3 and wanted <= room else length
