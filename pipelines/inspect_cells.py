"""What goes into the cells of a contact sheet: arrays at a cell's size, motion as colours and arrows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ARROW_STEP = 18  # pixels between arrows
_MIN_SCALE = 2.0  # pixels: less motion than this is not blown up to full brightness
_MIN_ARROW = 0.12  # of the full scale: shorter ones are dots and say nothing
_ARROW_GREY = 232
_SHARPNESS = 3  # arrows and the wheel are drawn larger, then reduced, for smooth edges
_HEAT = ((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100), (251, 135, 97),
         (254, 194, 135), (252, 253, 191))  # fmt: skip
"""Anchors of matplotlib's magma, evenly spaced: equal steps look equal."""

Picture = NDArray[np.uint8]


def cell_size(width: int, height: int, box: int) -> tuple[int, int]:
    """Return the largest width and height in pixels with a picture's aspect that fit into a box of ``box`` squared."""
    scale = box / max(width, height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def shrink(picture: Picture, cell: tuple[int, int]) -> Picture:
    """Return a picture at a cell's size [shape=(h, w, 3), dtype=uint8], antialiased; pixels stay sharp if it grows."""
    larger = cell[0] > picture.shape[1]
    method = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(cell, method))


def shrink_field(motion: NDArray[np.int16], cell: tuple[int, int]) -> NDArray[np.int16]:
    """Return a motion field at a cell's size [shape=(h, w, 2), dtype=int16]; a mean of vectors would invent some."""
    height, width = motion.shape[:2]
    rows = (2 * np.arange(cell[1]) + 1) * height // (2 * cell[1])
    columns = (2 * np.arange(cell[0]) + 1) * width // (2 * cell[0])
    return np.asarray(motion[rows[:, np.newaxis], columns])


def motion_scale(fields: Sequence[NDArray[np.int16]]) -> float:
    """Return the length in pixels that gets full brightness: nearly the longest vector, outliers aside."""
    lengths = [np.hypot(motion[..., 0], motion[..., 1], dtype=np.float32).ravel() for motion in fields]
    moving = np.concatenate([length[length > 0] for length in lengths] or [np.zeros(0)])
    return max(float(np.percentile(moving, 95)), _MIN_SCALE) if moving.size else _MIN_SCALE


def motion_colours(motion: NDArray[np.int16] | NDArray[np.float64], scale: float) -> Picture:
    """Return motion as colours [shape=(h, w, 3), dtype=uint8]: hue is direction, brightness is length.

    Right is red; clockwise follow down (green), left (cyan) and up (violet). No motion is black.

    Parameters
    ----------
    motion : ndarray [shape=(h, w, 2)]
        x to the right, y down, pixels.
    scale : float
        Length in pixels of full brightness.
    """
    x, y = np.moveaxis(motion, -1, 0).astype(float)
    sixth = np.arctan2(y, x) / (np.pi / 3)
    brightness = np.minimum(np.hypot(x, y) / scale, 1)
    place = (sixth[..., np.newaxis] + (5, 3, 1)) % 6  # HSV of full saturation
    colours = brightness[..., np.newaxis] * (1 - np.clip(np.minimum(place, 4 - place), 0, 1))
    return np.asarray(np.rint(255 * colours), np.uint8)


def motion_picture(motion: NDArray[np.int16], scale: float) -> Image.Image:
    """Draw a motion field [shape=(h, w, 2)] as colours, with arrows on a sparse grid over them."""
    picture = Image.fromarray(motion_colours(motion, scale))
    picture.paste((_ARROW_GREY,) * 3, mask=_arrows(motion, scale))
    return picture


def wheel(side: int) -> tuple[Image.Image, Image.Image]:
    """Draw the key to the colours of motion, and the mask of its disc, ``side`` pixels wide."""
    axis = np.linspace(-1, 1, _SHARPNESS * side)
    disc = np.stack(np.meshgrid(axis, axis), axis=-1)
    inside = (255 * (np.hypot(disc[..., 0], disc[..., 1]) <= 1)).astype(np.uint8)
    return Image.fromarray(motion_colours(disc, 1.0)).reduce(_SHARPNESS), Image.fromarray(inside).reduce(_SHARPNESS)


def heat_colours(values: NDArray[np.floating]) -> Picture:
    """Return values in [0, 1] as colours from black over violet to light yellow [shape=(..., 3), dtype=uint8]."""
    places = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, places, channel) for channel in zip(*_HEAT, strict=True)]
    return np.asarray(np.rint(np.stack(channels, axis=-1)), np.uint8)


def _arrows(motion: NDArray[np.int16], scale: float) -> Image.Image:
    """Draw the motion at the points of a sparse grid, as a mask; full scale is as long as the grid is wide."""
    height, width = motion.shape[:2]
    mask = Image.new("L", (_SHARPNESS * width, _SHARPNESS * height))
    draw = ImageDraw.Draw(mask)
    for y in range(ARROW_STEP // 2, height, ARROW_STEP):
        for x in range(ARROW_STEP // 2, width, ARROW_STEP):
            vector = motion[y, x] / scale
            vector /= max(float(np.hypot(*vector)), 1.0)
            if np.hypot(*vector) >= _MIN_ARROW:
                _draw_arrow(draw, _SHARPNESS * np.array((x, y)), _SHARPNESS * ARROW_STEP * vector)
    return mask.reduce(_SHARPNESS)


def _draw_arrow(draw: ImageDraw.ImageDraw, centre: NDArray[np.int_], vector: NDArray[np.floating]) -> None:
    tail, tip = centre - 0.45 * vector, centre + 0.45 * vector
    along = 0.36 * vector
    across = 0.2 * np.array((-vector[1], vector[0]))
    draw.line([*tail, *(tip - along)], fill=255, width=_SHARPNESS)
    draw.polygon([*tip, *(tip - along + across), *(tip - along - across)], fill=255)
