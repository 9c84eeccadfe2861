"""EPIC-KITCHENS-55: each row a segment of an untrimmed video, with a verb, a noun, and their pair, the action."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.official.checks import RowsOnce, check_video, read_label
from vidprep.manifest.official.files import class_index, class_indices, read_csv, refuse, shown
from vidprep.manifest.rows import Row

COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
_TIME = re.compile(r"([0-9]{2}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,3})?)")  # to the millisecond, as keys are


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Read the segments of the training file; a segment that stands there twice, the same in everything, is one row.

    The label is the pair of verb and noun, among all pairs of the training file, sorted. The splits divide the
    training file, since the published test sets have no labels: "baradel" by participant, and "tbn" by video for
    those who have the list of its validation segments.

    Raises
    ------
    ManifestError
        A file breaks its format, or one segment has two actions.
    """
    indices = class_indices(facts["classes"])
    held_out = _read_held_out(files["tbn"]) if "tbn" in files else None
    file, found = files["labels"], RowsOnce()
    for line, cells in read_csv(file, COLUMNS):
        video = _check(file, line, cells["video_id"])
        splits = _splits_of(video, facts["baradel"]["val_participants"], held_out)
        found.add(file, line, _read_row(file, line, cells, video, splits, facts["targets"], indices))
    for video, line in sorted((held_out or {}).items()):
        if not any(row.path == video for row in found.rows):
            raise refuse(files["tbn"], line, f"video={video!r}", f"must be one of {file.name}'s")
    return found.rows


def _read_row(
    file: Path,
    line: int,
    cells: Mapping[str, str],
    video: str,
    splits: tuple[str, ...],
    targets: Mapping[str, list[str]],
    indices: Mapping[str, int],
) -> Row:
    verb = read_label(file, line, "verb_class", cells["verb_class"], len(targets["verb"]))
    noun = read_label(file, line, "noun_class", cells["noun_class"], len(targets["noun"]))
    start, stop = (_read_time(file, line, name, cells[name]) for name in ("start_timestamp", "stop_timestamp"))
    if start >= stop:
        raise refuse(file, line, f"start_timestamp={cells['start_timestamp']!r}", "must lie before stop_timestamp")
    action = class_index(file, line, f"{targets['verb'][verb]} {targets['noun'][noun]}", indices)
    return Row(video, (action,), start, stop, splits, targets=(("noun", noun), ("verb", verb)))


def _splits_of(video: str, val_participants: Collection[int], tbn_val: Collection[str] | None) -> tuple[str, ...]:
    is_val = {"baradel": int(video[1:3]) in val_participants}
    if tbn_val is not None:
        is_val["tbn"] = video in tbn_val
    return tuple(f"{name}/{'val' if is_val[name] else 'train'}" for name in sorted(is_val))


def _read_held_out(file: Path) -> dict[str, int]:
    """Find the videos in the list of TBN's validation segments, and a line of each."""
    return {_check(file, line, cells["video_id"]): line for line, cells in read_csv(file, ("video_id",))}


def _check(file: Path, line: int, video: str) -> str:
    return check_video(file, line, video, "P[0-9]{2}_[0-9]{2}", "P01_01")


def _read_time(file: Path, line: int, name: str, text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise refuse(file, line, f"{name}={shown(text)}", "must be a time such as '00:01:07.09'")
    return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 3)
