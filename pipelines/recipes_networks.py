"""Recipes of all networks on clips, on RGB, with the settings of their papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from vidprep.dataset import (
    CenterCrop,
    Flip,
    MultiScaleCrop,
    RandomClip,
    RandomCrop,
    Resize,
    ShortSide,
    ThreeCrops,
    UniformClips,
)
from vidprep.models.backbones import BACKBONES, Backbone
from vidprep.pipelines.recipe import Recipe


class RGB(nn.Module):
    """A network on clips that takes ``batch["rgb"]``, uint8, and normalises it.

    Parameters
    ----------
    network : nn.Module
        On normalised clips.
    mean, std : tuple of float
        Of red, green and blue in 0 to 1.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None, None], persistent=False)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        logits: torch.Tensor = self.network((batch["rgb"].float() - self.mean) / self.std)
        return logits


def _rgb_model(backbone: Backbone, num_classes: int) -> nn.Module:
    return RGB(backbone.build(num_classes), backbone.mean, backbone.std)


def fine_tuned(backbone: Backbone) -> Recipe:
    """Return how networks with Kinetics' weights are trained further (adaptive zoom's baselines, section 4)."""
    size, clip = backbone.input_size, backbone.num_frames
    stored = Resize(-(-4 * backbone.short_side // 3), backbone.short_side)  # 171x128 and 342x256, as the paper has it
    return Recipe(
        model=partial(_rgb_model, backbone),
        layouts=backbone.layouts,
        train_clips=RandomClip(clip, backbone.frame_stride),
        train_transform=(stored, RandomCrop(size), Flip()),  # whether it flips, the paper doesn't say
        test_clips=UniformClips(10, clip, backbone.frame_stride),  # softmax mean, our choice
        test_transform=(stored, CenterCrop(size)),
        batch_size=32,  # of the paper's 256, one of 8 GPUs' share
        learning_rate=0.01 / 8,  # 0.01 for 256, in proportion to the batch (Goyal et al., 2017)
        momentum=0.9,  # the paper prints 0.1, which is no one's
        schedule="plateau",  # on the training loss
        factor=0.1,
        patience=5,  # ours: the paper doesn't say
        epochs=50,  # ours: the paper doesn't say
    )


def from_scratch(backbone: Backbone) -> Recipe:
    """Return how networks begin at random on Kinetics (SlowFast's recipe, which SGS shares)."""
    clip, side = backbone.num_frames, backbone.short_side
    return Recipe(
        model=partial(_rgb_model, backbone),
        layouts=backbone.layouts,
        train_clips=RandomClip(clip, backbone.frame_stride),
        train_transform=(ShortSide((side, side * 5 // 4)), RandomCrop(backbone.input_size), Flip()),  # 256 to 320
        test_clips=UniformClips(10, clip, backbone.frame_stride),
        test_transform=(ShortSide(side), ThreeCrops(side)),  # larger than in training: 30 views
        batch_size=8,  # of the paper's 64, one of 8 GPUs' share
        learning_rate=0.1 / 8,  # 0.1 for 64, in proportion to the batch (Goyal et al., 2017)
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,  # none on normalisation
        schedule="cosine",  # half a period
        epochs=196,
        warmup_epochs=34,
        warmup_start=0.1,  # 0.01 of 0.1
    )


def shifted(backbone: Backbone) -> Recipe:
    """Return how TSM is trained: a network on pictures whose features are shifted in time (Lin et al., 2019)."""
    return replace(
        fine_tuned(backbone),
        train_transform=(ShortSide(256), MultiScaleCrop(backbone.input_size), Flip()),
        batch_size=8,  # of 64, one of 8 GPUs' share
        learning_rate=0.01 / 8,  # 0.01 for 64
        weight_decay=5e-4,
        schedule="step",
        milestones=(20, 40),
        epochs=50,
        max_grad_norm=20,
    )


def windowed(backbone: Backbone) -> Recipe:
    """Return how PyVideoResearch trains I3D on windows of Charades (focused attention's baseline)."""
    return replace(
        fine_tuned(backbone),
        video_score="max",
        batch_size=5,  # PyVideoResearch's
        learning_rate=0.375,  # for the binary loss, a mean over 157 classes
        weight_decay=1e-7,
        schedule="step",
        milestones=(15, 40),
        epochs=50,
    )


def _of(train_as: Callable[[Backbone], Recipe], *names: str) -> dict[str, Callable[[], Recipe]]:
    return {name.replace("_", "-"): partial(train_as, BACKBONES[name]) for name in names}


NETWORK_RECIPES: dict[str, Callable[[], Recipe]] = {
    **_of(fine_tuned, "r3d_18", "r2plus1d_18", "hara_resnet18", "hara_resnet18_a"),
    **_of(from_scratch, "x3d_xs", "x3d_s", "x3d_m", "x3d_l", "x3d_xl"),
    **_of(from_scratch, "x3d_xs_pytorchvideo", "x3d_s_pytorchvideo", "x3d_m_pytorchvideo", "x3d_l_pytorchvideo"),
    **_of(from_scratch, "resnet3d_18", "resnet3d_50", "slowfast_r18_8x8", "slowfast_r50_8x8", "slowfast_r50_4x16"),
    **_of(from_scratch, "i3d_resnet50"),
    **_of(windowed, "i3d_resnet50_windows"),
    **_of(shifted, "tsm_mobilenet_v2", "tsm_resnet50"),
}
"""All networks on clips, on RGB: names of `BACKBONES`, with hyphens."""
