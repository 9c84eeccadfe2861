"""The file under a store that is written: HDF5 never learns that a disk is full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Sink(io.FileIO):
    """A file that keeps the first error to itself, and takes everything after it for written.

    HDF5 writes late, when things are closed, and can't go on after an error there: it prints tracebacks, or crashes.
    Whoever writes through it must call ``check`` before the result counts.

    Parameters
    ----------
    path : path
        The file, which is begun anew.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of some bytes."""
        left = memoryview(data).cast("B")
        num_bytes = len(left)
        with self._keeping():
            while left and self._error is None:
                left = left[super().write(left) :]
        return num_bytes

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size in bytes."""
        with self._keeping():
            super().truncate(size)
        return size or 0

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error
