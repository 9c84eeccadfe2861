"""What convention C2 counts for a module, and multiply-adds of recurrent layers: a table of small functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

_Rule = Callable[[Any, torch.Tensor, torch.Tensor], int]
"""From a module, its first input and its first output to operations."""


def operations_of(module: nn.Module, input_: Any, output: Any) -> int:
    """Return what C2 counts for a module that was called with an input and returned an output."""
    rule = next((rule for kinds, rule in _RULES if isinstance(module, kinds)), None)
    return 0 if rule is None else rule(module, _first(input_), _first(output))


def recurrent_macs(module: nn.Module, input_: Any) -> int | None:
    """Return the multiply-adds of a recurrent layer's matrices; None for all other modules."""
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return None
    return _num_steps(_first(input_)) * _num_weights(module, 2)


def _first(value: Any) -> torch.Tensor:
    """Return the first tensor of a nested tuple; of a packed sequence that is its data."""
    while not isinstance(value, torch.Tensor):
        value = value[0]
    return value


def _num_steps(input_: torch.Tensor) -> int:
    """Return the steps of all samples of sequences [shape=(..., features)], or of packed ones."""
    return input_.numel() // input_.shape[-1]


def _num_weights(module: nn.Module, num_axes: int) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == num_axes)


def _of_convolution(module: Any, _input: torch.Tensor, output: torch.Tensor) -> int:
    return output.numel() * int(module.weight[0].numel() + (module.bias is not None))


def _of_transposed_convolution(module: Any, input_: torch.Tensor, output: torch.Tensor) -> int:
    return input_.numel() * int(module.weight[0].numel()) + output.numel() * (module.bias is not None)


def _of_linear(module: nn.Linear, input_: torch.Tensor, _output: torch.Tensor) -> int:
    return input_.numel() * module.out_features


def _of_recurrent(module: Any, input_: torch.Tensor, _output: torch.Tensor) -> int:
    """Each step: the matrices, both biases, and for each layer the sums and products of its gates.

    A GRU's step is 3 h in + 3 h h + 7 h, and 6 h of biases; an LSTM's is 4 h in + 4 h h + 10 h, and 8 h of biases.
    """
    num_layers = getattr(module, "num_layers", 1) * (1 + getattr(module, "bidirectional", False))
    kind = type(module).__name__.removesuffix("Cell")
    gates = num_layers * module.hidden_size * {"RNN": 1, "GRU": 7, "LSTM": 10}[kind]
    return _num_steps(input_) * int(_num_weights(module, 2) + _num_weights(module, 1) + gates)


_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.LeakyReLU)
_POOLINGS = tuple(
    getattr(nn, f"{kind}Pool{axes}d") for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for axes in (1, 2, 3)
)
_RULES: tuple[tuple[tuple[type[nn.Module], ...], _Rule], ...] = (
    ((_ConvTransposeNd,), _of_transposed_convolution),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _of_convolution),
    ((nn.Linear,), _of_linear),
    ((_BatchNorm,), lambda module, input_, output: 2 * input_.numel()),
    (_ACTIVATIONS, lambda module, input_, output: output.numel()),
    (_POOLINGS, lambda module, input_, output: input_.numel()),
    ((nn.RNNBase, nn.RNNCellBase), _of_recurrent),
)
