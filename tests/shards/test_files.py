"""Files that are whole or not there: whatever fails, nothing looks finished that is not."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprep.errors import ShardError
from vidprep.shards import files
from vidprep.shards.files import read_json, sha256_of, to_json, whole_file, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_when_all_is_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.tar") as file:
        file.write(b"one")
        assert names(tmp_path) == ["a.tar.part"]
    assert names(tmp_path) == ["a.tar"]
    assert (tmp_path / "a.tar").read_bytes() == b"one"


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), whole_file(tmp_path / "a") as file:
        file.write(b"half of the new")
        raise error
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_stale_part_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"a long rest of a run that was killed")
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("function", ["fsync", "write", "flush", "replace"])
def test_a_full_disk_leaves_nothing_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    (tmp_path / "a").write_bytes(b"old")
    if function == "fsync":
        monkeypatch.setattr(files.os, "fsync", no_space)
    if function == "replace":
        monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space left"), whole_file(tmp_path / "a") as file:
        if function in ("write", "flush"):
            os.close(file.fileno())  # what is written to a disk that is full comes to light now, or in flush
            full = os.open("/dev/full", os.O_WRONLY)
            assert full == file.fileno()
        file.write(bytes(10 if function == "flush" else 10**6))
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"), whole_file(tmp_path / "a") as file:
        file.write(b"x")
    assert names(tmp_path) == ["a"]


def test_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not leave a name without its bytes: fsync the file, rename, fsync the folder."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def spy_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(f"fsync {path.name}: {path.stat().st_size if path.is_file() else 'folder'}")
        fsync(descriptor)

    def spy_replace(path: Path, target: Path) -> Path:
        events.append(f"rename {path.name}")
        return replace(path, target)

    monkeypatch.setattr(files.os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    with whole_file(tmp_path / "a") as file:
        file.write(bytes(100))
    assert events == ["fsync a.part: 100", "rename a.part", f"fsync {tmp_path.name}: folder"]


def test_it_may_be_opened_and_closed_by_hand(tmp_path: Path) -> None:
    context = whole_file(tmp_path / "a")
    file: IO[bytes] = context.__enter__()
    file.write(b"x")
    del file, context  # a writer that is dropped without a word
    assert names(tmp_path) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(VALUES)
def test_json_round_trips_in_ascii(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    data = to_json(value)
    assert json.loads(data) == value
    assert data.isascii()
    assert b"\n" not in data
    path = tmp_path_factory.mktemp("json") / "v.json"
    write_json(path, value)
    assert read_json(path) == value


def test_names_that_are_no_utf8_round_trip() -> None:
    path = os.fsdecode(b"caf\xe9.avi")
    assert json.loads(to_json({"path": path})) == {"path": path}
    assert os.fsencode(json.loads(to_json(path))) == b"caf\xe9.avi"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_does_not_know_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json([value])
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "v.json", [value])
    assert names(tmp_path) == []


def test_read_json_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"v\.json: no such file; is .* a folder that vidprep extract wrote\?"):
        read_json(tmp_path / "v.json")
    for data in (b"", b"{", b"\xff\xfe\x00", b"[1,]"):
        (tmp_path / "v.json").write_bytes(data)
        with pytest.raises(ShardError, match=r"v\.json: not readable as JSON .*--overwrite"):
            read_json(tmp_path / "v.json")
    (tmp_path / "v.json").unlink()
    (tmp_path / "v.json").mkdir()
    with pytest.raises(ShardError, match=r"Is a directory; give the folder"):
        read_json(tmp_path / "v.json")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_sha256_of_files_longer_than_a_chunk(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(data).hexdigest()
