"""Rows from a .csv or .tsv file."""

import csv
import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vidprep.errors import ManifestError
from vidprep.manifest.rows import MAX_SECONDS, Manifest, Row, sort_rows, to_milliseconds
from vidprep.manifest.standard import list_manifests

TABLE_COLUMNS = ("path", "label", "start", "end", "split")


def read_table(root: Path, file: Path) -> Manifest:
    """Read the rows of a table; its labels get their indices when all are known."""
    line_of: dict[str, int] = {}
    rows, labels = [], []
    for line, cells in _read_lines(file):
        try:
            row, label = _read_row(cells), _read_label(cells)
            first = line_of.setdefault(row.key, line)
            if first != line:
                raise ManifestError(
                    f"path={row.path!r} must not stand there twice with the same start and end, and it does in"
                    f" line {first} too; remove one of the two"
                )
        except ManifestError as error:
            raise ManifestError(f"{str(file)!r} line {line}: {error}") from None
        rows.append(row)
        labels.append((line, label))
    if not any(os.path.lexists(root / row.path) for row in rows):
        raise ManifestError(
            f"root={str(root)!r} must be the folder that the paths in {str(file)!r} are relative to, and none of"
            f" its {len(rows)} files is there, such as {rows[0].path!r}; correct the root or the paths"
        )
    classes = _table_classes(file, labels)
    label_of = {"": ()} | {label: (_label_index(label, classes),) for label in {label for _, label in labels} - {""}}
    labelled = [replace(row, labels=label_of[label]) for row, (_, label) in zip(rows, labels, strict=True)]
    return Manifest(file.name, root, classes, sort_rows(labelled))


def _read_lines(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Cells by column, and line number, of each line below the header that is not blank."""
    delimiter = {".csv": ",", ".tsv": "\t"}.get(file.suffix.lower())
    if delimiter is None:
        raise ManifestError(
            f"manifest={str(file)!r} must be the name of a standard dataset ({', '.join(list_manifests())}) or a"
            " .csv or .tsv file; correct the name, or rename the file"
        )
    try:
        # Names that are no UTF-8 come out as os.fsdecode gives them; newline="" is csv's own wish.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            records = [(reader.line_num, fields) for fields in reader if fields]
    except OSError as error:
        raise ManifestError(
            f"manifest={str(file)!r} must be a file that can be read ({error.strerror}); correct the path"
        ) from error
    except csv.Error as error:
        raise ManifestError(
            f"{str(file)!r} line {reader.line_num}: must be readable as {file.suffix} ({error}); quote the fields"
            ' that hold a separator or a quote, and double the quotes in them: "a ""b"".avi"'
        ) from error
    return _check_columns(file, records)


def _check_columns(file: Path, records: list[tuple[int, list[str]]]) -> list[tuple[int, dict[str, str]]]:
    if len(records) < 2:
        raise ManifestError(f"manifest={str(file)!r} must hold a header and one line a video; it lists no video")
    header = [name.strip() for name in records[0][1]]
    # A column that is passed over because of a slip in its name would lose the labels in silence.
    slips = [name for name in header if name not in TABLE_COLUMNS and name.lower().rstrip("s") in TABLE_COLUMNS]
    if "path" not in header or slips or len(set(header)) != len(header):
        raise ManifestError(
            f"{str(file)!r} line {records[0][0]}: header={header} must hold path, may hold"
            f" {', '.join(TABLE_COLUMNS[1:])}, spelt so, and no name twice; rename the columns"
        )
    for line, fields in records:
        if len(fields) != len(header):
            raise ManifestError(
                f"{str(file)!r} line {line}: num_fields={len(fields)} must be {len(header)} as in the header; quote"
                " fields that hold the separator, and write empty fields out"
            )
    return [(line, dict(zip(header, fields, strict=True))) for line, fields in records[1:]]


def _read_row(cells: dict[str, str]) -> Row:
    path = PurePosixPath(cells["path"])
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ManifestError(
            f"path={cells['path']!r} must name a file below the root; write it relative to the root, without '..'"
        )
    start, end = _read_seconds("start", cells), _read_seconds("end", cells)
    if end is not None and to_milliseconds(start or 0) >= to_milliseconds(end):
        raise ManifestError(
            f"start={start or 0}, end={end}: the start must lie before the end, by a millisecond at least; swap"
            " or correct them"
        )
    return Row(path.as_posix(), start_seconds=start, end_seconds=end, splits=_read_splits(cells))


def _read_seconds(name: str, cells: dict[str, str]) -> float | None:
    text = cells.get(name, "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < MAX_SECONDS:  # so written, nan is refused too
        raise ManifestError(
            f"{name}={text!r} must be a time in seconds such as 12.5, not negative and below {MAX_SECONDS:.0e};"
            f" leave it empty for the video's own {name}"
        )
    return seconds


def _read_splits(cells: dict[str, str]) -> tuple[str, ...]:
    splits = sorted({split.strip() for split in cells.get("split", "").split(";")} - {""})
    for split in splits:
        if split == "all" or not re.fullmatch(r"\w+(/\w+)?", split, re.ASCII):
            raise ManifestError(
                f"split={split!r} must be letters, digits and _ with at most one / (train, split1/test), and not"
                " 'all', which names the videos without a split; rename it"
            )
    return tuple(splits)


def _is_integer(label: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+", label) is not None


def _read_label(cells: dict[str, str]) -> str:
    label = cells.get("label", "").strip()
    if _is_integer(label) and not re.fullmatch(r"[0-9]{1,6}", label):
        raise ManifestError(
            f"label={label!r} must be a class name or an integer from 0 to 999999; leave it empty for a video"
            " without a label"
        )
    return label


def _table_classes(file: Path, labels: list[tuple[int, str]]) -> tuple[str, ...]:
    """Class names: those of the table in sorted order, or the numbers up to the largest integer label."""
    names = {label: line for line, label in reversed(labels) if label and not _is_integer(label)}
    numbers = {label: line for line, label in reversed(labels) if _is_integer(label)}
    if names and numbers:
        (name, name_line), (number, number_line) = names.popitem(), numbers.popitem()
        raise ManifestError(
            f"{str(file)!r}: label={name!r} in line {name_line} and label={number!r} in line {number_line} must be"
            " both names or both integers; write all labels in one way"
        )
    return tuple(sorted(names)) or tuple(map(str, range(max(map(int, numbers), default=-1) + 1)))


def _label_index(label: str, classes: tuple[str, ...]) -> int:
    return int(label) if _is_integer(label) else classes.index(label)
