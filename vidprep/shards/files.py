"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

from vidprep.errors import ShardError, UsageError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a file can't grow; a run ends at it, and goes on when there is space."""
_CHUNK_BYTES = 1 << 20
_locks: set[int] = set()  # descriptors of folders that this process has locked


def _leave_locks() -> None:
    """Close, in a process that was forked, what its parent has locked: a worker that outlives it must not keep it."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_leave_locks)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path.part`` for writing; on success it is fsynced and renamed, on failure removed."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk names no file
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path, command: str, option: str, value: Path) -> Iterator[bool]:
    """Create and lock a folder: one run at a time may write to it. What it yields tells whether the folder is new.

    Parameters
    ----------
    folder : path
    command, option, value : str, str and path
        What the user gave: ``vidprep extract``, ``out`` and ``shards``.

    Raises
    ------
    UsageError
        If the folder can't be made.
    ShardError
        If another run has it.
    """
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        rule = f"{option}={value}: {error.strerror}; choose a folder that can be written (--{option})"
        raise UsageError(rule) from error
    _locks.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(descriptor).st_nlink > 0  # else the other run has just ended, and removed it
        except BlockingIOError:
            is_there = False
        if not is_there:
            raise ShardError(f"{option}={value}: another {command} is writing to it; wait for it, or end it")
        yield is_new
    finally:
        if descriptor in _locks:
            _locks.remove(descriptor)
            os.close(descriptor)


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder afterwards that nothing was written to: so a run that is refused leaves none behind."""
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def to_json(value: object) -> bytes:
    """Return one value as ASCII JSON, the same bytes each time; NaN is refused."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that a person can read, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=True, allow_nan=False, indent=1).encode() + b"\n")


def read_bytes(path: Path) -> bytes:
    """Read a file; ShardError if it can't be."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ShardError(f"{path}: no such file; is {path.parent} a folder that vidprep extract wrote?") from error
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}; give the folder that vidprep extract wrote") from error


def parse_json(data: bytes, where: object) -> Any:
    """Read JSON; ShardError that names ``where`` it stood if it is broken."""
    try:
        return json.loads(data)
    except ValueError as error:
        raise ShardError(f"{where}: not readable as JSON ({error}); extract again with --overwrite") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; ShardError if it is missing or broken."""
    return parse_json(read_bytes(path), path)


def check_fields(record: Any) -> None:
    """TypeError unless a dataclass read from JSON holds what its annotations say."""
    kinds = {"str": str, "int": int, "str | None": str | None, "Mapping[str, Any]": dict}
    for field in fields(record):
        value = getattr(record, field.name)
        if not isinstance(value, kinds[str(field.type)]) or isinstance(value, bool):
            raise TypeError(f"{field.name}={value!r} is no {field.type}")


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
