"""Adaptive zoom (Shahabinejad et al., Video Action Recognition with Adaptive Zooming Using Motion Residuals).

A light network looks at where a clip changes and says which part of the frames another network shall see. Both are
trained together, through a differentiable sampler::

    zoom, network = AdaptiveZoom(size=112), r2plus1d_18(num_classes=101)
    logits = network(normalised(zoom(batch["rgb"], batch["residual"])))
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
import torchvision
from torch import nn
from torch.nn import functional

from vidprep.models.cropping import Crop, sample

Parameters = Literal["scale", "scale+translation", "scale+shear", "all"]

_SCALE, _POSITION, _SHEAR = (0,), (1, 2), (3, 4)
_FREE: dict[str, tuple[int, ...]] = {  # which of scale, x, y, and the two shears LNet predicts
    "scale": _SCALE,
    "scale+translation": _SCALE + _POSITION,
    "scale+shear": _SCALE + _SHEAR,
    "all": _SCALE + _POSITION + _SHEAR,
}
_NUM_PARAMETERS = 5
_DEFAULT_START = 0.875  # 112 of 128 rows: the crop that the paper's networks are trained and tested with
DEFAULT_SHEAR = 0.1
_MAX_SHEAR = 0.5


def guide_maps(values: torch.Tensor, size: tuple[int, int] | None = (64, 86)) -> torch.Tensor:
    """Code a modality for :class:`LNet`: norms over channels, each frame over its own largest, resized (section 3.2.2).

    Parameters
    ----------
    values : torch.Tensor
        Residuals, motion vectors, RGB, or magnitudes of residuals [shape=(N, C, T, H, W)], of any real type.
    size : (int, int), optional
        Height and width of the maps; without, they stay as large as they are.

    Returns
    -------
    torch.Tensor
        Maps in 0 to 1 [shape=(N, T, *size)], float32 (float64 of float64). A frame of zeros, such as the residual of
        an I-frame, stays zeros.
    """
    values = values.movedim(1, -1).contiguous()  # much the faster; batches of a ShardDataset have it so
    norms = torch.linalg.vector_norm(values if values.dtype == torch.float64 else values.float(), dim=-1)
    largest = norms.amax((2, 3), keepdim=True)
    maps: torch.Tensor = norms / torch.where(largest > 0, largest, 1)
    if size is not None and size != tuple(maps.shape[2:]):
        maps = functional.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)
    return maps


class LNet(nn.Module):
    """The localization network: EfficientNet-B0 with one input channel a frame, in torchvision's layout.

    Its head begins at zero, and so does what it predicts.

    Parameters
    ----------
    num_frames : int
        Maps that it gets at once.
    num_outputs : int
        Numbers that it predicts for a clip.
    """

    def __init__(self, num_frames: int = 16, num_outputs: int = 1) -> None:
        super().__init__()
        network = torchvision.models.efficientnet_b0(num_classes=num_outputs)
        first = network.features[0][0]
        network.features[0][0] = nn.Conv2d(num_frames, first.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(network.features[0][0].weight, mode="fan_out")
        self.features, self.avgpool, self.classifier = network.features, network.avgpool, network.classifier
        nn.init.zeros_(self.classifier[1].weight)
        nn.init.zeros_(self.classifier[1].bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return predictions [shape=(N, num_outputs)] for maps [shape=(N, num_frames, h, w)]."""
        predictions: torch.Tensor = self.classifier(self.avgpool(self.features(maps)).flatten(1))
        return predictions

    def load_imagenet(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the features of torchvision's EfficientNet-B0 for pictures; the head stays as it is.

        The first layer gets the mean over red, green and blue for each frame, times 3 / num_frames, so that maps that
        are all alike give what a grey picture gives.
        """
        own = self.state_dict()
        weight = state["features.0.0.weight"].mean(1, keepdim=True)
        num_frames = own["features.0.0.weight"].shape[1]
        taken = {name: value for name, value in state.items() if not name.startswith("classifier.")}
        taken["features.0.0.weight"] = weight.repeat(1, num_frames, 1, 1) * 3 / num_frames
        self.load_state_dict({name: own[name] for name in own if name.startswith("classifier.")} | taken)


class Zoom(nn.Module):
    """What shows a network a part of its frames; the kinds differ in how they choose it.

    In training, what they don't choose themselves is drawn: the position, equally likely wherever the crop is inside
    the frame, and the shear. Draws come from torch's global generator. In evaluation nothing is drawn.
    """

    def __init__(self, size: int, max_scale: float, *, draw_position: bool, draw_shear: float, antialias: bool) -> None:
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
            What :func:`guide_maps` takes, of the same clips [shape=(N, c, t, h, w)], of any size.

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


class AdaptiveZoom(Zoom):
    """Zooms to where a clip's guide says that something happens; in front of any network on clips.

    All frames of a clip are cropped alike. Training begins at the crop in the middle.

    Parameters
    ----------
    size : int
        Pixels of the result's side.
    num_frames : int
        Frames of the guide; the clip may have another number.
    parameters : {"scale", "scale+translation", "scale+shear", "all"}
        What is predicted; the rest is 0, but for what is drawn in training (Table 4: scale alone is best).
    start : float
        The scale that training begins with: side of the crop over the short side of the frame.
    limits : (float, float)
        Scales stay between them; 4/3 shows all of a 4:3 frame.
    guide_size : (int, int), optional
        Height and width of the maps that LNet gets. The paper says 64x86 for 256x342; the cost that it gives is that of
        16x22. Without, they are as large as the guide.
    augment : bool
        Whether the parameters that are not predicted are drawn in training (Table 5): positions, and shears of at most
        a tenth.
    antialias : bool
        Whether shrunk crops are smoothed, see :func:`vidprep.models.cropping.sample`; the paper's are bilinear alone.

    Raises
    ------
    ValueError
        If an argument can't be meant; in use, if a guide is missing or has another number of frames.
    """

    def __init__(
        self,
        *,
        size: int,
        num_frames: int = 16,
        parameters: Parameters = "scale",
        start: float = _DEFAULT_START,
        limits: tuple[float, float] = (0.3, 1.2),
        guide_size: tuple[int, int] | None = (64, 86),
        augment: bool = True,
        antialias: bool = True,
    ) -> None:
        if parameters not in _FREE:
            raise ValueError(f"parameters={parameters}: must be among {', '.join(_FREE)}")
        if not 0 < limits[0] < start < limits[1]:
            raise ValueError(f"start={start}, limits={limits}: must be 0 < lower limit < start < upper limit")
        free = _FREE[parameters]
        super().__init__(
            size,
            limits[1],
            draw_position=augment and not set(_POSITION) <= set(free),
            draw_shear=DEFAULT_SHEAR if augment and not set(_SHEAR) <= set(free) else 0.0,
            antialias=antialias,
        )
        self.num_frames = num_frames
        self.guide_size = guide_size
        self.free = list(free)
        self.lnet = LNet(num_frames, len(free))
        ends = (start - limits[0], limits[1] - start), (1, 1), (1, 1), (_MAX_SHEAR,) * 2, (_MAX_SHEAR,) * 2
        self.start: torch.Tensor
        self.room: torch.Tensor
        self.register_buffer("start", torch.tensor([start, 0, 0, 0, 0]), persistent=False)
        self.register_buffer("room", torch.tensor(ends), persistent=False)  # below and above the start

    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the predicted crops, without what is drawn in training."""
        if guide is None or guide.shape[2] != self.num_frames:
            raise ValueError(
                f"guide={None if guide is None else tuple(guide.shape)}: must be of num_frames={self.num_frames} frames"
                " [shape=(N, c, num_frames, h, w)]; give AdaptiveZoom the number of frames that the guide has"
            )
        predicted = self.lnet(guide_maps(guide, self.guide_size)).to(self.start.dtype)  # in autocast it is shorter
        raw = predicted.new_zeros(len(predicted), _NUM_PARAMETERS)
        # Else a step of training would move theta as far as all weights of the head together, which is into its limits.
        raw[:, self.free] = predicted / math.sqrt(self.lnet.classifier[1].in_features)
        return _crop_of(self.start + _within(raw, self.room))


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
        scale: float | tuple[float, float] = _DEFAULT_START,
        anywhere: bool = False,
        augment: bool = True,
        shear: float = 0.0,
        antialias: bool = True,
    ) -> None:
        low, high = (scale, scale) if isinstance(scale, float | int) else scale
        if not 0 < low <= high:
            raise ValueError(f"scale={scale}: must be above 0; of a range, the lower end first")
        super().__init__(size, high, draw_position=augment, draw_shear=shear if augment else 0.0, antialias=antialias)
        self.scale = (low, high)
        self.anywhere = anywhere

    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the crops, without what is drawn in training alone."""
        low, high = self.scale
        zeros = torch.zeros(len(frames), _NUM_PARAMETERS, device=frames.device)
        crop = _crop_of(zeros)
        scale = low + (high - low) * torch.rand_like(crop.scale) if high > low else crop.scale + low
        position = torch.rand_like(crop.position) * 2 - 1 if self.anywhere else crop.position
        return Crop(scale, position, crop.shear)


def _within(raw: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Keep numbers between ``-room[:, 0]`` and ``room[:, 1]``, smoothly: near 0 they stay what they are."""
    side = torch.where(raw < 0, room[:, 0], room[:, 1])
    return side * torch.tanh(raw / side)


def _crop_of(parameters: torch.Tensor) -> Crop:
    return Crop(parameters[:, 0], parameters[:, 1:3], parameters[:, 3:5])
