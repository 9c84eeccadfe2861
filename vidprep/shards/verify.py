"""Checking a folder of shards: plan, index, status rows and tars against each other, and every sample by itself.

Nothing is decoded: pictures are checked by their first and last bytes, arrays by their headers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidprep.errors import ShardError
from vidprep.reading import read_npy, read_npz, readable
from vidprep.shards.files import read_json, sha256_of
from vidprep.shards.index import (
    INDEX_NAME,
    STATUS_FOLDER,
    Index,
    ShardEntry,
    Status,
    index_json,
    load_index,
    load_statuses,
)
from vidprep.shards.plan import PLAN_NAME, Plan, PlannedShard, PlanRow, load_plan
from vidprep.shards.reader import Sample, read_samples

_ENDS = {
    ".jpg": (b"\xff\xd8\xff", b"\xff\xd9"),
    ".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
}
_SUFFIX = {"jpeg": "jpg", "png": "png"}
_MAY_LACK = ("targets", "actions")
_ROW_FIELDS = ("path", "labels", "start_seconds", "end_seconds", "splits", *_MAY_LACK)
_RESUME = "run the same vidprep extract command again, it goes on where it ended"
_REWRITE = "run the same vidprep extract command again, it writes this shard anew"
_REMOVE = "remove this tar and run the same vidprep extract command again, it writes the shard anew"
_RESTATE = "remove its file in status and run the same vidprep extract command again, it writes the shard anew"
_OVERWRITE = "extract again with --overwrite"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, with the cure; ``shard`` and ``key`` are None where it concerns all of them."""

    shard: str | None
    key: str | None
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.shard, self.key, self.message) if part)


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what is wrong; videos that failed at extraction are counted, they are no problem."""

    num_shards: int
    num_samples: int
    num_failed: int
    problems: tuple[Problem, ...]


def verify(folder: Path, on_progress: Callable[[int, int], None] | None = None) -> Report:
    """Check a folder of shards, every byte of it.

    Parameters
    ----------
    folder : path
        What ``vidprep extract`` wrote.
    on_progress : callable, optional
        Called with the number of shards checked and their total.

    Raises
    ------
    ShardError
        If there is no plan or no index that can be read.
    """
    plan = load_plan(folder)
    index = load_index(folder) if (folder / INDEX_NAME).exists() else Index(plan.dataset, plan.recipe)
    with readable(f"{PLAN_NAME} or {INDEX_NAME}"):
        problems = [*_check_folder(folder, plan, index)]
    done = [shard for shard in plan.shards if shard.name in index.shards]
    for num_checked, planned in enumerate(done, 1):
        with readable(f"{planned.name}, or its rows in {PLAN_NAME} and status"):
            problems += _check_shard(folder, planned, index.shards[planned.name], plan.recipe)
        if on_progress is not None:
            on_progress(num_checked, len(done))
    entries = index.shards.values()
    return Report(
        num_shards=len(index.shards_of()),
        num_samples=sum(entry.num_samples for entry in entries),
        num_failed=sum(entry.num_failed for entry in entries),
        problems=tuple(problems),
    )


def _check_folder(folder: Path, plan: Plan, index: Index) -> Iterator[Problem]:
    for key, count in Counter(row.key for shard in plan.shards for row in shard.rows).items():
        if count > 1:
            yield Problem(None, key, f"count={count}: a key may be planned once; {_OVERWRITE}")
    missing = sum(shard.name not in index.shards for shard in plan.shards)
    if missing:
        yield Problem(None, None, f"num_shards_missing={missing} of {len(plan.shards)}: it is incomplete; {_RESUME}")
    planned = {shard.name for shard in plan.shards}
    for name in index.shards.keys() - planned:
        yield Problem(name, None, f"{INDEX_NAME} holds it and {PLAN_NAME} does not; {_OVERWRITE}")
    for path in sorted([*folder.glob("*.part"), *(folder / STATUS_FOLDER).glob("*.part")]):
        yield Problem(None, None, f"{path.name}: never finished; if no vidprep extract is at work here, remove it")
    for path in sorted(folder.glob("*.tar")):
        if path.name not in index.shards:
            cure = _RESUME if path.name in planned else "remove it, it is none of these shards"
            yield Problem(path.name, None, f"{INDEX_NAME} does not hold it; {cure}")
    if (plan.dataset, plan.recipe) != (index.dataset, index.recipe):
        yield Problem(None, None, f"{INDEX_NAME} has another dataset or recipe than {PLAN_NAME}; {_OVERWRITE}")
    elif (folder / INDEX_NAME).exists():
        was, now = read_json(folder / INDEX_NAME), index_json(index, plan)
        wrong = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
        if wrong:
            yield Problem(None, None, f"{INDEX_NAME}: {', '.join(wrong)} is not what its shards add up to; {_RESUME}")


def _check_shard(
    folder: Path, planned: PlannedShard, entry: ShardEntry, recipe: Mapping[str, Any]
) -> Iterator[Problem]:
    try:
        statuses = load_statuses(folder, planned.name)
    except ShardError as error:
        yield Problem(planned.name, None, str(error))
        return
    problem = _check_statuses(planned, entry, statuses) or _check_file(folder / planned.name, entry)
    if problem:
        yield Problem(planned.name, None, problem)
    if entry.num_samples and (folder / planned.name).is_file():
        for key, message in _check_samples(folder / planned.name, planned, statuses, recipe):
            yield Problem(planned.name, key, message)


def _check_statuses(planned: PlannedShard, entry: ShardEntry, statuses: list[Status]) -> str | None:
    """Compare the status rows with the plan's rows and with what the index adds up."""
    if [(row.key, row.row["path"]) for row in planned.rows] != [(status.key, status.path) for status in statuses]:
        return f"num_status_rows={len(statuses)}: they are not the {len(planned.rows)} planned, in order; {_RESTATE}"
    done = [status for status in statuses if status.error is None]
    counted = {
        "cell": planned.cell,
        "num_samples": len(done),
        "num_failed": len(statuses) - len(done),
        "num_frames": sum(status.num_frames for status in done),
    }
    for name, value in counted.items():
        if getattr(entry, name) != value:
            return f"{name}={getattr(entry, name)} in {INDEX_NAME}: plan and status rows say {value}; {_RESTATE}"
    return None


def _check_file(path: Path, entry: ShardEntry) -> str | None:
    if not entry.num_samples:
        return f"num_samples=0: there must be no file then; {_REWRITE}" if path.exists() else None
    if not path.is_file():
        return f"the file is missing; {_REWRITE}"
    num_bytes = path.stat().st_size
    if num_bytes != entry.num_bytes:
        return f"num_bytes={num_bytes}: {INDEX_NAME} says {entry.num_bytes}; {_REWRITE}"
    if sha256_of(path) != entry.sha256:
        return f"sha256: not the one in {INDEX_NAME}, the content has changed; {_REMOVE}"
    return None


def _check_samples(
    path: Path, planned: PlannedShard, statuses: list[Status], recipe: Mapping[str, Any]
) -> Iterator[tuple[str | None, str]]:
    """Walk the tar beside the status rows; stop where they part."""
    rows = {row.key: row for row in planned.rows}
    expected = iter([status for status in statuses if status.error is None])
    try:
        for sample in read_samples(path):
            status = next(expected, None)
            place = (sample.key, sample.offset_bytes, sample.num_bytes)
            if status is None or place != (status.key, status.offset_bytes, status.num_bytes):
                wanted = "nothing" if status is None else f"{status.key} at byte {status.offset_bytes}"
                yield sample.key, f"offset_bytes={place[1]}, num_bytes={place[2]}: {wanted} should be here; {_REMOVE}"
                return
            for message in _sample_faults(sample, status, rows[sample.key], recipe):
                yield sample.key, f"{message}; {_REMOVE}"
    except ShardError as error:
        yield None, f"{error}; {_REMOVE}"
        return
    for status in expected:
        yield status.key, f"the sample is missing; {_REMOVE}"


def _sample_faults(sample: Sample, status: Status, row: PlanRow, recipe: Mapping[str, Any]) -> Iterator[str]:
    for name, data in sample.entries.items():
        start, end = _ENDS.get(name[-4:], (b"", b""))
        if not (data.startswith(start) and data.endswith(end)):
            yield f"{name}: it does not begin and end like a picture"
    sizes: Counter[str] = Counter()
    for name, data in sample.entries.items():
        sizes[name.partition(".")[0]] += len(data)
    if sizes != status.facts.get("bytes_by_kind"):
        yield f"bytes_by_kind={dict(sizes)}: the status row says {status.facts.get('bytes_by_kind')}"
    try:
        with readable("json"):
            yield from _fact_faults(sample, sample.facts, status, row, recipe)
    except ShardError as error:
        yield f"json: not as vidprep writes it ({error!r})"


def _fact_faults(
    sample: Sample, facts: Mapping[str, Any], status: Status, row: PlanRow, recipe: Mapping[str, Any]
) -> Iterator[str]:
    """Compare a sample's json with the plan and with its other entries."""
    planned = {"key": row.key, "recipe": recipe, **row.row}
    for name in sorted({*planned, *_ROW_FIELDS}):
        if facts.get(name) != planned.get(name) or (name not in planned and name not in _MAY_LACK):
            yield f"json: {name}={facts.get(name)}, the plan says {planned.get(name, 'nothing')}"
    num_frames, stored = facts["num_frames"], facts["frame_indices"]
    if not num_frames == len(facts["picture_types"]) == len(facts["pts_seconds"]):
        yield f"json: num_frames={num_frames}, and another number of picture types or times"
    if len(stored) != status.num_frames or stored != sorted({i for i in stored if 0 <= i < num_frames}):
        yield f"json: frame_indices, {len(stored)} of {num_frames} frames; the status row says {status.num_frames}"
    for name in ("labels", "has_audio", "motion_exact", "decode_errors"):
        if facts[name] != status.facts.get(name):
            yield f"json: {name}={facts[name]}, the status row says {status.facts.get(name)}"
    is_unknown = facts["decode_errors"] is None and "packets" in facts and recipe["encode"] is None
    if not is_unknown and (type(facts["decode_errors"]) is not int or facts["decode_errors"] < 0):
        yield f"json: decode_errors={facts['decode_errors']}: must be a count"
    expected = _expected_entries(facts, recipe)
    if sample.entries.keys() != expected:
        lost, added = sorted(expected - sample.entries.keys()), sorted(sample.entries.keys() - expected)
        yield f"entries: {len(lost)} missing {lost[:3]}, {len(added)} too many {added[:3]}"
    if _has_class(facts) and sample.entries.get("cls", b"") != json.dumps(facts["labels"][0]).encode():
        yield f"cls={sample.entries.get('cls', b'')!r}: the label is {facts['labels'][0]}"
    yield from _array_faults(sample, facts)


def _has_class(facts: Mapping[str, Any]) -> bool:
    return len(facts["labels"]) == 1 and not facts.get("multi_label")


def _expected_entries(facts: Mapping[str, Any], recipe: Mapping[str, Any]) -> set[str]:
    if recipe["layout"] == "bitstream":
        return _always(facts, recipe) | {facts["packets"]["entry"]}
    kinds = {
        "rgb": ["rgb.{:06d}.jpg"],
        "residual": [f"residual.{{:06d}}.{_SUFFIX[recipe['residual_format']]}"],
        "pyramid": [f"rgb{level}.{{:06d}}.jpg" for level in recipe["levels"]],
    }
    patterns = [pattern for name in recipe["modalities"] for pattern in kinds.get(name, [])]
    names = {pattern.format(i) for pattern in patterns for i in range(len(facts["frame_indices"]))}
    names |= {"motion.npz"} if "motion" in recipe["modalities"] else set()
    return names | _always(facts, recipe)


def _always(facts: Mapping[str, Any], recipe: Mapping[str, Any]) -> set[str]:
    """Return the entries that both layouts have."""
    sounds = "spectrogram" in recipe["modalities"] and facts["has_audio"]
    return {"json"} | ({"cls"} if _has_class(facts) else set()) | ({"spectrogram.npy"} if sounds else set())


def _packet_faults(sample: Sample, facts: Mapping[str, Any]) -> Iterator[str]:
    """Check the packet table: one picture for each frame, packets one behind the other to the stream's end."""
    packets = facts["packets"]
    end = packets["offsets"][0] and packets["num_header_bytes"]  # the first packet may bring the headers itself
    for offset, size in zip(packets["offsets"], packets["sizes"], strict=True):
        if offset != end or size < 0:
            yield f"packets: offset={offset}, size={size}: the packet before ends at {end}"
            return
        end += size
    length = len(sample.entries.get(packets["entry"], b""))
    if end != length:
        yield f"packets: they end at byte {end} of {length} in {packets['entry']}"
    shown = sorted(index for index in packets["display_indices"] if index is not None)
    if shown != list(range(facts["num_frames"])):
        yield f"packets: display_indices, {len(shown)} pictures; num_frames={facts['num_frames']}"


def _array_faults(sample: Sample, facts: Mapping[str, Any]) -> Iterator[str]:
    try:
        if "packets" in facts:
            yield from _packet_faults(sample, facts)
        if "motion.npz" in sample.entries:
            num_blocks = read_npz(sample.entries["motion.npz"], ["num_blocks"], "motion.npz")["num_blocks"]
            if len(num_blocks) != facts["num_frames"] or num_blocks.sum() != facts["motion"]["num_blocks"]:
                yield f"motion.npz: {num_blocks.sum()} blocks in {len(num_blocks)} frames, the json says otherwise"
        if "spectrogram.npy" in sample.entries:
            shape = read_npy(sample.entries["spectrogram.npy"], "spectrogram.npy").shape
            if shape != (facts["spectrogram"]["num_bins"], facts["spectrogram"]["num_columns"]):
                yield f"spectrogram.npy: shape={shape}, the json says otherwise"
    except ShardError as error:
        yield f"motion.npz or spectrogram.npy: not readable ({error})"
