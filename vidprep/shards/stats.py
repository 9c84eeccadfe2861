"""What a folder of shards holds, from its index and status rows alone: the tars are not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vidprep.reading import readable
from vidprep.shards.index import Index, Status, load_index, load_statuses
from vidprep.shards.plan import PLAN_NAME, load_plan

_MAX_LISTED = 20
_NUMBER = re.compile(r"=-?\d[\d.]*(?:e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Stats:
    """What a folder of shards holds.

    Attributes
    ----------
    dataset : str
        The manifest's name.
    num_shards, num_samples, num_frames : int
        Shards with a file, samples, stored frames.
    duration_seconds : float
        Sum over the samples.
    num_bytes : int
        Size of all tars.
    bytes_by_kind : dict
        Bytes of the entries by kind (``rgb``, ``rgb112``, ``motion``, ...), largest first, without tar headers.
    samples_by_split, samples_by_class : dict
        Number of samples by name, zeros included; a sample may be in several, or in none.
    num_with_audio, num_motion_inexact, num_damaged : int
        Samples with sound; whose vectors may refer to several pictures; whose decoders reported errors.
    failures : dict
        Number of failed videos by reason, the most frequent first; a reason is without names and numbers.
    num_shards_to_do : int
        Planned shards that an unfinished extraction has yet to write.
    """

    dataset: str
    num_shards: int
    num_samples: int
    num_frames: int
    duration_seconds: float
    num_bytes: int
    bytes_by_kind: Mapping[str, int]
    samples_by_split: Mapping[str, int]
    samples_by_class: Mapping[str, int]
    num_with_audio: int
    num_motion_inexact: int
    num_damaged: int
    failures: Mapping[str, int]
    num_shards_to_do: int = 0


@readable("index.json or the status rows")
def shard_stats(folder: Path) -> Stats:
    """Add up the index and the status rows of a folder of shards.

    Raises
    ------
    ShardError
        If they are missing or can't be read.
    """
    index = load_index(folder)
    planned = load_plan(folder).shards if (folder / PLAN_NAME).exists() else ()
    statuses = [status for name in index.shards for status in load_statuses(folder, name)]
    done = [status for status in statuses if status.error is None]
    bytes_by_kind: Counter[str] = Counter()
    for status in done:
        bytes_by_kind.update(status.facts["bytes_by_kind"])
    return Stats(
        dataset=index.dataset["name"],
        num_shards=len(index.shards_of()),
        num_samples=len(done),
        num_frames=sum(status.num_frames for status in done),
        duration_seconds=sum(status.facts["duration_seconds"] for status in done),
        num_bytes=sum(entry.num_bytes for entry in index.shards.values()),
        bytes_by_kind=dict(bytes_by_kind.most_common()),
        samples_by_split=_by_split(index),
        samples_by_class=_by_class(index, done),
        num_with_audio=sum(status.facts["has_audio"] for status in done),
        num_motion_inexact=sum(not status.facts["motion_exact"] for status in done),
        num_damaged=sum((status.facts.get("decode_errors") or 0) > 0 for status in done),
        failures=dict(Counter(_reason(status) for status in statuses if status.error is not None).most_common()),
        num_shards_to_do=sum(shard.name not in index.shards for shard in planned),
    )


def _by_split(index: Index) -> dict[str, int]:
    splits = index.dataset["splits"]
    return {split: sum(entry.num_samples for entry in index.shards_of(split)) for split in splits}


def _by_class(index: Index, done: Iterable[Status]) -> dict[str, int]:
    counts = Counter(label for status in done for label in status.facts["labels"])
    return {name: counts[label] for label, name in enumerate(index.dataset["classes"])}


def _reason(status: Status) -> str:
    """Return why a video failed, without its name and without numbers, which differ from video to video."""
    names = re.compile(rf"\S*{re.escape(status.path)}")
    return _NUMBER.sub("=N", names.sub("FILE", status.error or ""))


def format_stats(stats: Stats) -> str:
    """Return the figures as a text table."""
    rows = [*_head(stats), *_kinds(stats), *_splits(stats), *_classes(stats), *_failures(stats)]
    width = max(len(name) for name, _ in rows)
    text = "\n".join(f"{name:{width}}  {value}" for name, value in rows)
    return text.encode(errors="replace").decode()  # names of files may hold bytes that are no UTF-8


def _head(stats: Stats) -> Iterator[tuple[str, str]]:
    yield "dataset", stats.dataset
    yield "shards", f"{stats.num_shards:,}"
    if stats.num_shards_to_do:
        yield "shards to do", f"{stats.num_shards_to_do:,}: run the same vidprep extract command again"
    yield "samples", f"{stats.num_samples:,}"
    yield "frames", f"{stats.num_frames:,}"
    yield "hours", f"{stats.duration_seconds / 3600:.2f}"
    yield "with audio", _share(stats.num_with_audio, stats.num_samples)
    yield "motion not exact", _share(stats.num_motion_inexact, stats.num_samples)
    yield "decode errors", _share(stats.num_damaged, stats.num_samples)
    yield "bytes", _bytes(stats.num_bytes)


def _kinds(stats: Stats) -> Iterator[tuple[str, str]]:
    for kind, num_bytes in stats.bytes_by_kind.items():
        yield f"  {kind}", f"{_bytes(num_bytes):>9}  {100 * num_bytes / stats.num_bytes:5.1f} %"


def _splits(stats: Stats) -> Iterator[tuple[str, str]]:
    for split, num_samples in stats.samples_by_split.items():
        yield split, f"{num_samples:,}"


def _classes(stats: Stats) -> Iterator[tuple[str, str]]:
    counts = list(stats.samples_by_class.values())
    if not counts:
        return
    yield "classes", f"{len(counts):,}"
    yield "  samples each", f"min {min(counts):,}, median {median(counts):g}, max {max(counts):,}"
    empty = [name for name, count in stats.samples_by_class.items() if not count]
    if empty:
        rest = f" and {len(empty) - _MAX_LISTED} more" if len(empty) > _MAX_LISTED else ""
        yield "  without any", ", ".join(empty[:_MAX_LISTED]) + rest


def _failures(stats: Stats) -> Iterator[tuple[str, str]]:
    yield "failed", f"{sum(stats.failures.values()):,}"
    for reason, count in stats.failures.items():
        yield f"  {count:,}", reason


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / max(total, 1):.0f} %)"


def _bytes(num_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"
