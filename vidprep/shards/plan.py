"""The plan: which sample goes into which shard, made before anything is extracted and never changed by results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprep.errors import ShardError
from vidprep.shards.files import check_fields, read_json, write_json

PLAN_NAME = "plan.json"
FORMAT = "vidprep-shards"
VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One sample to be made.

    Attributes
    ----------
    key, cell : str
        The sample's key and its cell of the split lattice.
    row : dict
        What the manifest says of it, as JSON.
    estimated_bytes : int
        What the probe promised; only the cut into shards depends on it.
    """

    key: str
    cell: str
    row: Mapping[str, Any]
    estimated_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard to be written: its file name, cell and rows in order."""

    name: str
    cell: str
    rows: tuple[PlanRow, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All shards of an extraction, the dataset that they hold and the recipe that makes them.

    ``dataset`` has the manifest's name and classes, which cells make up each split, and a digest of its rows.
    """

    dataset: Mapping[str, Any]
    recipe: Mapping[str, Any]
    shards: tuple[PlannedShard, ...]

    @property
    def num_rows(self) -> int:
        """Number of samples planned."""
        return sum(len(shard.rows) for shard in self.shards)


def make_plan(rows: Sequence[PlanRow], dataset: Mapping[str, Any], recipe: Mapping[str, Any], shard_bytes: int) -> Plan:
    """Order the rows of each cell by sha256(key), so that shards mix classes, and cut them by estimated size."""
    cells: dict[str, list[PlanRow]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    shards: list[PlannedShard] = []
    for cell in sorted(cells):
        ordered = sorted(cells[cell], key=lambda row: hashlib.sha256(row.key.encode()).digest())
        shards += [
            PlannedShard(f"{cell}-{i:06d}.tar", cell, tuple(part)) for i, part in enumerate(_cut(ordered, shard_bytes))
        ]
    return Plan(dataset, recipe, tuple(shards))


def _cut(rows: Sequence[PlanRow], shard_bytes: int) -> Iterator[list[PlanRow]]:
    part: list[PlanRow] = []
    size = 0
    for row in rows:
        if part and size + row.estimated_bytes > shard_bytes:
            yield part
            part, size = [], 0
        part.append(row)
        size += row.estimated_bytes
    if part:
        yield part


def save_plan(folder: Path, plan: Plan) -> None:
    """Write ``plan.json``, whole or not at all."""
    shards = [
        {
            "name": shard.name,
            "cell": shard.cell,
            "rows": [{"key": row.key, "estimated_bytes": row.estimated_bytes, **row.row} for row in shard.rows],
        }
        for shard in plan.shards
    ]
    head = {"format": FORMAT, "version": VERSION, "dataset": plan.dataset, "recipe": plan.recipe}
    write_json(folder / PLAN_NAME, {**head, "shards": shards})


def load_plan(folder: Path) -> Plan:
    """Read ``plan.json``; ShardError if there is none, or if it is of another version."""
    data = read_json(folder / PLAN_NAME)
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ShardError(f"{folder / PLAN_NAME}: not a plan of version {VERSION}; extract again with --overwrite")
    try:
        shards = tuple(PlannedShard(shard["name"], shard["cell"], _rows(shard)) for shard in data["shards"])
        for row in (row for shard in shards for row in shard.rows):
            check_fields(row)
        return Plan({**data["dataset"]}, {**data["recipe"]}, shards)
    except (KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{folder / PLAN_NAME}: incomplete ({error!r}); extract again with --overwrite") from error


def _rows(shard: Mapping[str, Any]) -> tuple[PlanRow, ...]:
    own = ("key", "estimated_bytes")
    return tuple(
        PlanRow(
            row["key"],
            shard["cell"],
            {name: value for name, value in row.items() if name not in own},
            row["estimated_bytes"],
        )
        for row in shard["rows"]
    )
