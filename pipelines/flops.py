"""What a network costs: multiply-adds and the older count of all operations, for each module and in total."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidprep.errors import UsageError
from vidprep.pipelines.flops_rules import operations_of, recurrent_macs


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of a module, with all that it holds, for one sample.

    Attributes
    ----------
    macs : float
        Convention C1: multiply-adds of convolutions and of all matrix products; recurrent layers by formula.
    operations : float
        Convention C2, that of ptflops' first versions: the multiply-adds of modules for convolutions and linear
        layers, a convolution's bias, 2 a value that is normalised, 1 a value that a ReLU gives or a pooling takes;
        recurrent layers by formula. Softmax, sigmoids, SiLU and sums count nothing, and neither does what is no
        module: a mean over the maps is no pooling.
    num_parameters : int
    """

    macs: float
    operations: float
    num_parameters: int


class FlopCount:
    """Counts what a network does inside of a ``with`` block, over all its calls, whatever path the data make it take.

    Results are the same with and without. The block may run in any mode (training, autocast, inference) and on any
    device; ``meta`` computes nothing. What runs belongs to the innermost module that is running, and to those whose
    names hold its name; a module that stands at several places is known by its first name. Compiled modules run
    uncompiled.

    Parameters
    ----------
    network : nn.Module
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._macs: dict[str, int] = defaultdict(int)
        self._operations: dict[str, int] = defaultdict(int)
        self._running = [""]
        self._num_seen = 0

    def __enter__(self) -> Self:
        self._exit = ExitStack()
        self._exit.enter_context(_countable())
        for name, module in self._network.named_modules():
            self._exit.callback(module.register_forward_pre_hook(self._at_start(name)).remove)
            self._exit.callback(module.register_forward_hook(self._at_end(name), with_kwargs=True).remove)
        self._counter = self._exit.enter_context(FlopCounterMode(display=False))
        self._num_seen = 0
        return self

    def __exit__(self, *_error: object) -> None:
        self._settle()
        self._exit.close()

    def costs(self, num_samples: int) -> dict[str, Cost]:
        """Return the mean cost of a sample by name of module; that of the whole network is ``""``."""
        macs, operations = _with_holders(self._macs), _with_holders(self._operations)
        return {
            name: Cost(
                macs[name] / num_samples,
                operations[name] / num_samples,
                sum(parameter.numel() for parameter in module.parameters()),
            )
            for name, module in self._network.named_modules()
        }

    def _settle(self) -> int:
        """Give what ran since the last time to the module that is running."""
        num_macs = int(self._counter.get_total_flops()) // 2
        num_new, self._num_seen = num_macs - self._num_seen, num_macs
        self._macs[self._running[-1]] += num_new
        return num_new

    def _at_start(self, name: str) -> Callable[..., None]:
        def start(_module: nn.Module, _inputs: object) -> None:
            self._settle()
            self._running.append(name)

        return start

    def _at_end(self, name: str) -> Callable[..., None]:
        def end(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            num_new = self._settle()
            self._running.pop()
            first = inputs[0] if inputs else next(iter(named.values()), None)
            self._operations[name] += operations_of(module, first, output)
            if (num_macs := recurrent_macs(module, first)) is not None:
                self._macs[name] += num_macs - num_new  # some devices run them as one operation that nobody counts

        return end


def count_flops(network: nn.Module, *inputs: Any, num_samples: int | None = None) -> dict[str, Cost]:
    """Run a network once, in the mode that it is in, and count what it does; leaves the network as it was.

    Parameters
    ----------
    network : nn.Module
        On any device.
    *inputs
        What its ``forward`` takes.
    num_samples : int, optional
        Samples of the batch; without, the length of the first tensor that the inputs hold.

    Returns
    -------
    dict
        Cost of a sample by name of module; that of the whole network is ``""``.
    """
    return mean_flops(network, [inputs], num_samples=num_samples)


def mean_flops(
    network: nn.Module, batches: Iterable[Sequence[Any]], *, num_samples: int | None = None
) -> dict[str, Cost]:
    """Return costs averaged over the samples of real batches, for networks whose path depends on the data.

    Parameters
    ----------
    network, num_samples
        As for :func:`count_flops`; ``num_samples`` is that of each batch.
    batches : iterable of sequences
        What ``forward`` takes, batch by batch.

    Raises
    ------
    UsageError
        If there is no batch, or nobody says how many samples it has.
    """
    total = 0
    with _unchanged(network), torch.no_grad(), FlopCount(network) as count:
        for inputs in batches:
            total += num_samples if num_samples is not None else _num_samples(inputs)
            network(*inputs)
    if not total:
        raise UsageError("batches=0: there must be a sample to count on; give some, or another split")
    return count.costs(total)


def table(costs: Mapping[str, Cost], depth: int = 1) -> str:
    """Format costs as a table of Markdown: modules down to a depth, and the total."""
    rows = [(name, cost) for name, cost in costs.items() if name and name.count(".") < depth]
    lines = ["| module | parameters | GMAC (C1) | GFLOP (C2) |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {cost.num_parameters:,} | {cost.macs / 1e9:.4f} | {cost.operations / 1e9:.4f} |"
        for name, cost in [*rows, ("total", costs[""])]
    ]
    return "\n".join(lines)


def backbone_flops(
    name: str, *, num_frames: int | None = None, size: int | None = None, num_classes: int = 400
) -> dict[str, Cost]:
    """Return what a backbone costs on one clip [shape=(1, 3, num_frames, size, size)]; computes nothing.

    Parameters
    ----------
    name : str
        One of :data:`vidprep.models.backbones.BACKBONES`.
    num_frames, size : int, optional
        Instead of what its published weights take.
    num_classes : int

    Raises
    ------
    UsageError
        If there is no such backbone.
    """
    from vidprep.models.backbones import BACKBONES

    backbone = BACKBONES.get(name.replace("-", "_"))  # as its recipe is called
    if backbone is None:
        raise UsageError(
            f"network={name}: must be one of {', '.join(BACKBONES)}; mend the name, or"
            " give that of a method's recipe (vidprep train --help) to vidprep flops"
        )
    num_frames, size = num_frames or backbone.num_frames, size or backbone.input_size
    with torch.device("meta"):
        network = backbone.build(num_classes).eval()
        clip = torch.empty(1, 3, num_frames, size, size)
    return count_flops(network, clip)


def _with_holders(counts: Mapping[str, int]) -> dict[str, int]:
    """Return sums by name: what a module did itself, and what all did whose names begin with its own."""
    sums: dict[str, int] = defaultdict(int)
    for name, count in counts.items():
        parts = name.split(".") if name else []
        for length in range(len(parts) + 1):
            sums[".".join(parts[:length])] += count
    return sums


def _num_samples(value: Any) -> int:
    for tensor in _tensors(value):
        return len(tensor)
    raise UsageError("num_samples=None: the inputs hold no tensor to tell it; say how many samples they are")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(one)


@contextmanager
def _countable() -> Iterator[None]:
    """Keep operations apart that would run as one that nobody counts."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `torch.compile", UserWarning)  # the counter has global hooks
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Give the network its buffers back, such as running means, and the random numbers that dropout draws."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module, name, buffer, values in kept:
            setattr(module, name, buffer.copy_(values))
