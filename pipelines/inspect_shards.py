"""The facts and pictures of stored samples: one shard, or a folder of them."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.errors import ShardError, UsageError
from vidprep.modalities import spectrogram
from vidprep.pipelines.inspect_arrays import accumulated, residual_of, rgb_of, vectors_of
from vidprep.pipelines.inspect_cells import cell_size, shrink_field
from vidprep.pipelines.inspect_draw import Panel, Shot, Sound
from vidprep.pipelines.inspect_survey import Facts, Survey, choose_frames, exactness, sizes
from vidprep.shards.index import load_index, load_statuses
from vidprep.shards.reader import Sample, read_samples

MAX_SAMPLES = 4  # that are drawn if no key is given
CELL, SMALL_CELL = 224, 168  # pixels, the longer side: of one sample, of one among several
_WHOLE = "the whole video"
_DECIBELS_PER_NEPER = 10 / np.log(10)  # the recipe tbn keeps natural logarithms of the power


@dataclass(slots=True)
class _Contents:
    """What a shard, or a folder of shards, holds."""

    num_frames: int = 0
    bytes_by_kind: Counter[str] = field(default_factory=Counter)
    shard_of: dict[str, Path] = field(default_factory=dict)  # by key, in order
    key_of: dict[str, str] = field(default_factory=dict)  # by the video's path; of its first segment
    errors: dict[str, str] = field(default_factory=dict)  # by key, of videos that have no sample


def inspect_shards(source: Path, num_frames: int, key: str | None) -> tuple[Facts, list[Panel]]:
    """Return the facts of a shard or a folder of shards, and its first samples, or the one of ``key``, to be drawn.

    Raises
    ------
    VidprepError
        If there is no sample, none of this key, or one that can't be read.
    """
    contents = _read_folder(source) if source.is_dir() else _read_tar(source)
    if not contents.shard_of:
        reason = next(iter(contents.errors.values()), "nothing was extracted")
        raise ShardError(f"num_samples=0 in {source}: {reason}; there is nothing to draw, run vidprep extract again")
    facts = {
        "shards": str(source),
        "samples": str(len(contents.shard_of)),
        **({"failed": str(len(contents.errors))} if source.is_dir() else {}),  # a lone tar does not know
        "frames": str(contents.num_frames),
        "bytes": sizes(contents.bytes_by_kind),
    }
    keys = list(islice(contents.shard_of, MAX_SAMPLES)) if key is None else [_find(contents, source, key)]
    panels = []
    for number, sample in enumerate(_samples(contents, keys), 1):
        with_all_facts = len(keys) == 1
        sample_facts, panel = _inspect_sample(sample, num_frames, CELL if with_all_facts else SMALL_CELL)
        facts |= sample_facts if with_all_facts else {f"sample {number}": f"{sample.key}: {panel.notes}"}
        panels.append(panel)
    return facts, panels


def _read_folder(folder: Path) -> _Contents:
    contents = _Contents()
    for entry in load_index(folder).shards.values():
        for status in load_statuses(folder, entry.name):
            contents.key_of.setdefault(status.path, status.key)
            if status.error is not None:
                contents.errors[status.key] = status.error
                continue
            contents.num_frames += status.num_frames
            contents.bytes_by_kind.update(status.facts.get("bytes_by_kind", {}))
            contents.shard_of[status.key] = folder / entry.name
    return contents


def _read_tar(shard: Path) -> _Contents:
    """Read a shard's headers and its json entries; the rest is skipped."""
    contents = _Contents()
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                stem, _, entry = base.partition(".")
                key = f"{folder}{slash}{stem}"
                contents.shard_of[key] = shard
                contents.bytes_by_kind[entry.partition(".")[0]] += member.size
                file = tar.extractfile(member) if entry == "json" else None
                if file is not None:
                    facts = json.loads(file.read())
                    contents.num_frames += len(facts["frame_indices"])
                    contents.key_of.setdefault(facts["path"], key)
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{shard}: {error}; the tar is missing or damaged, run vidprep verify") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(f"shard={shard}", error) from error
    return contents


def _find(contents: _Contents, source: Path, key: str) -> str:
    key = contents.key_of.get(key, key)
    if key in contents.shard_of:
        return key
    if key in contents.errors:
        raise ShardError(f"key={key}: extraction failed ({contents.errors[key]}); mend it and extract --retry-failed")
    near = get_close_matches(key, contents.shard_of, n=3, cutoff=0.3) or list(islice(contents.shard_of, 3))
    raise UsageError(f"key={key}: not in {source}; it has {len(contents.shard_of)} keys, such as {', '.join(near)}")


def _samples(contents: _Contents, keys: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of some keys, which stand in the order of the shards; each is dropped before the next."""
    for shard in dict.fromkeys(contents.shard_of[key] for key in keys):
        missing = {key for key in keys if contents.shard_of[key] == shard}
        for sample in read_samples(shard):
            if sample.key in missing:
                missing.remove(sample.key)
                yield sample
            if not missing:
                break
        if missing:
            raise ShardError(f"key={min(missing)}: the index has it but {shard} does not; run vidprep verify")


def _foreign(what: str, error: Exception) -> ShardError:
    rule = "vidprep extract did not write it so"
    return ShardError(f"{what}: {type(error).__name__} {error}: {rule}; run vidprep verify, or extract anew")


def _inspect_sample(sample: Sample, num_frames: int, box: int) -> tuple[Facts, Panel]:
    try:
        return _read_sample(sample, sample.facts, num_frames, box)
    except (KeyError, TypeError, ValueError, OSError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise _foreign(f"key={sample.key}", error) from error


def _read_sample(sample: Sample, known: Mapping[str, Any], num_frames: int, box: int) -> tuple[Facts, Panel]:
    entries, types, stored = sample.entries, known["picture_types"], known["frame_indices"]
    blocks = vectors_of(entries, known)
    cell = cell_size(known["width"], known["height"], box)
    times = [time - known["video_start_seconds"] for time in known["pts_seconds"]]
    shots = [
        Shot(
            caption=f"{stored[i]}   {types[stored[i]]}   {times[stored[i]]:.2f} s",
            seconds=times[stored[i]],
            rgb=rgb_of(entries, known, i, cell),
            motion=None if blocks is None else shrink_field(accumulated(blocks, known, stored[i]), cell),
            residual=residual_of(entries, known, i, cell, has_vectors=blocks is not None),
        )
        for i in choose_frames(types, num_frames, stored)
    ]
    fps = known["source"]["fps"]
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / (fps or 25)
    label = ", ".join(known["label_names"])
    title = known["path"] if _part(known) == _WHOLE else f"{known['path']}, {_part(known)}"
    size = f"{known['width']}x{known['height']}"
    notes = f"{label or 'no label'}, {size}, {1 / step:.2f} fps, {known['stream_codec']}"
    panel = Panel(title, notes, cell, shots, times[stored[0]], times[-1] + step, _sounds(entries, known))
    return {**_facts(sample, known, label), **_counts(known, blocks)}, panel


def _facts(sample: Sample, known: Mapping[str, Any], label: str) -> Facts:
    source, encode = known["source"], known["recipe"]["encode"]
    clipped = known.get("residual", {}).get("clipped_share")
    bytes_by_kind: Counter[str] = Counter()
    for name, data in sample.entries.items():
        bytes_by_kind[name.partition(".")[0]] += len(data)
    return {
        "key": sample.key,
        "path": known["path"],
        "sha256": known["sha256"],
        "label": f"{label} ({', '.join(map(str, known['labels']))})" if label else "none",
        "splits": ", ".join(known.get("splits") or ()) or "none",
        "part": _part(known),
        "source": f"{source['codec']} in {source['container']}, {source['width']}x{source['height']}, "
        f"{source['fps']:.2f} fps",
        "encoded": f"{encode['codec']} {encode['size']}, GOP {encode['gop']}" if encode else "as it was",
        "size": f"{known['width']}x{known['height']} pixels",
        "stored frames": f"{len(known['frame_indices'])} of {known['num_frames']}",
        "entries": sizes(bytes_by_kind),
        "audio": "yes" if known["has_audio"] else "no",
        "clipped": "-" if clipped is None else f"{100 * clipped:.2f} % of the residual's values",
        "motion exact": exactness(known["motion_exact"]),
        "dropped frames": str(known["num_dropped_frames"]),
        "repaired times": str(known["num_repaired_times"]),
    }


def _counts(known: Mapping[str, Any], blocks: Sequence[NDArray[np.void]] | None) -> Facts:
    survey = Survey(known["width"], known["height"])
    for i, picture_type in enumerate(known["picture_types"]):
        survey.add(picture_type, np.empty(0, BLOCK_DTYPE) if blocks is None else blocks[i])
    facts = survey.facts()
    if blocks is None:  # vectors were not stored, which does not mean that nothing moves
        del facts["P-frame area"], facts["mean vector"]
    return facts


def _part(known: Mapping[str, Any]) -> str:
    start, end = known.get("start_seconds"), known.get("end_seconds")
    if start is None and end is None:
        return _WHOLE
    return f"{start or 0:g} s to {'the end' if end is None else f'{end:g} s'}"


def _sounds(entries: Mapping[str, bytes], known: Mapping[str, Any]) -> list[Sound]:
    if "spectrogram.npy" not in entries:
        return []
    levels, facts = spectrogram.decode(entries["spectrogram.npy"]), known["spectrogram"]
    start = facts["audio_start_seconds"]
    unit = _DECIBELS_PER_NEPER if facts["recipe"] == "tbn" else 1.0
    return [Sound(start, start + levels.shape[1] * facts["hop_seconds"], (unit * levels).astype(np.float32))]
