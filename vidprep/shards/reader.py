"""Reading shards without torch: samples as dictionaries of bytes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprep.errors import ShardError

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
        try:
            facts: dict[str, Any] = json.loads(self.entries["json"])
        except (KeyError, ValueError) as error:
            raise ShardError(f"key={self.key}: no json can be read ({error!r}); run vidprep verify") from error
        return facts


def read_samples(shard: Path) -> Iterator[Sample]:
    """Yield the samples of one tar in order; ShardError if it is missing, cut or no tar."""
    key: str | None = None
    entries: dict[str, bytes] = {}
    start = 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                stem, _, entry = base.partition(".")
                member_key = f"{folder}{slash}{stem}"
                if member_key != key:
                    if key is not None:
                        yield Sample(key, entries, start, member.offset - start)
                    key, entries, start = member_key, {}, member.offset
                file = tar.extractfile(member)
                if file is None or entry in entries:
                    raise ShardError(f"{shard}: member {member.name} is no file or is there twice; extract again")
                entries[entry] = file.read()
            end = _check_end(tar, shard)
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{shard}: {error}; the tar is missing or damaged, run vidprep verify") from error
    if key is not None:
        yield Sample(key, entries, start, end - start)


def _check_end(tar: tarfile.TarFile, shard: Path) -> int:
    """Return where the members end. After the first one tarfile takes a damaged or missing header for the end."""
    end = tar.offset
    assert tar.fileobj is not None
    tar.fileobj.seek(end)
    if tar.fileobj.read(len(_TAR_END)) != _TAR_END:
        raise ShardError(f"{shard}: the tar is cut or damaged at byte {end}; run vidprep verify")
    return end
