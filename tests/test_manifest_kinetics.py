"""Kinetics' official lists and their subsets: on the real files where they are there, on written ones everywhere."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from vidprep.errors import ManifestError
from vidprep.manifest import Row, load_standard
from vidprep.manifest.official import READERS

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
FIRST = "abseiling,0wR5jVB-WPk,417,427,val,0\n"


@pytest.fixture
def official(shared: Path) -> Path:
    return shared / "annotations"


def write(folder: Path, **files: str) -> dict[str, Path]:
    """Write one file a role."""
    paths = {role: folder / f"{role}.csv" for role in files}
    for role, text in files.items():
        paths[role].write_text(text, encoding="utf-8")
    return paths


def read(name: str, files: Mapping[str, Path]) -> list[Row]:
    facts = load_standard(name).facts
    return READERS[facts["reader"]](facts, files)


def rows_by_hand(file: Path, classes: Sequence[str], split: str) -> list[Row]:
    """The rows of a real list, made the obvious way."""
    with file.open(newline="") as stream:
        return [
            Row(
                f"{line['youtube_id']}_{int(line['time_start']):06d}_{int(line['time_end']):06d}",
                (classes.index(line["label"]),),
                splits=(split,),
            )
            for line in csv.DictReader(stream)
            if line["label"] in classes
        ]


# ------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(("number", "num_videos"), [(400, 19906), (600, 30000)])
def test_the_real_validation_list(official: Path, number: int, num_videos: int) -> None:
    dataset = load_standard(f"kinetics{number}")
    file = official / "kinetics" / f"kinetics-{number}_val.csv"
    rows = read(dataset.name, {"val": file})
    assert rows == rows_by_hand(file, dataset.classes, "val")
    assert len(rows) == num_videos == {split.name: split.num_videos for split in dataset.splits}["val"]
    assert {label for row in rows for label in row.labels} == set(range(number))
    assert len({row.path for row in rows}) == num_videos


@pytest.mark.parametrize("number", [400, 600])
def test_classes_are_in_the_order_that_others_use(official: Path, number: int) -> None:
    lines = (official / "label_maps" / "kinetics" / f"label_map_k{number}.txt").read_text().splitlines()
    assert load_standard(f"kinetics{number}").classes == tuple(lines)
    assert lines == sorted(lines)


@pytest.mark.parametrize(("name", "num_val"), [("temporal", 1592), ("static", 1594)])
def test_temporal_and_static_classes_of_the_real_list(official: Path, name: str, num_val: int) -> None:
    dataset = load_standard(f"kinetics-{name}32")
    facts = json.loads((official / "kinetics" / "onlytimecantell_temporal_static_classes.json").read_text())
    assert dataset.classes == tuple(facts[f"kinetics_{name}_32"])
    file = official / "kinetics" / "kinetics-400_val.csv"
    rows = read(dataset.name, {"val": file})
    assert rows == rows_by_hand(file, dataset.classes, "val")
    assert len(rows) == num_val == {split.name: split.num_videos for split in dataset.splits}["val"]
    # The list of today has a few clips more than the paper that used it counted.
    assert 0 < num_val - ({split.name: split.num_videos_in_paper for split in dataset.splits}["val"] or 0) < 5


def test_mini_kinetics_of_the_real_lists(official: Path) -> None:
    dataset = load_standard("mini-kinetics200")
    folder, clips = official / "mini-kinetics-200", official / "kinetics" / "kinetics-400_val.csv"
    rows = read(dataset.name, {"val": clips, "val_ids": folder / "val_ytid_list.txt"})
    ids = (folder / "val_ytid_list.txt").read_text().split()
    with clips.open(newline="") as stream:
        label_of = {line["youtube_id"]: line["label"] for line in csv.DictReader(stream)}
    assert dataset.classes == tuple(sorted({label_of[video] for video in ids}))
    assert {row.path[:11]: dataset.classes[row.labels[0]] for row in rows} == {video: label_of[video] for video in ids}
    assert Counter(row.labels for row in rows) == {(label,): 25 for label in range(200)}
    assert {row.splits for row in rows} == {("val",)}


def test_mini_kinetics_train_ids_pick_80000_rows(official: Path, tmp_path: Path) -> None:
    """Kinetics-400's list is not there: one is written, of the real ids, and of others that must be left out."""
    dataset = load_standard("mini-kinetics200")
    ids_file = official / "mini-kinetics-200" / "train_ytid_list.txt"
    lines = [f"{dataset.classes[i % 200]},{video},1,11,train\n" for i, video in enumerate(ids_file.read_text().split())]
    lines.insert(7, f"{dataset.classes[0]},AAAAAAAAAA0,1,11,train\n")
    files = write(tmp_path, train="label,youtube_id,time_start,time_end,split\n" + "".join(lines))
    rows = read(dataset.name, {**files, "train_ids": ids_file})
    assert len(rows) == 80000 == {split.name: split.num_videos for split in dataset.splits}["train"]
    assert "AAAAAAAAAA0_000001_000011" not in {row.path for row in rows}


def test_subsets_are_of_kinetics_400() -> None:
    classes = set(load_standard("kinetics400").classes)
    subsets = [load_standard(name) for name in ("mini-kinetics200", "kinetics-temporal32", "kinetics-static32")]
    assert [len(classes & set(subset.classes)) for subset in subsets] == [200, 32, 32]
    assert not set(subsets[1].classes) & set(subsets[2].classes)
    assert all(list(subset.classes) == sorted(subset.classes) for subset in subsets)


# ---------------------------------------------------------------------------------------------------- formats


def test_all_forms_of_the_lists(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        train="\ufefflabel,youtube_id,time_start,time_end,split\r\n"  # CVDF's: without is_cc
        '"passing American football (in game)",-_4567890-_,0,10,train\r\n'
        "clean_and_jerk,v_345678901,417.0,427.0,train\r\n"
        "Massaging person's head,aaaaaaaaaaa,9999999,10000009,train\r\n",
        val="is_cc,split,youtube_id,time_end,label,time_start\n1,validate,AAAAAAAAAAA,11,abseiling,1\n",  # DeepMind's
        test="youtube_id,time_start,time_end,split\nBBBBBBBBBBB,5,15,test\n",  # the challenge's
    )
    rows = read("kinetics400", files)
    classes = load_standard("kinetics400").classes
    assert [(row.path, [classes[label] for label in row.labels], row.splits) for row in rows] == [
        ("-_4567890-__000000_000010", ["passing American football (in game)"], ("train",)),
        ("v_345678901_000417_000427", ["clean and jerk"], ("train",)),
        ("aaaaaaaaaaa_9999999_10000009", ["massaging person's head"], ("train",)),
        ("AAAAAAAAAAA_000001_000011", ["abseiling"], ("val",)),
        ("BBBBBBBBBBB_000005_000015", [], ("test",)),
    ]
    assert all((row.start_seconds, row.end_seconds) == (None, None) for row in rows)


def test_a_clip_in_two_lists_is_one_row(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    files = write(
        tmp_path,
        train=head + "abseiling,AAAAAAAAAAA,1,11,train\nabseiling,AAAAAAAAAAA,1,11,train\n",
        test="youtube_id,time_start,time_end,split\nAAAAAAAAAAA,1,11,test\nAAAAAAAAAAA,2,12,test\n",
    )
    assert read("kinetics400", files) == [
        Row("AAAAAAAAAAA_000001_000011", (0,), splits=("test", "train")),
        Row("AAAAAAAAAAA_000002_000012", (), splits=("test",)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: header=\[\] must hold youtube_id, time_start, time_end, split; get the official file anew"),
        ("label,youtube_id,split\n", r"line 1: header=.* must hold time_start, time_end; get"),
        (HEADER + "abseiling,0wR5jVB-WPk,417,427,val\n", r"line 2: num_fields=5 must be 6 as in line 1"),
        (HEADER + FIRST + "abseiling,short,1,2,val,0\n", r"line 3: youtube_id='short' must be 11 letters"),
        (HEADER + "abseiling,0wR5jVB WPk,1,2,val,0\n", r"line 2: youtube_id='0wR5jVB WPk' must be 11"),
        (HEADER + "abseiling,0wR5jVB-WPk,x,2,val,0\n", r"line 2: time_start='x', time_end='2': must be whole seconds"),
        (HEADER + "abseiling,0wR5jVB-WPk,1.5,2,val,0\n", r"line 2: time_start='1.5', .* must be whole seconds"),
        (HEADER + "abseiling,0wR5jVB-WPk,-1,2,val,0\n", r"line 2: time_start='-1', .* must be whole seconds"),
        (
            HEADER + "abseiling,0wR5jVB-WPk,2,2,val,0\n",
            r"line 2: .* the start before the end; get the official file anew",
        ),
        (
            HEADER + "abseiling,0wR5jVB-WPk,1,2,train,0\n",
            r"line 2: split='train' must be val in this file; give the list",
        ),
        (
            HEADER + "absailing,0wR5jVB-WPk,1,2,val,0\n",
            r"line 2: class='absailing' must be one of the dataset's, .*; give the",
        ),
        (HEADER + FIRST + FIRST.replace("abseiling", "yoga"), r"line 3: clip='.*' must not have two labels; remove"),
        (HEADER + '"abseiling,0wR5jVB-WPk,1,2,val,0\n', r"line 2: .* must be readable as \.csv"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=rf"'.*val\.csv' {message}"):
        read("kinetics400", write(tmp_path, val=text))


@pytest.mark.parametrize(
    ("ids", "clips", "message"),
    [
        ("short\n", FIRST, r"'.*val_ids\.csv' line 1: 'short' must be a YouTube id"),
        (
            "0wR5jVB-WPk\n",
            FIRST + FIRST.replace("417", "416"),
            r"'.*val\.csv' line 3: clip=.* must be the only clip of",
        ),
    ],
)
def test_ids_without_one_clip_are_refused(tmp_path: Path, ids: str, clips: str, message: str) -> None:
    files = write(tmp_path, val=HEADER + clips, val_ids=ids)
    with pytest.raises(ManifestError, match=message):
        read("mini-kinetics200", files)


def test_ids_whose_clips_have_vanished_from_the_list_are_left_out(tmp_path: Path) -> None:
    """Or whose clip is of none of the 200 classes."""
    files = write(tmp_path, val=HEADER + FIRST, val_ids="0wR5jVB-WPk\n\nAAAAAAAAAAA\nBBBBBBBBBBB\n")
    assert [row.path for row in read("mini-kinetics200", files)] == ["0wR5jVB-WPk_000417_000427"]
    files = write(tmp_path, val=HEADER + FIRST.replace("abseiling", "applauding"), val_ids="0wR5jVB-WPk\n")
    assert read("mini-kinetics200", files) == []


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    file.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ManifestError, match=r"'.*val\.csv': byte 1 must be text \(UTF-8\); get the official file anew"):
        read("kinetics400", {"val": file})
    with pytest.raises(ManifestError, match=r"must be a file that can be read \(No such file"):
        read("kinetics400", {"val": tmp_path / "none.csv"})


def test_facts_agree_with_each_other() -> None:
    facts: dict[str, Any] = {name: load_standard(name).facts for name in ("kinetics400", "kinetics600")}
    paper = [split.get("num_videos_in_paper", split.get("num_videos")) for split in facts["kinetics400"]["splits"]]
    assert sum(paper) == facts["kinetics400"]["num_videos"] == 306245
    assert sum(split["num_videos"] for split in facts["kinetics600"]["splits"]) == facts["kinetics600"]["num_videos"]
