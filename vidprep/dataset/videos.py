"""What all datasets of videos share: epochs, ranks and workers over samples that are read by their number."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info
from webdataset import DataPipeline
from webdataset.compat import FluidInterface

from vidprep.dataset.epochs import (
    MAX_SEED,
    UNEVEN,
    Uneven,
    epoch_order,
    places,
    random_numbers,
    rank_share,
    share_size,
)
from vidprep.dataset.items import Item
from vidprep.dataset.loader import Loader
from vidprep.dataset.shared import SharedNumbers
from vidprep.errors import DecodeError, ShardError, UsageError

Ranks = tuple[int, int]
OnError = Literal["raise", "skip"]

BROKEN = (ShardError, DecodeError)
"""What a sample raises that can't be read; a server that is away says nothing about its samples."""
_MAX_DRAWS = 100  # so many broken samples in a row are no chance
_NUM_COUNTERS = 1024  # one a worker, since two can't add to one number at a time


class VideoDataset(DataPipeline, FluidInterface):  # type: ignore[misc]
    """Items of an epoch, in the order of its seed: an iterable dataset of webdataset's kind, with its stages.

    :meth:`loader` is the way to iterate. The dataset itself serves any ``torch.utils.data.DataLoader`` and
    ``webdataset.WebLoader``: each sample comes once an epoch with any number of workers, but batches depend on that
    number, ``set_epoch`` must be called before each epoch, as with a ``DistributedSampler``, and there is no state to
    go on from. Copies that stages make (``dataset.map(...)``) share the epoch. ``.repeat(n)`` and ``.with_epoch(n)``
    go on with the epochs that follow.

    Parameters
    ----------
    num_samples, num_views, views_per_clip : int
        Videos, items that each of them makes, and how many of these, one after the other, share what is random.
    shuffle : bool
        Whether each epoch has an order of its own.
    seed : int
        Of orders, clips and views.
    uneven : {"pad", "drop", "keep"}
        What happens where ranks can't have equally many samples: see :mod:`vidprep.dataset.epochs`.
    ranks : (int, int), optional
        This process's rank and the number of ranks; else what torch.distributed or torchrun say.
    on_error : {"raise", "skip"}
        What a sample does that can't be read: end the iteration, or be skipped, counted in ``num_skipped`` and named
        in a warning, once in each process. A server that can't be reached, or falls silent, is never skipped.

    Raises
    ------
    UsageError
        If an argument can't be meant, or there is no sample.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        num_views: int,
        shuffle: bool,
        seed: int,
        uneven: Uneven,
        ranks: Ranks | None,
        on_error: OnError = "raise",
        views_per_clip: int = 1,
    ) -> None:
        super().__init__()
        if num_samples < 1:
            raise UsageError(f"num_samples={num_samples}: must be positive; choose a split that holds samples")
        if type(seed) is not int or not 0 <= seed < MAX_SEED:
            raise UsageError(f"seed={seed!r}: must be an integer from 0 on, below {MAX_SEED}")
        if uneven not in UNEVEN or on_error not in ("raise", "skip"):
            raise UsageError(f"uneven={uneven}, on_error={on_error}: must be pad, drop or keep, and raise or skip")
        self.num_samples, self.num_views, self._views_per_clip = num_samples, num_views, views_per_clip
        self.shuffles, self.seed, self.uneven, self.on_error = shuffle, seed, uneven, on_error
        self._own_ranks = ranks
        self._pickled_ranks: Ranks | None = None
        self._named: set[str] = set()
        self._shared = SharedNumbers(1 + _NUM_COUNTERS)  # the epoch, then the counters
        self.check_ranks()

    @abstractmethod
    def read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        """Return one item: view ``view`` of sample ``sample``, which the item then holds as ``sample``."""

    def loader(self, batch_size: int, num_workers: int = 0, **options: Any) -> Loader:
        """Return batches of this dataset: see :class:`vidprep.dataset.loader.Loader`."""
        return Loader(self, batch_size, num_workers, **options)

    @property
    def identity(self) -> dict[str, Any]:
        """What the samples of an epoch depend on: numbers and strings."""
        own = {"num_samples": self.num_samples, "num_views": self.num_views, "num_ranks": self.ranks[1]}
        return own | {"seed": self.seed, "shuffle": self.shuffles, "uneven": self.uneven}

    @property
    def epoch(self) -> int:
        """The epoch whose order comes next."""
        return int(self._shared.values[0])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next, in workers that already run too."""
        if type(epoch) is not int or not 0 <= epoch < MAX_SEED:
            raise UsageError(f"epoch={epoch!r}: must be an integer from 0 on, below {MAX_SEED}")
        self._shared.values[0] = epoch

    @property
    def num_skipped(self) -> int:
        """Items that could not be read so far, in all workers of this process."""
        return int(self._shared.values[1:].sum())

    @property
    def ranks(self) -> Ranks:
        """Rank of this process, and the number of ranks."""
        if self._own_ranks is not None:
            return self._own_ranks
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        if get_worker_info() is not None and self._pickled_ranks is not None:
            return self._pickled_ranks
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def check_ranks(self) -> None:
        """Check that this rank can be, and has something to read."""
        rank, num_ranks = self.ranks
        if not 0 <= rank < num_ranks:
            raise UsageError(f"ranks=({rank}, {num_ranks}): must be a rank from 0 on, below the number of ranks")
        if self.uneven == "drop" and self.num_samples < num_ranks:
            raise UsageError(
                f"num_samples={self.num_samples}: must not be fewer than the {num_ranks} ranks with uneven=drop; use"
                " uneven=pad"
            )

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pickled_ranks": self.ranks}  # a worker that is spawned knows of no process group

    @property
    def num_items(self) -> int:
        """Items of an epoch of this rank."""
        return share_size(self.num_samples, *self.ranks, self.uneven) * self.num_views

    def share(self, epoch: int) -> NDArray[np.int64]:
        """Return the samples that this rank reads in an epoch, in order [shape=(num_items / num_views,)]."""
        self.check_ranks()  # the process group may have come since
        order = epoch_order(self.num_samples, self.seed, epoch, shuffle=self.shuffles)
        return rank_share(order, *self.ranks, self.uneven)

    def stream(self, items: Iterable[tuple[int, int]], epoch: int) -> Iterator[Item]:
        """Read some items, samples and views, and pass them through the stages that were added."""
        source = self._read_all(items, epoch)
        for stage in self.pipeline:
            source = self.invoke(stage, source)
        return iter(source)

    def iterator1(self) -> Iterator[Item]:
        """Iterate over this worker's part of the epoch."""
        return self._part(self.epoch)

    def iterator(self) -> Iterator[Item]:
        """Iterate over one epoch after the other, as often as ``repeat`` said."""
        first = self.epoch
        for epoch in range(first, first + self.repetitions):
            count = 0
            for count, item in enumerate(self._part(epoch), 1):  # noqa: B007 - whether there was any
                yield item
            if not count:  # a stage or a worker without items must not turn for ever
                return

    def _part(self, epoch: int) -> Iterator[Item]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self.stream(places(self.share(epoch), self.num_views, slice(first, None, step)), epoch)

    def _read_all(self, items: Iterable[tuple[int, int]], epoch: int) -> Iterator[Item]:
        """Read items; those that can't be are skipped if that is wanted, but not all there are."""
        broken, num_read = None, 0
        for sample, view in items:
            place = int(sample), int(view)
            try:
                item = self._read(*place, self._rng(epoch, *place))
            except BROKEN as error:
                if self.on_error == "raise":
                    raise
                self._skip(error)
                broken = place
                if self.uneven == "keep":
                    continue
                item = self._replacement(epoch, *place)
            num_read += 1
            yield item
        if broken and not num_read:
            self._replacement(epoch, *broken)

    def _read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        return self.read(sample, view, rng) | {"sample": sample}

    def _rng(self, epoch: int, sample: int, view: int) -> np.random.Generator:
        return random_numbers("item", self.seed, epoch, sample, view // self._views_per_clip)

    def _skip(self, error: Exception) -> None:
        worker = get_worker_info()
        self._shared.values[1 if worker is None else 2 + worker.id % (_NUM_COUNTERS - 1)] += 1
        if str(error) not in self._named:  # once, for a tar that is gone fails with each of its samples
            self._named.add(str(error))
            warnings.warn(f"skipped: {error}", stacklevel=2)

    def _replacement(self, epoch: int, sample: int, view: int) -> Item:
        """Return the item of another sample; ShardError if none of many can be read."""
        order = random_numbers("replacement", self.seed, epoch, sample).permutation(self.num_samples)
        draws = order[order != sample][:_MAX_DRAWS]
        reason: Exception | None = None
        for other in draws:
            try:
                return self._read(int(other), view, self._rng(epoch, sample, view))
            except BROKEN as error:
                reason = error
        raise ShardError(
            f"num_skipped={self.num_skipped}: none of {len(draws)} other samples can be read either ({reason}); run"
            " vidprep verify, and extract again"
        )
