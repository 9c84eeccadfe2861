"""What all datasets of videos share: epochs, ranks and workers over samples that are read by their number."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from webdataset import DataPipeline
from webdataset.compat import FluidInterface

from vidprep.dataset.epochs import Uneven, epoch_order, rank_share
from vidprep.dataset.items import Item
from vidprep.errors import UsageError

Ranks = tuple[int, int]


def shared_number() -> torch.Tensor:
    """Return a number, 0 at first, that worker processes see change."""
    number = torch.zeros(1, dtype=torch.int64)
    number.share_memory_()  # type: ignore[no-untyped-call]
    return number


class VideoDataset(DataPipeline, FluidInterface):  # type: ignore[misc]
    """Items of an epoch, in the order of its seed: an iterable dataset of webdataset's kind, with its stages.

    Parameters
    ----------
    num_samples, num_views : int
        Videos, and items that each of them makes.
    shuffle : bool
        Whether each epoch has an order of its own.
    seed : int
        Of orders, clips and views.
    uneven : {"pad", "drop", "keep"}
        What happens where ranks can't have equally many samples: see :mod:`vidprep.dataset.epochs`.
    ranks : (int, int), optional
        This process's rank and the number of ranks; else what torch.distributed or torchrun say.
    """

    def __init__(
        self, *, num_samples: int, num_views: int, shuffle: bool, seed: int, uneven: Uneven, ranks: Ranks | None
    ) -> None:
        super().__init__()
        self.num_samples, self.num_views = num_samples, num_views
        self.shuffles, self.seed, self.uneven = shuffle, seed, uneven
        self._ranks = ranks
        self._epoch = shared_number()

    @abstractmethod
    def read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        """Return one item: view ``view`` of sample ``sample``."""

    @property
    def epoch(self) -> int:
        """The epoch whose order comes next."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, in workers that already run too."""
        if epoch < 0:
            raise UsageError(f"epoch={epoch}: must not be negative")
        self._epoch[0] = epoch

    @property
    def ranks(self) -> Ranks:
        """Rank of this process, and the number of ranks."""
        if self._ranks is not None:
            return self._ranks
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ranks": self.ranks}  # a worker that is spawned knows of no process group

    def items(self) -> NDArray[np.int64]:
        """Return what this rank reads in the epoch: sample and view [shape=(num_items, 2), dtype=int64]."""
        order = epoch_order(self.num_samples, self.seed, self.epoch, shuffle=self.shuffles)
        share = rank_share(order, *self.ranks, self.uneven)
        return np.stack([np.repeat(share, self.num_views), np.tile(np.arange(self.num_views), len(share))], axis=1)

    def stream(self, items: Iterable[tuple[int, int]]) -> Iterator[Item]:
        """Read some items, and pass them through the stages that were added."""
        epoch = self.epoch
        source: Iterator[Item] = (
            self.read(int(sample), int(view), np.random.default_rng((self.seed, epoch, int(sample), int(view))))
            for sample, view in items
        )
        for stage in self.pipeline:
            source = self.invoke(stage, source)
        return source

    def iterator1(self) -> Iterator[Item]:
        """Iterate over this worker's part of the epoch."""
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self.stream(self.items()[first::step])
