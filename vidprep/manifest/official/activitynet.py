"""ActivityNet-1.3: each row an untrimmed video with its labels, and from the official file what happens when."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.official.checks import RowsOnce, check_video, read_frame_list
from vidprep.manifest.official.files import class_index, class_indices, read_json, read_seconds, refuse, shown
from vidprep.manifest.rows import Row

SUBSETS = {"training": "train", "validation": "val", "testing": "test"}
LISTS = {"train_list": "train", "val_list": "val"}


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Read one row a video, from the official file if it is there, else from the lists that AdaFocus and others share.

    The lists have labels and no times. Videos of the test subset have no published label.

    Raises
    ------
    ManifestError
        A file breaks its format, or a video stands in two splits.
    """
    if "database" in files:
        return _from_database(files["database"], class_indices(facts["classes"]))
    found = RowsOnce()
    for role, split in LISTS.items():
        if role in files:
            for line, name, labels in read_frame_list(files[role], len(facts["classes"])):
                found.add(files[role], line, Row(_check(files[role], line, name), labels=labels, splits=(split,)))
    return found.rows


def _from_database(file: Path, indices: Mapping[str, int]) -> list[Row]:
    """``{"database": {"sJFgo9H6zNo": {"subset": "training", "annotations": [{"segment": [..], "label": ".."}]}}}``."""
    content = read_json(file)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise refuse(file, None, shown(content), "must hold the videos by name under 'database'")
    rows = []
    for video, entry in database.items():
        path = _check(file, None, f"v_{video}")
        subset, annotations = (
            (entry.get("subset"), entry.get("annotations")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(subset, str) or subset not in SUBSETS or not isinstance(annotations, list):
            rule = f"must have annotations and a subset: {', '.join(SUBSETS)}"
            raise refuse(file, None, f"{video}={shown(entry)}", rule)
        actions = tuple(_read_action(file, video, annotation, indices) for annotation in annotations)
        labels = tuple(sorted({label for label, _, _ in actions}))
        rows.append(Row(path, labels=labels, splits=(SUBSETS[subset],), actions=actions))
    return rows


def _read_action(file: Path, video: str, annotation: object, indices: Mapping[str, int]) -> tuple[int, float, float]:
    match annotation:
        case {"label": str(name), "segment": [start, end]}:
            label = class_index(file, None, name, indices)
            return (
                label,
                read_seconds(file, None, f"{video} start", start),
                read_seconds(file, None, f"{video} end", end),
            )
    raise refuse(file, None, f"{video}: {shown(annotation)}", "must be a label and a segment of start and end")


def _check(file: Path, line: int | None, video: str) -> str:
    return check_video(file, line, video, r"v_[\w-]{11}", "v_sJFgo9H6zNo")
