"""What is trained on what, and how: a recipe for each model, one visible table."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from vidprep.dataset.views import Step
from vidprep.errors import UsageError
from vidprep.models.backbones import BACKBONES, Backbone
from vidprep.models.weights import KeyMap
from vidprep.sampling import Clips

Schedule = Literal["cosine", "step", "plateau", "constant"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model, its input, and how it is trained.

    Attributes
    ----------
    model : callable
        From a number of classes to a module that makes logits [shape=(N, classes)] of a batch (a mapping). It draws
        its random numbers from torch alone. Its backbone, for which there may be weights, is its ``network``.
    layouts : mapping of str to KeyMap
        What names in published checkpoints of the backbone become in it.
    modalities : tuple of str
        What a batch holds: see :mod:`vidprep.dataset.kinds`.
    train_clips, train_transform, test_clips, test_transform
        Which frames, and which part of the pictures.
    epochs, batch_size : int
        The batch is that of a step: ranks share it. So a recipe trains alike on any number of GPUs.
    optimiser : {"sgd", "adamw"}
    learning_rate, momentum, nesterov, weight_decay
        Of the optimiser; biases and normalisation have no weight decay.
    learning_rate_of : mapping
        Factors for parameters whose names begin so.
    schedule : {"cosine", "step", "plateau", "constant"}
        How the learning rate falls: along half a cosine to 0; times ``factor`` at each of ``milestones`` (epochs);
        times ``factor`` when the training loss of ``patience`` epochs has not fallen; never.
    warmup_epochs : float
        It begins with ``warmup_start`` times the learning rate, and rises linearly.
    max_grad_norm : float, optional
        To which length gradients are clipped.
    video_score : {"mean", "max"}
        What an evaluation makes of a video's test views: the mean of their probabilities; or the most of their logits,
        which is usual for Charades, whose actions fill a part of a video alone.
    label_smoothing : float
        The share of the target that goes to all classes alike.
    name, settings : str and mapping
        How :func:`find_recipe` found it: its name in the table or its file, and what was changed.

    Raises
    ------
    UsageError
        If a number can't be meant.
    """

    model: Callable[[int], nn.Module]
    layouts: Mapping[str, KeyMap] = field(default_factory=dict, repr=False)
    modalities: tuple[str, ...] = ("rgb",)
    train_clips: Clips = field(default_factory=RandomClip)
    train_transform: Sequence[Step] = ()
    test_clips: Clips = field(default_factory=lambda: UniformClips(10))
    test_transform: Sequence[Step] = ()
    epochs: int = 50
    batch_size: int = 8
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    learning_rate_of: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    patience: int = 5
    warmup_epochs: float = 0.0
    warmup_start: float = 0.1
    max_grad_norm: float | None = None
    label_smoothing: float = 0.0
    video_score: Literal["mean", "max"] = "mean"
    name: str = field(default="", compare=False)
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name, (holds, rule) in _RULES.items():
            value = getattr(self, name)
            if not holds(value):
                raise UsageError(f"{name}={value}: must be {rule}; change it in the recipe, or the option")

    def build(self, num_classes: int) -> nn.Module:
        """Return the model with random weights."""
        return self.model(num_classes)

    @property
    def facts(self) -> dict[str, str]:
        """What a training depends on, the model aside: equal for recipes that train alike."""
        names = (one.name for one in fields(self) if one.compare and one.name not in ("model", "layouts"))
        return {name: repr(getattr(self, name)) for name in names}


def _is_number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return names.__contains__, f"one of {', '.join(names)}"


_NOT_NEGATIVE = (_is_number(0), "a number, not negative")
_SHARE = (_is_number(0, 1), "a number from 0 to 1")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_is_count, "a positive integer"),
    "batch_size": (_is_count, "a positive integer"),
    "optimiser": _is_one_of("sgd", "adamw"),
    "learning_rate": (lambda value: _is_number(0)(value) and value > 0, "a positive number"),
    "momentum": (lambda value: _is_number(0, 1)(value) and value < 1, "a number from 0 to 1, exclusive"),
    "weight_decay": _NOT_NEGATIVE,
    "video_score": _is_one_of("mean", "max"),
    "schedule": _is_one_of("cosine", "step", "plateau", "constant"),
    "factor": _SHARE,
    "patience": (lambda value: type(value) is int and value >= 0, "an integer, not negative"),
    "warmup_epochs": _NOT_NEGATIVE,
    "warmup_start": _SHARE,
    "max_grad_norm": (
        lambda value: value is None or (_is_number(0)(value) and value > 0),
        "a positive number, or None",
    ),
    "label_smoothing": (lambda value: _is_number(0, 1)(value) and value < 1, "a number from 0 to 1, exclusive"),
}


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
    clip = backbone.num_frames
    return Recipe(
        model=partial(_rgb_model, backbone),
        layouts=backbone.layouts,
        train_clips=RandomClip(clip, backbone.frame_stride),
        train_transform=(ShortSide((256, 320)), RandomCrop(backbone.input_size), Flip()),
        test_clips=UniformClips(10, clip, backbone.frame_stride),
        test_transform=(ShortSide(256), ThreeCrops(256)),  # larger than in training: 30 views
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
        batch_size=5,  # PyVideoResearch's
        video_score="max",
        learning_rate=0.375,  # for the binary loss, a mean over 157 classes
        weight_decay=1e-7,
        schedule="step",
        milestones=(15, 40),
        epochs=50,
    )


def _of(train_as: Callable[[Backbone], Recipe], *names: str) -> dict[str, Callable[[], Recipe]]:
    return {name.replace("_", "-"): partial(train_as, BACKBONES[name]) for name in names}


RECIPES: dict[str, Callable[[], Recipe]] = {
    **_of(fine_tuned, "r3d_18", "r2plus1d_18", "hara_resnet18", "hara_resnet18_a"),
    **_of(fine_tuned, "x3d_xs", "x3d_s", "x3d_m", "x3d_l", "x3d_xl"),
    **_of(fine_tuned, "x3d_xs_pytorchvideo", "x3d_s_pytorchvideo", "x3d_m_pytorchvideo", "x3d_l_pytorchvideo"),
    **_of(from_scratch, "resnet3d_18", "resnet3d_50", "slowfast_r18_8x8", "slowfast_r50_8x8", "slowfast_r50_4x16"),
    **_of(from_scratch, "i3d_resnet50"),
    **_of(windowed, "i3d_resnet50_windows"),
    **_of(shifted, "tsm_mobilenet_v2", "tsm_resnet50"),
}
"""All networks on clips, on RGB: names of `BACKBONES`, with hyphens."""


def find_recipe(name: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe of the table, or that of a Python file which defines ``recipe``.

    Parameters
    ----------
    name : str
        Its name in :data:`RECIPES`, or the file.
    settings : mapping, optional
        Fields of it that are changed.

    Raises
    ------
    UsageError
        If there is no such recipe, or the file defines none.
    """
    found = RECIPES[name]() if name in RECIPES else _read_recipe(name)
    known = name if name in RECIPES else str(Path(name).resolve())
    return replace(found, **(settings or {}), name=known, settings=dict(settings or {}))


def _read_recipe(name: str) -> Recipe:
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"recipe={name}: must be one of {', '.join(RECIPES)}, or a Python file that defines recipe")
    try:
        found = runpy.run_path(name).get("recipe")
    except Exception as error:  # whatever the user's file does
        raise UsageError(f"recipe={name}: {type(error).__name__}: {error}; mend the file") from error
    if not isinstance(found, Recipe):
        raise UsageError(f"recipe={name}: defines no Recipe by the name of recipe; add recipe = Recipe(...)")
    return found
