"""Learning rates: a factor for each moment of a training."""

from __future__ import annotations

import math

from vidprep.pipelines.recipe import Recipe

_THRESHOLD = 1e-4  # the share by which a loss must be below the best one, as in PyTorch


class Plateau:
    """Falls by a factor when the loss has not improved for some epochs: PyTorch's ``ReduceLROnPlateau``.

    Parameters
    ----------
    factor : float
    patience : int
        Epochs without improvement that pass before it falls.
    """

    def __init__(self, factor: float, patience: int) -> None:
        self._factor, self._patience = factor, patience
        self.scale, self._best, self._num_bad = 1.0, math.inf, 0

    def step(self, loss: float) -> None:
        """Note the loss of an epoch."""
        if loss < self._best * (1 - _THRESHOLD):
            self._best, self._num_bad = loss, 0
            return
        self._num_bad += 1
        if self._num_bad > self._patience:
            self.scale, self._num_bad = self.scale * self._factor, 0

    def state_dict(self) -> dict[str, float]:
        """Return what it knows."""
        return {"scale": self.scale, "best": self._best, "num_bad": self._num_bad}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a state."""
        self.scale, self._best, self._num_bad = state["scale"], state["best"], int(state["num_bad"])


def learning_rate(recipe: Recipe, epoch: float, plateau: Plateau) -> float:
    """Return the learning rate at a moment.

    Warm-up rises linearly from ``warmup_start`` of the learning rate to what the schedule says at its end (SlowFast).

    Parameters
    ----------
    recipe : Recipe
    epoch : float
        Epochs, and parts of them, since the start.
    plateau : Plateau
        What it knows by then.
    """
    if epoch < recipe.warmup_epochs:
        target = recipe.learning_rate * _fallen(recipe, recipe.warmup_epochs, plateau)
        start = recipe.learning_rate * recipe.warmup_start
        return start + (target - start) * epoch / recipe.warmup_epochs
    return recipe.learning_rate * _fallen(recipe, epoch, plateau)


def _fallen(recipe: Recipe, epoch: float, plateau: Plateau) -> float:
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(epoch / recipe.epochs, 1)))
    if recipe.schedule == "step":
        return float(recipe.factor ** sum(epoch >= milestone for milestone in recipe.milestones))
    return plateau.scale if recipe.schedule == "plateau" else 1.0
