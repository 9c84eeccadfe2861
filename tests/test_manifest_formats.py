"""The formats of official annotation files, written here: what they say becomes rows, what breaks them is refused."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidprep.errors import ManifestError
from vidprep.manifest.official import READERS
from vidprep.manifest.rows import MAX_SECONDS, Row
from vidprep.manifest.standard import load_standard

STH1, STH2, ACTIONS, ANET = (
    load_standard(name).classes for name in ("something-v1", "something-v2", "epic-kitchens55", "activitynet1.3")
)


def matrix(*ones: tuple[int, ...], zero: str = "0", one: str = "1") -> str:
    return "\n".join("\t".join(one if i in labels else zero for i in range(239)) for labels in ones) + "\n"


def database(**videos: object) -> str:
    return json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": videos})


def activity(subset: str, *annotations: tuple[str, float, float]) -> dict[str, object]:
    return {
        "duration": 100.0,
        "subset": subset,
        "annotations": [{"label": label, "segment": [start, end]} for label, start, end in annotations],
    }


# What is in the files -> the rows of it. In each: dataset, role -> (file's name, text), rows.
EPIC_HEADER = "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,verb_class,noun_class\n"
EPIC_LINE = '0,P01,P01_01,"open door",00:00:00.14,00:00:03.37,2,8\n'
CHARADES_HEADER = "id,subject,actions,length\n"
FILES: dict[str, tuple[str, dict[str, tuple[str, str]], list[Row]]] = {
    "something-v1": (
        "something-v1",
        {
            "labels": ("something-something-v1-labels.csv", "\n".join(STH1) + "\n"),
            "train": ("something-something-v1-train.csv", f"100218;{STH1[3]}\r\n7;{STH1[0]}\r\n"),
            "val": ("something-something-v1-validation.csv", f"8;{STH1[173]}\n"),
            "test": ("something-something-v1-test.csv", "9\n10\n"),
        },
        [
            Row("100218", (3,), splits=("train",)),
            Row("7", (0,), splits=("train",)),
            Row("8", (173,), splits=("val",)),
            Row("9", splits=("test",)),
            Row("10", splits=("test",)),
        ],
    ),
    "something-v2": (
        "something-v2",
        {
            "labels": ("labels.json", json.dumps({name: str(i) for i, name in enumerate(STH2)})),
            "train": (
                "train.json",
                json.dumps(
                    [
                        {
                            "id": "78687",
                            "label": "holding potato next to bottle",
                            "template": "Holding [something] next to [something]",
                            "placeholders": ["potato", "bottle"],
                        }
                    ]
                ),
            ),
            "val": ("validation.txt", "74225.webm 140\n"),
            "test": ("test.json", '[{"id": "1420"}]'),
        },
        [
            Row("78687", (STH2.index("Holding something next to something"),), splits=("train",)),
            Row("74225", (140,), splits=("val",)),
            Row("1420", splits=("test",)),
        ],
    ),
    "epic": (
        "epic-kitchens55",
        {
            "labels": (
                "EPIC_train_action_labels.csv",
                EPIC_HEADER
                + EPIC_LINE
                + "1,P26,P26_02,turn on,01:02:03.00,01:02:04.50,12,113\n"
                + EPIC_LINE.replace("0,P01", "2,P01"),
            ),
            "tbn": ("EPIC_val_action_labels.csv", "uid,video_id\n1,P26_02\n"),
        },
        [
            Row("P01_01", (519,), 0.14, 3.37, ("baradel/train", "tbn/train"), (("noun", 8), ("verb", 2))),
            Row(
                "P26_02",
                (ACTIONS.index("turn-on light"),),
                3723.0,
                3724.5,
                ("baradel/val", "tbn/val"),
                (("noun", 113), ("verb", 12)),
            ),
        ],
    ),
    "charades": (
        "charades",
        {
            "train": (
                "Charades_v1_train.csv",
                CHARADES_HEADER + '46GP8,HR43,c092 11.90 21.20;c147 0.00 12.60;c092 1 2,24.83\r\n"YSKX3",CP6Y,,9\r\n',
            ),
            "test": ("Charades_v1_test.csv", CHARADES_HEADER + "AAAAA,HR43,c000 9.00 3.00,24.83\n"),
        },
        [
            Row("46GP8", (92, 147), splits=("train",), actions=((92, 11.9, 21.2), (147, 0.0, 12.6), (92, 1.0, 2.0))),
            Row("YSKX3", splits=("train",)),
            Row("AAAAA", (0,), splits=("test",), actions=((0, 9.0, 3.0),)),
        ],
    ),
    "activitynet": (
        "activitynet1.3",
        {
            "database": (
                "activity_net.v1-3.min.json",
                database(
                    sJFgo9H6zNo=activity("training", (ANET[57], 0.5, 30), (ANET[2], 1, 2), (ANET[57], 3, 1)),
                    **{"JDg--pjY5gg": activity("validation", (ANET[10], 0, 126.1)), "V1zhqaGFY2A": activity("testing")},
                ),
            ),
            "train_list": ("actnet_train_split.txt", "v_sJFgo9H6zNo,4165,57\n"),
        },
        [
            Row("v_sJFgo9H6zNo", (2, 57), splits=("train",), actions=((57, 0.5, 30.0), (2, 1.0, 2.0), (57, 3.0, 1.0))),
            Row("v_JDg--pjY5gg", (10,), splits=("val",), actions=((10, 0.0, 126.1),)),
            Row("v_V1zhqaGFY2A", splits=("test",)),
        ],
    ),
    "activitynet-lists": (
        "activitynet1.3",
        {
            "train_list": ("actnet_train_split.txt", "v_sJFgo9H6zNo,4165,57\n\nv_yUSo_xjyGhM,1800,191,191,3\n"),
            "val_list": ("actnet_val_split.txt", "v_JDg--pjY5gg,3153,10"),
        },
        [
            Row("v_sJFgo9H6zNo", (57,), splits=("train",)),
            Row("v_yUSo_xjyGhM", (3, 191), splits=("train",)),
            Row("v_JDg--pjY5gg", (10,), splits=("val",)),
        ],
    ),
    "fcvid": (
        "fcvid",
        {
            "names": (
                "FCVID_VideoName_TrainTestSplit.txt",
                "bird\\--0K_j-zexM.mp4\ttrain\ncat/b.flv test\nmultiple/a_b/c train\n",
            ),
            "labels": ("FCVID_Label.txt", matrix((0, 238), (), (7,))),
        },
        [
            Row("--0K_j-zexM", (0, 238), splits=("train",)),
            Row("b", splits=("test",)),
            Row("c", (7,), splits=("train",)),
        ],
    ),
    "fcvid-lists": (
        "fcvid",
        {
            "train_list": ("fcvid_train_split.txt", "bird/--0K_j-zexM,4000,3\nmultiple/bird_cat/xyz,12,9,4,9\n"),
            "test_list": ("fcvid_val_split.txt", "cat/abc,12,238\n"),
        },
        [
            Row("--0K_j-zexM", (3,), splits=("train",)),
            Row("xyz", (4, 9), splits=("train",)),
            Row("abc", (238,), splits=("test",)),
        ],
    ),
}


def read(folder: Path, case: str, changed: Mapping[str, str | None] | None = None) -> list[Row]:
    """Write a case's files, some of them changed or (None) left out, and read them."""
    name, files, _ = FILES[case]
    paths = {}
    for role, (file, text) in files.items():
        new_text = (changed or {}).get(role, text)
        if new_text is not None:
            paths[role] = folder / file
            paths[role].write_bytes(new_text.encode("utf-8", "surrogateescape"))
    dataset = load_standard(name)
    return READERS[dataset.facts["reader"]](dataset.facts, paths)


@pytest.mark.parametrize("case", FILES)
def test_files_of_the_official_form_become_rows(tmp_path: Path, case: str) -> None:
    rows = read(tmp_path, case)
    assert rows == FILES[case][2]
    dataset = load_standard(FILES[case][0])
    assert all(file in dataset.annotations[role] for role, (file, _) in FILES[case][1].items())
    assert {split for row in rows for split in row.splits} <= {split.name for split in dataset.splits}


@pytest.mark.parametrize(
    ("case", "role"),
    [
        ("something-v1", "labels"),
        ("something-v1", "test"),
        ("something-v2", "test"),
        ("epic", "tbn"),
        ("activitynet", "train_list"),
        ("activitynet-lists", "train_list"),
        ("fcvid-lists", "test_list"),
    ],
)
def test_files_that_may_be_missing(tmp_path: Path, case: str, role: str) -> None:
    dataset, files, rows = FILES[case]
    assert role in load_standard(dataset).optional
    found = read(tmp_path, case, {role: None})
    side = {"test": "test", "test_list": "test", "train_list": "train"}.get(role, "")
    if role == "tbn":
        assert [row.splits for row in found] == [("baradel/train",), ("baradel/val",)]
    elif "database" in files:
        assert found == rows
    else:
        assert found == [row for row in rows if side not in row.splits]


def test_labels_of_something_v1s_test_split_count_where_somebody_has_them(tmp_path: Path) -> None:
    rows = read(tmp_path, "something-v1", {"test": f"9;{STH1[8]}\n10\n"})
    assert rows[-2:] == [Row("9", (8,), splits=("test",)), Row("10", splits=("test",))]


def test_the_official_file_of_activitynet_counts_and_not_the_lists(tmp_path: Path) -> None:
    assert read(tmp_path, "activitynet", {"train_list": "v_sJFgo9H6zNo,1,3\n"}) == FILES["activitynet"][2]


@pytest.mark.parametrize(("zero", "one"), [("0.0", "1.0"), ("0.0000000e+00", "1.0000000e+00"), ("0", "1")])
def test_fcvids_matrix_in_any_spelling_of_zero_and_one(tmp_path: Path, zero: str, one: str) -> None:
    assert read(tmp_path, "fcvid", {"labels": matrix((0, 238), (), (7,), zero=zero, one=one)}) == FILES["fcvid"][2]


# In each: case, role, what is replaced, by what, the place and the value in the message, the rule.
BROKEN = [
    ("something-v1", "train", STH1[3], "Folding nothing", "line 1: class='Folding nothing'", "must be one of"),
    ("something-v1", "train", "100218;", "100218", "line 1: video='100218", "must be a video's name such as '74225'"),
    ("something-v1", "train", f"7;{STH1[0]}", "7", "line 2: video=7", "must have a label, outside of the test split"),
    ("something-v1", "train", "7;", "../7;", "line 2: video='../7'", "must be a video's name"),
    ("something-v1", "val", "8;", "7;", "line 1: video='7'", "(something-something-v1-train.csv line 2)"),
    ("something-v1", "labels", STH1[5], "x", "['Holding something'", "must list the 174 classes in the order"),
    ("something-v2", "labels", '"0"', '"1"', "{'Approaching", "must list the 174 classes in the order"),
    ("something-v2", "train", "Holding [something] next", "Eating [something] near", "class='Eating", "must be one of"),
    ("something-v2", "train", '"78687"', "78687", "video=78687", "must be a video's name"),
    ("something-v2", "train", '"template"', '"x"', "video=78687", "must have a label"),
    ("something-v2", "train", '"Holding [something] next to [something]"', "3", "entry 1: {'id'", "must be an object"),
    ("something-v2", "train", "[{", "[7, {", "entry 1: 7", "must be an object with an id and a template"),
    ("something-v2", "train", "[{", '{"a": {', "line 1: column", "must be JSON"),
    ("something-v2", "test", '[{"id": "1420"}]', '{"id": "1420"}', "{'id': '1420'}", "must be a list of videos"),
    ("something-v2", "test", '[{"id": "1420"}]', "[" * 100_000, "recursion", "must be JSON"),
    ("something-v2", "test", "1420", "9" * 10, "video='9999999999'", "must be a video's name"),
    ("something-v2", "val", "140", "174", "line 1: label='174'", "must be a class number from 0 to 173"),
    ("something-v2", "val", ".webm 140", ".webm 140 3", "line 1: '74225.webm 140 3'", "must be a video and its label"),
    ("epic", "labels", "stop_timestamp", "stop", "line 1: header=", "must hold stop_timestamp"),
    ("epic", "labels", "P26_02", "P26_102", "line 3: video='P26_102'", "must be a video's name such as 'P01_01'"),
    ("epic", "labels", "01:02:04.50", "01:62:04.50", "line 3: stop_timestamp='01:62:04.50'", "must be a time such as"),
    ("epic", "labels", "01:02:04.50", "01:02:03.00", "line 3: start_timestamp=", "must lie before stop_timestamp"),
    ("epic", "labels", ",12,113", ",125,113", "line 3: verb_class='125'", "must be a class number from 0 to 124"),
    ("epic", "labels", ",12,113", ",12,352", "line 3: noun_class='352'", "must be a class number from 0 to 351"),
    ("epic", "labels", ",12,113", ",124,1", "line 3: class=", "must be one of the dataset's"),
    ("epic", "labels", "2,P01,P01_01", "2,P01", "line 4: num_fields=7", "must be 8 as in line 1"),
    ("epic", "labels", EPIC_LINE + "1", EPIC_LINE.replace(",8", ",10") + "1", "line 4: video='P01_01'", "twice"),
    ("epic", "tbn", "P26_02", "P26_03", "line 2: video='P26_03'", "must be one of EPIC_train_action_labels.csv's"),
    (
        "charades",
        "train",
        "c147 0.00 12.60",
        "c157 0.00 12.60",
        "line 2: class='157'",
        "must be a class number from 0 to",
    ),
    ("charades", "train", "c147 0.00", "c147 -1", "line 2: start='-1'", "must be a time in seconds"),
    ("charades", "train", "c147 0.00 12.60", "c147 0.00", "line 2: action='c147 0.00'", "must be a class, its start"),
    ("charades", "train", ";c147", ";;c147", "line 2: action=''", "must be a class, its start"),
    ("charades", "train", "46GP8", "46gp8", "line 2: video='46gp8'", "must be a video's name such as '46GP8'"),
    ("charades", "test", "AAAAA", "46GP8", "line 2: video='46GP8'", "Charades_v1_train.csv line 2"),
    ("charades", "train", '"YSKX3"', '"YSKX3', "line 3", "must be readable as .csv"),
    (
        "activitynet",
        "database",
        '"database"',
        '"videos"',
        "{'version'",
        "must hold the videos by name under 'database'",
    ),
    ("activitynet", "database", '"training"', '"trainign"', "sJFgo9H6zNo=", "must have annotations and a subset"),
    ("activitynet", "database", '"annotations": [{', '"x": [{', "=", "must have annotations and a subset"),
    ("activitynet", "database", ANET[10], "Beer ping", "class='Beer ping'", "must be one of the dataset's"),
    ("activitynet", "database", "[0.5, 30]", "[0.5]", "sJFgo9H6zNo: {'label'", "must be a label and a segment"),
    ("activitynet", "database", "[0.5, 30]", '[0.5, "NaN"]', "sJFgo9H6zNo end='NaN'", "must be a time in seconds"),
    ("activitynet", "database", "sJFgo9H6zNo", "sJFgo9H6zN/", "video='v_sJFgo9H6zN/'", "must be a video's name"),
    ("activitynet-lists", "train_list", ",4165,57", ",4165", "line 1: 'v_sJFgo9H6zNo,4165'", "must be a video, its"),
    (
        "activitynet-lists",
        "train_list",
        ",191,3",
        ",200,3",
        "line 3: label='200'",
        "must be a class number from 0 to 199",
    ),
    ("activitynet-lists", "val_list", "JDg--pjY5gg", "sJFgo9H6zNo", "line 1", "(actnet_train_split.txt line 1)"),
    ("fcvid", "names", "\ttrain", "\tvalid", "line 1: ", "must be a video's file, and train or test"),
    ("fcvid", "names", "cat/b.flv", "cat/.flv", "line 2: video=", "must be a video's name"),
    ("fcvid", "names", "multiple/a_b/c train\n", "", "FCVID_Label.txt': num_lines", "and is more"),
    ("fcvid", "names", "cat/b.flv", "cat/b.flv\na.flv\tc", "line 2", "must be a video's file"),
    ("fcvid", "names", "multiple", "x.flv train\nmultiple", "line 4", "must have its labels in FCVID_Label.txt"),
    ("fcvid", "labels", "1\t0", "0.5\t0", "line 1: field='0.5'", "must be 0 or 1"),
    ("fcvid", "labels", "1\t0", "1", "line 1: num_fields=238", "must be 239, one a class"),
    ("fcvid", "labels", "1\t0", "x\t0", "line 1: field='x'", "must be 0 or 1"),
]


@pytest.mark.parametrize(("case", "role", "old", "new", "value", "rule"), BROKEN)
def test_a_broken_file_is_refused_with_place_value_rule_and_cure(
    tmp_path: Path, case: str, role: str, old: str, new: str, value: str, rule: str
) -> None:
    file, text = FILES[case][1][role]
    assert old in text
    with pytest.raises(ManifestError) as refusal:
        read(tmp_path, case, {role: text.replace(old, new, 1)})
    message = str(refusal.value)
    assert str(tmp_path / ("FCVID_Label.txt" if "num_lines" in value else file)) in message
    assert value in message
    assert rule in message.partition(value)[2]
    assert "; " in message.partition(rule)[2]


@pytest.mark.parametrize("missing", ["names", "labels"])
def test_fcvids_two_files_belong_together(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ManifestError, match=r"annotations: FCVID_.*\.txt: must be both of the dataset's own files"):
        read(tmp_path, "fcvid", {missing: None})


def test_fcvids_own_files_and_lists_are_not_mixed(tmp_path: Path) -> None:
    facts = load_standard("fcvid").facts
    paths = {role: tmp_path / file for case in ("fcvid", "fcvid-lists") for role, (file, _) in FILES[case][1].items()}
    with pytest.raises(ManifestError, match=r"which may number the classes otherwise; put the files of one kind"):
        READERS["fcvid"](facts, paths)


# ------------------------------------------------------------------------------------------------------- damage

nasty = st.sampled_from(
    [
        "",
        "\n",
        ";",
        ",",
        '"',
        "\t",
        " ",
        "[",
        "{",
        "}",
        "nan",
        "-1",
        "1e999",
        "9" * 5000,
        "\0",
        "\x85",
        "\u2028",
        "\udcff",
        "null",
    ]
)


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, dict[str, str | None]]:
    """One of the cases, with one of its files cut, shuffled, or written over in places."""
    case = draw(st.sampled_from(sorted(FILES)))
    role = draw(st.sampled_from(sorted(FILES[case][1])))
    text = FILES[case][1][role][1]
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        damage = draw(st.sampled_from(["cut", "swap", "overwrite", "shuffle"]))
        if damage == "cut":
            text = text[:start]
        elif damage == "swap":
            text = text[:start] + text[end:] + text[start:end]
        elif damage == "overwrite":
            text = text[:start] + draw(nasty | st.text(max_size=8)) + text[min(end, start + 8) :]
        else:
            text = "\n".join(draw(st.permutations(text.split("\n")[:20])))
    return case, {role: text}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(damaged_files())
def test_a_damaged_file_gives_sound_rows_or_a_manifest_error(
    tmp_path: Path, damaged: tuple[str, dict[str, str | None]]
) -> None:
    case, changed = damaged
    dataset = load_standard(FILES[case][0])
    try:
        rows = read(tmp_path, case, changed)
    except ManifestError as error:
        message = str(error)
        assert str(tmp_path) in message
        assert "must " in message
        return
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(r"[\w-]+", row.path, re.ASCII)
        assert row.splits
        assert set(row.labels) <= set(range(len(dataset.classes)))
        assert all(0 <= time < MAX_SECONDS for _, *times in row.actions for time in times)
        for target, label in row.targets:
            assert label < len(dataset.targets[target])
