"""What is trained on what, and how: a recipe for each model, one visible table."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from vidprep.dataset import CenterCrop, Flip, RandomClip, RandomCrop, Resize, UniformClips
from vidprep.dataset.views import Step
from vidprep.errors import UsageError
from vidprep.models.backbones import BACKBONES, Backbone
from vidprep.sampling import Clips

Schedule = Literal["cosine", "step", "plateau", "constant"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model, its input, and how it is trained.

    Attributes
    ----------
    model : callable
        From a number of classes to a module that makes logits [shape=(N, classes)] of a batch (a mapping).
    modalities : tuple of str
        What a batch holds: see :mod:`vidprep.dataset.kinds`.
    train_clips, train_transform, test_clips, test_transform
        Which frames, and which part of the pictures.
    epochs, batch_size : int
        The batch of one process.
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
    label_smoothing : float
    """

    model: Callable[[int], nn.Module]
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


def rgb_recipe(backbone: Backbone) -> Recipe:
    """Return the recipe of a backbone on RGB, in the input that its published weights know."""
    width = -(-4 * backbone.short_side // 3)
    size, clip = backbone.input_size, backbone.num_frames
    return Recipe(
        model=partial(_rgb_model, backbone),
        train_clips=RandomClip(clip, backbone.frame_stride),
        train_transform=(Resize(width, backbone.short_side), RandomCrop(size), Flip()),
        test_clips=UniformClips(10, clip, backbone.frame_stride),
        test_transform=(Resize(width, backbone.short_side), CenterCrop(size)),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    name.replace("_", "-"): partial(rgb_recipe, backbone)
    for name, backbone in BACKBONES.items()
    if backbone.num_frames > 1
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe of the table, or that of a Python file which defines ``recipe``.

    Raises
    ------
    UsageError
        If there is no such recipe, or the file defines none.
    """
    if name in RECIPES:
        return RECIPES[name]()
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
