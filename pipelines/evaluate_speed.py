"""How fast a model is: latency of one view, throughput of a batch, on real clips that are on the device already."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch

NUM_WARMUP, NUM_SINGLES, NUM_BATCHES = 2, 10, 3


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians, after a warm-up; reading and decoding are not in them.

    Attributes
    ----------
    latency_seconds : float
        Of one view alone.
    views_per_second : float
        In batches of ``batch_size``.
    batch_size : int
    """

    latency_seconds: float
    views_per_second: float
    batch_size: int


class Timed:
    """Views to time: as many as a batch has, spread evenly over all that pass by.

    Where the data decide what a network does, its first views would say nothing about the others.

    Parameters
    ----------
    num_items, batch_size : int
        Views that will pass by, and how many of them to keep.
    """

    def __init__(self, num_items: int, batch_size: int) -> None:
        self._chosen = set(np.linspace(0, num_items - 1, min(batch_size, num_items)).astype(int).tolist())
        self._num_seen = 0
        self.views: list[dict[str, Any]] = []

    def see(self, batch: Mapping[str, Any]) -> None:
        """Keep what is chosen of a batch."""
        for place in range(len(batch["key"])):
            if self._num_seen + place in self._chosen:
                self.views.append({name: value[place : place + 1] for name, value in batch.items()})
        self._num_seen += len(batch["key"])


def measure_speed(run: Callable[[dict[str, Any]], object], singles: Sequence[dict[str, Any]], device: str) -> Speed:
    """Time what a model does with single views, and with the batch of them all.

    Parameters
    ----------
    run : callable
        What is timed.
    singles : sequence of mapping
        Batches of one view each, on the device.
    device : {"cpu", "cuda"}
    """
    size = len(singles)
    batch = {name: _joined([single[name] for single in singles]) for name in singles[0]}
    latency = _median_seconds(run, islice(cycle(singles), NUM_WARMUP + NUM_SINGLES), device)
    whole = _median_seconds(run, [batch] * (NUM_WARMUP + NUM_BATCHES), device)
    return Speed(latency_seconds=latency, views_per_second=size / whole, batch_size=size)


def device_name(device: str) -> str:
    """Return what a device is called, with the number of threads that PyTorch uses on a CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _joined(values: Sequence[Any]) -> Any:
    return torch.cat(list(values)) if isinstance(values[0], torch.Tensor) else list(chain.from_iterable(values))


def _median_seconds(run: Callable[[dict[str, Any]], object], batches: Iterable[dict[str, Any]], device: str) -> float:
    seconds = []
    for batch in batches:
        _wait_for(device)
        start = time.perf_counter()
        run(batch)
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[NUM_WARMUP:])


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
