"""The index and the status rows: what is saved is loaded, in the plan's order, whatever the names hold."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.conftest import DATASET, ODD_PATH, RECIPE, Shards
from vidprep.errors import ShardError
from vidprep.shards.index import (
    INDEX_NAME,
    Index,
    Status,
    load_index,
    load_statuses,
    save_index,
    save_statuses,
    status_path,
)

Make = Callable[..., Shards]


def test_save_and_load(make_shards: Make) -> None:
    shards = make_shards()
    index = load_index(shards.folder)
    assert index == shards.index
    assert list(index.shards) == [shard.name for shard in shards.plan.shards]
    saved = json.loads((shards.folder / INDEX_NAME).read_bytes())
    assert (saved["complete"], saved["num_samples"], saved["num_failed"]) == (True, 12, 4)
    assert (saved["format"], saved["version"]) == ("vidprep-shards", 1)


def test_each_split_lists_its_shards(make_shards: Make) -> None:
    shards = make_shards()
    saved = json.loads((shards.folder / INDEX_NAME).read_bytes())
    train = [name for name in shards.index.shards if name.startswith("train-")]
    test = [name for name in shards.index.shards if name.startswith("test-")]
    assert len(train) > 1 < len(test)
    assert saved["splits"] == {"one/test": test, "one/train": train, "two/train": test + train}
    index = load_index(shards.folder)
    for split, names in saved["splits"].items():
        assert [entry.name for entry in index.shards_of(split)] == names
    assert [entry.name for entry in index.shards_of()] == test + train  # the hopeless one has no samples
    assert len(index.shards) == len(test + train) + 1


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ShardError, match=r"split=one: not in these shards; they have: one/test, one/train, two/train"):
        Index(DATASET, RECIPE).shards_of("one")
    with pytest.raises(ShardError, match="they have: none"):
        Index(DATASET | {"splits": {}}, RECIPE).shards_of("train")


def test_the_order_in_which_shards_are_done_leaves_no_trace(make_shards: Make) -> None:
    """A shard that is written again, because its file was lost, stands where it stood, in its splits too."""
    shards = make_shards()
    before = (shards.folder / INDEX_NAME).read_bytes()
    lost = shards.plan.shards[1]
    (shards.folder / lost.name).unlink()
    del shards.index.shards[lost.name]
    shards.write(lost)
    assert list(shards.index.shards)[-1] == lost.name
    assert (shards.folder / INDEX_NAME).read_bytes() == before


def test_an_unfinished_index_says_so(make_shards: Make) -> None:
    shards = make_shards()
    del shards.index.shards[shards.plan.shards[0].name]
    save_index(shards.folder, shards.index, shards.plan)
    assert json.loads((shards.folder / INDEX_NAME).read_bytes())["complete"] is False
    assert load_index(shards.folder) == replace(shards.index, is_complete=False)


def test_a_missing_or_broken_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json: no such file"):
        load_index(tmp_path)
    index = {"format": "vidprep-shards", "version": 1, "dataset": {}, "recipe": {}, "shards": []}
    for text, message in [
        ("", "not readable as JSON"),
        ("7", "not an index of version 1"),
        (json.dumps(index | {"version": 0}), "not an index of version 1"),
        (json.dumps({name: index[name] for name in index if name != "recipe"}), "incomplete.*recipe"),
        (json.dumps(index | {"shards": [{"name": "a"}]}), "incomplete"),
        (json.dumps(index | {"shards": [3]}), "incomplete"),
    ]:
        (tmp_path / INDEX_NAME).write_text(text)
        with pytest.raises(ShardError, match=rf"index\.json: {message}.*--overwrite"):
            load_index(tmp_path)


TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udcff\n\r\u2028\u0085\x0b\x1c"), max_size=30)
STATUS = st.builds(
    Status,
    key=TEXT,
    path=TEXT,
    error=st.none() | TEXT,
    offset_bytes=st.integers(0, 10**12),
    num_bytes=st.integers(0, 10**12),
    num_frames=st.integers(0, 10**6),
    facts=st.dictionaries(TEXT, st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
)


@settings(max_examples=40)
@given(statuses=st.lists(STATUS, max_size=6))
def test_any_status_rows_round_trip(tmp_path_factory: pytest.TempPathFactory, statuses: list[Status]) -> None:
    folder = tmp_path_factory.mktemp("status")
    save_statuses(folder, "all-000000.tar", statuses)
    assert load_statuses(folder, "all-000000.tar") == statuses
    lines = status_path(folder, "all-000000.tar").read_bytes()
    assert lines.isascii()
    assert lines.count(b"\n") == len(statuses)


def test_a_path_that_is_no_utf8_finds_its_file_again(make_shards: Make) -> None:
    shards = make_shards()
    statuses = [status for name in shards.index.shards for status in load_statuses(shards.folder, name)]
    assert len(statuses) == 16
    assert [status.path for status in statuses if not status.path.isascii()] == [ODD_PATH]


def test_status_files_lie_beside_the_shards(tmp_path: Path) -> None:
    assert status_path(tmp_path, "train-000003.tar") == tmp_path / "status" / "train-000003.jsonl"
    save_statuses(tmp_path, "train-000003.tar", [Status("k", "p")])
    assert [path.name for path in (tmp_path / "status").iterdir()] == ["train-000003.jsonl"]


@pytest.mark.parametrize(
    "text", [b'{"key": "k"\n', b'{"key": "k"}\n', b"[]\n", b"\n", b'{"colour": 1, "key": "", "path": ""}']
)
def test_missing_or_broken_status_rows_are_named(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ShardError, match=r"all-000000\.jsonl: no status rows .*; remove it and run the same"):
        load_statuses(tmp_path, "all-000000.tar")
    (tmp_path / "status").mkdir()
    status_path(tmp_path, "all-000000.tar").write_bytes(text)
    with pytest.raises(ShardError, match=r"all-000000\.jsonl: no status rows can be read"):
        load_statuses(tmp_path, "all-000000.tar")
