"""The index: which shards are done, with sizes and checksums, and a status row for every video."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidprep.errors import ShardError
from vidprep.shards.files import check_fields, parse_json, read_bytes, to_json, whole_file, write_json
from vidprep.shards.plan import FORMAT, VERSION, Plan

INDEX_NAME = "index.json"
STATUS_FOLDER = "status"


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one planned row.

    Attributes
    ----------
    key, path : str
        The sample's key and the video's path below the dataset's root.
    error : str or None
        Why it failed; None if it did not.
    offset_bytes, num_bytes : int
        Where its members stand in the shard.
    num_frames : int
        Stored frames.
    facts : dict
        Sizes by kind of entry and other figures that summaries add up.
    """

    key: str
    path: str
    error: str | None = None
    offset_bytes: int = 0
    num_bytes: int = 0
    num_frames: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One finished shard; without samples (all failed) there is no file and no checksum."""

    name: str
    cell: str
    num_samples: int
    num_failed: int
    num_frames: int
    num_bytes: int
    sha256: str | None


@dataclass
class Index:
    """The finished shards of a folder, in the plan's order.

    Attributes
    ----------
    dataset : dict
        Name, classes and splits (which cells make up ``split1/train``), as the manifest gave them.
    recipe : dict
        How the samples were made.
    shards : dict
        Finished shards by file name.
    is_complete : bool
        Whether the extraction had come to its end, as the file says.
    """

    dataset: Mapping[str, Any]
    recipe: Mapping[str, Any]
    shards: dict[str, ShardEntry] = field(default_factory=dict)
    is_complete: bool = True

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these shards from others: the dataset's rows, the recipe, and a digest over all shards."""
        shards = [[entry.name, entry.sha256] for entry in self.shards.values()]
        return {
            "dataset": self.dataset["name"],
            "rows_sha256": self.dataset["rows_sha256"],
            "shards_sha256": hashlib.sha256(to_json(shards)).hexdigest(),
            "recipe": {**self.recipe},
        }

    def shards_of(self, split: str | None = None) -> list[ShardEntry]:
        """Return the shards of a split such as ``split1/train``, or all; those without samples are left out."""
        cells = None if split is None else self.dataset["splits"].get(split)
        if split is not None and cells is None:
            known = ", ".join(self.dataset["splits"]) or "none"
            raise ShardError(f"split={split}: not in these shards; they have: {known}")
        entries = (entry for entry in self.shards.values() if entry.num_samples)
        return [entry for entry in entries if cells is None or entry.cell in cells]


def save_index(folder: Path, index: Index, plan: Plan) -> None:
    """Write ``index.json``, whole or not at all."""
    write_json(folder / INDEX_NAME, index_json(index, plan))


def index_json(index: Index, plan: Plan) -> dict[str, Any]:
    """Return what ``index.json`` says, with the shards in the plan's order, whatever the order they were made in."""
    entries = [index.shards[shard.name] for shard in plan.shards if shard.name in index.shards]
    ordered = Index(index.dataset, index.recipe, {entry.name: entry for entry in entries})
    return {
        "format": FORMAT,
        "version": VERSION,
        "dataset": index.dataset,
        "recipe": index.recipe,
        "complete": len(entries) == len(plan.shards),
        "num_samples": sum(entry.num_samples for entry in entries),
        "num_failed": sum(entry.num_failed for entry in entries),
        "splits": {split: [entry.name for entry in ordered.shards_of(split)] for split in index.dataset["splits"]},
        "shards": [asdict(entry) for entry in entries],
    }


def load_index(folder: Path) -> Index:
    """Read ``index.json``; ShardError if there is none, or if it is of another version."""
    return parse_index(read_bytes(folder / INDEX_NAME), folder / INDEX_NAME)


def parse_index(content: bytes, where: object) -> Index:
    """Read what ``index.json`` says; ShardError that names ``where`` it stood if it is of another version."""
    data = parse_json(content, where)
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ShardError(f"{where}: not an index of version {VERSION}; extract again with --overwrite")
    try:
        entries = [ShardEntry(**entry) for entry in data["shards"]]
        shards = {entry.name: entry for entry in entries}
        index = Index({**data["dataset"]}, {**data["recipe"]}, shards, is_complete=bool(data["complete"]))
        for entry in entries:
            check_fields(entry)
        return index
    except (KeyError, TypeError) as error:
        raise ShardError(f"{where}: incomplete ({error}); extract again with --overwrite") from error


def save_statuses(folder: Path, shard_name: str, statuses: Iterable[Status]) -> None:
    """Write the status rows of one shard, one JSON object a line, in the plan's order."""
    (folder / STATUS_FOLDER).mkdir(exist_ok=True)
    with whole_file(status_path(folder, shard_name)) as file:
        for status in statuses:
            file.write(to_json(asdict(status)) + b"\n")


def load_statuses(folder: Path, shard_name: str) -> list[Status]:
    """Read the status rows of one shard; ShardError if they are missing or broken."""
    path = status_path(folder, shard_name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _no_statuses(path, error) from error
    return parse_statuses(content, path)


def parse_statuses(content: bytes, where: object) -> list[Status]:
    """Read status rows; ShardError that names ``where`` they stood if they are broken."""
    try:
        statuses = [Status(**json.loads(line)) for line in content.splitlines()]
        for status in statuses:
            check_fields(status)
        return statuses
    except (ValueError, TypeError) as error:
        raise _no_statuses(where, error) from error


def _no_statuses(where: object, error: Exception) -> ShardError:
    return ShardError(
        f"{where}: no status rows can be read ({error}); remove it and run the same vidprep extract command again"
    )


def status_name(shard_name: str) -> str:
    """Return the name, below the folder, of the file with a shard's status rows."""
    return f"{STATUS_FOLDER}/{shard_name.removesuffix('.tar')}.jsonl"


def status_path(folder: Path, shard_name: str) -> Path:
    """Return where the status rows of a shard lie."""
    return folder / status_name(shard_name)
