"""Batches of a dataset: the same ones with any number of workers, and from the middle of an epoch on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vidprep.dataset.arrays import stack
from vidprep.dataset.epochs import num_batches
from vidprep.dataset.items import Item
from vidprep.dataset.videos import VideoDataset, shared_number
from vidprep.errors import UsageError

Batch = dict[str, Any]


class Loader:
    """Iterates over the batches of one epoch after the other; each ``iter`` is the next epoch.

    Parameters
    ----------
    dataset : VideoDataset
    batch_size, num_workers : int
        Items a batch; processes that read, 0 for this one.
    drop_last : bool
        Whether a last batch that is not full is left out.
    **options
        Further arguments of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self, dataset: VideoDataset, batch_size: int, num_workers: int = 0, *, drop_last: bool = False, **options: Any
    ) -> None:
        if batch_size < 1 or num_workers < 0:
            raise UsageError(f"batch_size={batch_size}, num_workers={num_workers}: must be positive, workers or 0")
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self._num_done = shared_number()
        self._batches = torch.utils.data.DataLoader(_Batches(self), batch_size=None, num_workers=num_workers, **options)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return num_batches(len(self.dataset.items()), self.batch_size, drop_last=self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._num_done += 1
            yield batch
        self._num_done[0] = 0
        self.dataset.set_epoch(self.dataset.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration stands: the batches that were handed out are done."""
        return {"epoch": self.dataset.epoch, "num_batches": int(self._num_done)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken."""
        self.dataset.set_epoch(state["epoch"])
        self._num_done[0] = state["num_batches"]


class _Batches(torch.utils.data.IterableDataset[Batch]):
    """One worker's batches: every W-th, so that the loader, which takes workers in turn, restores their order."""

    def __init__(self, loader: Loader) -> None:
        self._dataset, self._batch_size, self._drop_last = loader.dataset, loader.batch_size, loader.drop_last
        self._num_done = loader._num_done

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        items = self._dataset.items()
        total = num_batches(len(items), self._batch_size, drop_last=self._drop_last)
        for number in range(int(self._num_done) + first, total, step):
            chosen = items[number * self._batch_size : (number + 1) * self._batch_size]
            yield collate(list(self._dataset.stream(chosen)))


def collate(items: list[Item]) -> Batch:
    """Put items together: tensors are stacked, numbers become tensors, the rest lists."""
    batch: Batch = {}
    for name in items[0]:
        values = [item[name] for item in items]
        if isinstance(values[0], torch.Tensor):
            batch[name] = stack(values)
        elif isinstance(values[0], int | float):
            batch[name] = torch.tensor(values)
        elif not name.startswith("__"):
            batch[name] = values
    return batch
