"""``vidprep evaluate``: what a trained model knows of the videos of a split, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidprep.dataset import ShardDataset
from vidprep.errors import ShardError, TrainError, UsageError
from vidprep.pipelines.evaluate_report import check_to, write_report
from vidprep.pipelines.evaluate_speed import Speed, Timed, measure_speed
from vidprep.pipelines.evaluate_views import VideoScores, with_views
from vidprep.pipelines.flops import Cost, FlopCount
from vidprep.pipelines.recipes import Recipe
from vidprep.pipelines.train_checkpoint import CHECKPOINT_NAME, load_model
from vidprep.pipelines.train_loss import to_device
from vidprep.pipelines.train_options import AMP_DTYPES, check_device

Progress = Callable[[int, int], None]
"""Called after each batch with the batches done, and the batches in all."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an evaluation is told besides its model.

    Attributes
    ----------
    split : str, optional
        A split such as ``split1/test``; all samples without.
    views : str, optional
        Clips and crops, such as ``10x3``; those of the recipe without.
    device : {"cpu", "cuda"}
    amp : {"off", "bf16", "fp16"}
        Whether most of the network computes in a shorter type.
    num_workers : int
        Processes that read.
    batch_size : int, optional
        Views that run at once; the recipe's without.

    Raises
    ------
    UsageError
        If a value can't be meant, or not here.
    """

    split: str | None = None
    views: str | None = None
    device: str = "cpu"
    amp: str = "off"
    num_workers: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.amp)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model makes of videos, and what it costs.

    Attributes
    ----------
    keys : list of str
    scores : array [shape=(videos, classes), float64]
        Means of the views' probabilities, or the most of their logits: as the recipe's ``video_score`` says.
    labels : array [shape=(videos,), int64, or shape=(videos, classes), uint8]
        -1, or nothing but 0, without a label.
    classes : list of str
    num_views : int
        Of each video.
    cost : Cost
        Of a view, on average over all of them.
    speed : Speed
    """

    keys: list[str]
    scores: NDArray[np.float64]
    labels: NDArray[Any]
    classes: list[str]
    num_views: int
    cost: Cost
    speed: Speed


def evaluate_checkpoint(
    checkpoint: Path,
    shards: Path,
    options: Options,
    *,
    to: Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> tuple[dict[str, Any], Path]:
    """Evaluate what ``vidprep train`` wrote, and write a report: JSON, and the videos' scores beside it.

    Parameters
    ----------
    checkpoint, shards : path
        A checkpoint or its folder; and what ``vidprep extract`` wrote.
    options : Options
    to : path, optional
        The JSON file; without, one beside the checkpoint, named after it if it isn't ``checkpoint.pt``, the split, the
        views and the type, where they are given: ``evaluation-best-split1-test-10x3-bf16.json``.
    on_progress : callable

    Returns
    -------
    (dict, path)
        The report, and where it is.

    Raises
    ------
    UsageError
        If an argument can't be meant.
    ShardError
        If shards can't be read, or are of other classes than the checkpoint.
    TrainError
        If the model gives what is no number, or the memory of a GPU is too small.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: an evaluation is one process; begin it without torchrun"
        )
    checkpoint = checkpoint / CHECKPOINT_NAME if checkpoint.is_dir() else checkpoint
    model, recipe, state = load_model(checkpoint)
    if options.views is not None:
        recipe = with_views(recipe, options.views)
    to = to or checkpoint.with_name(f"{_report_name(checkpoint, options)}.json")
    check_to(to)
    found = evaluate(model, recipe, shards, options, classes=state["classes"], on_progress=on_progress)
    facts = {
        "checkpoint": str(checkpoint),
        "epochs": state["epoch"],
        "shards": str(shards),
        "split": options.split,
        "device": options.device,
        "amp": options.amp,
    }
    return write_report(to, found, recipe, facts), to


def _report_name(checkpoint: Path, options: Options) -> str:
    """Return a name that other evaluations in a folder, which a plot compares, don't have."""
    which = None if checkpoint.name == CHECKPOINT_NAME else checkpoint.stem
    split, amp = (options.split or "all").replace("/", "-"), None if options.amp == "off" else options.amp
    return "-".join(part for part in ("evaluation", which, split, options.views, amp) if part)


def evaluate(
    model: nn.Module,
    recipe: Recipe,
    shards: Path | str,
    options: Options,
    *,
    classes: Sequence[str] | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Run a model over all test views of a split's videos; it is brought to the device, and to evaluation mode.

    Under torch.distributed each rank that calls it reads all videos.

    Parameters
    ----------
    model : nn.Module
        From a batch (a mapping) to logits [shape=(N, classes)].
    recipe : Recipe
        For its modalities, test views, ``video_score`` and batch size.
    shards : path or str
    options : Options
    classes : sequence of str, optional
        Those that the model knows; the shards must have the same.
    on_progress : callable

    Raises
    ------
    UsageError, ShardError, TrainError
        As :func:`evaluate_checkpoint`.
    """
    dataset = ShardDataset(
        shards,
        options.split,
        recipe.modalities,
        clips=recipe.test_clips,
        transform=recipe.test_transform,
        ranks=(0, 1),
    )
    _check_classes(shards, dataset.classes, dataset.classes if classes is None else classes)
    size = options.batch_size or recipe.batch_size
    loader = dataset.loader(size, options.num_workers)
    videos = VideoScores(dataset.num_samples, len(dataset.classes), dataset.num_views, recipe.video_score)
    model = model.to(options.device).eval()
    timed = Timed(dataset.num_items, size)

    def run(batch: dict[str, Any]) -> Any:
        with (
            torch.inference_mode(),
            torch.autocast(options.device, AMP_DTYPES[options.amp], enabled=options.amp != "off"),
        ):
            return model(batch)

    try:
        with FlopCount(model) as count:
            for number, batch in enumerate(loader, 1):
                moved = to_device(batch, options.device)
                videos.add(batch, run(moved))
                timed.see(moved)
                on_progress(number, len(loader))
        speed = measure_speed(run, timed.views, options.device)
    except torch.OutOfMemoryError as error:
        raise TrainError(
            f"batch_size={size}: the memory of the GPU is too small; take a smaller --batch-size"
        ) from error
    return Evaluation(
        keys=videos.keys,
        scores=videos.scores,
        labels=videos.labels,
        classes=dataset.classes,
        num_views=dataset.num_views,
        cost=count.costs(dataset.num_items)[""],
        speed=speed,
    )


def _check_classes(shards: object, found: Sequence[str], known: Sequence[str]) -> None:
    if list(found) == list(known):
        return
    place = next((i for i, (one, other) in enumerate(zip(found, known, strict=False)) if one != other), None)
    difference = (
        f"{len(found)} classes, and the checkpoint knows {len(known)}"
        if place is None
        else f"class {place} is {found[place]}, and the checkpoint's is {known[place]}"
    )
    raise ShardError(
        f"shards={shards}: {difference}; evaluate on shards of the dataset that it was trained on, extracted with the"
        " same manifest"
    )
