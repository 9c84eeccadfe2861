"""Reading shards without torch: samples as dictionaries of bytes."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprep.errors import ShardError
from vidprep.reading import readable

_TAR_END = bytes(1024)


@dataclass(frozen=True, slots=True)
class Sample:
    """The entries of one video.

    Attributes
    ----------
    key : str
        The sample's key.
    entries : dict
        Data by name without the key, such as ``rgb.000000.jpg``.
    offset_bytes, num_bytes : int
        Where its members stand in the tar.
    """

    key: str
    entries: dict[str, bytes]
    offset_bytes: int = 0
    num_bytes: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The sample's json."""
        with readable(f"key={self.key}: no json can be read"):
            facts: dict[str, Any] = {**json.loads(self.entries["json"])}
        return facts


def read_samples(shard: Path) -> Iterator[Sample]:
    """Yield the samples of one tar in order; ShardError if it is missing, cut or no tar."""
    key: str | None = None
    entries: dict[str, bytes] = {}
    start = 0
    with readable(f"{shard}: the tar is missing or damaged"):
        with _Forward(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                stem, _, entry = base.partition(".")
                member_key = f"{folder}{slash}{stem}"
                if member_key != key:
                    if key is not None:
                        yield Sample(key, entries, start, member.offset - start)
                    key, entries, start = member_key, {}, member.offset
                content = tar.extractfile(member)
                if content is None or member.issparse() or entry in entries:
                    raise ShardError(f"{shard}: member {member.name} is no file or is there twice; extract again")
                entries[entry] = content.read()
        end = _check_end(shard, tar.offset)
    if key is not None:
        yield Sample(key, entries, start, end - start)


class _Forward(io.BufferedReader):
    """A file for tarfile, whatever sizes damaged headers state: it reads on and on, and no more than there is."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._num_bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(max(size or 0, 0), self._num_bytes))

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position < self.tell() - 1:  # before a header, tarfile reads the byte in front of it
            raise tarfile.ReadError(f"position={position}: a header says that the next one stands before it")
        return super().seek(position, whence)


def _check_end(shard: Path, end: int) -> int:
    """Return where the members end. After the first one tarfile takes a damaged or missing header for the end."""
    with shard.open("rb") as file:
        file.seek(end)
        found = file.read(len(_TAR_END))
    if found != _TAR_END:
        raise ShardError(f"{shard}: the tar is cut or damaged at byte {end}; run vidprep verify")
    return end
