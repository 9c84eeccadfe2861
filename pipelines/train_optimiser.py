"""The optimiser of a recipe: which parameters learn how fast, and which decay."""

from __future__ import annotations

import torch
from torch import nn

from vidprep.errors import UsageError
from vidprep.pipelines.recipe import Recipe


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a model; its groups hold ``factor``, for the learning rate.

    Biases and normalisation have no weight decay (METHODS of SGS, SlowFast and others): all that is a vector.

    Raises
    ------
    UsageError
        If a name of ``learning_rate_of`` begins no parameter's.
    """
    groups = _groups(recipe, model)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters their learning rates."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def _groups(recipe: Recipe, model: nn.Module) -> list[dict[str, object]]:
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(recipe.learning_rate_of)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        begins = [prefix for prefix in recipe.learning_rate_of if name.startswith(prefix)]
        unused -= set(begins)
        factor = recipe.learning_rate_of[max(begins, key=len)] if begins else 1.0
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        found.setdefault((factor, decay), []).append(parameter)
    if unused:
        raise UsageError(
            f"learning_rate_of={', '.join(sorted(unused))}: begins no parameter's name; those of the model begin with"
            f" {', '.join(name for name, _ in model.named_children())}; mend it in the recipe"
        )
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay} for (factor, decay), parameters in found.items()
    ]
