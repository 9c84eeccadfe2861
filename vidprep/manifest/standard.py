"""The published datasets, from the TOML files in `manifests/`, and their official rows."""

import functools
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from vidprep.errors import ManifestError
from vidprep.manifest.official import READERS
from vidprep.manifest.rows import Row, sort_rows


@dataclass(frozen=True, slots=True)
class Split:
    """One side of a standard split, such as "split1/train", or a whole one, such as "val", as it was published.

    Attributes
    ----------
    name : str
    num_videos : int or None
        Videos in the official lists; None where no number is known.
    num_rows : int or None
        Rows of them, where a video has several segments; else the number of videos.
    num_videos_in_paper : int or None
        What the paper says, where the official lists hold another number.
    """

    name: str
    num_videos: int | None = None
    num_rows: int | None = None
    num_videos_in_paper: int | None = None


@dataclass(frozen=True, slots=True)
class StandardDataset:
    """A published dataset as its authors define it; manifests/README.md explains the fields.

    `sources` holds (what, address) of its page, paper, videos and annotations: to read, nothing fetches them.
    `annotations` holds the official files' possible names by role, `optional` the roles that it can do without.
    `facts` is the whole TOML, for the reader of the official files.
    """

    name: str
    title: str
    about: str
    preparation: str
    num_videos: int
    sources: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    papers: tuple[Mapping[str, str], ...] = ()
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    multi_label: bool = False
    videos_vanish: bool = False
    subset_of: str | None = None
    unlabelled: str | None = None
    ignore_case: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


def list_manifests() -> list[str]:
    """List the names of the standard datasets, sorted."""
    names = (file.name for file in resources.files("vidprep.manifests").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


@functools.cache
def load_standard(name: str) -> StandardDataset:
    """Load what is known of a standard dataset, such as "ucf101"; raises ManifestError when none has this name."""
    if name not in list_manifests():
        raise ManifestError(f"manifest={name!r} must be one of: {', '.join(list_manifests())}")
    facts = tomllib.loads((resources.files("vidprep.manifests") / f"{name}.toml").read_text("utf-8"))
    if "subset_of" in facts:
        facts["classes_of_all"] = load_standard(facts["subset_of"]).classes
    names = facts.get("annotations", {}).items()
    return StandardDataset(
        name=name,
        title=facts["title"],
        about=facts["about"],
        preparation=facts["preparation"],
        num_videos=facts["num_videos"],
        sources=tuple(facts["sources"].items()),
        classes=tuple(facts["classes"]),
        splits=tuple(Split(**split) for split in facts["splits"]),
        papers=tuple(facts.get("papers", ())),
        annotations={role: (name,) if isinstance(name, str) else tuple(name) for role, name in names},
        optional=frozenset(facts.get("optional", ())),
        targets={target: tuple(classes) for target, classes in facts.get("targets", {}).items()},
        multi_label=facts.get("multi_label", False),
        videos_vanish=facts.get("videos_vanish", False),
        subset_of=facts.get("subset_of"),
        unlabelled=facts.get("unlabelled"),
        ignore_case=facts.get("ignore_case", False),
        facts=facts,
    )


def official_rows(
    dataset: StandardDataset, root: Path | None = None, annotations: Path | None = None
) -> tuple[Row, ...]:
    """Make all official rows of a dataset, sorted; their paths are the videos' ids.

    Parameters
    ----------
    dataset : StandardDataset
    root, annotations : Path, optional
        The videos' folder, and the one that the user names: the official files may lie in them, or in a folder right
        below. Datasets without such files need neither.

    Raises
    ------
    ManifestError
        An official file is missing, or isn't of its format.
    """
    files = find_annotations(dataset, root, annotations)
    rows = sort_rows(READERS[dataset.facts["reader"]](dataset.facts, files))
    if not rows:
        wanted = "; ".join(" or ".join(dataset.annotations[role]) for role in dataset.annotations if role not in files)
        raise ManifestError(
            f"annotations of {dataset.name}: the official files that are there ({', '.join(files)}) list no video; give"
            f" one that does ({wanted or 'a complete copy'})"
        )
    return rows


def find_annotations(
    dataset: StandardDataset, root: Path | None = None, annotations: Path | None = None
) -> dict[str, Path]:
    """Find the official files by role, as `official_rows` does; ManifestError if a needed one is missing."""
    if annotations is not None and not (dataset.annotations and annotations.is_dir()):
        raise ManifestError(
            f"annotations={str(annotations)!r} must be a folder that holds the official files; correct the path"
            if dataset.annotations
            else f"annotations={str(annotations)!r}: {dataset.name} needs no official files; leave it out"
        )
    folders = [folder for folder in (annotations, root) if folder is not None]
    found = {role: _find_file(names, folders) for role, names in dataset.annotations.items()}
    missing = [role for role, file in found.items() if file is None and role not in dataset.optional]
    if not any(found.values()):
        missing = missing or list(found)  # where each is optional, one must be there
    if missing:
        wanted = "; ".join(f"{role}: {' or '.join(dataset.annotations[role])}" for role in missing)
        sources = ", ".join(f"{what}: {address}" for what, address in dataset.sources)
        places = " or ".join(repr(str(folder)) for folder in folders)
        raise ManifestError(
            f"annotations of {dataset.name}: {len(missing)} official files must lie in "
            f"{places or 'a folder that is named'} or one folder below, and don't ({wanted}); get them ({sources}) and"
            " give their folder (--annotations FOLDER)"
        )
    return {role: file for role, file in found.items() if file is not None}


def _find_file(names: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """Find the file of one of the names; nearer folders and earlier names first."""
    for folder in folders:
        found = [folder / name for name in names if (folder / name).is_file()]
        if found:
            return found[0]
        below = [place / name for place in _folders_below(folder) for name in names if (place / name).is_file()]
        if len(below) > 1:
            some = ", ".join(repr(str(file)) for file in below[:3])
            raise ManifestError(
                f"annotations={str(folder)!r} must hold one file {' or '.join(names)}, and there are {len(below)}:"
                f" {some}; give the folder of this dataset's own files (--annotations FOLDER)"
            )
        if below:
            return below[0]
    return None


def _folders_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
