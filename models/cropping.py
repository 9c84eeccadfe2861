"""Differentiable crops of clips: where a crop lies in its frame, and what sampling makes of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional


class Crop(NamedTuple):
    """Square crops, one for each clip; their sides are told in short sides of the frame, whatever its aspect.

    Attributes
    ----------
    scale : torch.Tensor
        Side of the crop over the short side of the frame [shape=(N,)]. Above 1 the crop is larger than the frame.
    position : torch.Tensor
        Where it stands among the places inside the frame [shape=(N, 2)], x and y: -1 is at the left (top) edge, 0 in
        the middle, 1 at the right (bottom) edge. Where it is larger than the frame, it is in the middle.
    shear : torch.Tensor
        How far the crop's x moves with its y, and its y with its x [shape=(N, 2)]; 0 is a square.
    """

    scale: torch.Tensor
    position: torch.Tensor
    shear: torch.Tensor

    def theta(self, height: int, width: int) -> torch.Tensor:
        """Return the affine maps [shape=(N, 2, 3)] from the crop's [-1, 1] to that of frames of a size.

        Edges of pixels count, not their middles: ``align_corners=False`` of ``torch.nn.functional.affine_grid``.
        """
        side = self.scale * min(height, width)
        half = torch.stack((side / width, side / height), 1)
        room = (1 - half * (1 + self.shear.abs())).clamp(min=0)
        one = torch.ones_like(self.scale)
        square = torch.stack((one, self.shear[:, 0], self.shear[:, 1], one), 1).reshape(-1, 2, 2)
        return torch.cat((half[:, :, None] * square, (self.position * room)[:, :, None]), 2)

    def corners(self, height: int, width: int) -> torch.Tensor:
        """Return upper left, upper right, lower right, lower left [shape=(N, 4, 2)], x and y in the frame's pixels.

        The frame's own corners are (0, 0) and (width, height).
        """
        theta = self.theta(height, width)
        ends = theta.new_tensor([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        return (_moved(theta, ends) + 1) / 2 * theta.new_tensor([width, height])


def sample(frames: torch.Tensor, theta: torch.Tensor, size: int, *, max_shrink: float = 1.0) -> torch.Tensor:
    """Sample crops bilinearly, all frames of a clip alike; differentiable in the frames and in theta.

    Beyond its edges a frame goes on as its outermost pixels. Where a crop has more pixels than the result, bilinear
    sampling skips some, and fine texture turns into false patterns. ``max_shrink`` prevents that: frames are halved
    as often as it needs (with a triangle filter), and each crop is mixed of the two levels that its own shrinking
    lies between (Williams, Pyramidal Parametrics, SIGGRAPH 1983). A crop that is not shrunk stays bilinear, exactly.

    Parameters
    ----------
    frames : torch.Tensor
        Clips [shape=(N, C, T, H, W)], of any type; pixels keep their range.
    theta : torch.Tensor
        Affine maps [shape=(N, 2, 3)], see :meth:`Crop.theta`.
    size : int
        Pixels of the result's side.
    max_shrink : float
        Pixels of the largest crop's side over ``size``; what is at most 1 costs nothing more.

    Returns
    -------
    torch.Tensor
        Crops [shape=(N, C, T, size, size)], of theta's type.
    """
    num_channels, num_frames, height, width = frames.shape[1:]
    maps = frames.to(theta.dtype, memory_format=torch.contiguous_format).flatten(1, 2)
    steps = (torch.arange(size, dtype=theta.dtype, device=theta.device) * 2 + 1) / size - 1
    grid = _moved(theta, torch.stack(torch.meshgrid(steps, steps, indexing="xy"), 2).flatten(0, 1))
    grid = grid.reshape(-1, size, size, 2)
    num_halvings = max(math.ceil(math.log2(max_shrink)), 0)
    crops = _bilinear(maps, grid)
    if num_halvings:
        level = _shrink(theta, height, width, size).log2().clamp(0, num_halvings)
        crops = crops * _share(level, 0)
        for number in range(1, num_halvings + 1):
            maps = _halved(maps)
            crops = crops + _bilinear(maps, grid) * _share(level, number)
    return crops.reshape(-1, num_channels, num_frames, size, size)


def _moved(theta: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Map points of the crop [shape=(P, 2)] to the frames [shape=(N, P, 2)].

    ``affine_grid`` and matrix products do so too, but in autocast they round to half a pixel.
    """
    across, down, shift = (theta[:, None, :, column] for column in range(3))
    return points[:, :1] * across + points[:, 1:] * down + shift


def _bilinear(maps: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    sampled: torch.Tensor = functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled


def _shrink(theta: torch.Tensor, height: int, width: int, size: int) -> torch.Tensor:
    """Return pixels of the crops' sides (of squares as large) over those of the result [shape=(N,)]."""
    area = (theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]).abs() * height * width
    return area.clamp(min=1e-6).sqrt() / size


def _share(level: torch.Tensor, number: int) -> torch.Tensor:
    return (1 - (level - number).abs()).clamp(min=0)[:, None, None, None]


def _halved(maps: torch.Tensor) -> torch.Tensor:
    size = [-(-side // 2) for side in maps.shape[2:]]
    halved: torch.Tensor = functional.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)
    return halved
