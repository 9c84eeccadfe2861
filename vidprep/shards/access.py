"""Random access to shards: any sample of a folder, and of a sample any entry, by where the index says they stand."""

from __future__ import annotations

import io
import mmap
import tarfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from vidprep.errors import ShardError
from vidprep.reading import readable
from vidprep.shards.index import Index, ShardEntry, Status, load_index, load_statuses
from vidprep.shards.sample import BLOCK_BYTES

_HEADERS_BYTES = 1 << 16
_MAX_OPEN = 64  # shards mapped at a time: their descriptors count


class Entries(Mapping[str, bytes]):
    """The entries of one sample, read when they are asked for.

    Parameters
    ----------
    data : bytes-like
        The sample's members as they stand in the tar.
    key : str
        The sample's key, which every member must have.
    """

    def __init__(self, data: memoryview, key: str) -> None:
        self._data = data
        self._places = dict(_members(data, key))

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._data[self._places[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _members(data: memoryview, key: str) -> Iterator[tuple[str, slice]]:
    """Yield the name without the key, and the place, of each member."""
    position = 0
    prefix = f"{key}."
    while position < len(data):
        header = bytes(data[position : position + BLOCK_BYTES])
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


class ShardFolder:
    """Finished shards on disk; open files are kept, up to a number.

    Parameters
    ----------
    root : Path
        What ``vidprep extract`` wrote.

    Raises
    ------
    ShardError
        If there is no index.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index: Index = load_index(root)
        self._statuses = lru_cache(maxsize=None)(self._load_statuses)
        self._maps = lru_cache(maxsize=_MAX_OPEN)(self._map)

    def __reduce__(self) -> tuple[type[ShardFolder], tuple[Path]]:
        return type(self), (self.root,)

    def read(self, shard: ShardEntry, number: int) -> tuple[str, Entries]:
        """Return the key and the entries of a shard's sample by its number.

        Raises
        ------
        ShardError
            If the shard is gone, or is not what the index says.
        """
        status = self._statuses(shard)[number]
        data = self._maps(shard)
        with readable(f"{self.root / shard.name}: key={status.key}"):
            return status.key, Entries(data[status.offset_bytes : status.offset_bytes + status.num_bytes], status.key)

    def key(self, shard: ShardEntry, number: int) -> str:
        """Return the key of a shard's sample by its number."""
        return self._statuses(shard)[number].key

    def _load_statuses(self, shard: ShardEntry) -> list[Status]:
        statuses = [status for status in load_statuses(self.root, shard.name) if status.error is None]
        if len(statuses) != shard.num_samples:
            raise ShardError(
                f"{self.root / shard.name}: its status rows name {len(statuses)} samples, the index"
                f" {shard.num_samples}; run vidprep verify"
            )
        return statuses

    def _map(self, shard: ShardEntry) -> memoryview:
        path = self.root / shard.name
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path}: can't be read ({error}); extract again, or copy it anew") from error
        if len(data) != shard.num_bytes:
            raise ShardError(
                f"{path}: num_bytes={len(data)} is not the {shard.num_bytes} that the index says; run vidprep verify"
            )
        return memoryview(data)
