"""The members of a sample: byte for byte what the tar format says, and read by other programs."""

import gc
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import warnings
from pathlib import Path

import pytest
import webdataset
from hypothesis import example, given
from hypothesis import strategies as st
from webdataset import tariterators

from vidprep.errors import ShardError
from vidprep.manifest import Row
from vidprep.shards import sample as sample_module
from vidprep.shards.reader import read_samples
from vidprep.shards.sample import SampleWriter

KEYS = [
    "clip",
    "Class/v_Class_g01_c01%2Eavi",
    "a/b/c/deep%2Emp4@0-10000",
    "per%20cent%25%2Emp4",
    "at%40sign%2Emp4@-2500",
    "open%2Emp4@2500-",
    "CASE",
    "case",
    "l" * 90,
    "l" * 100,
    "l" * 101,
    "folder/" * 20 + "long%2Eavi",
    "l" * 255,
    "k" * 300,
    "f" * 200 + "/" + "k" * 200,
    "_under",
    "%5F_meta__/x",
]
DATA = {
    "rgb.000000.jpg": b"\xff\xd8picture",
    "rgb.000001.jpg": b"",
    "motion.npz": b"m" * 512,
    "cls": b"3",
    "json": b"{}",
}


def members(key: str, entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    sample = SampleWriter(file, key)
    for name, data in entries.items():
        sample.add(name, data)
    assert sample.num_bytes == len(file.getvalue())
    return file.getvalue()


def tar_of(path: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    path.write_bytes(b"".join(members(key, entries) for key, entries in samples.items()) + bytes(1024))
    return path


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 70000])
def test_bytes_are_those_of_the_format(size: int) -> None:
    """POSIX ustar, written out by hand: no clock, no user, no group."""
    data = os.urandom(size)
    head = b"key.json".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64 + 16 + 155 + 12)
    checksum = sum(head) + 8 * ord(" ") + sum(tail)
    header = head + b"%06o\0 " % checksum + tail
    assert len(header) == 512
    assert members("key", {"json": data}) == header + data + bytes(-size % 512)


@given(length=st.integers(1, 400), size=st.integers(0, 2**40))
@example(length=95, size=8**11 - 1)  # "key.json" of 100 characters, the largest size in octal digits
@example(length=95, size=8**11)
@example(length=96, size=0)
def test_headers_are_those_of_tarfile(length: int, size: int) -> None:
    name = "k" * length + ".json"
    member = tarfile.TarInfo(name)
    member.size = size
    assert sample_module._header(name, size) == member.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("key", KEYS)
def test_members_carry_no_clock_and_no_user(tmp_path: Path, key: str) -> None:
    with tarfile.open(tar_of(tmp_path / "s.tar", {key: DATA})) as tar:
        found = tar.getmembers()
        assert [member.name for member in found] == [f"{key}.{name}" for name in DATA]
        for member, data in zip(found, DATA.values(), strict=True):
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.isreg()) == (0o644, True)
            assert set(member.pax_headers) <= {"path"}
            stored = tar.extractfile(member)
            assert stored is not None
            assert stored.read() == data


def test_equal_entries_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [members(key, DATA) for key in KEYS]
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert [members(key, DATA) for key in KEYS] == before


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("no tar command on this machine")
    path = tar_of(tmp_path / "s.tar", dict.fromkeys(KEYS, DATA))
    listed = subprocess.run([tar, "tf", path.name], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert listed.stdout.split("\n")[:-1] == [f"{key}.{name}" for key in KEYS for name in DATA]
    short = {key: DATA for key in KEYS if max(map(len, key.split("/"))) < 230}
    tar_of(path, short)
    (tmp_path / "out").mkdir()
    subprocess.run([tar, "xf", "../s.tar"], cwd=tmp_path / "out", capture_output=True, check=True)
    for key in short:
        for name, data in DATA.items():
            assert (tmp_path / "out" / f"{key}.{name}").read_bytes() == data


def test_plain_webdataset_reads_it(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "train+x-000000.tar", dict.fromkeys(KEYS, DATA))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves the file to the garbage collector
        samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
        gc.collect()
    assert [sample["__key__"] for sample in samples] == KEYS
    for sample in samples:
        assert {name: value for name, value in sample.items() if not name.startswith("__")} == DATA


PATHS = st.text(min_size=1, max_size=60).filter(lambda path: "\0" not in path and not path.startswith("/"))


@example(["__meta__/x.avi", "_.avi", "a.b.c.avi", ".hidden", "a/.b"])
@example(["x\ny.avi", "x\u2028.avi", "tab\t.avi", "%2E.avi", "~a", "a~", "caf\udce9.avi", "a@1-2.avi", "a b.avi"])
@example(["d" * 120 + "/" + "\u00fc" * 40 + ".avi", "x/" * 60 + "y.avi"])
@given(st.lists(PATHS, min_size=1, max_size=6))
def test_any_path_is_read_back_by_its_key(paths: list[str]) -> None:
    """The reader, tarfile and webdataset group the members alike, whatever the videos are called."""
    rows = [Row(path) for path in paths] + [Row(path, start_seconds=1.0, end_seconds=2.5) for path in paths]
    try:
        keys = list(dict.fromkeys(row.key for row in rows))
    except UnicodeEncodeError:
        return  # a lone surrogate that no file name can hold
    with tempfile.TemporaryDirectory() as folder:
        path = tar_of(Path(folder) / "s.tar", dict.fromkeys(keys, DATA))
        assert [(sample.key, sample.entries) for sample in read_samples(path)] == [(key, DATA) for key in keys]
        with path.open("rb") as stream:
            files = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            assert [sample["__key__"] for sample in tariterators.group_by_keys(files)] == keys


@pytest.mark.parametrize("key", ["", "a.b", "a/b.c/d", "caf\u00e9", "."])
def test_a_key_that_readers_would_cut_is_refused(key: str) -> None:
    with pytest.raises(ShardError, match=r"key=.*: must be ASCII without dots; make keys with Row.key"):
        SampleWriter(io.BytesIO(), key)


def test_bytes_are_counted_by_kind_without_headers() -> None:
    sample = SampleWriter(io.BytesIO(), "k")
    for name, size in (
        ("rgb.000000.jpg", 10),
        ("rgb.000001.jpg", 30),
        ("rgb112.000000.jpg", 5),
        ("json", 2),
        ("cls", 1),
    ):
        sample.add(name, bytes(size))
    assert sample.bytes_by_kind == {"rgb": 40, "rgb112": 5, "json": 2, "cls": 1}
    assert sample.num_bytes == 5 * (512 + 512)
