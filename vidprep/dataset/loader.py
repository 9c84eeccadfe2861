"""Batches of a dataset: the same ones with any number of workers, and from the middle of an epoch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidprep.dataset.arrays import stack
from vidprep.dataset.epochs import num_batches, places
from vidprep.errors import UsageError, VidprepError

if TYPE_CHECKING:
    from vidprep.dataset.videos import VideoDataset

Batch = Any
_Task = tuple[int, NDArray[np.int64]]

_OWN_OPTIONS = {"shuffle", "sampler", "batch_sampler", "in_order"}


class Loader:
    """Iterates over the batches of one epoch after the other.

    Each ``iter`` begins the dataset's next epoch, as a whole, also when the one before was broken off; to go on in one
    that was, load its state. ``dataset.set_epoch`` chooses another next epoch. Several iterations may be under way at
    once, each in an epoch of its own, unless workers are persistent. Loaders of one dataset share its epochs.

    The dataset's stages run on the items of each batch, in the workers: what they leave out makes a batch smaller. If
    they draw random numbers of their own, batches are no longer the same with any number of workers.

    Parameters
    ----------
    dataset : VideoDataset
    batch_size, num_workers : int
        Items a batch; processes that read, 0 for this one.
    drop_last : bool
        Whether a last batch that is not full is left out.
    collate_fn : callable
        Makes a batch of a list of items; :func:`collate` without.
    **options
        Further arguments of :class:`torch.utils.data.DataLoader`.

    Raises
    ------
    UsageError
        If an argument can't be meant.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        batch_size: int,
        num_workers: int = 0,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Batch] | None = None,
        **options: Any,
    ) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise UsageError(f"batch_size={batch_size!r}: must be a positive integer")
        if type(num_workers) is not int or num_workers < 0:
            raise UsageError(f"num_workers={num_workers!r}: must be a number of processes, 0 for none but this one")
        if wrong := _OWN_OPTIONS & options.keys():
            raise UsageError(
                f"{', '.join(sorted(wrong))}: the dataset says what is read when; give it shuffle and seed"
            )
        self.dataset, self._persists = dataset, bool(options.get("persistent_workers"))
        self._tasks = _Tasks(dataset, batch_size, drop_last)
        self._state: _State | None = None  # of the latest iteration, until it is at its end
        self._resumes: _State | None = None
        self._batches = torch.utils.data.DataLoader(
            _Batches(dataset, collate_fn or collate),
            batch_size=None,
            sampler=self._tasks,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            **options,
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch; those without any sample that can be read may be fewer."""
        return len(self._tasks)

    def __iter__(self) -> Iterator[Batch]:
        state = _State(self.dataset.epoch, 0)
        if self._resumes is not None and self._resumes.epoch == state.epoch:
            state = self._resumes
        self._state, self._resumes = state, None
        self.dataset.set_epoch(state.epoch + 1)
        self._tasks.begin(state.epoch, state.num_batches)
        return self._run(state, iter(self._batches))

    def _run(self, state: _State, batches: Iterator[Batch]) -> Iterator[Batch]:
        num_given, num_before = 0, state.num_batches
        self._check_alone(state)
        for batch in batches:
            if isinstance(batch, VidprepError):
                raise batch
            state.num_batches += 1
            if batch is not None:
                num_given += 1
                yield batch
                self._check_alone(state)
        if state.num_batches > num_before and not num_given:
            raise UsageError("batches=0: the stages left no item of the whole epoch; choose others, or another split")
        if self._state is state:
            self._state = None

    def _check_alone(self, state: _State) -> None:
        if self._persists and self._state is not state:
            raise UsageError("persistent_workers=True: serve one iteration at a time; leave it out, or end the other")

    def state_dict(self) -> dict[str, Any]:
        """Return where the latest iteration stands, or the next one if that is at its end: numbers and strings.

        The batches that were handed out are done. Ranks that keep step have the same state.
        """
        state = self._state or self._resumes or _State(self.dataset.epoch, 0)
        return self._identity() | asdict(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where a state was taken, with any number of workers.

        The batches are bit for bit those that would have come. If another epoch is chosen before, it begins as a whole.

        Raises
        ------
        UsageError
            If the state was taken of other samples, or with other numbers of ranks or items a batch, or another seed.
        """
        if not isinstance(state, Mapping):
            raise UsageError(f"state={state!r}: must be what state_dict returned")
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UsageError(
                    f"{name}={value}: the state was taken with {state.get(name)}; use the same, or begin the epoch anew"
                )
        resumed = _State(state.get("epoch", -1), state.get("num_batches", -1))
        if resumed.epoch < 0 or not 0 <= resumed.num_batches <= len(self):
            raise UsageError(
                f"epoch={resumed.epoch}, num_batches={resumed.num_batches}: must not be negative, nor more than the"
                f" {len(self)} batches of an epoch; use what state_dict returned"
            )
        self.dataset.set_epoch(resumed.epoch)
        self._state, self._resumes = None, resumed

    def _identity(self) -> dict[str, Any]:
        return self.dataset.identity | {"batch_size": self._tasks.batch_size, "drop_last": self._tasks.drop_last}


@dataclass
class _State:
    """Batches of an epoch that are done."""

    epoch: int
    num_batches: int


class _Tasks:
    """What the workers are told to read: for each batch the epoch, and the samples and views.

    They are told with each batch, so they keep no state that could go out of step: not with persistent workers, nor
    when an epoch is broken off.
    """

    def __init__(self, dataset: VideoDataset, batch_size: int, drop_last: bool) -> None:
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self._epoch = self._num_done = 0

    def begin(self, epoch: int, num_done: int) -> None:
        """Choose what comes next."""
        self._epoch, self._num_done = epoch, num_done

    def __len__(self) -> int:
        return num_batches(self.dataset.num_items, self.batch_size, drop_last=self.drop_last)

    def __iter__(self) -> Iterator[_Task]:
        if not len(self) and self.dataset.num_items:
            raise UsageError(
                f"batch_size={self.batch_size}: must not be more than the {self.dataset.num_items} items of an epoch of"
                " this rank with drop_last=True; take smaller batches, or leave drop_last out"
            )
        epoch, size, num_views = self._epoch, self.batch_size, self.dataset.num_views
        share = self.dataset.share(epoch)
        starts = range(self._num_done * size, len(self) * size, size)
        return ((epoch, places(share, num_views, slice(start, start + size))) for start in starts)


class _Batches(torch.utils.data.Dataset[Batch]):
    """Makes batches, in a worker."""

    def __init__(self, dataset: VideoDataset, collate_fn: Callable[[list[Any]], Batch]) -> None:
        self._dataset, self._collate_fn = dataset, collate_fn

    def __getitem__(self, task: _Task) -> Batch | VidprepError | None:
        try:
            return self._read(*task)
        except VidprepError as error:  # raised by the loader: torch would put a worker's traceback into the message
            return error

    def _read(self, epoch: int, chosen: NDArray[np.int64]) -> Batch | None:
        items = list(self._dataset.stream(chosen, epoch))
        if not items and self._dataset.uneven != "keep" and self._dataset.ranks[1] > 1:
            raise UsageError(
                f"uneven={self._dataset.uneven}: the stages left no item of a batch, and ranks must make equally many;"
                " choose samples by a split, larger batches, or uneven=keep"
            )
        return self._collate_fn(items) if items else None


def _as_it_is(batch: Batch) -> Batch:
    return batch


def collate(items: Sequence[Any]) -> Batch:
    """Put items together: tensors are stacked, numbers become tensors, the rest lists.

    Items are mappings, whose names that begin with two underscores are left out, or tuples.

    Raises
    ------
    UsageError
        If arrays differ in shape, or items in their names.
    """
    first = items[0]
    if not isinstance(first, Mapping):
        return tuple(_column(str(i), items, [item[i] for item in items]) for i in range(len(first)))
    if odd := next((item for item in items if item.keys() != first.keys()), None):
        raise UsageError(
            f"{_names(items)}: hold {', '.join(odd)} and {', '.join(first)}: items of a batch must hold the same; leave"
            " out what not all have, or take batch_size=1"
        )
    return {name: _column(name, items, [item[name] for item in items]) for name in first if not name.startswith("__")}


def _column(name: str, items: Sequence[Any], values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        if any(value.shape != values[0].shape for value in values):
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            raise UsageError(
                f"{name}: shapes {shapes} in a batch of {_names(items)}: must be equal; bring all to one size by a"
                " transform, or take batch_size=1"
            )
        return stack(values)
    return torch.tensor(values) if isinstance(values[0], int | float) else values


def _names(items: Sequence[Any]) -> str:
    return ", ".join(str(item["key"]) if isinstance(item, Mapping) and "key" in item else "an item" for item in items)
