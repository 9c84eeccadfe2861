"""Reading a store: a mapping from keys to videos, and from names to arrays that are read when they are asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from vidprep.errors import FeatureError
from vidprep.features.arrays import ArrayKind, kinds_from_json
from vidprep.features.recipe import differences
from vidprep.reading import readable

FORMAT = "vidprep-features"
VERSION = 1
SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What every HDF5 file begins with."""
_CURE = "not as vidprep writes it; export anew with --overwrite"


class FeatureStore(Mapping[str, "StoredVideo"]):
    """The arrays of many videos: ``store[key]["motion"][8:24]``.

    Any number of processes may read a store at once. Each opens the file by itself, forked ones too.

    Parameters
    ----------
    path : path
        What ``vidprep export`` wrote.
    recipe : mapping, optional
        What the store must have been made with; entries that it lacks are not compared. So
        ``{"export": {"weights_sha256": "1f..."}}`` refuses the features of other weights.

    Attributes
    ----------
    dataset : dict
        Name, classes and splits (the cells of each).
    recipe : dict
        How it was made: ``shards``, ``export`` and ``tools``.
    kinds : dict of str to ArrayKind
        The arrays that its videos may have.
    cells : dict of str to str
        The videos' keys in order, with their cells.
    failed : dict of str to str
        Videos that could not be read when it was made, with the reasons.
    num_frames : int
        Of all videos.

    Raises
    ------
    FeatureError
        If the file is no store, is damaged, or was made in another way.
    """

    def __init__(self, path: str | Path, recipe: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = 0
        self._identity = self._look()
        try:
            self._read_tables()
            self.expect(recipe or {})
        except BaseException:
            self.close()
            raise

    def _read_tables(self) -> None:
        with self.reading(str(self.path)) as file:
            if (file.attrs.get("format"), file.attrs.get("version")) != (FORMAT, VERSION):
                raise FeatureError(
                    f"{self.path}: not a store of features of version {VERSION}; give a file that vidprep export wrote"
                )
            whole = read_json(file["json"])
            self.dataset: dict[str, Any] = {**whole["dataset"]}
            self.recipe: dict[str, Any] = {**whole["recipe"]}
            self.kinds: dict[str, ArrayKind] = kinds_from_json(whole["arrays"])
            self.failed: dict[str, str] = {**whole["failed"]}
            self.num_frames = int(whole["num_frames"])
            keys, cells = ([text.decode("ascii") for text in file[name][:]] for name in ("keys", "cells"))
            self.cells: dict[str, str] = dict(zip(keys, cells, strict=True))

    def expect(self, recipe: Mapping[str, Any]) -> None:
        """Refuse a store that was made in another way; entries that ``recipe`` lacks are not compared."""
        found = differences(recipe, self.recipe)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise FeatureError(
                f"{self.path}: stale: wanted is {found[0]}{more}; export anew with --overwrite, or to another file"
            )

    def __getitem__(self, key: str) -> StoredVideo:
        if key not in self.cells:
            raise KeyError(key)
        return StoredVideo(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}: {len(self)} videos, {', '.join(self.kinds)})"

    @property
    def classes(self) -> list[str]:
        """The names of the labels, in order."""
        return list(self.dataset["classes"])

    def keys_of(self, split: str | None = None) -> list[str]:
        """Return the keys of a split such as ``split1/train``, or all, in the shards' order.

        Raises
        ------
        FeatureError
            If there is no such split; the message lists those that there are.
        """
        if split is None:
            return list(self.cells)
        chosen = self.dataset["splits"].get(split)
        if chosen is None:
            known = ", ".join(self.dataset["splits"]) or "none"
            raise FeatureError(f"split={split}: not in {self.path}; it has: {known}")
        return [key for key, cell in self.cells.items() if cell in chosen]

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    @contextmanager
    def reading(self, what: str) -> Iterator[h5py.File]:
        """Lend this process's handle of the file; what goes wrong becomes a FeatureError that names ``what``."""
        with readable(what, FeatureError, _CURE):
            if self._file is None or self._owner != os.getpid():  # a handle that came with a fork is its parent's
                self._open()
            yield self._file

    def _open(self) -> None:
        if self._look() != self._identity:
            raise FeatureError(f"{self.path}: another file has taken its place; open the store anew")
        self.close()
        # A finished store never changes, and not every network file system has locks.
        self._file, self._owner = h5py.File(self.path, "r", locking=False), os.getpid()

    def _look(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise FeatureError(f"{self.path}: {error.strerror}; make it with vidprep export") from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class StoredVideo(Mapping[str, "StoredArray"]):
    """One video of a store: its arrays by name, and what is known of it.

    Parameters
    ----------
    store : FeatureStore
    key : str
    """

    def __init__(self, store: FeatureStore, key: str) -> None:
        self._store, self.key = store, key
        # No cached_property: Python 3.11's has a lock; forked while another thread holds it, a process waits forever.
        self._facts: dict[str, Any] | None = None
        self._names: list[str] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The sample's json, with ``pts_seconds``, ``frame_indices`` and ``picture_types`` of the stored frames."""
        if self._facts is None:
            with self._store.reading(f"{self._store.path}: key={self.key}") as file:
                self._facts = {**read_json(file[f"videos/{self.key}/json"])}
        return self._facts

    @property
    def times(self) -> NDArray[np.float64]:
        """Times of the stored frames [shape=(T,), dtype=float64, seconds]."""
        return np.asarray(self.facts["pts_seconds"], np.float64)

    @property
    def labels(self) -> list[int]:
        """Indices into the store's classes."""
        return list(self.facts["labels"])

    def __getitem__(self, name: str) -> StoredArray:
        if name not in self._found():
            raise KeyError(name)
        return StoredArray(self._store, f"videos/{self.key}/{name}")

    def _found(self) -> list[str]:
        if self._names is None:
            with self._store.reading(f"{self._store.path}: key={self.key}") as file:
                group = file[f"videos/{self.key}"]
                self._names = [name for name in self._store.kinds if name in group]
        return self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


class StoredArray:
    """One array of a video, read when it is indexed: by frames first, as NumPy does it.

    Parameters
    ----------
    store : FeatureStore
    name : str
        Where it stands in the file.
    """

    def __init__(self, store: FeatureStore, name: str) -> None:
        self._store, self._name = store, name
        with store.reading(f"{store.path}: {name}") as file:
            dataset = file[name]
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype[Any] = dataset.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredArray({self._name}: {self.shape}, {self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        """Return some frames, and parts of them; only the chunks of these frames are read.

        Parameters
        ----------
        index : int, slice, sequence of int, or a tuple of one of them and of slices
        """
        frames, *rest = index if isinstance(index, tuple) else (index,)
        if frames is Ellipsis:
            return self[(slice(None), Ellipsis, *rest)]
        wanted = np.arange(len(self))[frames]
        array = self._read(np.atleast_1d(wanted))
        return (array if wanted.ndim else array[0])[(slice(None),) * wanted.ndim + tuple(rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("copy=False: the array is in a file; leave it out")
        return np.asarray(self[:], dtype)

    def _read(self, frames: NDArray[np.int64]) -> NDArray[Any]:
        """Read frames in any order [shape=(n, ...)], run by run of consecutive ones."""
        chosen, places = np.unique(frames, return_inverse=True)
        array = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        with self._store.reading(f"{self._store.path}: {self._name}") as file:
            dataset = file[self._name]
            edges = [0, *(np.flatnonzero(np.diff(chosen) != 1) + 1).tolist(), len(chosen)]
            for begin, end in pairwise(edges):
                if array[begin:end].size:
                    where = np.s_[begin:end]
                    dataset.read_direct(array, np.s_[chosen[begin] : chosen[begin] + end - begin], where)
        return array if np.array_equal(chosen, frames) else array[places]


def read_json(dataset: h5py.Dataset) -> Any:
    """Return what stands in a dataset as JSON."""
    return json.loads(bytes(dataset[:]))
