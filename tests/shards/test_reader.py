"""Reading: samples in order, and never a part of a tar in silence."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.conftest import ROWS, Shards, entries_of
from vidprep.errors import ShardError
from vidprep.shards.index import load_statuses
from vidprep.shards.reader import Sample, read_samples
from vidprep.shards.sample import SampleWriter

ENTRIES = {
    "first": {"rgb.000000.jpg": b"\xff\xd8a", "json": b'{"n": 1}'},
    "folder/second@0-5": {"json": b'{"n": 2}', "cls": b"7", "video.m4v": bytes(1500)},
    "l" * 300: {"json": b"{}", "rgb.000000.jpg": b"", "rgb.000001.jpg": bytes(512)},
}


def tar_bytes(samples: dict[str, dict[str, bytes]]) -> tuple[bytes, list[int]]:
    """A tar, and where each sample ends in it."""
    file, ends = io.BytesIO(), []
    for key, entries in samples.items():
        sample = SampleWriter(file, key)
        for name, data in entries.items():
            sample.add(name, data)
        ends.append(file.tell())
    return file.getvalue() + bytes(1024), ends


def read(path: Path, data: bytes) -> tuple[list[Sample], ShardError | None]:
    """The samples before the error, and the error."""
    path.write_bytes(data)
    samples = []
    try:
        for sample in read_samples(path):
            samples.append(sample)
    except ShardError as error:
        return samples, error
    return samples, None


def test_samples_come_in_order_with_their_place(tmp_path: Path) -> None:
    data, ends = tar_bytes(ENTRIES)
    samples, error = read(tmp_path / "s.tar", data)
    assert error is None
    assert [(sample.key, sample.entries) for sample in samples] == list(ENTRIES.items())
    assert [list(sample.entries) for sample in samples] == [list(entries) for entries in ENTRIES.values()]
    assert [sample.offset_bytes for sample in samples] == [0, *ends[:-1]]
    assert [sample.offset_bytes + sample.num_bytes for sample in samples] == ends
    assert [sample.facts for sample in samples] == [{"n": 1}, {"n": 2}, {}]


def test_places_are_those_of_the_status_rows(make_shards: Callable[..., Shards]) -> None:
    shards = make_shards()
    rows = {row.key: row for row in ROWS}
    for entry in shards.index.shards_of():
        statuses = [status for status in load_statuses(shards.folder, entry.name) if status.error is None]
        for sample, status in zip(read_samples(shards.folder / entry.name), statuses, strict=True):
            assert (sample.key, sample.offset_bytes, sample.num_bytes) == (
                status.key, status.offset_bytes, status.num_bytes,
            )  # fmt: skip
            assert sample.entries == entries_of(rows[sample.key])


def test_cut_anywhere_it_gives_whole_samples_and_an_error(tmp_path: Path) -> None:
    """tarfile takes a cut between two members, or inside a header, for the end of the tar."""
    data, ends = tar_bytes(ENTRIES)
    cuts = {*range(0, len(data), 512), *range(100, len(data), 512), *range(1, len(data), 97), len(data) - 1}
    for cut in sorted(cuts):
        samples, error = read(tmp_path / "s.tar", data[:cut])
        assert error is not None, f"cut at {cut} of {len(data)}"
        assert "s.tar" in str(error)
        assert "vidprep verify" in str(error)
        assert [(sample.key, sample.entries) for sample in samples] == list(ENTRIES.items())[: len(samples)]
        assert len(samples) <= sum(end <= cut for end in ends)


@given(st.data())
def test_a_changed_byte_is_an_error_or_stays_in_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """No exception but ShardError, and no sample is lost without one."""
    good, _ = tar_bytes(ENTRIES)
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] ^= data.draw(st.integers(1, 255))
    samples, error = read(tmp_path_factory.getbasetemp() / "flipped.tar", bytes(bad))
    if error is None:
        assert sum(len(sample.entries) for sample in samples) == sum(map(len, ENTRIES.values()))
        assert samples[-1].offset_bytes + samples[-1].num_bytes == len(good) - 1024


def test_a_broken_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    data, ends = tar_bytes(ENTRIES)
    for start in (1024, ends[0], ends[1]):
        bad = bytearray(data)
        bad[start + 148] ^= 1  # the checksum
        samples, error = read(tmp_path / "s.tar", bytes(bad))
        assert error is not None
        assert len(samples) < 3


def test_what_is_no_tar_is_an_error(tmp_path: Path) -> None:
    for content in (b"", b"text", bytes(range(256)) * 8, b"PK\x03\x04" + bytes(2000)):
        samples, error = read(tmp_path / "s.tar", content)
        assert samples == []
        assert error is not None
        assert "the tar is missing or damaged" in str(error)
    with pytest.raises(ShardError, match=r"none\.tar: .*No such file"):
        list(read_samples(tmp_path / "none.tar"))
    with pytest.raises(ShardError, match="directory"):
        list(read_samples(tmp_path))


def test_compressed_tars_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("key.json"))
    with pytest.raises(ShardError, match="damaged"):
        list(read_samples(tmp_path / "s.tar"))


def test_an_entry_twice_is_an_error(tmp_path: Path) -> None:
    once, _ = tar_bytes({"key": {"json": b"{}"}})
    _, error = read(tmp_path / "s.tar", once[:-1024] * 2 + bytes(1024))
    assert error is not None
    assert "member key.json is no file or is there twice" in str(error)


def test_a_folder_as_member_is_an_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        folder = tarfile.TarInfo("key")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with pytest.raises(ShardError, match="member key is no file"):
        list(read_samples(tmp_path / "s.tar"))


def test_tars_that_others_packed_are_read(tmp_path: Path) -> None:
    """Padded to 10240 bytes, with a clock and a user."""
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for key, entries in ENTRIES.items():
            for name, content in entries.items():
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size, member.mtime, member.uname = len(content), 1.7e9, "somebody"
                tar.addfile(member, io.BytesIO(content))
    assert {sample.key: sample.entries for sample in read_samples(tmp_path / "s.tar")} == ENTRIES


@pytest.mark.parametrize("entries", [{}, {"json": b"{"}, {"json": b"\xff"}])
def test_a_json_that_cannot_be_read_is_named(entries: dict[str, bytes]) -> None:
    with pytest.raises(ShardError, match=r"key=k: no json can be read: .*; run vidprep verify"):
        _ = Sample("k", entries).facts
