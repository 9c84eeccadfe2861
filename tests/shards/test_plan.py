"""The plan: every row once, in the order of a hash, cut by size, and the same from any order of input."""

import hashlib
import json
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.conftest import DATASET, ODD_PATH, RECIPE, ROWS, plan_row
from vidprep.errors import ShardError
from vidprep.shards.plan import PLAN_NAME, PlanRow, load_plan, make_plan, save_plan

SIZED = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["all", "train", "test"]), st.integers(0, 500)),
    max_size=60,
    unique_by=lambda row: row[0],
)


def rows_of(sized: list[tuple[int, str, int]]) -> list[PlanRow]:
    return [plan_row(f"k{number}", cell, size=size) for number, cell, size in sized]


@given(SIZED, st.integers(1, 1000))
def test_every_row_once_in_order_and_within_the_limit(sized: list[tuple[int, str, int]], limit: int) -> None:
    rows = rows_of(sized)
    plan = make_plan(rows, DATASET, RECIPE, limit)
    planned = [row for shard in plan.shards for row in shard.rows]
    assert sorted(planned, key=lambda row: row.key) == sorted(rows, key=lambda row: row.key)
    assert plan.num_rows == len(rows)
    for shard in plan.shards:
        assert shard.rows
        assert {row.cell for row in shard.rows} == {shard.cell}
        assert len(shard.rows) == 1 or sum(row.estimated_bytes for row in shard.rows) <= limit
    assert [shard.cell for shard in plan.shards] == sorted(shard.cell for shard in plan.shards)
    for cell, group in groupby(plan.shards, lambda shard: shard.cell):
        shards = list(group)
        assert [shard.name for shard in shards] == [f"{cell}-{i:06d}.tar" for i in range(len(shards))]
        hashes = [hashlib.sha256(row.key.encode()).hexdigest() for shard in shards for row in shard.rows]
        assert hashes == sorted(hashes)
        for before, after in pairwise(shards):  # no shard is cut before it is full
            assert sum(row.estimated_bytes for row in before.rows) + after.rows[0].estimated_bytes > limit


@given(SIZED, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(sized: list[tuple[int, str, int]], random: object) -> None:
    rows = rows_of(sized)
    turned = rows.copy()
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert make_plan(turned, DATASET, RECIPE, 700) == make_plan(rows, DATASET, RECIPE, 700)


def test_shards_mix_classes() -> None:
    rows = [plan_row(f"class{label}/clip{i}", labels=[label]) for label in range(10) for i in range(50)]
    plan = make_plan(rows, DATASET, RECIPE, 100)
    assert len(plan.shards) == 5
    for shard in plan.shards:
        counts = [sum(row.row["labels"] == [label] for row in shard.rows) for label in range(10)]
        assert min(counts) >= 2


def test_order_by_hand() -> None:
    keys = ["one", "two", "three", "four"]
    digits = [hashlib.sha256(key.encode()).hexdigest()[:2] for key in keys]
    assert digits == ["76", "3f", "8b", "04"]
    [shard] = make_plan([plan_row(key) for key in keys], DATASET, RECIPE, 100).shards
    assert [row.key for row in shard.rows] == ["four", "two", "one", "three"]


def test_a_row_above_the_limit_has_a_shard_of_its_own() -> None:
    rows = [plan_row(key, size=size) for key, size in (("four", 1), ("two", 50), ("one", 1), ("three", 1))]
    names = [[row.key for row in shard.rows] for shard in make_plan(rows, DATASET, RECIPE, 10).shards]
    assert names == [["four"], ["two"], ["one", "three"]]


def test_save_and_load(tmp_path: Path) -> None:
    plan = make_plan(ROWS, DATASET, RECIPE, 3)
    save_plan(tmp_path, plan)
    assert load_plan(tmp_path) == plan
    assert any(row.row["path"] == ODD_PATH for shard in load_plan(tmp_path).shards for row in shard.rows)
    first = (tmp_path / PLAN_NAME).read_bytes()
    save_plan(tmp_path, load_plan(tmp_path))
    assert (tmp_path / PLAN_NAME).read_bytes() == first
    assert first.isascii()
    assert [path.name for path in tmp_path.iterdir()] == [PLAN_NAME]


def test_a_missing_or_broken_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"plan\.json: no such file; is .* a folder that vidprep extract wrote"):
        load_plan(tmp_path)
    plan = {"format": "vidprep-shards", "version": 1, "dataset": {}, "recipe": {}, "shards": []}
    for text, message in [
        ("{", "not readable as JSON"),
        ("[]", "not a plan of version 1"),
        (json.dumps(plan | {"format": "other"}), "not a plan of version 1"),
        (json.dumps(plan | {"version": 2}), "not a plan of version 1"),
        (json.dumps({name: plan[name] for name in plan if name != "shards"}), "incomplete.*shards"),
        (json.dumps(plan | {"shards": [{"name": "a", "cell": "a", "rows": [{}]}]}), "incomplete.*key"),
        (json.dumps(plan | {"shards": 3}), "incomplete"),
    ]:
        (tmp_path / PLAN_NAME).write_text(text)
        with pytest.raises(ShardError, match=rf"plan\.json: {message}.*--overwrite"):
            load_plan(tmp_path)
