"""FCVID: each row a web video with any number of 239 labels."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vidprep.errors import ManifestError
from vidprep.manifest.official.checks import Labels, RowsOnce, check_video, read_frame_list
from vidprep.manifest.official.files import read_lines, refuse, shown
from vidprep.manifest.rows import Row

OWN = ("names", "labels")
LISTS = {"train_list": "train", "test_list": "test"}


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Read one row a video, from the dataset's own two files, or from the lists that AdaFocus and others share.

    A video is known by its file's name; the folder above, named after a class or "multiple", is passed over.

    Raises
    ------
    ManifestError
        A file breaks its format, the own two files don't belong together, or there are files of both kinds:
        whether both number the classes alike is not published.
    """
    own = [role for role in OWN if role in files]
    if len(own) == 1 or (own and len(own) < len(files)):
        found_names = ", ".join(sorted(file.name for file in files.values()))
        raise ManifestError(
            f"annotations: {found_names}: must be both of the dataset's own files or else the lists, which may number"
            " the classes otherwise; put the files of one kind into a folder of their own (--annotations FOLDER)"
        )
    if own:
        return _from_matrix(files["names"], files["labels"], len(facts["classes"]))
    found = RowsOnce()
    for role, split in LISTS.items():
        if role in files:
            for line, name, labels in read_frame_list(files[role], len(facts["classes"])):
                found.add(files[role], line, Row(_video_of(files[role], line, name), labels=labels, splits=(split,)))
    return found.rows


def _from_matrix(names: Path, matrix: Path, num_classes: int) -> list[Row]:
    """Rows of a list "name train" and of a matrix of zeros and ones, with a line a video and a column a class."""
    found = RowsOnce()
    all_labels = _read_matrix(matrix, num_classes)
    for line, text in read_lines(names):
        fields = text.split()
        if len(fields) != 2 or fields[1] not in LISTS.values():
            raise refuse(names, line, shown(text), "must be a video's file, and train or test")
        labels = next(all_labels, None)
        if labels is None:
            raise refuse(names, line, shown(text), f"must have its labels in {matrix.name}, which has fewer lines")
        found.add(names, line, Row(_video_of(names, line, fields[0]), labels=labels, splits=(fields[1],)))
    if next(all_labels, None) is not None:
        raise refuse(matrix, None, "num_lines", f"must be as in {names.name}, and is more")
    return found.rows


def _read_matrix(file: Path, num_classes: int) -> Iterator[Labels]:
    is_one: dict[str, bool] = {}  # by spelling: 1, 1.0, 1.000e+00
    for line, text in read_lines(file):
        fields = text.split()
        if len(fields) != num_classes:
            raise refuse(file, line, f"num_fields={len(fields)}", f"must be {num_classes}, one a class")
        for field in set(fields).difference(is_one):
            is_one[field] = _read_flag(file, line, field)
        yield tuple(label for label, field in enumerate(fields) if is_one[field])


def _read_flag(file: Path, line: int, text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number not in (0, 1):
        raise refuse(file, line, f"field={shown(text)}", "must be 0 or 1")
    return number == 1


def _video_of(file: Path, line: int, name: str) -> str:
    """Leave out folders and extension."""
    video = PurePosixPath(name.replace("\\", "/")).name
    return check_video(file, line, video.rpartition(".")[0] or video, r"[\w-]{1,64}", "--0K_j-zexM")
