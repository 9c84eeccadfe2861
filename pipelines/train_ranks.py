"""Processes that train together under torchrun: on which device, who writes, what all agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from vidprep.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together.

    Attributes
    ----------
    device : torch.device
    rank, num_ranks : int
        Its number, and how many there are.
    """

    device: torch.device
    rank: int = 0
    num_ranks: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and shows."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """Return the mean of a number over all ranks."""
        told = torch.tensor(value, dtype=torch.float64, device=self.device)
        if self.num_ranks > 1:
            distributed.all_reduce(told)
        return told.item() / self.num_ranks

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank has."""
        found = [value] * self.num_ranks
        if self.num_ranks > 1:
            distributed.all_gather_object(found, value)
        return found

    def from_first(self, value: Any) -> Any:
        """Return what the first rank has."""
        told = [value]
        if self.num_ranks > 1:
            distributed.broadcast_object_list(told, src=0, device=self.device)
        return told[0]

    def level(self, model: nn.Module) -> None:
        """Give all ranks the buffers of the first: each has counted the means of its own batches, and one is saved."""
        for buffer in model.buffers() if self.num_ranks > 1 else ():
            distributed.broadcast(buffer, src=0)

    def together(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients are the means over all ranks."""
        return nn.parallel.DistributedDataParallel(model) if self.num_ranks > 1 else model


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group that torchrun set up, if it did; one that is there already serves too.

    Raises
    ------
    UsageError
        If there are fewer GPUs than processes.
    """
    own = _own_device(device)
    is_ours = "WORLD_SIZE" in os.environ and not distributed.is_initialized()
    if is_ours:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        if distributed.is_initialized():
            yield Ranks(own, distributed.get_rank(), distributed.get_world_size())
        else:
            yield Ranks(own)
    finally:
        if is_ours:
            distributed.destroy_process_group()


def _own_device(device: str) -> torch.device:
    if device == "cpu":
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise UsageError(
            f"device=cuda:{number}: there are {torch.cuda.device_count()} GPUs; begin as many processes on a machine"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
