"""The standard datasets: facts of all of them, HMDB51 whole, the search for official files, check, command line."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from runs import write_clip

from vidprep.cli import main
from vidprep.errors import ManifestError
from vidprep.manifest import (
    CheckReport,
    Row,
    check,
    find_annotations,
    find_rows,
    list_manifests,
    load_standard,
    official_rows,
)
from vidprep.manifest.official import READERS
from vidprep.shards.index import load_index, load_statuses

NEED_NO_FILES = ("ucf101", "hmdb51")
HEADER = "label,youtube_id,time_start,time_end,split\n"
TRAIN = HEADER + "abseiling,-AAAAAAAAA_,1,11,train\nyoga,_BBBBBBBBB-,2,12,train\nzumba,_BBBBBBBBB-,20,30,train\n"
VAL = HEADER + "yoga,CCCCCCCCCCC,3,13,val\n"


def make_tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write_lists(folder: Path, train: str = "train.csv", val: str = "val.csv") -> Path:
    for name, text in ((train, TRAIN), (val, VAL)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, result.output
    return result


# ------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", list_manifests())
def test_facts_of_every_dataset(name: str) -> None:
    dataset = load_standard(name)
    assert dataset.facts["reader"] in READERS
    assert all((dataset.title, dataset.about, dataset.preparation, dataset.num_videos))
    assert all(address.startswith(("https://", "http://")) for _, address in dataset.sources)
    assert len(set(dataset.classes)) == len(dataset.classes) > 1
    assert len({split.name for split in dataset.splits}) == len(dataset.splits) > 0
    assert all(re.fullmatch(r"\w+(/\w+)?", split.name) for split in dataset.splits)  # as tables may name them
    assert dataset.papers
    assert all({"by", "frame_size", "fps", "frames"} <= set(paper) for paper in dataset.papers)
    assert dataset.optional <= set(dataset.annotations)
    assert (name in NEED_NO_FILES) == (not dataset.annotations)


@pytest.mark.parametrize("name", list_manifests())
def test_every_dataset_is_shown_and_listed_without_its_files(name: str) -> None:
    dataset = load_standard(name)
    text = run("manifest", "show", name).stdout
    for said in (dataset.title, dataset.about, dataset.preparation, dataset.papers[0]["frames"], dataset.sources[0][1]):
        assert said.strip() in text
    assert all(files[0] in text for files in dataset.annotations.values())
    assert f"{len(dataset.classes)} classes: {dataset.classes[0]}, " in text
    (line,) = (line for line in run("manifest", "list").stdout.splitlines() if line.startswith(f"{name} "))
    assert f"{dataset.title}: {dataset.num_videos} videos, {len(dataset.classes)} classes" in line
    assert line.endswith("; needs its official annotation files") == bool(dataset.annotations)


@pytest.mark.parametrize("name", sorted(set(list_manifests()) - set(NEED_NO_FILES)))
def test_missing_files_are_listed_with_their_sources(tmp_path: Path, name: str) -> None:
    dataset = load_standard(name)
    make_tree(tmp_path, "x.mp4")
    calls: list[Callable[[], object]] = [
        lambda: official_rows(dataset),
        lambda: official_rows(dataset, tmp_path),
        lambda: find_rows(tmp_path, name),
        lambda: check(dataset, tmp_path, tmp_path),
    ]
    for call in calls:
        with pytest.raises(
            ManifestError, match=rf"annotations of {re.escape(name)}: .*\(--annotations FOLDER\)"
        ) as raised:
            call()
        required = set(dataset.annotations) - dataset.optional
        needed = [files for role, files in dataset.annotations.items() if not required or role in required]
        assert f"{len(needed)} official files" in str(raised.value)
        assert all(file in str(raised.value) for files in needed for file in files)
        assert all(address in str(raised.value) for _, address in dataset.sources)


# ------------------------------------------------------------------------------------------------------ HMDB51


def test_hmdb51_is_the_official_lists(shared: Path) -> None:
    lists = shared / "annotations" / "hmdb51"
    dataset = load_standard("hmdb51")
    sides: dict[str, dict[int, str]] = {}
    label_of = {}
    for file in lists.glob("*_test_split?.txt"):
        name, number = file.stem[: -len("_test_split1")], int(file.stem[-1])
        for line in file.read_text().splitlines():
            clip, side = line.split()
            sides.setdefault(f"{name}/{clip}", {})[number] = side
            label_of[f"{name}/{clip}"] = name
    rows = official_rows(dataset)
    assert len(rows) == len(sides) == 6766
    for row in rows:
        names = {number: {"1": "train", "2": "test"}.get(side) for number, side in sides[row.path].items()}
        assert row.splits == tuple(f"split{number}/{names[number]}" for number in (1, 2, 3) if names[number])
        assert dataset.classes[row.labels[0]] == label_of[row.path]
    assert set(dataset.classes) == set((lists / "class_list.txt").read_text().split())
    assert list(dataset.classes) == (shared / "annotations/label_maps/hmdb51/label_map.txt").read_text().split()


def test_hmdb51_facts_agree_with_each_other() -> None:
    dataset = load_standard("hmdb51")
    rows = official_rows(dataset)
    assert (len(rows), len({row.key for row in rows}), len(dataset.classes)) == (6766, 6766, 51)
    counts = Counter(split for row in rows for split in row.splits)
    assert counts == {split.name: split.num_videos for split in dataset.splits}
    assert counts == {f"split{i}/{side}": num for i in (1, 2, 3) for side, num in (("train", 3570), ("test", 1530))}
    # Each split trains on 70 and tests on 30 clips of each class.
    by_class = Counter((row.labels, split) for row in rows for split in row.splits)
    assert all(num == (70 if split.endswith("train") else 30) for (_, split), num in by_class.items())
    assert len({row.cell for row in rows}) == 27


def test_hmdb51_is_recognised_whole_and_in_part(tmp_path: Path) -> None:
    dataset = load_standard("hmdb51")
    rows = official_rows(dataset)
    manifest = find_rows(make_tree(tmp_path / "whole", *(row.path for row in rows)))
    assert (manifest.name, manifest.rows, manifest.classes) == ("hmdb51", rows, dataset.classes)
    report = check(dataset, tmp_path / "whole")
    assert report.ok
    assert (len(report.present), report.missing, report.extra) == (6766, (), ())
    assert all(split.is_as_published for split in report.splits)
    few = [row.path.replace(".avi", ".mp4") for row in rows[::999]]
    manifest = find_rows(make_tree(tmp_path / "few", *few))
    assert (manifest.name, [row.path for row in manifest.rows]) == ("hmdb51", few)
    assert [row.labels for row in manifest.rows] == [row.labels for row in rows[::999]]
    assert find_rows(make_tree(tmp_path / "few", "wave/mine.mp4")).name == "class-folders"


# -------------------------------------------------------------------------------------------- official files


@pytest.mark.parametrize("place", ["{lists}", "{root}", "{lists}/deeper", "{root}/annotations"])
@pytest.mark.parametrize("names", [("train.csv", "validate.csv"), ("kinetics-400_train.csv", "kinetics-400_val.csv")])
def test_files_are_found_in_the_folder_the_root_and_right_below(
    tmp_path: Path, place: str, names: tuple[str, str]
) -> None:
    lists, root = tmp_path / "lists", make_tree(tmp_path / "root", "yoga/CCCCCCCCCCC.mp4")
    lists.mkdir()
    write_lists(Path(place.format(lists=lists, root=root)), *names)
    manifest = find_rows(root, "kinetics400", lists)
    classes = load_standard("kinetics400").classes
    assert manifest.rows == (Row("yoga/CCCCCCCCCCC.mp4", (classes.index("yoga"),), splits=("val",)),)
    assert manifest.classes == classes


def test_nearer_files_come_first_and_doubt_is_refused(tmp_path: Path) -> None:
    dataset = load_standard("kinetics400")
    write_lists(tmp_path / "a")
    write_lists(tmp_path / "b")
    with pytest.raises(
        ManifestError, match=r"must hold one file .*train\.csv, and there are 2: .*a/train.* give the fo"
    ):
        find_annotations(dataset, annotations=tmp_path)
    write_lists(tmp_path)
    (tmp_path / "test.csv").write_text(HEADER)
    (tmp_path / "a" / "kinetics-400_val.csv").touch()
    files = {role: tmp_path / f"{role}.csv" for role in ("train", "val", "test")}
    assert find_annotations(dataset, annotations=tmp_path) == files
    assert find_annotations(dataset, tmp_path / "a", tmp_path) == files
    assert find_annotations(dataset, tmp_path, tmp_path / "b") == files | {
        "train": tmp_path / "b" / "train.csv",
        "val": tmp_path / "b" / "val.csv",
    }


def test_one_file_must_be_there_even_if_each_is_optional(tmp_path: Path) -> None:
    dataset = replace(load_standard("kinetics400"), optional=frozenset({"train", "val", "test"}))
    with pytest.raises(
        ManifestError, match=r"3 official files must lie in .* or one folder below, and don't \(train: "
    ):
        find_annotations(dataset, tmp_path)
    (tmp_path / "test.csv").write_text(HEADER)
    assert find_annotations(dataset, tmp_path) == {"test": tmp_path / "test.csv"}


@pytest.mark.parametrize(
    ("manifest", "folder", "message"),
    [
        ("kinetics400", "none", r"annotations='.*none' must be a folder that holds the official files; correct"),
        ("ucf101", "lists", r"annotations='.*lists': ucf101 needs no official files; leave it out"),
        (None, "lists", r"annotations='.*lists' are those of a standard dataset, which must be named; name it"),
        ("rows.csv", "lists", r"annotations='.*lists' are those of a standard dataset, which must be named"),
    ],
)
def test_annotations_that_cannot_be_meant(tmp_path: Path, manifest: str | None, folder: str, message: str) -> None:
    write_lists(tmp_path / "lists")
    root = make_tree(tmp_path / "root", "YoYo/v_YoYo_g01_c01.avi")
    with pytest.raises(ManifestError, match=message):
        find_rows(root, manifest, tmp_path / folder)


# ------------------------------------------------------------------------------------------------------- check


@pytest.fixture
def kinetics(tmp_path: Path) -> Path:
    """A copy of a Kinetics-400 of four clips, one of which is gone from the web."""
    write_lists(tmp_path / "lists")
    return make_tree(
        tmp_path / "videos",
        "train/abseiling/-AAAAAAAAA__000001_000011.mp4",
        "val/CCCCCCCCCCC.mkv",
        "train/_BBBBBBBBB-_20_30.mp4",
    )


def check_kinetics(root: Path) -> CheckReport:
    return check(load_standard("kinetics400"), root, root.parent / "lists")


def test_missing_videos_of_kinetics_are_named_and_are_no_fault(kinetics: Path) -> None:
    report = check_kinetics(kinetics)
    assert report.ok
    assert (len(report.present), report.missing) == (3, ("_BBBBBBBBB-_000002_000012",))
    counts = {split.name: (split.num_present, split.num_listed) for split in report.splits}
    assert counts == {"train": (2, 3), "val": (1, 1), "test": (0, 0)}
    # The written lists are not as long as the real ones; of test there is no list to compare.
    assert [split.name for split in report.splits if not split.is_as_published] == ["train", "val"]


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("val/mine.mp4", "extra"),
        ("val/CCCCCCCCCCC_000004_000014.mp4", "extra"),
        ("val/cccccccccCC.mp4", "extra"),
        ("train/_BBBBBBBBB-.mp4", "unclear"),
        ("train/CCCCCCCCCCC_000003_000013.mp4", "doubled"),
    ],
)
def test_what_should_not_be_there_is_a_fault(kinetics: Path, path: str, what: str) -> None:
    make_tree(kinetics, path)
    report = check_kinetics(kinetics)
    named = "CCCCCCCCCCC_000003_000013" if what == "doubled" else path
    found = {"extra": report.extra, "unclear": report.unclear, "doubled": report.doubled}
    assert found == {name: (named,) if name == what else () for name in found}
    assert not report.ok
    # Whatever can't be told is in no row; a second copy is.
    assert len(find_rows(kinetics, "kinetics400", kinetics.parent / "lists").rows) == (4 if what == "doubled" else 3)


def test_none_of_the_datasets_videos_is_a_fault(kinetics: Path, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "other", "x.mp4")
    assert not check(load_standard("kinetics400"), root, kinetics.parent / "lists").ok
    with pytest.raises(
        ManifestError, match=r"must hold videos of kinetics400, such as '-AAAAAAAAA__000001_000011', and"
    ):
        find_rows(root, "kinetics400", kinetics.parent / "lists")


def test_a_subset_may_lie_in_the_folder_of_the_whole(kinetics: Path, tmp_path: Path) -> None:
    """zumba is none of the 32 classes, yoga is."""
    (kinetics.parent / "lists" / "val.csv").write_text(VAL + "zumba,DDDDDDDDDDD,3,13,val\n")
    make_tree(kinetics, "val/DDDDDDDDDDD.mp4")
    lists = kinetics.parent / "lists"
    report = check(load_standard("kinetics-static32"), kinetics, lists)
    assert report.ok
    assert report.present == ("val/CCCCCCCCCCC.mkv",)
    assert report.missing == ("_BBBBBBBBB-_000002_000012",)
    assert len(report.extra) == 3
    text = run("manifest", "check", "kinetics-static32", kinetics, "--annotations", lists).stdout
    assert "\nextra videos are no fault of this dataset: it is a choice of kinetics400\n" in text
    none = make_tree(tmp_path / "none", "val/DDDDDDDDDDD.mp4")
    assert not check(load_standard("kinetics-static32"), none, lists).ok


def test_one_list_of_kinetics_is_enough_and_one_that_lists_nothing_is_not(kinetics: Path, tmp_path: Path) -> None:
    lists = tmp_path / "val-alone"
    lists.mkdir()
    (lists / "val.csv").write_text(VAL)
    assert {row.splits for row in find_rows(kinetics, "kinetics400", lists).rows} == {("val",)}
    (lists / "val.csv").write_text(VAL.splitlines()[0] + "\n")
    with pytest.raises(ManifestError, match=r"annotations of kinetics400: .*\(val\) list no video; give one that does"):
        find_rows(kinetics, "kinetics400", lists)


def test_kinetics_is_not_recognised_unasked(kinetics: Path) -> None:
    write_lists(kinetics)
    assert find_rows(kinetics).name == "class-folders"


# ------------------------------------------------------------------------------------------------ command line


def test_check_on_the_command_line(kinetics: Path) -> None:
    lists = kinetics.parent / "lists"
    text = run("manifest", "check", "kinetics400", kinetics, "--annotations", lists).stdout
    assert text.startswith("3 present, 1 missing, 0 extra\n")
    assert re.search(r"^test +no official list$", text, re.MULTILINE)
    expected = r"^train +2 of 3; the lists hold 3 videos, and should hold 246534 videos \(246245 in the paper\)$"
    assert re.search(expected, text, re.MULTILINE)
    assert text.endswith(
        "missing: _BBBBBBBBB-_000002_000012\nvideos of this dataset vanish from the web: missing ones are no fault\n"
    )
    make_tree(kinetics, "train/_BBBBBBBBB-.mp4", "val/CCCCCCCCCCC.webm")
    text = run("manifest", "check", "kinetics400", kinetics, "--annotations", lists, status=1).stdout
    assert text.startswith("4 present, 1 missing, 0 extra, 1 doubled, 1 unclear\n")
    assert "\nunclear (its name must say which clip of that video it is): train/_BBBBBBBBB-.mp4\n" in text
    assert "\ndoubled: CCCCCCCCCCC_000003_000013\n" in text


def test_show_counts_the_official_lists(kinetics: Path) -> None:
    lists = kinetics.parent / "lists"
    text = run("manifest", "show", "kinetics400", "--annotations", lists).stdout
    assert f"\ntrain: {lists / 'train.csv'}\n" in text
    assert "\ntrain: 3 videos, 3 rows listed\n" in text
    assert "\ntrain: 246534 videos (246245 in the paper)\n" in text
    assert "\ntest: number unknown (40000 in the paper)\n" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "kinetics400", "{videos}"), "needs its official files|official files must lie in"),
        (("check", "kinetics400", "{videos}", "--annotations", "{videos}/none"), "must be a folder that holds"),
        (("show", "kinetics400", "--annotations", "{videos}"), "train.csv"),
        (("show", "ucf101", "--annotations", "{videos}"), "ucf101 needs no official files"),
        (("check", "hmdb51", "{videos}", "--annotations", "{videos}"), "hmdb51 needs no official files"),
    ],
)
def test_bad_usage_has_status_2_and_a_message(kinetics: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run("manifest", *(argument.format(videos=kinetics) for argument in arguments), status=2)
    assert re.search(said, result.stderr)
    assert result.stderr.startswith("vidprep: error: ")


def test_extract_writes_the_official_labels_and_splits(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists")
    root = tmp_path / "videos"
    for path in ("abseiling/-AAAAAAAAA__000001_000011.avi", "val/CCCCCCCCCCC.avi", "other/x.avi"):
        write_clip(root / path, num_frames=4)
    quick = ("--workers", "1", "--size", "native", "--modalities", "rgb", "--out", tmp_path / "out")
    text = run("extract", root, *quick, "--manifest", "kinetics400", "--annotations", lists).stdout
    assert "2 videos, 8 frames" in text
    assert "1 files were passed over" in text
    index = load_index(tmp_path / "out")
    assert (index.dataset["name"], len(index.dataset["classes"])) == ("kinetics400", 400)
    assert index.dataset["splits"] == {"train": ["train"], "val": ["val"]}
    keys = [status.key for shard in sorted(index.shards) for status in load_statuses(tmp_path / "out", shard)]
    assert keys == ["abseiling/-AAAAAAAAA__000001_000011%2Eavi", "val/CCCCCCCCCCC%2Eavi"]
    # The same command goes on; other lists are another dataset, and say so.
    run("extract", root, *quick, "--manifest", "kinetics400", "--annotations", lists)
    (lists / "val.csv").write_text(VAL.replace("yoga", "zumba"))
    result = run("extract", root, *quick, "--manifest", "kinetics400", "--annotations", lists, status=1)
    assert "dataset=kinetics400 of 2 rows" in result.stderr
    result = run("extract", root, *quick, "--annotations", lists, status=2)
    assert "annotations=" in result.stderr
    assert "which must be named" in result.stderr
