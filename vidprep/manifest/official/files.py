"""Reading official annotation files, and refusing what isn't one, in the same words everywhere."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidprep.errors import ManifestError

MAX_SHOWN = 60  # characters of a value in a message


def refuse(file: Path, line: int | None, value: str, rule: str, cure: str = "") -> ManifestError:
    """Make the error of a file that isn't what it should be; the default cure is to get the file anew.

    `value` is written as ``name=value`` or as the text itself, `rule` begins with "must".
    """
    place = f"{str(file)!r}" if line is None else f"{str(file)!r} line {line}"
    cure = cure or "get the official file anew, its sources stand in `vidprep manifest show`"
    return ManifestError(f"{place}: {value} {rule}; {cure}")


def shown(value: object) -> str:
    """Write a value for a message, shortened."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def read_text(file: Path) -> str:
    """Read a file of UTF-8 text, with or without a byte order mark; ManifestError if it can't be read or isn't."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{str(file)!r} must be a file that can be read ({error.strerror}); correct it") from error
    except UnicodeDecodeError as error:
        raise refuse(file, None, f"byte {error.start}", "must be text (UTF-8)") from error


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that isn't blank, stripped."""
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line := line.strip():
            yield number, line


def read_json(file: Path) -> Any:
    """Read a JSON file; ManifestError if it isn't one."""
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise refuse(file, error.lineno, f"column {error.colno}", f"must be JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:  # nested too deep, a number with too many digits
        raise refuse(file, None, f"{error}:", "must be JSON") from error


def read_csv(
    file: Path, columns: Sequence[str], *, optional: Sequence[str] = (), delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells by column of each line below the header.

    The file must hold `columns` and may hold `optional` ones, which are "" where it doesn't; others are passed over.
    """
    reader = csv.reader(read_text(file).splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing := [name for name in columns if name not in header]:
            raise refuse(file, 1, f"header={shown(header)}", f"must hold {', '.join(missing)}")
        wanted = [(name, header.index(name)) for name in (*columns, *optional) if name in header]
        absent = {name: "" for name in optional if name not in header}
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise refuse(file, reader.line_num, f"num_fields={len(cells)}", f"must be {len(header)} as in line 1")
            yield reader.line_num, {name: cells[index] for name, index in wanted} | absent
    except csv.Error as error:
        raise refuse(file, reader.line_num, f"{error}:", "must be readable as .csv") from error


def read_seconds(file: Path, line: int | None, name: str, text: object) -> float:
    """Read a time in seconds; ManifestError unless it is a number from 0 on."""
    try:
        seconds = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise refuse(file, line, f"{name}={shown(text)}", "must be a time in seconds, such as 12.5")
    return seconds


def class_index(file: Path, line: int | None, name: str, indices: Mapping[str, int]) -> int:
    """Look a class up in `class_indices`; ManifestError if there is none of the name."""
    index = indices.get(name)
    if index is None:
        index = indices.get(_plain(name))
    if index is None:
        some = ", ".join(list(indices)[:3])
        raise refuse(
            file,
            line,
            f"class={shown(name)}",
            f"must be one of the dataset's, such as {some}",
            "give the annotations of this dataset and version",
        )
    return index


def class_indices(classes: Sequence[str]) -> dict[str, int]:
    """Return the classes' labels by name, and by the name without quotes, case and underscores."""
    return {_plain(name): label for label, name in enumerate(classes)} | {
        name: label for label, name in enumerate(classes)
    }


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace('"', "").split()).casefold()
