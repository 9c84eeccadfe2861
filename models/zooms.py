"""Zooms that learn nothing: the crop in the middle or anywhere, and the one where a guide has most."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from vidprep.models.cropping import Crop, sample
from vidprep.models.guides import busiest_place, guide_maps

DEFAULT_SCALE = 0.875  # 112 of 128 rows: the crop that the paper's networks are trained and tested with
DEFAULT_SHEAR = 0.1


class Zoom(nn.Module):
    """What shows a network a part of its frames; the kinds differ in how they choose it.

    In training, what they don't choose themselves is drawn: the position, equally likely wherever the crop is inside
    the frame, and the shear. Draws come from torch's global generator. In evaluation nothing is drawn.
    """

    def __init__(self, size: int, max_scale: float, *, draw_position: bool, draw_shear: float, antialias: bool) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size={size}: must be a positive integer, pixels of the crop's side; give 112 or 224")
        super().__init__()
        self.size = size
        self.max_scale = max_scale
        self.draw_position = draw_position
        self.draw_shear = draw_shear
        self.antialias = antialias

    @abstractmethod
    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the chosen crops, without what is drawn in training."""

    def forward(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the network shall see.

        Parameters
        ----------
        frames : torch.Tensor
            Clips [shape=(N, C, T, H, W)], uint8 or float. The larger they are, the more detail there is to zoom into.
        guide : torch.Tensor, optional
            What :func:`vidprep.models.guides.guide_maps` takes, of the same clips [shape=(N, c, t, h, w)], of any size.

        Returns
        -------
        torch.Tensor
            Crops [shape=(N, C, T, size, size)] in the frames' range, float32 (float64 of such weights).
        """
        crop = self.crop(frames, guide)
        if self.training:
            crop = self._drawn(crop)
        height, width = frames.shape[3:]
        max_shrink = self.max_scale * min(height, width) / self.size if self.antialias else 1.0
        return sample(frames, crop.theta(height, width), self.size, max_shrink=max_shrink)

    def _drawn(self, crop: Crop) -> Crop:
        position, shear = crop.position, crop.shear
        if self.draw_position:
            position = torch.rand_like(position) * 2 - 1
        if self.draw_shear:
            shear = (torch.rand_like(shear) * 2 - 1) * self.draw_shear
        return Crop(crop.scale, position, shear)


class FixedZoom(Zoom):
    """The baseline: crops of a given scale, or of one drawn from a range, in the middle or anywhere (Table 7).

    Parameters
    ----------
    size : int
        Pixels of the result's side.
    scale : float or (float, float)
        Side of the crop over the short side of the frame; of a range, one is drawn for each clip, in evaluation too.
    anywhere : bool
        Whether the position is drawn in evaluation too.
    augment, shear : bool, float
        Whether positions, and shears of at most this, are drawn in training.
    antialias : bool
        See :class:`AdaptiveZoom`.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: float | tuple[float, float] = DEFAULT_SCALE,
        anywhere: bool = False,
        augment: bool = True,
        shear: float = 0.0,
        antialias: bool = True,
    ) -> None:
        low, high = (scale, scale) if isinstance(scale, float | int) else scale
        if not 0 < low <= high:
            raise ValueError(f"scale={scale}: must be above 0; of a range, give the lower end first")
        super().__init__(size, high, draw_position=augment, draw_shear=shear if augment else 0.0, antialias=antialias)
        self.scale = (low, high)
        self.anywhere = anywhere

    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the crops, without what is drawn in training alone."""
        low, high = self.scale
        zeros = torch.zeros(len(frames), 2, device=frames.device)
        scale = low + (high - low) * torch.rand_like(zeros[:, 0]) if high > low else zeros[:, 0] + low
        return Crop(scale, torch.rand_like(zeros) * 2 - 1 if self.anywhere else zeros, zeros)


class GuidedZoom(Zoom):
    """Shows crops of a given scale where a clip's guide has most; nothing is learned.

    A guide that has nothing, as residuals of I-frames, gives the crop in the middle.

    Parameters
    ----------
    size : int
        Pixels of the result's side.
    scale : float
        Side of the crop over the short side of the frame.
    guide_size : (int, int), optional
        Height and width of the maps in which the place is looked for; without, they are as large as the guide.
    augment : bool
        Whether shears of at most a tenth are drawn in training.
    antialias : bool
        See :class:`AdaptiveZoom`.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: float,
        guide_size: tuple[int, int] | None = (64, 86),
        augment: bool = True,
        antialias: bool = True,
    ) -> None:
        if not scale > 0:
            raise ValueError(f"scale={scale}: must be above 0; 1 is the short side of the frame")
        shear = DEFAULT_SHEAR if augment else 0.0
        super().__init__(size, scale, draw_position=False, draw_shear=shear, antialias=antialias)
        self.scale, self.guide_size = scale, guide_size

    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the chosen crops, without what is drawn in training."""
        if guide is None:
            raise ValueError("guide=None: GuidedZoom crops where a guide says; give residuals, motion or RGB")
        middle = busiest_place(guide_maps(guide, self.guide_size), self.scale)
        zeros = torch.zeros_like(middle)
        return Crop(zeros[:, 0] + self.scale, zeros, zeros).around(middle, *frames.shape[3:])
