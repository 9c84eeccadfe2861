"""Writing a shard: the plan's order, holes for failures, and nothing that looks finished and is not."""

import errno
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.conftest import entries_of, plan_row, spool, status_of
from vidprep.errors import ShardError
from vidprep.shards import writer as writer_module
from vidprep.shards.index import ShardEntry, Status, load_statuses
from vidprep.shards.plan import PlannedShard
from vidprep.shards.reader import read_samples
from vidprep.shards.sample import SampleWriter
from vidprep.shards.writer import ShardWriter

PLANNED = PlannedShard("all-000000.tar", "all", tuple(plan_row(key) for key in ("one", "two", "three", "four")))
DONE, FAILED = True, False


def members_of(key: str, size: int = 700) -> tuple[Status, io.BytesIO]:
    """A status row and the members of a sample."""
    file = io.BytesIO()
    sample = SampleWriter(file, key)
    sample.add("video.m4v", hashlib.sha256(key.encode()).digest() * (size // 32))
    sample.add("json", b"{}")
    file.seek(0)
    return Status(key, f"{key}.avi", num_bytes=sample.num_bytes, num_frames=len(key)), file


def write(folder: Path, results: list[bool], planned: PlannedShard = PLANNED) -> ShardEntry:
    writer = ShardWriter(folder, planned)
    for row, done in zip(planned.rows, results, strict=True):
        if done:
            writer.append(*members_of(row.key))
        else:
            writer.append(Status(row.key, row.row["path"], error="it is broken"), None)
    return writer.finish()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_samples_stand_in_order_and_are_counted(tmp_path: Path) -> None:
    entry = write(tmp_path, [DONE] * 4)
    assert names(tmp_path) == ["all-000000.tar", "status/all-000000.jsonl"]
    assert [sample.key for sample in read_samples(tmp_path / entry.name)] == ["one", "two", "three", "four"]
    data = (tmp_path / entry.name).read_bytes()
    assert data == b"".join(members_of(row.key)[1].getvalue() for row in PLANNED.rows) + bytes(1024)
    assert entry == ShardEntry(
        name="all-000000.tar",
        cell="all",
        num_samples=4,
        num_failed=0,
        num_frames=3 + 3 + 5 + 4,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def test_the_plan_keeps_its_order(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, PLANNED)
    with pytest.raises(ShardError, match=r"key=two: the plan of all-000000\.tar has one next; keep its order"):
        writer.append(*members_of("two"))
    for row in PLANNED.rows:
        assert not writer.is_full
        writer.append(*members_of(row.key))
    assert writer.is_full
    with pytest.raises(ShardError, match=r"key=five: the plan of .* has no more rows next"):
        writer.append(*members_of("five"))
    assert writer.finish().num_samples == 4


def test_a_shard_that_lacks_rows_is_not_finished(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, PLANNED)
    writer.append(*members_of("one"))
    with pytest.raises(ShardError, match=r"num_rows=1: the plan of all-000000\.tar has 4; append them all"):
        writer.finish()
    writer.abandon()
    assert names(tmp_path) == []


@given(st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=16)
def test_failures_leave_holes(tmp_path_factory: pytest.TempPathFactory, results: list[bool]) -> None:
    folder = tmp_path_factory.mktemp("shards")
    entry = write(folder, results)
    statuses = load_statuses(folder, entry.name)
    assert [status.key for status in statuses] == [row.key for row in PLANNED.rows]
    assert [status.error for status in statuses] == [None if done else "it is broken" for done in results]
    assert (entry.num_samples, entry.num_failed) == (sum(results), 4 - sum(results))
    assert (folder / entry.name).exists() == any(results) == (entry.sha256 is not None)
    if any(results):
        data = (folder / entry.name).read_bytes()
        for status in statuses:
            stored = data[status.offset_bytes : status.offset_bytes + status.num_bytes]
            assert stored == (members_of(status.key)[1].getvalue() if status.error is None else b"")
        with tarfile.open(folder / entry.name) as tar:
            kept = [row.key for row, done in zip(PLANNED.rows, results, strict=True) if done]
            assert list(dict.fromkeys(name.partition(".")[0] for name in tar.getnames())) == kept


def test_all_failed_gives_no_tar(tmp_path: Path) -> None:
    assert write(tmp_path, [FAILED] * 4) == ShardEntry("all-000000.tar", "all", 0, 4, 0, 0, None)
    assert names(tmp_path) == ["status/all-000000.jsonl"]


def test_all_failed_removes_the_tar_of_an_earlier_run(tmp_path: Path) -> None:
    write(tmp_path, [DONE] * 4)
    write(tmp_path, [FAILED] * 4)
    assert names(tmp_path) == ["status/all-000000.jsonl"]


@given(st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
@settings(max_examples=15)
def test_a_retried_shard_equals_one_that_never_failed(
    tmp_path_factory: pytest.TempPathFactory, first: list[bool]
) -> None:
    """What was done is copied from the old tar, from where its status row says it stands."""
    folder, fresh = tmp_path_factory.mktemp("retried"), tmp_path_factory.mktemp("fresh")
    write(folder, first)
    kept = {status.key: status for status in load_statuses(folder, PLANNED.name) if status.error is None}
    with (folder / PLANNED.name).open("rb") as old:
        writer = ShardWriter(folder, PLANNED)
        for row in PLANNED.rows:
            if row.key in kept:
                old.seek(kept[row.key].offset_bytes)
                writer.append(kept[row.key], old)
            else:
                writer.append(*members_of(row.key))
        entry = writer.finish()
    assert entry == write(fresh, [DONE] * 4)
    for name in names(fresh):
        assert (folder / name).read_bytes() == (fresh / name).read_bytes()
    assert names(folder) == names(fresh)


def test_members_are_read_from_where_they_stand_and_no_further(tmp_path: Path) -> None:
    planned = PlannedShard("x.tar", "all", PLANNED.rows[:1])
    status, members = members_of("one")
    file = io.BytesIO(b"before" + members.getvalue() + b"after")
    file.seek(6)
    writer = ShardWriter(tmp_path, planned)
    writer.append(status, file)
    writer.finish()
    assert (tmp_path / "x.tar").read_bytes() == members.getvalue() + bytes(1024)


def test_samples_longer_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write(tmp_path, [DONE] * 4)
    for chunk_bytes in (1, 511, 513):
        monkeypatch.setattr(writer_module, "_CHUNK_BYTES", chunk_bytes)
        assert write(tmp_path, [DONE] * 4) == expected


def test_a_spooled_sample_that_is_too_short_is_refused(tmp_path: Path) -> None:
    status, members = members_of("one")
    writer = ShardWriter(tmp_path, PLANNED)
    with pytest.raises(ShardError, match="key=one: 3 bytes are missing in its spooled sample"):
        writer.append(status, io.BytesIO(members.getvalue()[:-3]))
    writer.abandon()
    assert names(tmp_path) == []


def test_abandon_leaves_what_was_there(tmp_path: Path) -> None:
    before = write(tmp_path, [DONE] * 4)
    writer = ShardWriter(tmp_path, PLANNED)
    writer.append(*members_of("one"))
    assert (tmp_path / "all-000000.tar.part").exists()
    writer.abandon()
    writer.abandon()  # as often as one likes
    assert names(tmp_path) == ["all-000000.tar", "status/all-000000.jsonl"]
    assert hashlib.sha256((tmp_path / "all-000000.tar").read_bytes()).hexdigest() == before.sha256


def test_abandon_after_finish_takes_nothing_away(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, PLANNED)
    for row in PLANNED.rows:
        writer.append(*members_of(row.key))
    writer.finish()
    writer.abandon()
    assert names(tmp_path) == ["all-000000.tar", "status/all-000000.jsonl"]


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("moment", ["end of the tar", "fsync", "status rows"])
def test_a_full_disk_at_the_end_finishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    writer = ShardWriter(tmp_path, PLANNED)
    for row in PLANNED.rows:
        writer.append(*members_of(row.key))
    if moment == "end of the tar":
        monkeypatch.setattr(writer, "_write", no_space)
    elif moment == "fsync":
        monkeypatch.setattr("vidprep.shards.files.os.fsync", no_space)
    else:
        monkeypatch.setattr(writer_module, "save_statuses", no_space)
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    writer.abandon()
    if moment == "status rows":  # the tar is whole; without its status rows and its line in the index it does not count
        assert names(tmp_path) == ["all-000000.tar"]
        assert len(list(read_samples(tmp_path / "all-000000.tar"))) == 4
    else:
        assert names(tmp_path) == []


def test_a_full_disk_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    """A real limit, in a process of its own: no file may grow beyond 3000 bytes."""
    program = """
import io, resource, signal, sys
from pathlib import Path
from vidprep.shards.index import Status
from vidprep.shards.plan import PlannedShard, PlanRow
from vidprep.shards.writer import ShardWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
rows = tuple(PlanRow(f"k{i}", "all", {}, 0) for i in range(8))
writer = ShardWriter(Path(sys.argv[1]), PlannedShard("all-000000.tar", "all", rows))
try:
    for row in rows:
        writer.append(Status(row.key, "p", num_bytes=1024), io.BytesIO(bytes(1024)))
    writer.finish()
except OSError as error:
    print(error.errno)
    try:
        writer.abandon()
    except OSError as again:
        print(again.errno)
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert set(result.stdout.split()) == {str(errno.EFBIG)}
    assert names(tmp_path) == []


def test_the_helper_of_these_tests_writes_the_same(tmp_path: Path) -> None:
    row = plan_row("clip1")
    sample = spool(tmp_path / "spool", row.key, entries_of(row))
    writer = ShardWriter(tmp_path, PlannedShard("a.tar", "all", (row,)))
    with (tmp_path / "spool").open("rb") as members:
        writer.append(status_of(row, sample), members)
    writer.finish()
    [read] = read_samples(tmp_path / "a.tar")
    assert read.entries == entries_of(row)
