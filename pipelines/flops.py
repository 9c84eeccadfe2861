"""What a network costs: multiply-adds and the older count of all operations, for each module and in total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_Operations = Callable[[Any, torch.Tensor, torch.Tensor], int]
"""From a module, its input and its output to the operations that convention C2 counts for it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of a module, with all that it holds, for one sample: means over the batch.

    Attributes
    ----------
    macs : float
        Convention C1: multiply-adds of convolutions and matrix products.
    operations : float
        Convention C2, that of ptflops' first versions: the multiply-adds of modules for convolutions and linear
        layers, a convolution's bias, 2 a value that is normalised, 1 a value that a ReLU gives or a pooling takes;
        recurrent layers by formula. Softmax, sigmoids, SiLU and sums count nothing.
    num_parameters : int
    """

    macs: float
    operations: float
    num_parameters: int


def count_flops(network: nn.Module, *inputs: Any) -> dict[str, Cost]:
    """Run a network once, in the mode that it is in, and count what it does; data-dependent paths as they are taken.

    Parameters
    ----------
    network : nn.Module
        On any device; ``meta`` computes nothing.
    *inputs
        What its ``forward`` takes; the first is a tensor, or a mapping that holds one, of N samples.

    Returns
    -------
    dict
        Cost by name of module; that of the whole network is ``""``.
    """
    num_samples = _num_samples(inputs[0])
    operations: dict[str, int] = defaultdict(int)
    hooks = [
        module.register_forward_hook(_counting(name, operations))
        for name, module in network.named_modules()
        if _operations_of(module)
    ]
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    macs = {name: sum(found.values()) / 2 for name, found in counter.get_flop_counts().items()}
    root = type(network).__name__
    return {
        name: Cost(
            macs.get("Global" if not name else f"{root}.{name}", 0) / num_samples,
            operations.get(name, 0) / num_samples,
            sum(parameter.numel() for parameter in module.parameters()),
        )
        for name, module in network.named_modules()
    }


def mean_cost(network: nn.Module, batches: Iterable[tuple[Any, ...]]) -> Cost:
    """Return a network's cost of a sample, averaged over real batches: for networks whose path depends on the data."""
    totals, count = [0.0, 0.0], 0
    for inputs in batches:
        num_samples = _num_samples(inputs[0])
        cost = count_flops(network, *inputs)[""]
        totals = [totals[0] + cost.macs * num_samples, totals[1] + cost.operations * num_samples]
        count += num_samples
    return Cost(totals[0] / count, totals[1] / count, sum(parameter.numel() for parameter in network.parameters()))


def table(costs: dict[str, Cost], depth: int = 1) -> str:
    """Format costs as a table of Markdown: modules down to a depth, and the total."""
    rows = [(name or "total", cost) for name, cost in costs.items() if name.count(".") < depth]
    rows = [*rows[1:], rows[0]]
    lines = ["| module | parameters | GMAC (C1) | GFLOP (C2) |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {cost.num_parameters:,} | {cost.macs / 1e9:.4f} | {cost.operations / 1e9:.4f} |"
        for name, cost in rows
    ]
    return "\n".join(lines)


def _num_samples(batch: Any) -> int:
    tensors = [batch] if isinstance(batch, torch.Tensor) else list(batch.values())
    return next(len(one) for one in tensors if isinstance(one, torch.Tensor))


def _counting(name: str, operations: dict[str, int]) -> Callable[..., None]:
    parts = name.split(".")
    holders = ["", *(".".join(parts[:end]) for end in range(1, len(parts) + 1))]

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        rule = _operations_of(module)
        assert rule is not None
        result = output if isinstance(output, torch.Tensor) else output[0]
        found = rule(module, inputs[0], result)
        for holder in dict.fromkeys(holders):
            operations[holder] += found

    return count


def _operations_of(module: nn.Module) -> _Operations | None:
    return next((rule for kinds, rule in _C2 if isinstance(module, kinds)), None)


def _of_convolution(module: Any, _input: torch.Tensor, output: torch.Tensor) -> int:
    return output.numel() * int(module.weight[0].numel() + (module.bias is not None))


def _of_linear(module: nn.Linear, input_: torch.Tensor, _output: torch.Tensor) -> int:
    return input_.numel() * module.out_features


def _of_gru(module: nn.GRU, input_: torch.Tensor, _output: torch.Tensor) -> int:
    """METHODS' formula for a step of a layer: 3 h in + 3 h h, the gates, and both biases."""
    hidden, total = module.hidden_size, 0
    for layer in range(module.num_layers):
        width = module.input_size if layer == 0 else hidden
        total += 3 * hidden * width + 3 * hidden * hidden + hidden + 3 * hidden + 3 * hidden
        total += 6 * hidden if module.bias else 0
    num_steps = input_.numel() // input_.shape[-1]
    return int(total * num_steps)


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLINGS = tuple(
    getattr(nn, f"{kind}Pool{axes}d") for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for axes in (1, 2, 3)
)
_C2: tuple[tuple[tuple[type[nn.Module], ...], _Operations], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _of_convolution),
    ((nn.Linear,), _of_linear),
    (_NORMS, lambda module, input_, output: 2 * input_.numel()),
    ((nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.LeakyReLU), lambda module, input_, output: output.numel()),
    (_POOLINGS, lambda module, input_, output: input_.numel()),
    ((nn.GRU,), _of_gru),
)
