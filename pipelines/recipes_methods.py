"""Recipes of the methods, each in the settings of its paper, on top of the recipes of their networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn

from vidprep.dataset import CenterCrop, Flip, MultiScaleCrop, Resize, Segments, ShortSide
from vidprep.models import AdaptiveTemporalResolution, AdaptiveZoom, FixedZoom
from vidprep.models.backbones import BACKBONES, Backbone, coviar
from vidprep.models.backbones.network import VideoNetwork
from vidprep.models.zooms import DEFAULT_SHEAR, Zoom
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes_networks import RGB, fine_tuned, from_scratch


class Zoomed(nn.Module):
    """A model on ``batch["rgb"]`` that sees what a zoom shows of it.

    Parameters
    ----------
    zoom : Zoom
        Of :mod:`vidprep.models.adaptive_zoom`.
    network : nn.Module
        On batches.
    guide : str, optional
        What of the batch guides the zoom.
    """

    def __init__(self, zoom: Zoom, network: nn.Module, guide: str | None = "residual") -> None:
        super().__init__()
        self.zoom, self.network, self.guide = zoom, network, guide

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        guide = None if self.guide is None else batch[self.guide]
        logits: torch.Tensor = self.network({**batch, "rgb": self.zoom(batch["rgb"], guide)})
        return logits


class Coded(nn.Module):
    """A network on what a function makes of one modality of a batch: CoViAR's, on motion or residuals.

    Parameters
    ----------
    network : nn.Module
    modality : str
    code : callable
        From the modality to the network's input.
    """

    def __init__(self, network: nn.Module, modality: str, code: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.modality, self.code = network, modality, code

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        logits: torch.Tensor = self.network(self.code(batch[self.modality]))
        return logits


def _zoomed(backbone: Backbone, is_adaptive: bool, num_classes: int) -> nn.Module:
    network = RGB(backbone.build(num_classes), backbone.mean, backbone.std)
    if is_adaptive:
        return Zoomed(AdaptiveZoom(size=backbone.input_size, num_frames=backbone.num_frames), network)
    return Zoomed(FixedZoom(size=backbone.input_size, shear=DEFAULT_SHEAR), network, guide=None)


def zoomed(backbone: Backbone, *, is_adaptive: bool) -> Recipe:
    """Return the recipe of adaptive zoom, or of its baseline, which sees the crop in the middle.

    Both draw the same positions and shears in training.
    """
    frames = Resize(342, 256)  # the paper takes 171x128 for crops of 112, which leaves no detail to zoom into
    return replace(
        fine_tuned(backbone),
        model=partial(_zoomed, backbone, is_adaptive),
        modalities=("rgb", "residual") if is_adaptive else ("rgb",),
        train_transform=(frames, Flip()),
        test_transform=(frames,),
    )


def _adaptive_in_time(backbone: Backbone, options: Mapping[str, Any], num_classes: int) -> nn.Module:
    network = AdaptiveTemporalResolution(backbone.build(num_classes), **options)
    return RGB(network, backbone.mean, backbone.std)


def similarity_guided(backbone: Backbone, **options: Any) -> Recipe:
    """Return the recipe of a network whose frames are sampled by their similarity (behind res2)."""
    return replace(from_scratch(backbone), model=partial(_adaptive_in_time, backbone, options))


def _coded(
    build: Callable[[int], VideoNetwork], modality: str, code: Callable[[torch.Tensor], torch.Tensor], num_classes: int
) -> nn.Module:
    return Coded(build(num_classes), modality, code)


def compressed_domain(
    build: Callable[[int], VideoNetwork], modality: str, code: Callable[[torch.Tensor], torch.Tensor]
) -> Recipe:
    """Return how CoViAR's networks on motion and residuals begin at random.

    Clips and crops are those of Wu et al. (CVPR 2018). Its authors begin with ImageNet's weights, and train what is
    behind the first layers with a hundredth of the rate, which nothing could begin at random with.

    The table's recipes code their input in the default way; a file of the authors wants theirs, such as
    ``code=partial(coviar.motion_input, variant="official")``.
    """
    return Recipe(
        model=partial(_coded, build, modality, code),
        layouts=coviar.LAYOUTS,
        modalities=(modality,),
        train_clips=Segments(3, random=True),
        train_transform=(MultiScaleCrop(224), Flip()),
        test_clips=Segments(25),
        test_transform=(ShortSide(256), CenterCrop(224)),  # the paper: ten crops
        batch_size=40,  # the released scripts'
        optimiser="adamw",  # the rest is ours
        learning_rate=1e-3,
        weight_decay=0.05,
        schedule="cosine",
        epochs=100,
        warmup_epochs=5,
    )


_ZOOMED = ("r2plus1d_18", "hara_resnet18", "x3d_m")
_SAMPLED = ("resnet3d_18", "resnet3d_50", "x3d_s", "slowfast_r50_8x8")

METHOD_RECIPES: dict[str, Callable[[], Recipe]] = {
    "coviar-motion": partial(compressed_domain, coviar.motion_network, "accumulated_motion", coviar.motion_input),
    "coviar-residual": partial(compressed_domain, coviar.residual_network, "residual", coviar.residual_input),
    **{
        f"{method}-zoom-{name.replace('_', '-')}": partial(zoomed, BACKBONES[name], is_adaptive=method == "adaptive")
        for name, method in product(_ZOOMED, ("fixed", "adaptive"))
    },
    **{f"sgs-{name.replace('_', '-')}": partial(similarity_guided, BACKBONES[name]) for name in _SAMPLED},
}
"""The paper of each stands beside its module in `vidprep.models`."""
