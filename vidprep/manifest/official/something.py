"""Something-Something V1 and V2: one short video a row, one label each.

V1 has tables `id;label`, V2 has JSON whose template is the class, in brackets what changes. Lists of `ID.webm label`,
as many repositories have them, are read too.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprep.manifest.official.checks import Labels, RowsOnce, check_video, read_label
from vidprep.manifest.official.files import class_index, class_indices, read_json, read_lines, refuse, shown
from vidprep.manifest.rows import Row

Found = Iterator[tuple[int | None, str, Labels]]  # line, video, labels

SPLITS = ("train", "val", "test")  # roles of the files, and names of the splits


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Read the rows of the splits that there are files of; officially, those of the test split have no label.

    Raises
    ------
    ManifestError
        A file breaks its format, the classes are others than the manifest's, or a video stands in two splits.
    """
    indices = class_indices(facts["classes"])
    if "labels" in files:
        _check_classes(files["labels"], facts["classes"])
    found = RowsOnce()
    for split in SPLITS:
        if split in files:
            file = files[split]
            for line, video, labels in _READERS[file.suffix](file, indices):
                if not labels and split != "test":
                    raise refuse(file, line, f"video={video}", "must have a label, outside of the test split")
                found.add(file, line, Row(video, labels=labels, splits=(split,)))
    return found.rows


def _from_table(file: Path, indices: Mapping[str, int]) -> Found:
    """`id;label`, and `id` alone in the test split."""
    for line, text in read_lines(file):
        video, separator, name = text.partition(";")
        labels = (class_index(file, line, name, indices),) if separator else ()
        yield line, _check(file, line, video), labels


def _from_json(file: Path, indices: Mapping[str, int]) -> Found:
    """``[{"id": "78687", "template": "Holding [something] next to [something]"}]``; the id alone in the test split."""
    entries = read_json(file)
    if not isinstance(entries, list):
        raise refuse(file, None, shown(entries), "must be a list of videos")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("template", ""), str):
            raise refuse(file, None, f"entry {number}: {shown(entry)}", "must be an object with an id and a template")
        labels: Labels = ()
        if "template" in entry:
            labels = (class_index(file, None, entry["template"].replace("[", "").replace("]", ""), indices),)
        yield None, _check(file, None, entry.get("id")), labels


def _from_list(file: Path, indices: Mapping[str, int]) -> Found:
    num_classes = len(set(indices.values()))
    for line, text in read_lines(file):
        fields = text.split()
        if len(fields) != 2:
            raise refuse(file, line, shown(text), "must be a video and its label, as in '74225.webm 140'")
        label = read_label(file, line, "label", fields[1], num_classes)
        yield line, _check(file, line, fields[0].removesuffix(".webm")), (label,)


_READERS = {".csv": _from_table, ".json": _from_json, ".txt": _from_list}


def _check(file: Path, line: int | None, video: object) -> str:
    return check_video(file, line, video, "[0-9]{1,9}", "74225")


def _check_classes(file: Path, classes: Sequence[str]) -> None:
    """Check that the user's release numbers the classes as the manifest does."""
    if file.suffix == ".json":
        names = read_json(file)
        agree = names == {name: str(label) for label, name in enumerate(classes)}
    else:
        names = [text for _, text in read_lines(file)]
        agree = names == list(classes)
    if not agree:
        rule = f"must list the {len(classes)} classes in the order that `vidprep manifest show` gives"
        raise refuse(file, None, shown(names), rule)
