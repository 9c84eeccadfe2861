"""Which videos a dataset has, what they show, and which standard splits hold them.

`find_rows` turns a folder (or one video) into a `Manifest` of rows, `load_standard` knows the published
datasets from the TOML files in `manifests/`, `official_rows` reads their official lists, `check` compares a folder with
one of them.
"""

import functools
import os
from pathlib import Path

from vidprep.errors import ManifestError
from vidprep.manifest.check import CheckReport, SplitCount, check, count_splits
from vidprep.manifest.folders import class_folders, list_videos, single_video
from vidprep.manifest.names import VIDEO_EXTENSIONS, OfficialNames, match_rows
from vidprep.manifest.rows import Manifest, Row
from vidprep.manifest.standard import (
    Split,
    StandardDataset,
    find_annotations,
    list_manifests,
    load_standard,
    official_rows,
)
from vidprep.manifest.table import read_table

__all__ = [
    "VIDEO_EXTENSIONS",
    "CheckReport",
    "Manifest",
    "Row",
    "Split",
    "SplitCount",
    "StandardDataset",
    "check",
    "count_splits",
    "find_annotations",
    "find_rows",
    "list_manifests",
    "load_standard",
    "official_rows",
]


def find_rows(root: Path, manifest: str | Path | None = None, annotations: Path | None = None) -> Manifest:
    """Find the videos of a folder, with labels and standard splits.

    Without `manifest` the layout is recognised. Every video is an official clip of UCF101 or of HMDB51, in
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
    annotations : Path, optional
        Folder of the official annotation files, for standard datasets that need them; the root and the folders right
        below either are searched too.

    Raises
    ------
    ManifestError
        There is no video, a folder can't be read, the table breaks a rule, or an official file is missing or not of
        its format.
    """
    root = Path(root)
    is_standard = manifest is not None and str(manifest) in list_manifests()
    if annotations is not None and not is_standard:
        raise ManifestError(
            f"annotations={str(annotations)!r} are those of a standard dataset, which must be named; name it"
            f" (--manifest {'|'.join(list_manifests())}), or leave them out"
        )
    if manifest is not None and not is_standard:
        return read_table(root, Path(manifest))
    if manifest is None and os.path.isfile(root):  # noqa: PTH113 - Path's raises where the folder can't be seen
        return single_video(root)
    if is_standard:
        return _named_dataset(load_standard(str(manifest)), root, annotations)
    paths, others = list_videos(root)
    for dataset in map(load_standard, list_manifests()):
        # Those that need official files are named: no folder is searched for them, and nothing is guessed.
        rows = () if dataset.annotations else match_rows(_names_without_files(dataset.name), paths)
        if len(rows) == len(paths):
            return _manifest(dataset, root, rows, others)
    return class_folders(root, paths, others)


@functools.cache
def _names_without_files(name: str) -> OfficialNames:
    dataset = load_standard(name)
    return OfficialNames(official_rows(dataset), ignore_case=dataset.ignore_case)


def _named_dataset(dataset: StandardDataset, root: Path, annotations: Path | None) -> Manifest:
    paths, others = list_videos(root, dataset.facts.get("from_frames"))
    official = official_rows(dataset, root, annotations)
    rows = match_rows(OfficialNames(official, ignore_case=dataset.ignore_case), paths)
    if not rows:
        raise ManifestError(
            f"root={str(root)!r} must hold videos of {dataset.name}, such as {official[0].path!r}, and none of"
            f" its {len(paths)} videos is; name the folder that holds them"
        )
    unknown = set(paths).difference(row.path for row in rows)
    return _manifest(dataset, root, rows, sorted(unknown.union(others)))


def _manifest(dataset: StandardDataset, root: Path, rows: tuple[Row, ...], ignored: list[str]) -> Manifest:
    return Manifest(
        dataset.name, root, dataset.classes, rows, tuple(ignored), dataset.targets, multi_label=dataset.multi_label
    )
