"""How fast a model is: latency of one view, throughput of a batch, on real clips that are on the device already."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

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


def measure_speed(run: Callable[[dict[str, Any]], object], batch: Mapping[str, Any], device: str) -> Speed:
    """Time what a model does with a batch, and with each of its views alone.

    Parameters
    ----------
    run : callable
        What is timed.
    batch : mapping
        On the device.
    device : {"cpu", "cuda"}
    """
    size = len(batch["key"])
    singles = [_view(batch, place) for place in range(size)]
    latency = _median_seconds(run, islice(cycle(singles), NUM_WARMUP + NUM_SINGLES), device)
    whole = _median_seconds(run, [dict(batch)] * (NUM_WARMUP + NUM_BATCHES), device)
    return Speed(latency_seconds=latency, views_per_second=size / whole, batch_size=size)


def device_name(device: str) -> str:
    """Return what a device is called, with the number of threads that PyTorch uses on a CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _view(batch: Mapping[str, Any], place: int) -> dict[str, Any]:
    return {name: value[place : place + 1] for name, value in batch.items()}


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
