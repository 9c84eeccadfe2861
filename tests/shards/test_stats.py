"""The figures against hand counts, and the table that shows them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.conftest import ROWS, Shards, entries_of, plan_row
from vidprep.errors import ShardError
from vidprep.shards import stats as stats_module
from vidprep.shards.index import Index, Status, load_statuses, save_index, save_statuses, status_path
from vidprep.shards.plan import make_plan, save_plan
from vidprep.shards.reader import read_samples
from vidprep.shards.stats import Stats, format_stats, shard_stats

Make = Callable[..., Shards]
DONE = [row for row in ROWS if not row.key.startswith("broken")]


def test_figures_against_hand_counts(make_shards: Make) -> None:
    shards = make_shards()
    stats = shard_stats(shards.folder)
    assert stats.dataset == "made"
    assert stats.num_shards == 5
    assert stats.num_samples == 12  # clip0 to clip6, the segment, held0 to held2, nolabel
    assert stats.num_frames == 36
    assert stats.duration_seconds == pytest.approx(12 * 0.12)
    assert stats.samples_by_split == {"one/test": 4, "one/train": 8, "two/train": 12}
    assert stats.samples_by_class == {"a": 4 + 1, "b": 3 + 1 + 3, "c": 0}  # the segment shows both
    assert stats.num_with_audio == 7
    assert stats.num_motion_inexact == 1
    assert stats.num_damaged == 1
    assert sum(stats.failures.values()) == 4


def test_bytes_are_those_of_the_files(make_shards: Make) -> None:
    shards = make_shards()
    stats = shard_stats(shards.folder)
    assert stats.num_bytes == sum(path.stat().st_size for path in shards.folder.glob("*.tar"))
    expected: dict[str, int] = {}
    for path in shards.folder.glob("*.tar"):
        for sample in read_samples(path):
            for name, data in sample.entries.items():
                kind = name.split(".")[0]
                expected[kind] = expected.get(kind, 0) + len(data)
    assert stats.bytes_by_kind == expected
    assert set(expected) == {"rgb", "residual", "motion", "spectrogram", "rgb24", "rgb16", "cls", "json"}
    sizes = list(stats.bytes_by_kind.values())
    assert sizes == sorted(sizes, reverse=True)
    by_hand = sum(len(entries_of(row)["motion.npz"]) for row in DONE)
    assert stats.bytes_by_kind["motion"] == by_hand


def test_tars_are_not_read(make_shards: Make) -> None:
    shards = make_shards()
    before = shard_stats(shards.folder)
    for path in shards.folder.glob("*.tar"):
        path.unlink()
    assert shard_stats(shards.folder) == before


def with_errors(shards: Shards, errors: dict[str, str]) -> Stats:
    for name in shards.index.shards:
        statuses = [
            Status(status.key, status.path, error=errors[status.key]) if status.error else status
            for status in load_statuses(shards.folder, name)
        ]
        save_statuses(shards.folder, name, statuses)
    return shard_stats(shards.folder)


def test_failures_are_grouped_by_reason(make_shards: Make) -> None:
    errors = {
        "broken0": "/data/my videos/broken0.avi: Invalid data found; the file is damaged",
        "broken1": "/data/my videos/broken1.avi: Invalid data found; the file is damaged",
        "broken2": "duration_seconds=412: a sample is at most 300 s long; use --segment SECONDS",
        "broken3": "duration_seconds=3601.5: a sample is at most 300 s long; use --segment SECONDS",
    }
    stats = with_errors(make_shards(), errors)
    assert sorted(stats.failures.items()) == [
        ("/data/my FILE: Invalid data found; the file is damaged", 2),
        ("duration_seconds=N: a sample is at most 300 s long; use --segment SECONDS", 2),
    ]


def test_reasons_that_differ_stay_apart_and_the_frequent_ones_come_first(make_shards: Make) -> None:
    errors = {
        "broken0": "codec=vp9: no vectors",
        "broken1": "/x/broken1.avi: Permission denied",
        "broken2": "codec=hevc: no vectors",
        "broken3": "/y/z/broken3.avi: Permission denied",
    }
    stats = with_errors(make_shards(), errors)
    assert next(iter(stats.failures.items())) == ("FILE: Permission denied", 2)
    assert set(stats.failures) == {"FILE: Permission denied", "codec=vp9: no vectors", "codec=hevc: no vectors"}


@pytest.mark.parametrize(
    "path", ["a (1).avi", "a+b[c].avi", "a\\b.avi", "caf\udce9.avi", "folder/with space/x.avi", "^$.avi"]
)
def test_any_name_is_taken_out_of_a_reason(path: str) -> None:
    status = Status("k", path, error=f"num_frames=0 of /root/{path}: no frame; check {path}, or remove it")
    assert stats_module._reason(status) == "num_frames=N of FILE: no frame; check FILE, or remove it"


def test_an_unfinished_extraction_is_counted_as_far_as_it_is(make_shards: Make) -> None:
    shards = make_shards()
    for name in [name for name in shards.index.shards if name.startswith("train")]:
        del shards.index.shards[name]
    save_index(shards.folder, shards.index, shards.plan)
    stats = shard_stats(shards.folder)
    assert (stats.num_samples, stats.samples_by_split["one/train"]) == (4, 0)


def test_missing_files_are_named(make_shards: Make, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"index\.json: no such file"):
        shard_stats(tmp_path)
    shards = make_shards()
    status_path(shards.folder, "train-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000000\.jsonl: no status rows can be read"):
        shard_stats(shards.folder)


MADE: dict[str, Any] = {
    "dataset": "ucf101",
    "num_shards": 12,
    "num_samples": 13320,
    "num_frames": 2484199,
    "duration_seconds": 97200.0,
    "num_bytes": 250 * 10**9,
    "bytes_by_kind": {"rgb": 100 * 10**9, "residual": 75 * 10**9, "json": 1234},
    "samples_by_split": {"split1/test": 3783, "split1/train": 9537},
    "samples_by_class": {"ApplyEyeMakeup": 145, "Archery": 120, "Biking": 0, "YoYo": 128},
    "num_with_audio": 6836,
    "num_motion_inexact": 0,
    "num_damaged": 0,
    "failures": {"FILE: damaged": 3, "duration_seconds=N: too long": 1},
}

TABLE = """\
dataset           ucf101
shards            12
samples           13,320
frames            2,484,199
hours             27.00
with audio        6,836 (51 %)
motion not exact  0 (0 %)
decode errors     0 (0 %)
bytes             250.0 GB
  rgb              100.0 GB   40.0 %
  residual          75.0 GB   30.0 %
  json               1.2 kB    0.0 %
split1/test       3,783
split1/train      9,537
classes           4
  samples each    min 0, median 124, max 145
  without any     Biking
failed            4
  3               FILE: damaged
  1               duration_seconds=N: too long"""


def test_the_table() -> None:
    assert format_stats(Stats(**MADE)) == TABLE


def test_a_table_without_classes_splits_and_failures() -> None:
    bare = MADE | {"samples_by_class": {}, "samples_by_split": {}, "failures": {}, "bytes_by_kind": {}}
    text = format_stats(Stats(**bare | {"num_samples": 0, "num_with_audio": 0, "num_bytes": 0}))
    assert text.splitlines()[5:] == [
        "with audio        0 (0 %)",
        "motion not exact  0 (0 %)",
        "decode errors     0 (0 %)",
        "bytes             0 B",
        "failed            0",
    ]


def test_many_empty_classes_are_cut_short() -> None:
    text = format_stats(Stats(**MADE | {"samples_by_class": {f"c{i}": 0 for i in range(25)}}))
    assert "c19 and 5 more" in text
    assert "c20" not in text
    assert "c0, c1, c2" in text
    assert "more" not in format_stats(Stats(**MADE | {"samples_by_class": {f"c{i}": 0 for i in range(20)}}))


def test_columns_are_aligned_and_everything_can_be_printed(make_shards: Make) -> None:
    stats = with_errors(make_shards(), {f"broken{i}": "caf\udce9 is no name" for i in range(4)})
    text = format_stats(stats)
    text.encode()  # no lone surrogates
    assert "4  " in text
    assert "caf? is no name" in text
    values = {"dataset": "made", "one/train": "8", "classes": "3", "failed": "4", "shards": "5"}
    columns = [
        line.index(value) for name, value in values.items() for line in text.splitlines() if line.split()[0] == name
    ]
    assert len(columns) == 5
    assert len(set(columns)) == 1


def test_medians_of_even_and_odd_numbers() -> None:
    for counts, expected in (([1, 2, 4], "median 2,"), ([1, 2, 3, 9], "median 2.5,"), ([7], "median 7,")):
        classes = {str(i): count for i, count in enumerate(counts)}
        assert expected in format_stats(Stats(**MADE | {"samples_by_class": classes}))


def test_labels_of_failures_are_not_counted(make_shards: Make) -> None:
    shards = make_shards([plan_row("clip", "train"), plan_row("broken9", "train")])
    assert shard_stats(shards.folder).samples_by_class == {"a": 1, "b": 0, "c": 0}


def test_an_unfinished_extraction_is_called_so(tmp_path: Path) -> None:
    plan = make_plan([plan_row("a"), plan_row("b", "other")], {"name": "d", "classes": [], "splits": {}}, {}, 1)
    save_plan(tmp_path, plan)
    save_index(tmp_path, Index(plan.dataset, plan.recipe), plan)
    stats = shard_stats(tmp_path)
    assert stats.num_shards_to_do == 2
    assert "shards to do" in format_stats(stats)
