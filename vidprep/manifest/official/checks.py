"""What the readers of labelled videos check alike: names of videos, class numbers, and that no two rows disagree."""

import re
from collections.abc import Iterator
from pathlib import Path

from vidprep.manifest.official.files import read_lines, refuse, shown
from vidprep.manifest.rows import Row

Labels = tuple[int, ...]


def check_video(file: Path, line: int | None, name: object, pattern: str, example: str) -> str:
    """Return a video's name, which becomes a path, if the dataset names its own so."""
    if not isinstance(name, str) or not re.fullmatch(pattern, name, re.ASCII):
        raise refuse(file, line, f"video={shown(name)}", f"must be a video's name such as {example!r}")
    return name


def read_label(file: Path, line: int, name: str, text: str, num_classes: int) -> int:
    """Read a class that is written as its number."""
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) >= num_classes:
        raise refuse(file, line, f"{name}={shown(text)}", f"must be a class number from 0 to {num_classes - 1}")
    return int(text)


def read_frame_list(file: Path, num_classes: int) -> Iterator[tuple[int, str, Labels]]:
    """Yield line number, name and sorted labels of each line such as "v_yUSo_xjyGhM,1800,191,191".

    So AR-Net, AdaFocus and others share their lists. A label stands there once for each time that the action comes
    up. The number of frames is that of somebody's copy of the video, and isn't used: vidprep counts for itself.
    """
    for line, text in read_lines(file):
        name, *numbers = text.split(",")
        if len(numbers) < 2 or not re.fullmatch(r"[0-9]{1,9}", numbers[0]):
            rule = "must be a video, its number of frames and its labels, as in v_yUSo_xjyGhM,1800,191,191"
            raise refuse(file, line, shown(text), rule)
        yield line, name, tuple(sorted({read_label(file, line, "label", label, num_classes) for label in numbers[1:]}))


class RowsOnce:
    """Rows in the order in which they are found; a row that is found again, the same in everything, is one row."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._first: dict[tuple[str, float | None, float | None], tuple[Row, str]] = {}

    def add(self, file: Path, line: int | None, row: Row) -> None:
        """Add a row; ManifestError if it contradicts an earlier one of the same video and times."""
        place = f"{file.name} line {line}" if line else file.name
        first, place = self._first.setdefault((row.path, row.start_seconds, row.end_seconds), (row, place))
        if first is row:
            self.rows.append(row)
        elif first != row:
            rule = f"must not stand there twice with other labels or in another split, and does ({place})"
            raise refuse(file, line, f"video={row.path!r}", rule, "get all official files anew, of one release")
