"""Row and Manifest: the nouns of this folder."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

MAX_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Row:
    """One video, or a segment of one.

    Attributes
    ----------
    path : str
        Relative to the manifest's root, with "/"; bytes that are no UTF-8 as `os.fsdecode` gives them.
    labels : tuple of int
        Indices into the manifest's classes: one in most datasets, none for a video without a label.
    start_seconds, end_seconds : float or None
        The segment `[start, end)`; None is the video's own start or end.
    splits : tuple of str
        Sorted memberships: "split1/train", or "train" in a dataset with one set of splits.
    targets : tuple of (str, int)
        Sorted further labels by name, indices into the manifest's targets: EPIC-KITCHENS' ("noun", 8), ("verb", 2).
    actions : tuple of (int, float, float)
        What happens when, in an untrimmed video: label, start and end in seconds of the video. `labels` has each
        label once.
    """

    path: str
    labels: tuple[int, ...] = ()
    start_seconds: float | None = None
    end_seconds: float | None = None
    splits: tuple[str, ...] = ()
    targets: tuple[tuple[str, int], ...] = ()
    actions: tuple[tuple[int, float, float], ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the row as JSON has it, without the targets and actions that most datasets lack."""
        facts: dict[str, Any] = {
            "path": self.path,
            "labels": list(self.labels),
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "splits": list(self.splits),
        }
        if self.targets:
            facts["targets"] = dict(self.targets)
        if self.actions:
            facts["actions"] = [list(action) for action in self.actions]
        return facts

    @property
    def key(self) -> str:
        """Name of the sample: the path percent-encoded, then "@start-end" in milliseconds for a segment.

        Rows that differ in the path's bytes or by a millisecond differ in the key, whatever the names hold.
        Keys are case-sensitive, as paths are: unpack shards on a file system that is so too.
        """
        encoded = quote(os.fsencode(self.path), safe="/").replace(".", "%2E").replace("~", "%7E")
        if encoded.startswith("_"):  # plain webdataset passes over entries that begin like "__meta__/"
            encoded = f"%5F{encoded[1:]}"
        if self.start_seconds is None and self.end_seconds is None:
            return encoded
        times = (self.start_seconds, self.end_seconds)
        return f"{encoded}@" + "-".join("" if time is None else str(to_milliseconds(time)) for time in times)

    @property
    def cell(self) -> str:
        """The cell of the split lattice: all memberships in one name, safe in file names; "all" without."""
        return "+".join(split.replace("/", "-") for split in sorted(self.splits)) or "all"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The rows of one source, sorted by path; `root / row.path` is the file.

    Attributes
    ----------
    name : str
        A standard dataset's name, the table's file name, or the layout that was found: "ucf-layout",
        "class-folders", "flat-folder", "single-video".
    root : Path
        Folder that the paths are relative to; for a single video, the folder that it lies in.
    classes : tuple of str
        Names of the labels by index; empty when nothing is labelled.
    rows : tuple of Row
    ignored : tuple of str
        Files found that make no row: no videos by their extension, or none of the named dataset's.
    targets : mapping
        Class names of the rows' further labels, such as "verb".
    multi_label : bool
        Whether a row may have any number of labels, as in Charades.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    multi_label: bool = False


def to_milliseconds(seconds: float) -> int:
    """Round a time to the milliseconds that keys are written in."""
    return round(seconds * 1000)


def sort_rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Sort by path, then by start and end."""
    return tuple(sorted(rows, key=lambda row: (row.path, row.start_seconds or 0, row.end_seconds or MAX_SECONDS)))
