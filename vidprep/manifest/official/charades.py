"""Charades: each row a video with all that happens in it, and when."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.official.checks import RowsOnce, check_video, read_label
from vidprep.manifest.official.files import read_csv, read_seconds, refuse, shown
from vidprep.manifest.rows import Row

SPLITS = ("train", "test")  # roles of the files, and names of the splits

Action = tuple[int, float, float]

_ACTION = re.compile(r"c([0-9]{3}) (\S+) (\S+)")


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Read one row a video; one in which nothing happens, and there are some, has no label.

    Times stay as the files have them. Many actions end after the video's end, a few begin after it or end before
    they begin: all label the video, and in the dataset's authors' code the frames with start < t < end, maybe none.

    Raises
    ------
    ManifestError
        A file breaks its format, or a video stands in both.
    """
    found = RowsOnce()
    for split in SPLITS:
        if split in files:
            file = files[split]
            for line, cells in read_csv(file, ("id", "actions")):
                video = check_video(file, line, cells["id"], "[A-Z0-9]{5}", "46GP8")
                texts = cells["actions"].split(";") if cells["actions"] else []
                actions = tuple(_read_action(file, line, text, len(facts["classes"])) for text in texts)
                labels = tuple(sorted({label for label, _, _ in actions}))
                found.add(file, line, Row(video, labels=labels, splits=(split,), actions=actions))
    return found.rows


def _read_action(file: Path, line: int, text: str, num_classes: int) -> Action:
    match = _ACTION.fullmatch(text)
    if match is None:
        raise refuse(file, line, f"action={shown(text)}", "must be a class, its start and its end: c092 11.90 21.20")
    label = read_label(file, line, "class", match[1], num_classes)
    return label, read_seconds(file, line, "start", match[2]), read_seconds(file, line, "end", match[3])
