"""Kinetics' lists, and subsets of them by class and by id: Kinetics-400 and -600, Mini-Kinetics, Temporal, Static."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidprep.errors import ManifestError
from vidprep.manifest.names import clip_name
from vidprep.manifest.official.files import class_index, class_indices, read_csv, read_lines, refuse, shown
from vidprep.manifest.rows import Row

SPLITS = ("train", "val", "test")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_COLUMNS = ("youtube_id", "time_start", "time_end", "split")


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Make a whole-video row of each clip, whose path is its name: ``0wR5jVB-WPk_000417_000427``.

    The roles train, val and test are Kinetics' own lists: label, youtube_id, time_start, time_end and split, with
    or without is_cc. Clips without a label (test lists without them) make rows without one. Where ``train_ids`` or
    ``val_ids`` are there, only these YouTube ids count; where ``classes`` are some of those of ``subset_of``, only
    these classes. Ids without a clip in the list are left out: videos vanish, and lists with them. The segment is
    what the clips were cut by; on disk they are cut already.
    """
    indices = class_indices(facts.get("classes_of_all", facts["classes"]))
    labels = {indices[name]: (label,) for label, name in enumerate(facts["classes"])}
    clips: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    for split in (split for split in SPLITS if split in files):
        ids = _read_ids(files[f"{split}_ids"]) if f"{split}_ids" in files else None
        alone = (split,)  # one tuple for all, for there are half a million clips
        name_of: dict[str, str] = {}  # of the clip that an id stands for
        for line, video, name, index in _read_clips(files[split], split, indices):
            if (ids is not None and video not in ids) or (index is not None and index not in labels):
                continue
            own = () if index is None else labels[index]
            others, splits = clips.get(name, (own, alone))
            if own and others and own != others:
                raise _wrong(files[split], line, name, "must not have two labels")
            if ids is not None and name_of.setdefault(video, name) != name:
                raise _wrong(files[split], line, name, f"must be the only clip of its id, and {name_of[video]} is one")
            clips[name] = (own or others, alone if splits == alone else tuple(sorted({split, *splits})))
    return [Row(name, labels=own, splits=splits) for name, (own, splits) in clips.items()]


def _read_clips(file: Path, split: str, indices: Mapping[str, int]) -> Iterator[tuple[int, str, str, int | None]]:
    """Yield line number, YouTube id, name of the clip and index of its class, if it has one."""
    for line, cells in read_csv(file, _COLUMNS, optional=("label",)):
        video, start, end = cells["youtube_id"], _whole(cells["time_start"]), _whole(cells["time_end"])
        if not _ID.fullmatch(video):
            raise refuse(file, line, f"youtube_id={shown(video)}", "must be 11 letters, digits, _ or -")
        if start is None or end is None or start >= end:
            times = f"time_start={shown(cells['time_start'])}, time_end={shown(cells['time_end'])}"
            raise refuse(file, line, f"{times}:", "must be whole seconds, the start before the end")
        if not cells["split"].startswith(split):  # DeepMind's archive writes "validate"
            raise refuse(
                file,
                line,
                f"split={shown(cells['split'])}",
                f"must be {split} in this file",
                f"give the list of the {split} split this name",
            )
        label = cells["label"].strip()
        yield line, video, clip_name(video, start, end), class_index(file, line, label, indices) if label else None


def _whole(text: str) -> int | None:
    """Read whole seconds, as lists write them: 417 or 417.0."""
    whole, _, fraction = text.partition(".")
    return int(whole) if whole.isdecimal() and len(whole) < 10 and not fraction.strip("0") else None


def _read_ids(file: Path) -> dict[str, int]:
    """Line numbers by YouTube id."""
    ids: dict[str, int] = {}
    for line, video in read_lines(file):
        if not _ID.fullmatch(video):
            raise refuse(file, line, shown(video), "must be a YouTube id: 11 letters, digits, _ or -")
        ids.setdefault(video, line)
    return ids


def _wrong(file: Path, line: int, name: str, rule: str) -> ManifestError:
    return refuse(file, line, f"clip={shown(name)}", rule, "remove the line that is wrong from a copy of the file")
