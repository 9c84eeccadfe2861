"""The file that a training leaves: all that it takes to go on, and the model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidprep.errors import UsageError
from vidprep.models.weights import WeightsError, load_weights
from vidprep.pipelines.recipes import Recipe, find_recipe
from vidprep.shards.files import whole_file

FORMAT = 1
CHECKPOINT_NAME = "checkpoint.pt"
BEST_NAME = "best.pt"

State = dict[str, Any]
"""Numbers, strings, lists and tensors: ``torch.load(weights_only=True)`` reads it."""

KEYS = ("format", "recipe", "settings", "classes", "seed", "epoch", "model")
"""What is for all: ``recipe`` is a name of the table, or the path of a Python file, ``settings`` what was changed of
it, ``epoch`` how many are done. The rest is for going on."""


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    data = io.BytesIO()  # since torch hides why a file can't be written
    torch.save(dict(state), data)
    with whole_file(path) as file:
        file.write(data.getbuffer())


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint onto the CPU, without running any code that it might hold.

    Raises
    ------
    UsageError
        If it can't be read, or is none of vidprep's.
    """
    cure = "give the checkpoint.pt that vidprep train wrote"
    try:
        with zipfile.ZipFile(path) as archive:  # torch doesn't look at the checksums
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"checkpoint={path}: {error.strerror or error}; {cure}") from error
    except Exception as error:  # torch raises many kinds for damaged files
        raise UsageError(f"checkpoint={path}: can't be read, it is damaged or no checkpoint; {cure}") from error
    if not isinstance(state, dict) or not state.keys() >= set(KEYS):
        raise UsageError(f"checkpoint={path}: is none of vidprep's; {cure}")
    if state["format"] != FORMAT:
        raise UsageError(
            f"checkpoint={path}: has format {state['format']}, and this version reads {FORMAT}; use the version that"
            " wrote it"
        )
    return state


def check_same(own: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> None:
    """UsageError unless a checkpoint's training is the one that is meant: it names the first difference."""
    if own.get("recipe_sha256") != found.get("recipe_sha256") and own.get("recipe") == found.get("recipe"):
        raise UsageError(
            f"recipe={own['recipe']}: the file was edited since {folder} was begun; name another folder (--to), or"
            " --overwrite to begin anew"
        )
    for name in dict.fromkeys([*own, *found]):
        if own.get(name) != found.get(name):
            raise UsageError(
                f"{name}={own.get(name)}: {folder} holds a training with {name}={found.get(name)}; give the same"
                " command to go on with it, another folder (--to), or --overwrite to begin anew"
            )


def load_model(checkpoint: Path, recipe: Recipe | None = None) -> tuple[nn.Module, Recipe, State]:
    """Return the model of a checkpoint, on the CPU, with its recipe and all else that the file holds.

    Parameters
    ----------
    checkpoint : path
        What ``vidprep train`` wrote.
    recipe : Recipe, optional
        In place of the one that the checkpoint names, for example if its Python file is no longer there.

    Raises
    ------
    UsageError
        If the file can't be read, its recipe isn't found, or makes another model.
    """
    state = read_checkpoint(checkpoint)
    if recipe is None:
        if not state["recipe"]:
            raise UsageError(f"checkpoint={checkpoint}: names no recipe, it was trained from Python; give the recipe")
        recipe = find_recipe(state["recipe"], state["settings"])
    model = recipe.build(len(state["classes"]))
    load_state(model, state, checkpoint)
    return model, recipe, state


def load_state(model: nn.Module, state: State, path: Path) -> None:
    """Load a checkpoint's weights into the model of its recipe; UsageError if that makes another model by now."""
    try:
        load_weights(model, state["model"], source=str(path))
    except WeightsError as error:
        raise UsageError(f"{error}, or the recipe as it was in the training") from error


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of torch's random numbers, on the CPU and on a GPU."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Go on with random numbers where :func:`random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
