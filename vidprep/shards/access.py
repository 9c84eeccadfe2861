"""Random access to shards: any sample of a folder, and of a sample any entry, by where the index says they stand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import ShardError
from vidprep.reading import readable
from vidprep.shards.index import INDEX_NAME, Index, ShardEntry, parse_index, parse_statuses, status_name
from vidprep.shards.sample import BLOCK_BYTES
from vidprep.shards.sources import Part, open_source

_HEADERS_BYTES = 1 << 16


class Entries(Mapping[str, bytes]):
    """The entries of one sample, read when they are asked for.

    Parameters
    ----------
    data : Part
        The sample's members as they stand in the tar; what a slice of it doesn't touch is not read.
    key : str
        The sample's key, which every member must have.
    """

    def __init__(self, data: Part, key: str) -> None:
        self._data = data
        self._places = dict(_members(data, key))

    def __getitem__(self, name: str) -> bytes:
        return self._data[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _members(data: Part, key: str) -> Iterator[tuple[str, slice]]:
    """Yield the name without the key, and the place, of each member."""
    position = 0
    prefix = f"{key}."
    while position < len(data):
        header = data[position : position + BLOCK_BYTES]
        name = header[:100].rstrip(b"\0").decode("ascii", "replace")
        size = int(header[124:135], 8)
        if header[156:157] in (b"0", b"\0") and name.startswith(prefix):
            body = position + BLOCK_BYTES
        else:  # a long name stands in a header of its own
            with tarfile.open(fileobj=io.BytesIO(data[position : position + _HEADERS_BYTES]), mode="r:") as tar:
                member = tar.next()
            if member is None or not member.isfile() or not member.name.startswith(prefix):
                raise ShardError(f"key={key}: another sample stands in its place")
            name, size, body = member.name, member.size, position + member.offset_data
        if body + size > len(data):
            raise ShardError(f"key={key}: its member {name} is cut")
        yield name[len(prefix) :], slice(body, body + size)
        position = body + size + -size % BLOCK_BYTES


class _Places(NamedTuple):
    """Where the samples of one shard stand; arrays, since there may be a million of them."""

    keys: NDArray[np.bytes_]
    offsets_bytes: NDArray[np.int64]
    sizes_bytes: NDArray[np.int64]


class ShardFolder:
    """Finished shards, any sample of which is read by its number.

    Parameters
    ----------
    root : path or str
        What ``vidprep extract`` wrote: a folder, or the ``http://`` or ``https://`` address of one.
    timeout_seconds : float
        How long a server may send nothing.

    Raises
    ------
    UsageError
        If the root is an address of another kind.
    ShardError
        If there is no index.
    RemoteError
        If the server can't be reached, or falls silent; likewise when samples are read.
    """

    def __init__(self, root: str | Path, timeout_seconds: float = 60.0) -> None:
        self.source = open_source(root, timeout_seconds)
        self.index: Index = parse_index(self.source.read(INDEX_NAME), self.source.path(INDEX_NAME))
        self._places: dict[str, _Places] = {}
        self._latest: tuple[ShardEntry, int, str, Entries] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_latest": None}  # it may hold an open file

    def read(self, shard: ShardEntry, number: int) -> tuple[str, Entries]:
        """Return the key and the entries of a shard's sample by its number.

        Raises
        ------
        ShardError
            If the shard is gone, or is not what the index says.
        """
        latest = self._latest
        if latest is None or latest[:2] != (shard, number):  # the views of a sample follow each other
            latest = self._latest = (shard, number, *self._read(shard, number))
        return latest[2:]

    def key(self, shard: ShardEntry, number: int) -> str:
        """Return the key of a shard's sample by its number; errors as with :meth:`read`."""
        return str(self._places_of(shard).keys[number].decode())

    def _read(self, shard: ShardEntry, number: int) -> tuple[str, Entries]:
        places, key = self._places_of(shard), self.key(shard, number)
        place = int(places.offsets_bytes[number]), int(places.sizes_bytes[number])
        data = self.source.part(shard.name, *place, shard.num_bytes)
        with readable(f"{self.source.path(shard.name)}: key={key}"):
            return key, Entries(data, key)

    def _places_of(self, shard: ShardEntry) -> _Places:
        if shard.name not in self._places:
            self._places[shard.name] = self._load_places(shard)
        return self._places[shard.name]

    def _load_places(self, shard: ShardEntry) -> _Places:
        name = status_name(shard.name)
        where = self.source.path(name)
        statuses = [row for row in parse_statuses(self.source.read(name), where) if row.error is None]
        if len(statuses) != shard.num_samples:
            raise ShardError(
                f"{where}: its rows name {len(statuses)} samples, the index {shard.num_samples}; run vidprep verify"
            )
        places = _Places(
            np.array([row.key.encode() for row in statuses]),
            np.array([row.offset_bytes for row in statuses], np.int64),
            np.array([row.num_bytes for row in statuses], np.int64),
        )
        ends = places.offsets_bytes + places.sizes_bytes
        if min(places.offsets_bytes) < 0 or min(places.sizes_bytes) < BLOCK_BYTES or max(ends) > shard.num_bytes:
            raise ShardError(f"{where}: samples stand outside of {shard.name}; run vidprep verify")
        return places
