"""Adaptive zoom (Shahabinejad et al., Video Action Recognition with Adaptive Zooming Using Motion Residuals).

A light network looks at where a clip changes and says which part of the frames another network shall see. Both are
trained together, through a differentiable sampler::

    zoom, network = AdaptiveZoom(size=112), r2plus1d_18(num_classes=101)
    logits = network(normalised(zoom(batch["rgb"], batch["residual"])))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torchvision
from torch import nn

from vidprep.models.cropping import Crop
from vidprep.models.guides import busiest_place, guide_maps
from vidprep.models.weights import load_weights, with_input_channels
from vidprep.models.zooms import DEFAULT_SCALE, DEFAULT_SHEAR, Zoom

Parameters = Literal["scale", "scale+translation", "scale+shear", "all"]

_SCALE, _POSITION, _SHEAR = (0,), (1, 2), (3, 4)
_FREE: dict[str, tuple[int, ...]] = {  # which of scale, x, y, and the two shears LNet predicts
    "scale": _SCALE,
    "scale+translation": _SCALE + _POSITION,
    "scale+shear": _SCALE + _SHEAR,
    "all": _SCALE + _POSITION + _SHEAR,
}
_NUM_PARAMETERS = 5
_MAX_SHEAR = 0.5
Centre = Literal["frame", "guide"]


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

        Raises
        ------
        WeightsError
            If names or shapes are others; it says which.
        """
        own, first = self.state_dict(), "features.0.0.weight"
        taken = {name: value for name, value in state.items() if not name.startswith("classifier.")}
        if first in taken:
            num_frames = own[first].shape[1]
            taken[first] = with_input_channels(taken[first], num_frames, scale=3 / num_frames)
        head = {name: own[name] for name in own if name.startswith("classifier.")}
        load_weights(self, taken | head, source="state of torchvision's efficientnet_b0")


class AdaptiveZoom(Zoom):
    """Zooms to where a clip's guide says that something happens; in front of any network on clips.

    All frames of a clip are cropped alike. Training begins at the crop of scale ``start``.

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
    centre : {"frame", "guide"}
        Where the crop stands before anything is predicted: in the middle, as in the paper; or where the guide has
        most, as in :class:`GuidedZoom`, which costs nothing and needs no gradient. Places that LNet predicts are
        counted from there. (LNet can't learn them through a network that has learned nothing: `models/README.md`.)
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
        start: float = DEFAULT_SCALE,
        centre: Centre = "frame",
        limits: tuple[float, float] = (0.3, 1.2),
        guide_size: tuple[int, int] | None = (64, 86),
        augment: bool = True,
        antialias: bool = True,
    ) -> None:
        if parameters not in _FREE:
            raise ValueError(f"parameters={parameters}: must be among {', '.join(_FREE)}; choose one")
        if centre not in get_args(Centre):
            raise ValueError(f"centre={centre}: must be frame or guide; choose one")
        if not 0 < limits[0] < start < limits[1]:
            raise ValueError(
                f"start={start}, limits={limits}: must be 0 < lower limit < start < upper limit; change one of them"
            )
        free = _FREE[parameters]
        super().__init__(
            size,
            limits[1],
            draw_position=augment and centre == "frame" and not set(_POSITION) <= set(free),
            draw_shear=DEFAULT_SHEAR if augment and not set(_SHEAR) <= set(free) else 0.0,
            antialias=antialias,
        )
        self.num_frames = num_frames
        self.guide_size = guide_size
        self.free = list(free)
        self.start, self.limits, self.centre = start, limits, centre
        self.lnet = LNet(num_frames, len(free))

    def crop(self, frames: torch.Tensor, guide: torch.Tensor | None = None) -> Crop:
        """Return the predicted crops, without what is drawn in training."""
        if guide is None or guide.shape[2] != self.num_frames:
            raise ValueError(
                f"guide={None if guide is None else tuple(guide.shape)}: must be of num_frames={self.num_frames} frames"
                " [shape=(N, c, num_frames, h, w)]; give AdaptiveZoom the number of frames that the guide has"
            )
        maps = guide_maps(guide, self.guide_size)
        predicted = self.lnet(maps)
        predicted = predicted.to(self.lnet.classifier[1].weight.dtype)  # in autocast it is shorter
        raw = predicted.new_zeros(len(predicted), _NUM_PARAMETERS)
        # Else a step of training would move theta as far as all weights of the head together, which is into its limits.
        raw[:, self.free] = predicted / math.sqrt(self.lnet.classifier[1].in_features)
        low, high = self.limits
        crop = Crop(
            self.start + _within(raw[:, 0], self.start - low, high - self.start),
            _within(raw[:, 1:3], 1, 1),
            _within(raw[:, 3:5], _MAX_SHEAR, _MAX_SHEAR),
        )
        if self.centre == "frame":
            return crop
        return crop.around(busiest_place(maps, self.start), *frames.shape[3:])


def _within(raw: torch.Tensor, below: float, above: float) -> torch.Tensor:
    """Keep numbers between ``-below`` and ``above``, smoothly: near 0 they stay what they are."""
    side = torch.full_like(raw, above).masked_fill(raw < 0, below)
    return side * torch.tanh(raw / side)
