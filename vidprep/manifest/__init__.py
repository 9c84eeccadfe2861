"""Which videos a dataset has, what they show, and which standard splits hold them.

`find_rows` turns a folder (or one video) into a `Manifest` of rows, `load_standard` knows the published
datasets from the TOML files in `manifests/`, `check` compares a folder with one of them.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vidprep.errors import ManifestError
from vidprep.manifest.folders import VIDEO_EXTENSIONS, class_folders, list_videos, single_video
from vidprep.manifest.rows import Manifest, Row
from vidprep.manifest.standard import (
    GroupSplit,
    StandardDataset,
    list_manifests,
    load_standard,
    official_rows,
    stem_of,
)
from vidprep.manifest.table import read_table

__all__ = [
    "VIDEO_EXTENSIONS",
    "CheckReport",
    "GroupSplit",
    "Manifest",
    "Row",
    "SplitCount",
    "StandardDataset",
    "check",
    "find_rows",
    "list_manifests",
    "load_standard",
]


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Videos on one side of a split, such as "split1/train": found, and expected."""

    name: str
    num_present: int
    num_expected: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A folder against a standard dataset; paths relative to the folder, missing ones by their official name."""

    dataset: str
    present: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    splits: tuple[SplitCount, ...]

    @property
    def ok(self) -> bool:
        """Whether the folder is the dataset: nothing is missing, doubled or too much."""
        counts_match = all(split.num_present == split.num_expected for split in self.splits)
        return counts_match and not self.missing and not self.extra


def find_rows(root: Path, manifest: str | Path | None = None) -> Manifest:
    """Find the videos of a folder, with labels and standard splits.

    Without `manifest` the layout is recognised. Every video is an official clip of a standard dataset, in
    whatever container: that dataset, or a part of it. Else there are folders: the first one below the root is
    the class, in sorted order, and a video in no folder has no label; where all videos are called
    `Class/v_Class_g01_c01.avi`, UCF101's group splits hold. Else a flat folder, unlabelled.

    Hidden files and folders are passed over. Links are followed, each real folder is listed once, and a broken
    link that is named like a video stays a row.

    Parameters
    ----------
    root : Path
        Folder of videos, or one video.
    manifest : str or Path, optional
        Name of a standard dataset (videos that aren't in it are ignored), or a .csv or .tsv file with the
        columns path, label, start, end, split: times in seconds, splits separated by ";". Only path is needed,
        other columns are passed over. Label names are indexed in sorted order; an integer label is the index.

    Raises
    ------
    ManifestError
        There is no video, a folder can't be read, or the table breaks a rule.
    """
    root = Path(root)
    if manifest is not None and str(manifest) not in list_manifests():
        return read_table(root, Path(manifest))
    if manifest is None and os.path.isfile(root):  # noqa: PTH113 - Path's raises where the folder can't be seen
        return single_video(root)
    paths, others = list_videos(root)
    if manifest is not None:
        return _named_dataset(load_standard(str(manifest)), root, paths, others)
    for dataset in map(load_standard, list_manifests()):
        rows = official_rows(dataset, paths)
        if len(rows) == len(paths):
            return Manifest(dataset.name, root, dataset.classes, rows, tuple(others))
    return class_folders(root, paths, others)


def check(dataset: StandardDataset, root: Path) -> CheckReport:
    """Compare the names of the videos below a folder with a standard dataset; raises as `find_rows` does."""
    paths, _ = list_videos(Path(root))
    rows = official_rows(dataset, paths)
    present = {stem_of(row.path) for row in rows}
    num_present = Counter(split for row in rows for split in row.splits)
    expected = [(f"{split.name}/train", split.num_train) for split in dataset.splits]
    expected += [(f"{split.name}/test", split.num_test) for split in dataset.splits]
    return CheckReport(
        dataset=dataset.name,
        present=tuple(row.path for row in rows),
        missing=tuple(row.path for row in dataset.rows if stem_of(row.path) not in present),
        extra=tuple(sorted(set(paths).difference(row.path for row in rows))),
        splits=tuple(SplitCount(name, num_present[name], num) for name, num in sorted(expected)),
    )


def _named_dataset(dataset: StandardDataset, root: Path, paths: list[str], others: list[str]) -> Manifest:
    rows = official_rows(dataset, paths)
    if not rows:
        raise ManifestError(
            f"root={str(root)!r} must hold videos of {dataset.name}, such as {dataset.rows[0].path!r}, and none of"
            f" its {len(paths)} videos is; name the folder that holds the class folders"
        )
    unknown = set(paths).difference(row.path for row in rows)
    return Manifest(dataset.name, root, dataset.classes, rows, tuple(sorted(unknown.union(others))))
