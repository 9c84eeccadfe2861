"""Checkpoints of others: their names of parameters to ours, and loading that says what doesn't fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

KeyMap = Sequence[tuple[str, str]]
"""Patterns of whole names and what they become, ``re.sub``'s way; the first that matches is taken."""

CLASSIFIER = "head.projection"
"""What every network calls the layer that has as many outputs as there are classes."""

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
        A state dict, or a dict that holds one as ``state_dict``, ``model_state`` or ``model``. Names lose the
        ``module.`` that training on several devices puts in front.

    Raises
    ------
    WeightsError
        If it can't be read, or holds no state dict.
    """
    cure = "give the file of a state dict, as torch.save(network.state_dict()) writes it"
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"weights={path}: {error.strerror or error}; {cure}") from error
    except Exception as error:  # damaged files, and pickles of anything else than tensors
        raise WeightsError(
            f"weights={path}: can't be read: it is damaged, no checkpoint, or holds more than tensors; {cure}"
        ) from error
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(f"weights={path}: holds no state dict; {cure}")
    return {_without_prefix(str(name)): value for name, value in found.items()}


def renamed(state: Mapping[str, torch.Tensor], key_map: KeyMap) -> dict[str, torch.Tensor]:
    """Rename a state dict's parameters; names that no pattern matches stay as they are."""
    new_name = _renaming(key_map)
    return {new_name(name): value for name, value in state.items()}


def load_weights(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    source: str,
    name: str | None = None,
    layouts: Mapping[str, KeyMap] | None = None,
    has_new_head: bool = False,
) -> None:
    """Load a state dict whole, or refuse it.

    Parameters
    ----------
    network : nn.Module
    state : mapping
        In the network's own names, or those of one of the layouts: the one that leaves fewest names over is taken.
        A shape may have more ones at its end than the network's: a convolution of size 1 fits a linear layer.
    source : str
        What an error calls the weights: the file.
    name : str, optional
        What it calls the network, whose class it names otherwise.
    layouts : mapping, optional
        Names of layouts to their patterns.
    has_new_head : bool
        For fine-tuning: leave the classifier as it is, whatever the state dict holds of it.

    Raises
    ------
    WeightsError
        If names are missing, unexpected, or of another shape; it names them.
    """
    own = {key: value for key, value in network.state_dict().items() if not (has_new_head and _is_classifier(key))}
    fits = [_fit(own, state, key_map, has_new_head) for key_map in [(), *(layouts or {}).values()]]
    fit = min(fits, key=lambda fit: len(fit.missing) + len(fit.unexpected))
    misshapen = {
        new: (tuple(state[old].shape), tuple(own[new].shape))
        for new, old in fit.names.items()
        if _without_ones(state[old].shape) != _without_ones(own[new].shape)
    }
    if misshapen and all(map(_is_classifier, misshapen)) and not fit.missing and not fit.unexpected:
        (found, *_), (wanted, *_) = next(iter(misshapen.values()))
        raise WeightsError(
            f"weights={source}: are for {found} classes, and the network has {wanted}; give weights for {wanted}, or "
            "begin with a new head"
        )
    shapes = [f"{new} {found} for {wanted}" for new, (found, wanted) in misshapen.items()]
    _refuse(
        {"missing": fit.missing, "unexpected": fit.unexpected, "of another shape": shapes},
        source,
        name or type(network).__name__,
    )
    network.load_state_dict({new: state[old].reshape(own[new].shape) for new, old in fit.names.items()}, strict=False)


def with_input_channels(weight: torch.Tensor, num_channels: int, *, scale: float) -> torch.Tensor:
    """Give the first convolution of a network on RGB another number of input channels.

    Parameters
    ----------
    weight : torch.Tensor [shape=(num_out, 3, ...)]
    num_channels : int
    scale : float
        What the mean over the three channels is multiplied by: 1 where each channel alone shall be answered as grey
        pictures are, ``3 / num_channels`` where all of them together shall.

    Returns
    -------
    torch.Tensor [shape=(num_out, num_channels, ...)]
    """
    mean = weight.mean(1, keepdim=True) * scale
    return mean.expand(-1, num_channels, *weight.shape[2:]).clone()


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a checkpoint's names fit: ours to the file's, ours that it hasn't, the file's that we haven't."""

    names: dict[str, str]
    missing: list[str]
    unexpected: list[str]


def _fit(own: Mapping[str, Any], state: Mapping[str, Any], key_map: KeyMap, has_new_head: bool) -> _Fit:
    new_name = _renaming(key_map)
    names: dict[str, str] = {}
    unexpected = []
    for old in state:
        name = new_name(old)
        if name in own and name not in names:
            names[name] = old
        elif not (has_new_head and _is_classifier(name)):
            unexpected.append(old)
    missing = [name for name in own if name not in names and not name.endswith("num_batches_tracked")]
    return _Fit(names, missing, unexpected)


def _renaming(key_map: KeyMap) -> Callable[[str], str]:
    patterns = [(re.compile(pattern), new) for pattern, new in key_map]

    def new_name(name: str) -> str:
        for pattern, new in patterns:
            if pattern.fullmatch(name):
                return pattern.sub(new, name)
        return name

    return new_name


def _refuse(faults: Mapping[str, Sequence[str]], source: str, name: str) -> None:
    told = "; ".join(f"{len(names)} {what} ({_listed(names)})" for what, names in faults.items() if names)
    if told:
        raise WeightsError(f"weights={source}: not those of {name}: {told}; give its own")


def _is_classifier(name: str) -> bool:
    return name.startswith(f"{CLASSIFIER}.")


def _without_ones(shape: torch.Size) -> tuple[int, ...]:
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
