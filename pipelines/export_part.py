"""What a worker of an export does: some videos of one shard become one part of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidprep.errors import VidprepError
from vidprep.features import FeatureWriter
from vidprep.pipelines.export_arrays import Arrays, Modalities, Source
from vidprep.pipelines.export_options import Options
from vidprep.reading import readable
from vidprep.sampling import Selection
from vidprep.shards.access import ShardFolder
from vidprep.shards.files import DISK_FULL, whole_file

PIECE_FRAMES = 48  # read at a time, so that a long video needs no more memory than a short one
_NOT_KEPT = ("recipe", "packets")  # the first is the store's; the second is of no use without the stream
_OF_FRAMES = ("pts_seconds", "picture_types")  # what the json says of all frames, and the store of its own


@dataclass(frozen=True, slots=True)
class Part:
    """Some videos of a shard: samples ``first`` to ``end``, exclusive."""

    path: Path
    shard: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Job:
    """What all parts of an export share; the recipe is JSON, so that a job can be told from others."""

    root: Path
    options: Options
    recipe: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Written:
    """How a part ended: the videos that could not be read, with the reasons; why the disk could not take it."""

    failed: dict[str, str]
    disk_full: str | None = None


class _NotWhole(Exception):  # noqa: N818  caught where it is raised; it makes the file go
    pass


def export_part(job: Job, part: Part) -> Written:
    """Write one part, whole or not at all."""
    try:
        return Written(_write_part(job, part))
    except OSError as error:
        if error.errno in DISK_FULL:
            return Written({}, error.strerror)
        raise


def _write_part(job: Job, part: Part) -> dict[str, str]:
    folder, source = _folder(job.root), source_of(job.options)
    shard = folder.index.shards[part.shard]
    failed: dict[str, str] = {}
    try:
        with (
            whole_file(part.path) as file,
            FeatureWriter(
                Path(file.name),
                json.loads(job.dataset),
                json.loads(job.recipe),
                source.kinds,
                compression=job.options.compression,
            ) as writer,
        ):
            for number in range(part.first, part.end):
                key = folder.key(shard, number)
                try:
                    _export_video(writer, shard.cell, source, job.options, folder.read(shard, number))
                except VidprepError as error:
                    failed[key] = str(error)
                    writer.fail(key, str(error))
            if failed and job.options.on_error == "fail":
                raise _NotWhole
    except _NotWhole:
        pass
    return failed


def _export_video(
    writer: FeatureWriter, cell: str, source: Source, options: Options, sample: tuple[str, Mapping[str, bytes]]
) -> None:
    key, entries = sample
    with readable(f"key={key}"):
        facts = json.loads(entries["json"])
        times = [facts["pts_seconds"][i] for i in facts["frame_indices"]]
        positions = Selection.parse(options.frames).indices(times)
        kept = stored_facts(facts, positions)
    writer.add(key, cell, kept, _pieces(source, entries, facts, positions))


def _pieces(
    source: Source, entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: list[int]
) -> Iterator[Arrays]:
    yield source.read_whole(entries, facts)
    for first in range(0, len(positions), PIECE_FRAMES):
        yield source.read(entries, facts, positions[first : first + PIECE_FRAMES])


def stored_facts(facts: Mapping[str, Any], positions: list[int]) -> dict[str, Any]:
    """Return what a store says of a video whose stored frames at some positions it holds."""
    indices = [facts["frame_indices"][i] for i in positions]
    kept = {name: value for name, value in facts.items() if name not in _NOT_KEPT}
    for name in _OF_FRAMES:
        if name in facts:
            chosen = [facts[name][i] for i in indices]
            kept[name] = "".join(chosen) if isinstance(facts[name], str) else chosen
    return kept | {"frame_indices": indices}


@lru_cache(maxsize=1)
def _folder(root: Path) -> ShardFolder:
    return ShardFolder(root)


@lru_cache(maxsize=1)
def source_of(options: Options) -> Source:
    """Return what fills the store; a worker keeps it, since a backbone takes long to load."""
    if options.backbone is None:
        return Modalities(options.modalities)
    from vidprep.pipelines.export_backbone import BackboneOutputs  # PyTorch takes seconds to import

    return BackboneOutputs(options)
