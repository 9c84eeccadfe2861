"""What is trained on what, and how: one recipe."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vidprep.dataset import RandomClip, UniformClips
from vidprep.dataset.views import Step
from vidprep.errors import UsageError
from vidprep.models.weights import KeyMap
from vidprep.sampling import Clips

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object that says nothing else about itself, in this run
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
        It begins with ``warmup_start`` times the learning rate, and rises linearly; shorter than the training.
    max_grad_norm : float, optional
        To which length gradients are clipped.
    video_score : {"mean", "max"}
        What an evaluation makes of a video's test views: the mean of their probabilities; or the most of their logits,
        which is usual for Charades, where an action fills but a part of a video.
    label_smoothing : float
        The share of the target that goes to all classes alike.
    name, settings : str and mapping
        How :func:`find_recipe` found it: its name in the table or its file, and what was changed.

    Raises
    ------
    UsageError
        If a value can't be meant, alone or beside the others.
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
        for name, fits, rule in _RULES_TOGETHER:
            if not fits(self):
                raise UsageError(f"{name}={getattr(self, name)}: {rule.format(self)}")

    def build(self, num_classes: int) -> nn.Module:
        """Return the model with random weights."""
        return self.model(num_classes)

    @property
    def identity(self) -> dict[str, str]:
        """Its name, and of a Python file the digest: what else it says of the model, nothing here could tell."""
        if not self.name.endswith(".py"):
            return {"recipe": self.name}
        return {"recipe": self.name, "recipe_sha256": hashlib.sha256(Path(self.name).read_bytes()).hexdigest()}

    @property
    def facts(self) -> dict[str, str]:
        """What a training depends on, the model aside: equal for recipes that train alike."""
        names = (one.name for one in fields(self) if one.compare and one.name not in ("model", "layouts"))
        return {name: _ADDRESS.sub("", repr(getattr(self, name))) for name in names}


def _is_number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def _are_moments(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and all(map(_is_number(0), value))
        and all(one < other for one, other in pairwise(value))
    )


def _is_one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return names.__contains__, f"one of {', '.join(names)}"


_NOT_NEGATIVE = (_is_number(0), "a number, not negative")
_SHARE = (_is_number(0, 1), "a number from 0 to 1")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "modalities": (_are_names, "a tuple of names, such as ('rgb', 'residual')"),
    "epochs": (_is_count, "a positive integer"),
    "batch_size": (_is_count, "a positive integer"),
    "optimiser": _is_one_of("sgd", "adamw"),
    "learning_rate": (lambda value: _is_number(0)(value) and value > 0, "a positive number"),
    "momentum": (lambda value: _is_number(0, 1)(value) and value < 1, "a number from 0 to 1, exclusive"),
    "weight_decay": _NOT_NEGATIVE,
    "video_score": _is_one_of("mean", "max"),
    "schedule": _is_one_of("cosine", "step", "plateau", "constant"),
    "milestones": (_are_moments, "a tuple of epochs, not negative, each later than the one before"),
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
_RULES_TOGETHER: tuple[tuple[str, Callable[[Recipe], bool], str], ...] = (
    (
        "warmup_epochs",
        lambda recipe: recipe.warmup_epochs < recipe.epochs,
        "must be less than epochs={0.epochs}, or the learning rate only rises; give both, or the epochs to find_recipe"
        " (--epochs), with which the warm-up keeps its share",
    ),
    (
        "nesterov",
        lambda recipe: not recipe.nesterov or recipe.momentum > 0 or recipe.optimiser != "sgd",
        "must have a momentum, not momentum={0.momentum}; give one, such as 0.9, or leave nesterov out",
    ),
    (
        "schedule",
        lambda recipe: recipe.schedule != "step" or bool(recipe.milestones),
        "must have milestones; give the epochs at which the learning rate falls, or another schedule",
    ),
)
