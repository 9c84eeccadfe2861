"""Where shards lie: each source gives whole small files, and parts of tars; a folder on disk here."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

from vidprep.errors import ShardError, UsageError
from vidprep.shards.files import read_bytes
from vidprep.shards.remote import HttpFolder

MAX_OPEN = 64
"""Tars that are open at a time in each process: their descriptors count."""


class Part(Protocol):
    """Some bytes of a file, which slices read."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class Source(Protocol):
    """A folder of shards."""

    def path(self, name: str) -> str:
        """Return where a file is, for messages."""

    def read(self, name: str) -> bytes:
        """Return a whole file; ShardError or RemoteError if it can't be read."""

    def part(self, name: str, offset_bytes: int, num_bytes: int, total_bytes: int) -> Part:
        """Return a part of a file that is ``total_bytes`` long; errors likewise, and if it is not."""


def open_source(root: str | Path, timeout_seconds: float) -> Source:
    """Return the source that a path, or an ``http://`` or ``https://`` URL, names; UsageError for other URLs."""
    if not isinstance(root, str | Path):
        raise UsageError(f"root={root!r}: must be the path or the address of a folder of shards")
    if not timeout_seconds > 0:
        raise UsageError(f"timeout_seconds={timeout_seconds}: must be positive")
    scheme, separator, _ = str(root).partition("://")
    if not separator or isinstance(root, Path):
        return LocalFolder(Path(root))
    if scheme not in ("http", "https"):
        raise UsageError(
            f"root={root}: must be a folder, or an http:// or https:// address; copy the shards here, mount them, or"
            " serve them over https"
        )
    return HttpFolder(str(root), timeout_seconds)


class LocalFolder:
    """A folder on disk; files stay open, up to a number.

    Files are read, not mapped: a mapped file that somebody cuts ends the process with a signal.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file = lru_cache(maxsize=MAX_OPEN)(partial(_File, root))

    def __reduce__(self) -> tuple[type[LocalFolder], tuple[Path]]:
        return type(self), (self.root,)

    def path(self, name: str) -> str:
        """Return the file's path."""
        return str(self.root / name)

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        return read_bytes(self.root / name)

    def part(self, name: str, offset_bytes: int, num_bytes: int, total_bytes: int) -> Part:
        """Return a part of a file, of which no more is read than is asked for."""
        return _FilePart(self._file(name, total_bytes), offset_bytes, num_bytes)


class _File:
    """An open file, closed when nothing refers to it any more."""

    def __init__(self, root: Path, name: str, num_bytes: int) -> None:
        self.path = root / name
        self._descriptor = -1
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            found_bytes = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise self._unreadable(error) from error
        if found_bytes != num_bytes:
            raise ShardError(
                f"{self.path}: num_bytes={found_bytes} is not the {num_bytes} that the index says; run vidprep verify"
            )

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset_bytes: int, num_bytes: int) -> bytes:
        try:
            data = os.pread(self._descriptor, num_bytes, offset_bytes)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != num_bytes:
            raise ShardError(
                f"{self.path}: cut to {os.fstat(self._descriptor).st_size} bytes while it was read; run vidprep verify,"
                " and copy it anew or extract again"
            )
        return data

    def _unreadable(self, error: OSError) -> ShardError:
        return ShardError(f"{self.path}: can't be read ({error.strerror}); copy it anew, or extract again")


class _FilePart:
    def __init__(self, file: _File, offset_bytes: int, num_bytes: int) -> None:
        self._file, self._offset_bytes, self._num_bytes = file, offset_bytes, num_bytes

    def __len__(self) -> int:
        return self._num_bytes

    def __getitem__(self, place: slice, /) -> bytes:
        start, stop, _ = place.indices(self._num_bytes)
        return self._file.read(self._offset_bytes + start, max(stop - start, 0))
