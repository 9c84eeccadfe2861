"""Checkpoints of others: their names of parameters to ours, and loading that says what doesn't fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

KeyMap = Sequence[tuple[str, str]]
"""Patterns of whole names and what they become, ``re.sub``'s way; the first that matches is taken."""

_WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")  # what published files put the weights under
_PREFIXES = ("module.", "_orig_mod.")
_MAX_NAMED = 5


class WeightsError(ValueError):
    """A checkpoint that doesn't fit the network."""


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint, without running any code that it might hold.

    Parameters
    ----------
    path : path
        A state dict, or a dict that holds one as ``state_dict``, ``model_state`` or ``model``.

    Raises
    ------
    WeightsError
        If it can't be read, or holds no state dict.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise WeightsError(
            f"weights={path}: can't be read ({_first_line(error)}); give a checkpoint of PyTorch"
        ) from error
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(f"weights={path}: holds no state dict; give a dict of names and tensors")
    return {_without_prefix(str(name)): value for name, value in found.items()}


def renamed(state: Mapping[str, torch.Tensor], key_map: KeyMap) -> dict[str, torch.Tensor]:
    """Rename a state dict's parameters; names that no pattern matches stay as they are."""
    patterns = [(re.compile(pattern), new) for pattern, new in key_map]

    def new_name(name: str) -> str:
        for pattern, new in patterns:
            if pattern.fullmatch(name):
                return pattern.sub(new, name)
        return name

    return {new_name(name): value for name, value in state.items()}


def load_weights(network: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Load a state dict whole, or refuse it.

    Raises
    ------
    WeightsError
        If names are missing, unexpected, or of another shape; it names them.
    """
    own = network.state_dict()
    faults = [
        ("missing", [name for name in own if name not in state and not name.endswith("num_batches_tracked")]),
        ("unexpected", [name for name in state if name not in own]),
        (
            "of another shape",
            [
                f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
                for name, value in own.items()
                if name in state and state[name].shape != value.shape
            ],
        ),
    ]
    told = "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in faults if names)
    if told:
        raise WeightsError(
            f"weights={source}: don't fit {type(network).__name__}: {told}; choose the file's own network"
        )
    network.load_state_dict(dict(state), strict=False)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
