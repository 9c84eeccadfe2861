"""Official annotation files of published datasets, read whole, against what can be seen in them in another way."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vidprep.manifest.official import READERS
from vidprep.manifest.rows import Row
from vidprep.manifest.standard import StandardDataset, load_standard

ANNOTATIONS = Path(__file__).resolve().parents[1].parent / "shared" / "annotations"


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (ANNOTATIONS / folder).is_dir(), reason=f"{ANNOTATIONS / folder} is not there")


def read_rows(name: str, files: Mapping[str, str]) -> tuple[StandardDataset, list[Row]]:
    dataset = load_standard(name)
    paths = {role: ANNOTATIONS / file for role, file in files.items()}
    return dataset, READERS[dataset.facts["reader"]](dataset.facts, paths)


def read_table(file: str) -> list[dict[str, str]]:
    with (ANNOTATIONS / file).open(newline="") as stream:
        return list(csv.DictReader(stream))


def read_lines(file: str) -> list[str]:
    return [line for line in (ANNOTATIONS / file).read_text().splitlines() if line]


def num_of_splits(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(split for row in rows for split in row.splits))


def published(dataset: StandardDataset) -> dict[str, int]:
    numbers = {split.name: split.num_rows or split.num_videos for split in dataset.splits}
    return {name: number for name, number in numbers.items() if number is not None}


# --------------------------------------------------------------------------------------------- Something-Something


@needs("somethingv2")
def test_every_line_of_a_list_of_something_v2_is_a_row() -> None:
    dataset, rows = read_rows("something-v2", {"val": "somethingv2/validation.txt"})
    assert num_of_splits(rows) == {"val": 24777}
    assert published(dataset)["val"] == 24777
    lines = [line.split() for line in read_lines("somethingv2/validation.txt")]
    assert [(f"{row.path}.webm", str(row.labels[0])) for row in rows] == [tuple(line) for line in lines]
    names = {entry["id"]: entry["name"] for entry in read_table("somethingv2/ssv2_labels.csv")}
    assert {str(label): name for label, name in enumerate(dataset.classes)} == names


@needs("label_maps")
@pytest.mark.parametrize(("name", "folder"), [("something-v1", "sthv1"), ("something-v2", "sthv2")])
def test_classes_of_both_something_versions_are_in_their_own_order(name: str, folder: str) -> None:
    assert list(load_standard(name).classes) == read_lines(f"label_maps/{folder}/label_map.txt")


def test_both_versions_have_the_same_classes_in_another_order() -> None:
    one, two = load_standard("something-v1").classes, load_standard("something-v2").classes
    assert sorted(one) == list(two)
    assert one != two
    assert len(set(two)) == 174


@needs("label_maps")
def test_the_order_of_v1s_names_is_read_from_a_file_of_them() -> None:
    labels = {"labels": "label_maps/sthv1/label_map.txt"}
    assert read_rows("something-v1", labels)[1] == []


# ------------------------------------------------------------------------------------------------ EPIC-KITCHENS-55

EPIC = "epic-kitchens-55/EPIC_train_action_labels.csv"


@pytest.fixture(scope="module")
def epic() -> tuple[StandardDataset, list[Row]]:
    return read_rows("epic-kitchens55", {"labels": EPIC})


def clock(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return round(3600 * int(hours) + 60 * int(minutes) + float(seconds), 2)


@needs("epic-kitchens-55")
def test_every_line_of_epic_is_a_segment_with_its_verb_noun_and_action(epic: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = epic
    of_segment = {(row.path, row.start_seconds, row.end_seconds): row for row in rows}
    lines = read_table(EPIC)
    assert len(lines) == 28472
    pairs = sorted({(int(line["verb_class"]), int(line["noun_class"])) for line in lines})
    number_of = {pair: number for number, pair in enumerate(pairs)}
    assert len(pairs) == len(dataset.classes) == 2513
    for line in lines:
        row = of_segment[line["video_id"], clock(line["start_timestamp"]), clock(line["stop_timestamp"])]
        verb, noun = int(line["verb_class"]), int(line["noun_class"])
        assert row.targets == (("noun", noun), ("verb", verb))
        assert row.labels == (number_of[verb, noun],)
    assert len({row.key for row in rows}) == len(rows)


@needs("epic-kitchens-55")
def test_epics_two_segments_that_stand_there_twice_are_one_row_each(epic: tuple[StandardDataset, list[Row]]) -> None:
    columns = ("video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
    twice = [
        key
        for key, num in Counter(tuple(line[name] for name in columns) for line in read_table(EPIC)).items()
        if num > 1
    ]
    assert twice == [
        ("P07_10", "00:22:41.00", "00:22:41.50", "26", "30"),
        ("P22_12", "00:01:07.09", "00:01:13.09", "16", "67"),
    ]
    assert len(epic[1]) == 28472 - 2


@needs("epic-kitchens-55")
def test_names_of_verbs_nouns_and_actions_are_epics_own(epic: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = epic
    for target, num in (("verb", 125), ("noun", 352)):
        table = read_table(f"epic-kitchens-55/EPIC_{target}_classes.csv")
        assert [int(entry[f"{target}_id"]) for entry in table] == list(range(num))
        assert dataset.targets[target] == tuple(entry["class_key"] for entry in table)
    assert len(set(dataset.classes)) == 2513
    for row in rows:
        verb, noun = (dataset.targets[name][dict(row.targets)[name]] for name in ("verb", "noun"))
        assert dataset.classes[row.labels[0]] == f"{verb} {noun}"


@needs("epic-kitchens-55")
def test_epics_times_are_those_of_its_frames_and_lie_in_its_videos(epic: tuple[StandardDataset, list[Row]]) -> None:
    """The list also has frame numbers, at 60 frames a second; another file has the videos' lengths."""
    lengths = {entry["video"]: float(entry["duration"]) for entry in read_table("epic-kitchens-55/EPIC_video_info.csv")}
    starts = {(line["video_id"], clock(line["start_timestamp"])): int(line["start_frame"]) for line in read_table(EPIC)}
    for row in epic[1]:
        assert row.start_seconds is not None
        assert row.end_seconds is not None
        assert 0 <= row.start_seconds < row.end_seconds <= lengths[row.path]
        assert abs(60 * row.start_seconds - starts[row.path, row.start_seconds]) <= 1


@needs("epic-kitchens-55")
def test_epics_split_is_by_participant_with_the_published_counts(epic: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = epic
    assert num_of_splits(rows) == published(dataset) == {"baradel/train": 23189, "baradel/val": 5281}
    side = {row.path[:3]: row.splits for row in rows}
    assert [name for name in sorted(side) if side[name] == ("baradel/val",)] == [f"P{i}" for i in range(26, 32)]
    for split in dataset.splits[:2]:
        assert split.num_videos == len({row.path for row in rows if split.name in row.splits})
    assert dataset.num_videos == len({row.path for row in rows}) == 272


@needs("epic-kitchens-55")
def test_tbns_split_is_by_the_videos_of_its_list(tmp_path: Path) -> None:
    dataset = load_standard("epic-kitchens55")
    labels, held_out = tmp_path / "EPIC_train_action_labels.csv", tmp_path / "EPIC_val_action_labels.csv"
    held_out.write_text("uid,participant_id,video_id\n17,P01,P01_16\n18,P01,P01_16\n900,P02,P02_04\n")
    labels.write_text("\n".join(read_lines(EPIC)[:4000]))
    rows = READERS["epic"](dataset.facts, {"labels": labels, "tbn": held_out})
    assert {row.path for row in rows if "tbn/val" in row.splits} == {"P01_16", "P02_04"}
    assert all(len(row.splits) == 2 and ("tbn/train" in row.splits) != ("tbn/val" in row.splits) for row in rows)


# -------------------------------------------------------------------------------------------------------- Charades


@pytest.fixture(scope="module")
def charades() -> tuple[StandardDataset, list[Row]]:
    files = {split: f"charades/Charades_v1_{split}.csv" for split in ("train", "test")}
    return read_rows("charades", files)


@needs("charades")
def test_every_video_of_charades_is_a_row_with_all_its_actions(charades: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = charades
    assert num_of_splits(rows) == published(dataset) == {"train": 7985, "test": 1863}
    of_video = {row.path: row for row in rows}
    assert len(of_video) == len(rows) == dataset.num_videos
    num_actions = 0
    for split in ("train", "test"):
        for entry in read_table(f"charades/Charades_v1_{split}.csv"):
            row = of_video[entry["id"]]
            assert row.splits == (split,)
            written = ";".join(f"c{label:03} {start:.2f} {end:.2f}" for label, start, end in row.actions)
            assert written == entry["actions"]
            assert row.labels == tuple(sorted({int(text[1:4]) for text in entry["actions"].split(";") if text}))
            num_actions += len(row.actions)
    assert num_actions == 49809 + 16691


@needs("charades")
def test_charades_classes_are_in_the_order_of_their_codes(charades: tuple[StandardDataset, list[Row]]) -> None:
    named = [f"c{label:03} {name}" for label, name in enumerate(charades[0].classes)]
    assert named == read_lines("charades/Charades_v1_classes.txt")
    assert {label for row in charades[1] for label in row.labels} == set(range(157))


@needs("charades")
def test_charades_oddities_stay_as_they_are(charades: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = charades
    assert dataset.multi_label
    assert Counter(row.splits for row in rows if not row.labels) == {("train",): 174, ("test",): 49}
    backwards = [(row, action) for row in rows for action in row.actions if action[1] >= action[2]]
    assert len(backwards) == 7
    assert all(action[0] in row.labels for row, action in backwards)
    lengths = {
        entry["id"]: float(entry["length"])
        for split in ("train", "test")
        for entry in read_table(f"charades/Charades_v1_{split}.csv")
    }
    assert sum(end > lengths[row.path] for row in rows for _, _, end in row.actions) == 19623
    assert sum(start > lengths[row.path] for row in rows for _, start, _ in row.actions) == 5


# ------------------------------------------------------------------------------------------------- ActivityNet-1.3


@pytest.fixture(scope="module")
def activitynet() -> tuple[StandardDataset, list[Row]]:
    return read_rows(
        "activitynet1.3", {f"{split}_list": f"activitynet/actnet_{split}_split.txt" for split in ("train", "val")}
    )


@needs("activitynet")
def test_every_line_of_activitynets_lists_is_a_row(activitynet: tuple[StandardDataset, list[Row]]) -> None:
    dataset, rows = activitynet
    assert num_of_splits(rows) == {"train": 10024, "val": 4926}
    assert published(dataset) == {"train": 10024, "val": 4926, "test": 5044}
    assert dataset.num_videos == 10024 + 4926 + 5044
    expected = {}
    for split in ("train", "val"):
        for line in read_lines(f"activitynet/actnet_{split}_split.txt"):
            name, _, *labels = line.split(",")
            expected[name] = (split, sorted({int(label) for label in labels}))
    assert {row.path: (row.splits[0], list(row.labels)) for row in rows} == expected
    assert {label for row in rows for label in row.labels} == set(range(200))


@needs("activitynet")
def test_activitynets_classes_are_the_official_names_in_the_order_of_the_lists(
    activitynet: tuple[StandardDataset, list[Row]],
) -> None:
    """The list of names beside the lists has another order; what comes up in one video tells which is right."""
    dataset, rows = activitynet
    names = [entry["action"] for entry in read_table("activitynet/action_name.csv")]
    assert sorted(names) == list(dataset.classes)
    assert names != list(dataset.classes)
    together = {tuple(dataset.classes[label] for label in row.labels) for row in rows if len(row.labels) > 1}
    assert together == {
        ("Cheerleading", "Tumbling"),
        ("Cleaning shoes", "Polishing shoes"),
        ("Discus throw", "Shot put"),
        ("Long jump", "Triple jump"),
        ("Painting furniture", "Polishing forniture"),
        ("Playing beach volleyball", "Volleyball"),
        ("Playing polo", "Playing water polo"),
        ("Preparing pasta", "Preparing salad"),
    }
    assert sum(len(row.labels) > 1 for row in rows) == 13
    # Capitals come first, as ASCII sorts: this one is known as a video of baking.
    baking = next(row for row in rows if row.path == "v_-2dxp-mv2zo")
    assert [dataset.classes[label] for label in baking.labels] == ["Baking cookies"]


# ----------------------------------------------------------------------------------------------------- all of them


def facts_of(name: str) -> Mapping[str, Any]:
    return load_standard(name).facts


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        ("something-v1", 174),
        ("something-v2", 174),
        ("epic-kitchens55", 2513),
        ("charades", 157),
        ("activitynet1.3", 200),
        ("fcvid", 239),
    ],
)
def test_what_a_manifest_says_agrees_with_itself(name: str, num_classes: int) -> None:
    dataset, facts = load_standard(name), facts_of(name)
    assert len(dataset.classes) == len(set(dataset.classes)) == num_classes
    assert sum(split.num_videos or 0 for split in dataset.splits) == dataset.num_videos
    assert dataset.optional <= set(dataset.annotations)
    assert facts["reader"] in READERS
    assert f"--manifest {name} " in dataset.preparation
    assert all(address.startswith("http") for _, address in dataset.sources)
    assert all({"by", "frame_size", "fps", "frames"} == set(paper) for paper in dataset.papers)
