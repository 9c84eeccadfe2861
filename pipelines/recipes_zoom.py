"""Recipes of adaptive zoom: networks on clips that see what LNet shows them (Shahabinejad et al., section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from vidprep.dataset import Flip
from vidprep.models.adaptive_zoom import AdaptiveZoom, Zoom
from vidprep.models.backbones import BACKBONES, Backbone
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes_networks import RGB, fine_tuned


class Zoomed(RGB):
    """A network on clips behind a zoom; it takes ``batch["rgb"]``, uint8, and the zoom's guide.

    Parameters
    ----------
    zoom : Zoom
    network : nn.Module
        On normalised clips.
    mean, std : tuple of float
        Of red, green and blue in 0 to 1.
    guide : str
        The modality that the zoom looks at.
    """

    def __init__(
        self, zoom: Zoom, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], guide: str = "residual"
    ) -> None:
        super().__init__(network, mean, std)
        self.zoom = zoom
        self.guide = guide

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        return super().forward({"rgb": self.zoom(batch["rgb"], batch[self.guide])})


def _zoomed(backbone: Backbone, num_classes: int) -> Zoomed:
    zoom = AdaptiveZoom(size=backbone.input_size, num_frames=backbone.num_frames)
    return Zoomed(zoom, backbone.build(num_classes), backbone.mean, backbone.std)


def zooming(backbone: Backbone) -> Recipe:
    """Return how a network and its LNet are trained together: as the network alone, but for the cropping."""
    plain = fine_tuned(backbone)
    stored = plain.test_transform[0]
    return replace(
        plain,
        model=partial(_zoomed, backbone),
        modalities=("rgb", "residual"),
        train_transform=(stored, Flip()),
        test_transform=(stored,),
    )


ZOOM_RECIPES: dict[str, Callable[[], Recipe]] = {
    f"{name.replace('_', '-')}-zoom": partial(zooming, BACKBONES[name])
    for name in ("hara_resnet18", "r2plus1d_18", "x3d_m")  # the paper's R3D, R(2+1)D and X3D
}
"""The paper's three networks with adaptive zoom."""
