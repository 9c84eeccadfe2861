"""Writing one shard: samples are appended in the plan's order, and the name appears when all is on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

from vidprep.errors import ShardError
from vidprep.shards.files import whole_file
from vidprep.shards.index import ShardEntry, Status, save_statuses
from vidprep.shards.plan import PlannedShard

_CHUNK_BYTES = 1 << 20
_TAR_END = bytes(1024)


class ShardWriter:
    """Writes ``NAME.tar.part``; ``finish`` makes it ``NAME.tar`` with its status rows, ``abandon`` removes it.

    Parameters
    ----------
    folder : path
        Where the shards lie.
    planned : PlannedShard
        What is to be written.
    """

    def __init__(self, folder: Path, planned: PlannedShard) -> None:
        self._folder = folder
        self._planned = planned
        self._statuses: list[Status] = []
        self._digest = hashlib.sha256()
        self._num_bytes = 0
        self._context = whole_file(folder / planned.name)
        self._file = self._context.__enter__()

    @property
    def is_full(self) -> bool:
        """Whether every planned row has been answered."""
        return len(self._statuses) == len(self._planned.rows)

    def append(self, status: Status, members: IO[bytes] | None) -> None:
        """Add the next row of the plan: its status and, unless it failed, its tar members.

        ``members`` is read from where it stands, ``status.num_bytes`` long.
        """
        expected = "no more rows" if self.is_full else self._planned.rows[len(self._statuses)].key
        if status.key != expected:
            raise ShardError(f"key={status.key}: the plan of {self._planned.name} has {expected} next; keep its order")
        offset = self._num_bytes
        if members is not None:
            left = status.num_bytes
            while chunk := members.read(min(_CHUNK_BYTES, left)):
                self._write(chunk)
                left -= len(chunk)
            if left:
                raise ShardError(f"key={status.key}: {left} bytes are missing in its spooled sample; extract again")
        self._statuses.append(
            Status(status.key, status.path, status.error, offset, status.num_bytes, status.num_frames, status.facts)
        )

    def finish(self) -> ShardEntry:
        """Close, fsync and rename the shard, write its status rows, and return its line for the index."""
        if not self.is_full:
            raise ShardError(
                f"num_rows={len(self._statuses)}: the plan of {self._planned.name} has {len(self._planned.rows)}; "
                "append them all"
            )
        done = [status for status in self._statuses if status.error is None]
        if done:
            self._write(_TAR_END)
            self._context.__exit__(None, None, None)
        else:
            self.abandon()
            (self._folder / self._planned.name).unlink(missing_ok=True)
        save_statuses(self._folder, self._planned.name, self._statuses)
        return ShardEntry(
            name=self._planned.name,
            cell=self._planned.cell,
            num_samples=len(done),
            num_failed=len(self._statuses) - len(done),
            num_frames=sum(status.num_frames for status in done),
            num_bytes=self._num_bytes,
            sha256=self._digest.hexdigest() if done else None,
        )

    def abandon(self) -> None:
        """Remove the part file."""
        error = ShardError("abandoned")
        try:
            self._context.__exit__(ShardError, error, None)
        except ShardError as raised:
            if raised is not error:
                raise

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._num_bytes += len(data)
