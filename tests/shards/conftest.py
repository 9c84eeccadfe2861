"""A folder of shards with every kind of row, made without a video."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.modalities import images, motion, spectrogram
from vidprep.shards.files import to_json
from vidprep.shards.index import Index, Status, save_index
from vidprep.shards.plan import Plan, PlannedShard, PlanRow, make_plan, save_plan
from vidprep.shards.sample import SampleWriter
from vidprep.shards.writer import ShardWriter

RECIPE: dict[str, Any] = {
    "modalities": ["rgb", "motion", "residual", "spectrogram", "pyramid"],
    "layout": "decoded",
    "residual_form": "accumulated",
    "residual_format": "png",
    "levels": [24, 16],
}
DATASET: dict[str, Any] = {
    "name": "made",
    "classes": ["a", "b", "c"],
    "splits": {"one/test": ["test"], "one/train": ["train"], "two/train": ["test", "train"]},
}
ODD_PATH = "folder/caf\udce9 \u00fc.avi"  # bytes that are no UTF-8, as os.fsdecode gives them


def plan_row(
    key: str, cell: str = "all", *, labels: Iterable[int] = (0,), path: str | None = None, size: int = 1
) -> PlanRow:
    row = {
        "path": path or f"{key}.avi",
        "labels": list(labels),
        "start_seconds": None,
        "end_seconds": None,
        "splits": [cell],
    }
    return PlanRow(key, cell, row, size)


ROWS = [
    *[plan_row(f"clip{i}", "train", labels=[i % 2]) for i in range(7)],
    plan_row("folder/caf%E9%20%C3%BC%2Eavi@0-1500", "train", labels=[0, 1], path=ODD_PATH),
    *[plan_row(f"held{i}", "test", labels=[1]) for i in range(3)],
    plan_row("nolabel", "test", labels=[]),
    plan_row("broken0", "test"),
    plan_row("broken1", "train"),
    plan_row("broken2", "hopeless"),
    plan_row("broken3", "hopeless"),
]


def facts_of(row: PlanRow) -> dict[str, Any]:
    """A json as extraction writes it: the four first of six frames, and of these the 0th, 2nd and 3rd."""
    return {
        "key": row.key,
        **row.row,
        "num_frames": 4,
        "frame_indices": [0, 2, 3],
        "picture_types": "IPPP",
        "pts_seconds": [0.0, 0.04, 0.08, 0.12],
        "has_audio": row.key.startswith("clip"),
        "motion_exact": row.key != "nolabel",
        "decode_errors": 2 if row.key == "nolabel" else 0,
        "motion": {"num_blocks": 5},
        "spectrogram": {"num_bins": 4, "num_columns": 7},
        "recipe": RECIPE,
    }


def entries_of(row: PlanRow) -> dict[str, bytes]:
    """All entries of a sample, in the order in which extraction writes them."""
    rng = np.random.default_rng(len(row.key))
    facts, entries = facts_of(row), {}
    for i in range(3):
        picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
        entries[f"rgb.{i:06d}.jpg"] = images.encode_jpeg(picture, "420")
        entries[f"residual.{i:06d}.png"] = images.encode_png(picture)
        for level in RECIPE["levels"]:
            entries[f"rgb{level}.{i:06d}.jpg"] = images.encode_jpeg(picture[:level, : level + 8], "420")
    blocks = [motion.to_columns(np.zeros(count, BLOCK_DTYPE)) for count in (0, 2, 2, 1)]
    entries["motion.npz"] = motion.encode(blocks)
    if facts["has_audio"]:
        entries["spectrogram.npy"] = spectrogram.encode(np.zeros((4, 7), np.float32))
    if len(row.row["labels"]) == 1:
        entries["cls"] = str(row.row["labels"][0]).encode()
    return entries | {"json": to_json(facts)}


def spool(file: Path, key: str, entries: dict[str, bytes]) -> SampleWriter:
    """Write the members of one sample, as a worker does."""
    with file.open("wb") as stream:
        sample = SampleWriter(stream, key)
        for name, data in entries.items():
            sample.add(name, data)
    return sample


def status_of(row: PlanRow, sample: SampleWriter | None) -> Status:
    """The status row of a spooled sample, or of a failure."""
    path = row.row["path"]
    if sample is None:
        return Status(row.key, path, error=f"/data/{path}: no I-frame after {len(row.key)}; get it anew")
    facts = {
        "bytes_by_kind": sample.bytes_by_kind,
        "duration_seconds": 0.12,
        "has_audio": row.key.startswith("clip"),
        "motion_exact": row.key != "nolabel",
        "decode_errors": 2 if row.key == "nolabel" else 0,
        "labels": row.row["labels"],
    }
    return Status(row.key, path, num_bytes=sample.num_bytes, num_frames=3, facts=facts)


Entries = Callable[[PlanRow], dict[str, bytes]]


@dataclass
class Shards:
    """A folder of shards and what it was made from."""

    folder: Path
    plan: Plan
    index: Index
    entries: Entries

    def write(self, planned: PlannedShard) -> None:
        """Write one shard of the plan, the index and the status rows included."""
        writer = ShardWriter(self.folder, planned)
        spooled = self.folder / "sample.spool"
        for row in planned.rows:
            if row.key.startswith("broken"):
                writer.append(status_of(row, None), None)
                continue
            sample = spool(spooled, row.key, self.entries(row))
            with spooled.open("rb") as members:
                writer.append(status_of(row, sample), members)
            spooled.unlink()
        self.index.shards[planned.name] = writer.finish()
        save_index(self.folder, self.index, self.plan)

    def planned(self, name: str) -> PlannedShard:
        return next(shard for shard in self.plan.shards if shard.name == name)


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Shards]:
    """Return a function that writes ROWS, or others, to ``tmp_path / "shards"``, at most three to a shard."""

    def make(rows: Iterable[PlanRow] = ROWS, *, entries: Entries = entries_of, name: str = "shards") -> Shards:
        folder = tmp_path / name
        folder.mkdir()
        plan = make_plan(list(rows), DATASET, RECIPE, shard_bytes=3)
        save_plan(folder, plan)
        shards = Shards(folder, plan, Index(DATASET, RECIPE), entries)
        for planned in plan.shards:
            shards.write(planned)
        return shards

    return make
