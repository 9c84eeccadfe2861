"""A small network, its recipe, shards to train it on, and what a training left: for the tests of training."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from runs import write_dataset
from torch import nn

from vidprep.dataset import CenterCrop, Flip, RandomClip, RandomCrop, UniformClips
from vidprep.pipelines.extract import Options as ExtractOptions
from vidprep.pipelines.extract import extract
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train import train
from vidprep.pipelines.train_options import Options

TRAIN, TEST = "split1/train", "split1/test"
NUM_STEPS = 3  # an epoch: 12 clips in split1/train, 4 a batch


class Net(nn.Module):
    """Convolution, normalisation, dropout and a classifier; ``num_channels`` is what a batch's numbers depend on."""

    def __init__(self, num_classes: int, *, normalises: bool = True, dropout: float = 0.3) -> None:
        super().__init__()
        self.network = nn.Sequential()
        self.network.add_module("stem", nn.Conv3d(3, 4, 3, stride=2))
        if normalises:
            self.network.add_module("norm", nn.BatchNorm3d(4))
        self.network.add_module("rest", nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()))
        self.network.add_module("head", nn.Sequential())
        self.network.head.add_module("dropout", nn.Dropout(dropout))
        self.network.head.add_module("projection", nn.Linear(4, num_classes))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.network(batch["rgb"].float() / 128 - 1)


def tiny_recipe(**changes: Any) -> Recipe:
    """Two epochs of three steps, with chance in all that may have some: clips, crops, flips, dropout."""
    settings: dict[str, Any] = {
        "model": Net,
        "train_clips": RandomClip(4),
        "train_transform": (RandomCrop(32), Flip()),
        "test_clips": UniformClips(2, 4),
        "test_transform": (CenterCrop(32),),
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.1,
    }
    return Recipe(**settings | changes)


RECIPE_FILE = """
from trainings import tiny_recipe
recipe = tiny_recipe(epochs={epochs})
"""


def recipe_file(folder: Path, epochs: int = 2) -> Path:
    """Write a recipe as a user does: a Python file, which finds what stands beside it."""
    path = folder / "recipe.py"
    path.write_text(f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n{RECIPE_FILE.format(epochs=epochs)}")
    return path


def extracted(folder: Path) -> Path:
    """16 clips of 2 classes, 64x48: 12 in split1/train, 4 in split1/test."""
    options = ExtractOptions(modalities=("rgb",), size="native", shard_bytes=150_000, num_workers=1)
    extract(write_dataset(folder / "clips"), folder / "shards", options)
    return folder / "shards"


def run(shards: Path, to: Path, recipe: Recipe | None = None, **options: Any) -> dict[str, Any]:
    """Train, and return the checkpoint."""
    train(recipe or tiny_recipe(), shards, to, Options(**{"split": TRAIN} | options))
    return checkpoint(to)


def checkpoint(to: Path, name: str = "checkpoint.pt") -> dict[str, Any]:
    return torch.load(to / name, weights_only=True)


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints, or parts of them, are equal bit for bit."""
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def begin_child(function: Callable[[], object], errors: Path | None = None) -> int:
    """Run a function in a process of its own, which knows all that is imported; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of the test's own process don't matter here
        child = os.fork()
    if child:
        return child
    status = 99
    try:
        if errors is not None:
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
            sys.stderr = os.fdopen(2, "w")
        function()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


def in_child(function: Callable[[], object], errors: Path | None = None) -> int:
    """Run a function in a process of its own, and return the exit status; that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(begin_child(function, errors), 0)[1])


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
