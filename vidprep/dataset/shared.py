"""Numbers that a process and its workers see alike."""

from __future__ import annotations

import os

import torch
from torch.utils.data import get_worker_info


class SharedNumbers:
    """Integers, 0 at first, in memory that a process shares with the workers of its loaders, and with no others.

    Ranks that are begun with a dataset in hand (forked, or by ``torch.multiprocessing.spawn``) would share it too, and
    push each other on through the epochs. So a process that is no worker goes on with a copy.
    """

    def __init__(self, count: int) -> None:
        self._own(torch.zeros(count, dtype=torch.int64))

    @property
    def values(self) -> torch.Tensor:
        """The numbers [shape=(count,), dtype=int64]."""
        is_shared = self._values.is_shared()  # type: ignore[no-untyped-call]  # a copy in the same process is not
        if get_worker_info() is None and not (is_shared and self._process == os.getpid()):
            self._own(self._values)
        return self._values

    def _own(self, values: torch.Tensor) -> None:
        self._process = os.getpid()
        self._values = values.clone()
        self._values.share_memory_()  # type: ignore[no-untyped-call]
