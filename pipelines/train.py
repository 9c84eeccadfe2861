"""``vidprep train``: a recipe and shards become a checkpoint; killed and told again, it goes on exactly.

On a CPU the weights and metrics of a training that was killed, however often, are bit for bit those of one that was
not, with any number of workers. GPUs add up in an order of their own: there the batches and all random numbers are the
same, and results differ as two runs do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidprep.errors import TrainError
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train_checkpoint import (
    BEST_NAME,
    CHECKPOINT_NAME,
    FORMAT,
    State,
    check_same,
    load_state,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)
from vidprep.pipelines.train_folder import claimed, make_room
from vidprep.pipelines.train_loss import check_labels, check_logits, loss_of, to_device
from vidprep.pipelines.train_metrics import Metrics, Row
from vidprep.pipelines.train_optimiser import make_optimiser, set_learning_rate
from vidprep.pipelines.train_options import AMP_DTYPES, Options, Summary
from vidprep.pipelines.train_ranks import Ranks, join_ranks
from vidprep.pipelines.train_schedule import Plateau, learning_rate
from vidprep.pipelines.train_setup import begin_with, build_model, read_batches
from vidprep.pipelines.train_validate import Validation

Progress = Callable[[int, int, float], None]
"""Called after each step, on the first rank, with the steps done, the steps in all, and the loss."""
Epoch = Callable[[Row], None]
"""Called after each epoch, on the first rank, with its numbers."""


def train(
    recipe: Recipe,
    shards: Path,
    to: Path,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    on_progress: Progress = lambda done, total, loss: None,
    on_epoch: Epoch = lambda row: None,
) -> Summary:
    """Train a recipe's model on shards, or go on where a run ended.

    Under torchrun all ranks call this; the first one writes.

    Parameters
    ----------
    recipe : Recipe
    shards : path
        What ``vidprep extract`` wrote.
    to : path
        The folder for ``checkpoint.pt``, ``metrics.csv``, and ``best.pt`` with a validation.
    options : Options
    on_progress, on_epoch : callable

    Raises
    ------
    UsageError
        If an argument can't be meant, or the folder holds another training.
    ShardError
        If the shards can't be read, or another run is writing to the folder.
    TrainError
        If the loss is no longer a number, or the memory of a GPU is too small.
    """
    with join_ranks(options.device) as ranks, claimed(to, is_first=ranks.is_first):
        try:
            return _Training(recipe, shards, to, options, ranks, on_progress, on_epoch).run()
        except torch.OutOfMemoryError as error:
            raise TrainError(
                f"batch_size={recipe.batch_size}: the memory of the GPU is too small; take a smaller --batch-size, or"
                " --amp bf16"
            ) from error


@dataclass
class _Sums:
    """What an epoch has added up so far."""

    num_steps: int = 0
    num_items: int = 0
    loss: float = 0.0
    learning_rate: float = 0.0


class _Training:
    """The state of a training: all of it is in the checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        shards: Path,
        to: Path,
        options: Options,
        ranks: Ranks,
        on_progress: Progress,
        on_epoch: Epoch,
    ) -> None:
        self.recipe, self.options, self.to, self.ranks = recipe, options, to, ranks
        self.on_progress, self.on_epoch = on_progress, on_epoch
        self.dataset, self.loader = read_batches(recipe, shards, options)
        self.validation = None
        if options.validate is not None:
            self.validation = Validation(recipe, shards, options.validate, options.num_workers)
        self.model = build_model(recipe, len(self.dataset.classes), options).to(ranks.device)
        self.network = ranks.together(self.model)
        if not ranks.is_first:
            torch.manual_seed(options.seed + ranks.rank)  # all begin with the same weights, and drop other features
        self.optimiser = make_optimiser(recipe, self.model)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=options.amp == "fp16")
        self.autocast = torch.autocast(ranks.device.type, AMP_DTYPES[options.amp], enabled=options.amp != "off")
        self.plateau = Plateau(recipe.factor, recipe.patience)
        self.epoch, self.sums, self.history = 0, _Sums(), list[Row]()
        self.saved_at_seconds = time.monotonic()

    def run(self) -> Summary:
        """Train until the last epoch has its checkpoint."""
        num_resumed = self.begin()
        with closing(Metrics(self.to, tensorboard=self.options.tensorboard)) as metrics:
            while self.epoch < self.recipe.epochs:
                self.network.train()
                for batch in self.loader:
                    self.step(batch)
                    if self.is_checkpoint_due():
                        self.save(CHECKPOINT_NAME)
                self.end_epoch(metrics)
        return self.summary(num_resumed)

    def step(self, batch: dict[str, Any]) -> None:
        """Learn from one batch."""
        check_labels(batch)
        rate = learning_rate(self.recipe, self.epoch + self.sums.num_steps / len(self.loader), self.plateau)
        set_learning_rate(self.optimiser, rate)
        batch = to_device(batch, self.ranks.device)
        with self.autocast:
            logits = self.network(batch)
        check_logits(logits, len(batch["key"]), len(self.dataset.classes))
        loss = loss_of(logits.float(), batch["label"], self.recipe.label_smoothing)
        mean_loss = self.ranks.mean(loss.item())
        self.check_finite("loss", mean_loss)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm or math.inf)
        if not self.scaler.is_enabled():  # which leaves out steps of its own, until it has found its scale
            self.check_finite("gradient_norm", norm.item())
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.count(len(batch["key"]), mean_loss, rate)

    def count(self, num_items: int, loss: float, rate: float) -> None:
        """Note what a step gave."""
        self.sums.num_steps += 1
        self.sums.num_items += num_items
        self.sums.loss += loss * num_items
        self.sums.learning_rate = rate
        num_steps = len(self.loader)
        if self.ranks.is_first:
            self.on_progress(self.epoch * num_steps + self.sums.num_steps, self.recipe.epochs * num_steps, loss)

    def check_finite(self, name: str, value: float) -> None:
        """TrainError if a loss or a gradient is no number any more: no later step would mend it."""
        if not math.isfinite(value):
            raise TrainError(
                f"{name}={value}: at step {self.sums.num_steps + 1} of epoch {self.epoch + 1}: must be finite; begin"
                " anew with a smaller --learning-rate (a tenth), a longer warm-up, clipped gradients (max_grad_norm of"
                " the recipe), or without --amp"
            )

    def end_epoch(self, metrics: Metrics) -> None:
        """Note the epoch's numbers, and write everything; the checkpoint last, for it says that the epoch is done."""
        loss = self.sums.loss / self.sums.num_items
        self.plateau.step(loss)
        row: Row = {"epoch": self.epoch + 1, "learning_rate": self.sums.learning_rate, "loss": loss}
        self.epoch, self.sums = self.epoch + 1, _Sums()
        scores = self.validate()
        is_best = any(score > max(_column(self.history, name), default=-math.inf) for name, score in scores.items())
        self.history.append(row | scores)
        if self.ranks.is_first:
            metrics.write(self.history)
            self.on_epoch(self.history[-1])
        if is_best:
            self.save(BEST_NAME)
        self.save(CHECKPOINT_NAME)

    def validate(self) -> Row:
        """Return the score of this epoch, if it is one to validate."""
        is_last = self.epoch == self.recipe.epochs
        if self.validation is None or not (is_last or self.epoch % self.options.validate_every == 0):
            return {}
        self.ranks.level(self.model)
        name, score = self.validation.score(self.model, self.ranks, self.autocast)
        return {name: score}

    def begin(self) -> int:
        """Go on from the checkpoint, and return how many epochs are done; without one, write the first."""
        path = self.to / CHECKPOINT_NAME
        is_there = path.exists() and not self.options.overwrite
        state = self.ranks.from_first(read_checkpoint(path) if self.ranks.is_first and is_there else None)
        has_begun = state is not None and bool(state["epoch"] or state["sums"]["num_steps"])
        if state is not None and has_begun:
            check_same(self.identity, state["identity"], self.to)
            self.load(state)
            return self.epoch
        if self.options.weights is not None:
            begin_with(self.options.weights, self.model, self.recipe, has_new_head=self.options.has_new_head)
        if self.ranks.is_first:
            make_room(self.to)
        self.save(CHECKPOINT_NAME)
        return 0

    def is_checkpoint_due(self) -> bool:
        """Tell whether the last one is so old, by the clock of any rank, that all shall write the next."""
        is_old = time.monotonic() - self.saved_at_seconds >= self.options.checkpoint_seconds
        return self.ranks.mean(float(is_old)) > 0

    @property
    def identity(self) -> dict[str, Any]:
        """What the result depends on."""
        names = ("amp", "device", "validate", "validate_every", "sync_batchnorm", "has_new_head")
        own: dict[str, Any] = {name: getattr(self.options, name) for name in names}
        own["weights"] = None if self.options.weights is None else str(self.options.weights.resolve())
        return {**self.recipe.identity, **self.recipe.facts, **own, **self.dataset.identity}

    def save(self, name: str) -> None:
        """Write a checkpoint; all ranks call this."""
        random = self.ranks.gather(random_state(self.ranks.device))
        self.saved_at_seconds = time.monotonic()
        if not self.ranks.is_first:
            return
        state: State = {
            "format": FORMAT,
            "recipe": self.recipe.name,
            "settings": dict(self.recipe.settings),
            "classes": self.dataset.classes,
            "seed": self.options.seed,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "identity": self.identity,
            "optimiser": self.optimiser.state_dict(),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "sums": asdict(self.sums),
            "history": self.history,
            "random": random,
        }
        write_checkpoint(self.to / name, state)

    def load(self, state: State) -> None:
        """Go on from a checkpoint."""
        load_state(self.model, state, self.to / CHECKPOINT_NAME)
        self.optimiser.load_state_dict(state["optimiser"])
        self.plateau.load_state_dict(state["plateau"])
        self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        self.epoch, self.sums, self.history = state["epoch"], _Sums(**state["sums"]), state["history"]
        set_random_state(state["random"][self.ranks.rank], self.ranks.device)

    def summary(self, num_resumed: int) -> Summary:
        """Return how it ended."""
        last = self.history[-1]
        score = next(((name, last[name]) for name in ("top1", "map") if name in last), None)
        return Summary(
            checkpoint=self.to / CHECKPOINT_NAME,
            num_epochs=self.epoch,
            num_resumed=num_resumed,
            loss=last["loss"],
            score=score,
            is_first_rank=self.ranks.is_first,
        )


def _column(history: list[Row], name: str) -> list[float]:
    return [row[name] for row in history if name in row]
