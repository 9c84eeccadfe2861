"""Writing a store: one video after the other, the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from vidprep.errors import FeatureError
from vidprep.features.arrays import ArrayKind, kinds_to_json
from vidprep.features.sink import Sink
from vidprep.features.store import FORMAT, VERSION, FeatureStore

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "lzf": {"compression": "lzf", "shuffle": True},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
}
"""How arrays may be packed. ``lzf`` is h5py's own; other readers of HDF5 know ``gzip``."""
_CHUNK_BYTES = 1 << 16  # small frames share a chunk: each costs a look-up and a checksum
# This format of HDF5 has checksums of its structures, so that damage shows; those of the numbers are asked for.
_FORMAT_OF_HDF5 = ("v110", "v110")


class FeatureWriter:
    """Writes a store; a context manager. What was not finished, because of an exception or a kill, is no store.

    Parameters
    ----------
    path : path
        The file, which is begun anew.
    dataset : mapping
        Name, classes and splits (the cells of each), as the shards' index has them.
    recipe : mapping
        How the arrays are made; a reader can ask for it.
    kinds : mapping of str to ArrayKind
        The arrays that a video may have.
    compression : {"none", "lzf", "gzip"}
    """

    def __init__(
        self,
        path: Path,
        dataset: Mapping[str, Any],
        recipe: Mapping[str, Any],
        kinds: Mapping[str, ArrayKind],
        *,
        compression: str = "lzf",
    ) -> None:
        self._path, self._sink = path, Sink(path)
        self._file = h5py.File(self._sink, "w", libver=_FORMAT_OF_HDF5)
        self._videos = self._file.create_group("videos")
        self._dataset, self._recipe, self._kinds = dataset, recipe, dict(kinds)
        self._filters = COMPRESSIONS[compression] | {"fletcher32": True}
        self._keys: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._num_frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._sink.close()
        if kind is None:
            self._sink.check()

    def add(self, key: str, cell: str, facts: Mapping[str, Any], pieces: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        """Write one video; an exception of ``pieces`` passes, and leaves the store without the video.

        Parameters
        ----------
        key, cell : str
            The sample's key, and its cell of the splits.
        facts : mapping
            What is to be known of the video; its ``pts_seconds`` are the times of the frames.
        pieces : iterable of mappings
            Arrays by name, some frames of each, one piece after the other; what belongs to the video as a whole
            comes in one of them.

        Raises
        ------
        OSError
            If the disk is full.
        FeatureError
            If arrays and frames are not as many, or of another type than the store's.
        """
        if key in self._keys:
            raise FeatureError(f"key={key}: the store has it already; write each video once")
        group = self._group(key)
        try:
            num_written: dict[str, int] = {}
            num_frames = len(facts["pts_seconds"])
            for piece in pieces:
                for name, array in piece.items():
                    self._write(group, name, array, num_written.get(name, 0), num_frames)
                    num_written[name] = num_written.get(name, 0) + len(array)
            for name, number in num_written.items():
                if self._kinds[name].is_by_frame and number != num_frames:
                    raise FeatureError(f"{name}: {number} frames, the video has {num_frames}; write all of them")
            self._write_json(group, "json", facts)
            self._file.flush()  # so that a full disk shows here
            self._sink.check()
        except BaseException:
            del self._videos[key]
            raise
        self._keys[key] = cell
        self._num_frames += num_frames

    def fail(self, key: str, reason: str) -> None:
        """Note that a video could not be read."""
        self._failed[key] = reason

    def copy(self, store: FeatureStore) -> None:
        """Take over all videos of another store, as they stand; FeatureError if one can't be read or written."""
        with store.reading(f"{store.path}, copied to {self._path}") as file:
            for key, cell in store.cells.items():
                parent, _, name = key.rpartition("/")
                file.copy(f"videos/{key}", self._group(parent) if parent else self._videos, name=name)
                self._keys[key] = cell
        self._file.flush()
        self._sink.check()
        self._failed |= store.failed
        self._num_frames += store.num_frames

    def _group(self, path: str) -> h5py.Group:
        """Make a group and those above it one by one: HDF5 gives those that it makes by itself a clock."""
        group = self._videos
        for name in path.split("/"):
            group = group[name] if name in group else group.create_group(name)
        return group

    def _write(self, group: h5py.Group, name: str, array: NDArray[Any], first: int, num_frames: int) -> None:
        kind = self._kinds.get(name)
        if kind is None or array.dtype != np.dtype(kind.dtype) or array.ndim != len(kind.axes):
            raise FeatureError(f"{name}: {array.shape} of {array.dtype}: the store has {kind or 'none'} of this name")
        if name not in group:
            shape = (num_frames, *array.shape[1:]) if kind.is_by_frame else array.shape
            group.create_dataset(name, shape, array.dtype, **self._layout(shape, array.dtype.itemsize, kind))
        dataset = group[name]
        if dataset.shape[1:] != array.shape[1:] or first + len(array) > dataset.shape[0]:
            raise FeatureError(
                f"{name}: {array.shape} at {first} doesn't fit into {dataset.shape}; the sizes must agree"
            )
        if array.size:
            dataset[first : first + len(array)] = array

    def _layout(self, shape: tuple[int, ...], item_bytes: int, kind: ArrayKind) -> dict[str, Any]:
        """Return chunks of whole frames, with the filters; nothing for an array of nothing."""
        if 0 in shape:
            return {}
        frame_bytes = int(np.prod(shape[1:], dtype=np.int64)) * item_bytes
        num_frames = min(max(_CHUNK_BYTES // frame_bytes, 1), shape[0]) if kind.is_by_frame else shape[0]
        return {"chunks": (num_frames, *shape[1:]), **self._filters}

    def _write_json(self, group: h5py.Group, name: str, value: object) -> None:
        data = np.frombuffer(json.dumps(value, allow_nan=False, separators=(",", ":")).encode(), np.uint8)
        group.create_dataset(name, data=data, chunks=data.shape, fletcher32=True, compression="gzip")

    def _finish(self) -> None:
        """Write the tables, and last of all the format: without it, the file is no store."""
        for name, texts in (("keys", list(self._keys)), ("cells", list(self._keys.values()))):
            table = np.array([text.encode() for text in texts], np.bytes_) if texts else np.empty(0, "S1")
            filters = {"chunks": table.shape, "fletcher32": True, "compression": "gzip"} if texts else {}
            self._file.create_dataset(name, data=table, **filters)
        whole = {
            "dataset": self._dataset,
            "recipe": self._recipe,
            "arrays": kinds_to_json(self._kinds),
            "failed": self._failed,
            "num_frames": self._num_frames,
        }
        self._write_json(self._file, "json", whole)
        attributes = self._file.attrs  # for people: HDF5 has no checksums of their texts, so readers take the json
        attributes["recipe"] = json.dumps(self._recipe)
        attributes["arrays"] = json.dumps(kinds_to_json(self._kinds))
        attributes["weights_sha256"] = self._recipe.get("export", {}).get("weights_sha256", "")
        attributes["version"] = VERSION
        attributes["format"] = FORMAT
