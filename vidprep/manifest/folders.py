"""The videos below a folder: walking it, and what its layout says of labels and splits."""

import os
import re
from pathlib import Path, PurePosixPath

from vidprep.errors import ManifestError
from vidprep.manifest.names import VIDEO_EXTENSIONS, VIDEO_SUFFIXES
from vidprep.manifest.official.groups import memberships_of
from vidprep.manifest.rows import Manifest, Row, sort_rows
from vidprep.manifest.standard import load_standard

_FROM_FRAMES = "ffmpeg -framerate FPS -i FOLDER/%05d.jpg -c copy FOLDER.mkv"
_UCF_CLIP = re.compile(r"([^/]+)/v_([^/]+)_g([0-9]{2})_c[0-9]{2}\.[^/.]+")  # folder, stem, group


def single_video(file: Path) -> Manifest:
    """Make the manifest of one video, whose root is the folder that it lies in."""
    if file.suffix.lower() not in VIDEO_EXTENSIONS:
        raise ManifestError(
            f"root={str(file)!r} must be a folder or a video ({VIDEO_SUFFIXES}); correct the path, or rename the video"
        )
    return Manifest("single-video", file.parent, (), (Row(file.name),))


def class_folders(root: Path, paths: list[str], others: list[str]) -> Manifest:
    """Label videos by the first folder below the root, in sorted order; those in none stay unlabelled."""
    folders = [path.partition("/")[0] if "/" in path else None for path in paths]
    classes = tuple(sorted({folder for folder in folders if folder is not None}))
    label_of: dict[str | None, tuple[int, ...]] = {name: (label,) for label, name in enumerate(classes)}
    splits = _ucf_layout_splits(paths)
    rows = [
        Row(path, labels=label_of.get(folder, ()), splits=splits.get(path, ()))
        for path, folder in zip(paths, folders, strict=True)
    ]
    name = "ucf-layout" if splits else "class-folders" if classes else "flat-folder"
    return Manifest(name, root, classes, sort_rows(rows), tuple(others))


def _ucf_layout_splits(paths: list[str]) -> dict[str, tuple[str, ...]]:
    """Give UCF101's group splits by path, or nothing unless every video is named as UCF101 names its own."""
    splits = {}
    for path in paths:
        match = _UCF_CLIP.fullmatch(path)
        if match is None or match[1].casefold() != match[2].casefold():
            return {}
        splits[path] = memberships_of(load_standard("ucf101").facts, int(match[3]))
    return splits


def list_videos(root: Path, from_frames: str | None = None) -> tuple[list[str], list[str]]:
    """Paths of the videos and of the other files below the root, each sorted.

    `from_frames` is the command that makes a video of a folder of frames, for datasets that are published so.
    """
    files = sorted(_list_files(root))
    videos = [path for path in files if PurePosixPath(path).suffix.lower() in VIDEO_EXTENSIONS]
    frames = [path for path in files if path.lower().endswith((".jpg", ".jpeg"))]
    if frames and not videos:
        raise ManifestError(
            f"root={str(root)!r} must hold videos, and it holds {len(frames)} single frames, such as {frames[0]!r};"
            f" make a video of each folder of frames, which loses nothing: {from_frames or _FROM_FRAMES}"
        )
    if not videos:
        raise ManifestError(
            f"root={str(root)!r} must hold videos ({VIDEO_SUFFIXES}; hidden ones don't count), and none of its"
            f" {len(files)} files is one; name the folder that holds them"
        )
    return videos, sorted(set(files).difference(videos))


def _list_files(root: Path) -> list[str]:
    """Paths of all files below the root; real folders before links, so that a loop adds no second name."""
    files: list[str] = []
    visited: set[Path] = set()
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real_folder = Path(os.path.realpath(root / folder))  # resolve() raises for a link to itself
        if real_folder in visited:
            continue
        visited.add(real_folder)
        for entry in _scan(root / folder):
            if entry.name.startswith("."):
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry) if is_link else entry.is_dir():  # noqa: PTH112 - bears links to themselves
                (links if is_link else folders).append(f"{folder}{entry.name}/")
            else:
                files.append(folder + entry.name)
    return files


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(
            f"folder={str(folder)!r} must be a folder that can be read ({error.strerror}); correct the path or its"
            " permissions"
        ) from error
