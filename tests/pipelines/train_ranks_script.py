"""Run by torchrun on two processes: trains, goes on from the middle, and is told again when all is done."""

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trainings import TEST, TRAIN, Net, tiny_recipe

from vidprep.cli import main
from vidprep.pipelines import train_validate
from vidprep.pipelines.evaluate_metrics import accuracy
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train import train
from vidprep.pipelines.train_options import Options
from vidprep.pipelines.train_ranks import join_ranks


def recipe() -> Recipe:
    """Without normalisation and dropout, two ranks compute what one process does."""
    return tiny_recipe(model=lambda classes: Net(classes, normalises=False, dropout=0.0), schedule="plateau")


def noted(to: Path, scores: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Keep the scores of the last validation, which all ranks have."""
    if torch.distributed.get_rank() == 0:
        np.save(to, scores)
    return accuracy(scores, labels)


def run(shards: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    options = Options(split=TRAIN, validate=TEST, checkpoint_seconds=0)

    def keep(done: int, _total: int, _loss: float) -> None:
        if done == 4:  # the checkpoint is that of three steps
            shutil.copytree(folder / "whole", folder / "killed")

    summary = train(recipe(), shards, folder / "whole", options, on_progress=keep)
    resumed = train(recipe(), shards, folder / "killed", options)
    train_validate.accuracy = partial(noted, folder / "scores.npy")
    train(tiny_recipe(), shards, folder / "normalised", options)
    train_validate.accuracy = accuracy
    norm = torch.nn.BatchNorm1d(1)
    with join_ranks("cpu") as ranks:
        norm.running_mean.fill_(ranks.rank + 1.5)
        ranks.level(norm)
    rank = int(not summary.is_first_rank)
    command = [
        "train",
        str(folder / "recipe.py"),
        str(shards),
        "--to",
        str(folder / "told"),
        "--split",
        TRAIN,
        "--workers",
        "0",
    ]
    main(command, standalone_mode=False)
    (folder / f"{rank}.txt").write_text(f"{summary.num_epochs} {resumed.num_resumed} {norm.running_mean.item()}")


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")  # one for all that follows: torchrun's can't be made twice
    run(Path(sys.argv[1]), Path(sys.argv[2]))
    torch.distributed.destroy_process_group()
