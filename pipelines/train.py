"""``vidprep train``: a recipe and shards become a checkpoint; killed and told again, it goes on exactly."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vidprep.dataset import ShardDataset
from vidprep.errors import UsageError
from vidprep.pipelines.recipes import Recipe
from vidprep.pipelines.train_schedule import Plateau, learning_rate
from vidprep.shards.files import whole_file

CHECKPOINT_NAME = "checkpoint.pt"
METRICS_NAME = "metrics.csv"

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training is told besides its recipe.

    Attributes
    ----------
    split : str, optional
        A split such as ``split1/train``; all samples without.
    seed : int
        Of weights, order, clips and views.
    device : str
        ``cpu`` or ``cuda``.
    amp : {"off", "bf16", "fp16"}
        Whether most of the network computes in a shorter type.
    num_workers : int
        Processes that read.
    """

    split: str | None = None
    seed: int = 0
    device: str = "cpu"
    amp: str = "off"
    num_workers: int = 0


def train(
    recipe: Recipe,
    shards: Path,
    to: Path,
    options: Options,
    *,
    name: str = "",
    on_progress: Progress = lambda done, total, loss: None,
) -> nn.Module:
    """Train a model, or go on where a run ended; returns it."""
    to.mkdir(parents=True, exist_ok=True)
    return _Run(recipe, shards, to, options, name, on_progress).run()


def loss_of(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean loss: cross-entropy, or, for several labels a sample [shape=(N, classes)], the binary one."""
    if labels.dim() == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def to_device(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Bring a batch's tensors to a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


class _Run:
    """One run."""

    def __init__(
        self, recipe: Recipe, shards: Path, to: Path, options: Options, name: str, on_progress: Progress
    ) -> None:
        self.recipe, self.to, self.options, self.name, self.on_progress = recipe, to, options, name, on_progress
        random.seed(options.seed)
        np.random.seed(options.seed % 2**32)  # noqa: NPY002 - what a user's model may draw from
        torch.manual_seed(options.seed)
        self.dataset = ShardDataset(
            shards,
            options.split,
            recipe.modalities,
            clips=recipe.train_clips,
            transform=recipe.train_transform,
            shuffle=True,
            seed=options.seed,
        )
        self.loader = self.dataset.loader(
            recipe.batch_size,
            options.num_workers,
            drop_last=self.dataset.num_items >= recipe.batch_size,
            persistent_workers=options.num_workers > 0,
        )
        self.model = recipe.model(len(self.dataset.classes)).to(options.device)
        self.optimiser = _optimiser(recipe, self.model)
        self.plateau = Plateau(recipe.factor, recipe.patience)
        self.epoch, self.history = 0, list[dict[str, float]]()

    def run(self) -> nn.Module:
        """Train until the last epoch."""
        self._resume()
        for epoch in range(self.epoch, self.recipe.epochs):
            self._train_epoch(epoch)
            self.epoch = epoch + 1
            self._save()
        return self.model

    def _train_epoch(self, epoch: int) -> None:
        self.model.train()
        num_steps, total, count = len(self.loader), 0.0, 0
        for step, batch in enumerate(self.loader):
            rate = self._set_learning_rate(epoch + step / num_steps)
            loss = self._step(to_device(batch, self.options.device))
            total, count = total + loss * len(batch["key"]), count + len(batch["key"])
            self.on_progress(epoch * num_steps + step + 1, self.recipe.epochs * num_steps, loss)
        self.plateau.step(total / count)
        self.history.append({"epoch": epoch, "loss": total / count, "learning_rate": rate})

    def _step(self, batch: dict[str, Any]) -> float:
        with torch.autocast(self.options.device, torch.bfloat16, enabled=self.options.amp == "bf16"):
            logits = self.model(batch)
            loss = loss_of(logits.float(), batch["label"], self.recipe.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.max_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        self.optimiser.step()
        return float(loss.detach())

    def _set_learning_rate(self, epoch: float) -> float:
        rate = learning_rate(self.recipe, epoch, self.plateau)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def _save(self) -> None:
        state = {
            "recipe": self.name,
            "classes": self.dataset.classes,
            "seed": self.options.seed,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "plateau": self.plateau.state_dict(),
            "loader": self.loader.state_dict(),
            "random": torch.get_rng_state(),
            "history": self.history,
        }
        with whole_file(self.to / CHECKPOINT_NAME) as file:
            torch.save(state, file)
        _write_metrics(self.to / METRICS_NAME, self.history)

    def _resume(self) -> None:
        path = self.to / CHECKPOINT_NAME
        if not path.exists():
            return
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        if (state["recipe"], state["seed"]) != (self.name, self.options.seed):
            raise UsageError(
                f"to={self.to}: holds a training of {state['recipe']}, seed {state['seed']}; name a new folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.plateau.load_state_dict(state["plateau"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["random"].cpu())
        self.epoch, self.history = state["epoch"], state["history"]


def _optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    groups = [
        {"params": parameters, "scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in _groups(recipe, model)
    ]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def _groups(recipe: Recipe, model: nn.Module) -> Iterator[tuple[tuple[float, float], list[nn.Parameter]]]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = next((value for prefix, value in recipe.learning_rate_of.items() if name.startswith(prefix)), 1.0)
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return iter(groups.items())


def _write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, history[-1].keys())
    writer.writeheader()
    writer.writerows(history)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
