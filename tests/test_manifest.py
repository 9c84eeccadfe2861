"""Rows, keys, cells, dataset discovery, tables, and UCF101 against its official lists."""

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.errors import ManifestError
from vidprep.manifest import (
    VIDEO_EXTENSIONS,
    Manifest,
    Row,
    check,
    find_rows,
    list_manifests,
    load_standard,
    official_rows,
)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
OFFICIAL_LISTS = SHARED / "annotations" / "ucf101"
needs_lists = pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason=f"{OFFICIAL_LISTS} is not there")
needs_clips = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"{SHARED / 'data'} is not there")

COMMON_EXTENSIONS = "avi mp4 mkv mov webm m4v mpg mpeg wmv flv 3gp ts mts vob ogv m2v h264"

# Bytes that a POSIX path may hold, with those that the key itself uses made frequent.
path_bytes = st.lists(
    st.one_of(st.sampled_from(list(b"@%-_./~,25EF0")), st.integers(1, 255)), min_size=1, max_size=12
).map(bytes)
seconds = st.none() | st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)


def make_tree(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def labels_by_path(manifest: Manifest) -> dict[str, str | None]:
    return {row.path: manifest.classes[row.labels[0]] if row.labels else None for row in manifest.rows}


def paths_of(manifest: Manifest) -> list[str]:
    return [row.path for row in manifest.rows]


# ---------------------------------------------------------------------------------------------- keys and cells


def decode_key(key: str) -> tuple[bytes, int | None, int | None]:
    """Read a key back: what can be read back is injective."""
    path, separator, times = key.partition("@")
    start, _, end = times.partition("-")
    assert bool(separator) == bool(times)
    return unquote_to_bytes(path), int(start) if start else None, int(end) if end else None


@given(path_bytes, seconds, seconds)
def test_a_key_can_be_read_back(path: bytes, start: float | None, end: float | None) -> None:
    key = Row(os.fsdecode(path), start_seconds=start, end_seconds=end).key
    expected = [None if time is None else round(time * 1000) for time in (start, end)]
    assert decode_key(key) == (path, *expected)


@given(path_bytes, path_bytes)
def test_different_paths_have_different_keys(one: bytes, other: bytes) -> None:
    assert (Row(os.fsdecode(one)).key == Row(os.fsdecode(other)).key) == (one == other)


@given(path_bytes, seconds, seconds)
def test_a_key_holds_plain_characters_only(path: bytes, start: float | None, end: float | None) -> None:
    key = Row(os.fsdecode(path), start_seconds=start, end_seconds=end).key
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/%@")
    assert key.count("@") <= 1


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (Row("Archery/v_Archery_g01_c01.avi"), "Archery/v_Archery_g01_c01%2Eavi"),
        (Row("a/clip.mp4", start_seconds=1.5, end_seconds=3.25), "a/clip%2Emp4@1500-3250"),
        (Row("a/clip.mp4", start_seconds=0.0), "a/clip%2Emp4@0-"),
        (Row("a/clip.mp4", end_seconds=0.001), "a/clip%2Emp4@-1"),
        (Row("a/clip.mp4@1500-3250"), "a/clip%2Emp4%401500-3250"),
        (Row("a/my clip.v2.mp4"), "a/my%20clip%2Ev2%2Emp4"),
        (Row("gru\u00df.mp4"), "gru%C3%9F%2Emp4"),
        (Row(os.fsdecode(b"gru\xdf.mp4")), "gru%DF%2Emp4"),
        (Row("100%2E.mp4"), "100%252E%2Emp4"),
        (Row("__meta__/clip~.mp4"), "%5F_meta__/clip%7E%2Emp4"),
    ],
)
def test_keys_by_hand(row: Row, key: str) -> None:
    assert row.key == key


def test_one_stem_with_two_extensions_or_in_two_cases_makes_two_keys() -> None:
    assert len({Row(path).key for path in ("a/x.mp4", "a/x.avi", "a/X.mp4", "b/x.mp4", "a/x.mp4.avi")}) == 5


def test_plain_webdataset_reads_every_key() -> None:
    webdataset_tar = pytest.importorskip("webdataset.tariterators")
    paths = [
        "__x__/a.b.mp4",
        "_a.mp4",
        "a b.mp4",
        "a/@1-2.mp4",
        os.fsdecode(b"\xff/x.mp4"),
        "x.mp4",
        "X.mp4",
        "a.b/c.mp4",
    ]
    keys = [Row(path).key for path in paths] + [Row("x.mp4", start_seconds=1.0).key]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for key in keys:
            for extension in ("json", "rgb.000000.jpg"):
                entry = tarfile.TarInfo(f"{key}.{extension}")
                entry.size = 2
                tar.addfile(entry, io.BytesIO(b"{}"))
    stream.seek(0)
    files = webdataset_tar.tar_file_expander([{"url": "x", "stream": stream}])
    samples = list(webdataset_tar.group_by_keys(files))
    assert [sample["__key__"] for sample in samples] == keys
    assert all({"json", "rgb.000000.jpg"} <= set(sample) for sample in samples)


@pytest.mark.parametrize(
    ("splits", "cell"),
    [
        ((), "all"),
        (("train",), "train"),
        (("split1/test", "split2/train", "split3/train"), "split1-test+split2-train+split3-train"),
        (("split2/train", "split1/test"), "split1-test+split2-train"),
    ],
)
def test_cell(splits: tuple[str, ...], cell: str) -> None:
    assert Row("x.mp4", splits=splits).cell == cell


# ---------------------------------------------------------------------------------------------------- UCF101


@pytest.fixture(scope="module")
def full_ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole dataset as empty files."""
    return make_tree(tmp_path_factory.mktemp("ucf101"), *(row.path for row in official_rows(load_standard("ucf101"))))


def read_official_list(name: str) -> list[str]:
    return [line.split()[0] for line in (OFFICIAL_LISTS / name).read_text().splitlines() if line.strip()]


@needs_lists
@pytest.mark.parametrize(("number", "num_train", "num_test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_ucf101_splits_are_the_official_lists(number: int, num_train: int, num_test: int) -> None:
    dataset = load_standard("ucf101")
    published = {split.name: split.num_videos for split in dataset.splits}
    for side, num_videos in (("train", num_train), ("test", num_test)):
        rows = [row for row in official_rows(dataset) if f"split{number}/{side}" in row.splits]
        assert len(rows) == num_videos == published[f"split{number}/{side}"]
        assert [row.path for row in rows] == sorted(read_official_list(f"{side}list0{number}.txt"))


@needs_lists
def test_ucf101_classes_and_labels_are_the_official_ones() -> None:
    dataset = load_standard("ucf101")
    lines = (OFFICIAL_LISTS / "classInd.txt").read_text().splitlines()
    official = {int(line.split()[0]) - 1: line.split()[1] for line in lines if line.strip()}
    assert dict(enumerate(dataset.classes)) == official
    lines = (OFFICIAL_LISTS / "trainlist01.txt").read_text().splitlines()
    label_of = {line.split()[0]: int(line.split()[1]) - 1 for line in lines if line.strip()}
    assert {row.path: row.labels[0] for row in official_rows(dataset) if row.path in label_of} == label_of
    assert len(label_of) == 9537


def test_ucf101_facts_agree_with_each_other() -> None:
    dataset = load_standard("ucf101")
    rows = official_rows(dataset)
    assert (len(rows), len(dataset.classes)) == (13320, 101)
    assert len({row.key for row in rows}) == 13320
    published = {split.name: split.num_videos or 0 for split in dataset.splits}
    assert all(published[f"split{i}/train"] + published[f"split{i}/test"] == 13320 for i in (1, 2, 3))
    assert {row.path.partition("/")[0] for row in rows} == set(dataset.classes)
    # Groups 1-7, 8-14 and 15-21 are each tested on once, groups 22-25 never: four cells.
    assert len({row.cell for row in rows}) == 4
    assert all(address.startswith("https://") for _, address in dataset.sources)


def test_ucf101_is_recognised_whole(full_ucf101: Path) -> None:
    manifest = find_rows(full_ucf101)
    dataset = load_standard("ucf101")
    assert (manifest.name, manifest.root, manifest.classes) == ("ucf101", full_ucf101, dataset.classes)
    assert manifest.rows == official_rows(dataset)
    assert find_rows(full_ucf101, "ucf101") == manifest


@needs_clips
def test_three_real_clips_are_a_part_of_ucf101() -> None:
    manifest = find_rows(SHARED / "data" / "UCF101")
    assert manifest.name == "ucf101"
    assert labels_by_path(manifest) == {
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": "ApplyEyeMakeup",
        "BaseballPitch/v_BaseballPitch_g01_c01.avi": "BaseballPitch",
        "Basketball/v_Basketball_g01_c01.avi": "Basketball",
    }
    assert [row.labels for row in manifest.rows] == [(0,), (6,), (7,)]
    assert {row.cell for row in manifest.rows} == {"split1-test+split2-train+split3-train"}


def test_official_order_differs_from_sorted_names(tmp_path: Path) -> None:
    # "HammerThrow" sorts before "Hammering", the official list has it after.
    make_tree(tmp_path, "Hammering/v_Hammering_g01_c01.avi", "HammerThrow/v_HammerThrow_g25_c01.avi")
    assert [(row.path[:8], row.labels) for row in find_rows(tmp_path).rows] == [
        ("HammerTh", (35,)),
        ("Hammerin", (34,)),
    ]


@pytest.mark.parametrize("stem", ["HandStandPushups", "HandstandPushups"])
def test_handstand_pushups_in_both_spellings(tmp_path: Path, stem: str) -> None:
    make_tree(tmp_path, f"HandstandPushups/v_{stem}_g08_c02.avi")
    (row,) = find_rows(tmp_path).rows
    assert row.path == f"HandstandPushups/v_{stem}_g08_c02.avi"
    assert (row.labels, row.cell) == ((36,), "split1-train+split2-test+split3-train")


def test_transcoded_ucf101_is_ucf101(tmp_path: Path) -> None:
    make_tree(tmp_path, "YoYo/v_YoYo_g15_c01.mp4")
    manifest = find_rows(tmp_path)
    assert (manifest.name, manifest.rows[0].labels) == ("ucf101", (100,))
    assert "split3/test" in manifest.rows[0].splits


def test_named_dataset_ignores_what_is_not_its_own(tmp_path: Path) -> None:
    make_tree(tmp_path, "YoYo/v_YoYo_g15_c01.avi", "YoYo/v_YoYo_g15_c99.avi", "Mine/x.mp4", "notes.txt")
    assert find_rows(tmp_path).name == "class-folders"
    manifest = find_rows(tmp_path, "ucf101")
    assert paths_of(manifest) == ["YoYo/v_YoYo_g15_c01.avi"]
    assert manifest.ignored == ("Mine/x.mp4", "YoYo/v_YoYo_g15_c99.avi", "notes.txt")


def test_named_dataset_without_one_of_its_videos_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path, "UCF-101/Yo-Yo/v_YoYo_g15_c01.avi")
    with pytest.raises(ManifestError, match=r"root='.*' must hold videos of ucf101, such as .*none of its 1 videos"):
        find_rows(tmp_path, "ucf101")


def test_ucf_layout_of_other_classes_gets_the_group_splits(tmp_path: Path) -> None:
    paths = [f"{name}/v_{name}_g{group:02}_c01.avi" for name in ("MovesRight", "MovesLeft") for group in range(1, 26)]
    manifest = find_rows(make_tree(tmp_path, *paths))
    assert (manifest.name, manifest.classes) == ("ucf-layout", ("MovesLeft", "MovesRight"))
    for row in manifest.rows:
        group = int(row.path[-10:-8])
        tested = [(group - 1) // 7 == index for index in range(3)]
        assert row.splits == tuple(f"split{i + 1}/{'test' if tested[i] else 'train'}" for i in range(3))
        assert manifest.classes[row.labels[0]] == row.path.partition("/")[0]


@pytest.mark.parametrize(
    "odd_one", ["A/clip.avi", "A/v_B_g01_c01.avi", "A/v_A_g1_c01.avi", "A/deep/v_A_g01_c01.avi", "v_A_g01_c01.avi"]
)
def test_one_odd_name_and_it_is_no_ucf_layout(tmp_path: Path, odd_one: str) -> None:
    manifest = find_rows(make_tree(tmp_path, "A/v_A_g02_c01.avi", odd_one))
    assert manifest.name == "class-folders"
    assert {row.cell for row in manifest.rows} == {"all"}


# ----------------------------------------------------------------------------------------------------- check


def test_check_of_the_whole_dataset(full_ucf101: Path) -> None:
    report = check(load_standard("ucf101"), full_ucf101)
    assert report.ok
    assert (len(report.present), report.missing, report.extra) == (13320, (), ())
    assert [(split.name, split.num_present) for split in report.splits] == [
        ("split1/test", 3783),
        ("split1/train", 9537),
        ("split2/test", 3734),
        ("split2/train", 9586),
        ("split3/test", 3696),
        ("split3/train", 9624),
    ]


@needs_clips
def test_check_of_three_clips_names_what_is_missing() -> None:
    report = check(load_standard("ucf101"), SHARED / "data" / "UCF101")
    assert not report.ok
    assert (len(report.present), len(report.missing), report.extra) == (3, 13317, ())
    assert report.missing[0] == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi"
    counts = {split.name: (split.num_present, split.num_listed) for split in report.splits}
    assert counts["split1/test"] == (3, 3783)
    assert counts["split1/train"] == (0, 9537)


def test_check_names_extra_and_counts_doubles(full_ucf101: Path) -> None:
    dataset = load_standard("ucf101")
    extra, double = full_ucf101 / "YoYo" / "mine.mp4", full_ucf101 / "YoYo" / "v_YoYo_g01_c01.mp4"
    missing, away = full_ucf101 / "YoYo" / "v_YoYo_g01_c02.avi", full_ucf101 / ".away"
    try:
        extra.touch()
        report = check(dataset, full_ucf101)
        assert (report.ok, report.extra, report.missing) == (False, ("YoYo/mine.mp4",), ())
        extra.unlink()
        double.touch()
        report = check(dataset, full_ucf101)
        assert (report.ok, report.extra, len(report.present)) == (False, (), 13321)
        assert report.doubled == ("YoYo/v_YoYo_g01_c01.avi",)
        # One missing and one doubled of the same cell: the counts alone look right.
        missing.rename(away)
        report = check(dataset, full_ucf101)
        assert all(split.num_present == split.num_listed for split in report.splits)
        assert (report.ok, report.missing) == (False, ("YoYo/v_YoYo_g01_c02.avi",))
    finally:
        if away.exists():
            away.rename(missing)
        extra.unlink(missing_ok=True)
        double.unlink(missing_ok=True)
    assert check(dataset, full_ucf101).ok


def test_list_and_unknown_name(tmp_path: Path) -> None:
    assert {"ucf101", "hmdb51", "kinetics400"} <= set(list_manifests())
    for name in ("kinetics", "../ucf101", ""):
        with pytest.raises(ManifestError, match=rf"manifest='{name}' must be one of: .*ucf101"):
            load_standard(name)
    with pytest.raises(
        ManifestError, match=r"manifest='kinetics' must be the name of a standard dataset \(.*ucf101.*\)"
    ):
        find_rows(tmp_path, "kinetics")


# --------------------------------------------------------------------------------------------------- folders


def test_class_folders_are_labelled_by_sorted_name(tmp_path: Path) -> None:
    make_tree(tmp_path, "b/2.mp4", "b/1.mp4", "a/x/deep.mp4", "C/1.MKV", "empty/notes.txt")
    manifest = find_rows(tmp_path)
    assert (manifest.name, manifest.classes) == ("class-folders", ("C", "a", "b"))
    assert labels_by_path(manifest) == {"C/1.MKV": "C", "a/x/deep.mp4": "a", "b/1.mp4": "b", "b/2.mp4": "b"}
    assert paths_of(manifest) == sorted(paths_of(manifest))
    assert manifest.ignored == ("empty/notes.txt",)
    assert {row.cell for row in manifest.rows} == {"all"}


def test_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    manifest = find_rows(make_tree(tmp_path, "b.mp4", "a.b c.webm", "\u00fcb.mov", "thumbs.db"))
    assert (manifest.name, manifest.classes, manifest.ignored) == ("flat-folder", (), ("thumbs.db",))
    assert manifest.rows == (Row("a.b c.webm"), Row("b.mp4"), Row("\u00fcb.mov"))


def test_a_video_outside_the_class_folders_has_no_label(tmp_path: Path) -> None:
    manifest = find_rows(make_tree(tmp_path, "a/1.mp4", "stray.mp4"))
    assert labels_by_path(manifest) == {"a/1.mp4": "a", "stray.mp4": None}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    manifest = find_rows(make_tree(tmp_path, "a/1.mp4", "a/._1.mp4", ".cache/2.mp4", ".hidden"))
    assert (paths_of(manifest), manifest.ignored) == (["a/1.mp4"], ())


@pytest.mark.parametrize("extension", COMMON_EXTENSIONS.split())
def test_videos_are_known_by_extension_in_any_case(tmp_path: Path, extension: str) -> None:
    assert f".{extension}" in VIDEO_EXTENSIONS
    assert len(find_rows(make_tree(tmp_path, f"a.{extension}", f"b.{extension.upper()}", extension)).rows) == 2


@pytest.mark.parametrize("folder", ["", "below/"])
def test_names_that_are_no_utf8(tmp_path: Path, folder: str) -> None:
    name = os.fsdecode(f"{folder}".encode() + b"gru\xdf.mp4")
    manifest = find_rows(make_tree(tmp_path, name))
    assert paths_of(manifest) == [name]
    assert (manifest.root / manifest.rows[0].path).exists()
    assert manifest.rows[0].key == f"{folder}gru%DF%2Emp4"


@pytest.mark.parametrize("as_relative", [False, True])
def test_a_single_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_relative: bool) -> None:
    make_tree(tmp_path, "clip.MP4", "other.mp4")
    monkeypatch.chdir(tmp_path)
    manifest = find_rows(Path("clip.MP4") if as_relative else tmp_path / "clip.MP4")
    assert (manifest.name, manifest.rows, manifest.classes) == ("single-video", (Row("clip.MP4"),), ())
    assert (manifest.root / "clip.MP4").samefile(tmp_path / "clip.MP4")


def test_a_single_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path, "notes.txt")
    with pytest.raises(ManifestError, match=r"root='.*notes.txt' must be a folder or a video \(.*\.avi .*correct"):
        find_rows(tmp_path / "notes.txt")


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"root='.*' must hold videos \(.*\.mp4.* none of its 0 files .*name the"):
        find_rows(tmp_path)
    make_tree(tmp_path, "a/notes.txt", "avi")
    for function in (find_rows, lambda root: check(load_standard("ucf101"), root)):
        with pytest.raises(ManifestError, match=r"none of its 2 files"):
            function(tmp_path)


@pytest.mark.parametrize("manifest", [None, "ucf101"])
def test_a_missing_root_is_refused(tmp_path: Path, manifest: str | None) -> None:
    with pytest.raises(ManifestError, match=r"folder='.*nowhere' must be .* \(No such file or directory\); correct"):
        find_rows(tmp_path / "nowhere", manifest)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def without_privileges(function: Callable[[], None]) -> None:
    """Root may read everything, so be nobody for as long as the function takes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        function()
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("locked", ["", "a", "a/deep"])
def test_a_folder_that_cannot_be_read_is_named(public_folder: Path, locked: str) -> None:
    make_tree(public_folder, "a/deep/1.mp4", "b/2.mp4")
    (public_folder / locked).chmod(0)

    def find() -> None:
        with pytest.raises(ManifestError, match=rf"folder='{public_folder / locked}' .*\(Permission denied\); correct"):
            find_rows(public_folder)

    without_privileges(find)
    (public_folder / locked).chmod(0o755)
    assert len(find_rows(public_folder).rows) == 2


def test_a_video_that_cannot_be_read_stays_a_row(public_folder: Path) -> None:
    make_tree(public_folder, "a/1.mp4", "a/2.mp4")
    (public_folder / "a" / "1.mp4").chmod(0)
    without_privileges(lambda: _assert_paths(find_rows(public_folder), ["a/1.mp4", "a/2.mp4"]))


def _assert_paths(manifest: Manifest, paths: list[str]) -> None:
    assert paths_of(manifest) == paths


# ----------------------------------------------------------------------------------------------------- links


def test_link_loops_end_and_list_nothing_twice(tmp_path: Path) -> None:
    make_tree(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "across").symlink_to("../b")  # comes before b by name, and must not take b's files
    (tmp_path / "b" / "across").symlink_to("../a")
    assert paths_of(find_rows(tmp_path)) == ["a/1.mp4", "b/2.mp4"]


def test_links_to_elsewhere_are_followed(tmp_path: Path) -> None:
    make_tree(tmp_path, "store/one/1.mp4", "store/one/deep/2.mp4", "store/3.mp4", "root/b/4.mp4")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "store" / "one")
    (tmp_path / "root" / "c.mp4").symlink_to(tmp_path / "store" / "3.mp4")
    (tmp_path / "store" / "one" / "back").symlink_to(tmp_path / "root")
    (tmp_path / "link").symlink_to("root")
    assert paths_of(find_rows(tmp_path / "root")) == ["a/1.mp4", "a/deep/2.mp4", "b/4.mp4", "c.mp4"]
    assert find_rows(tmp_path / "link").rows == find_rows(tmp_path / "root").rows


def test_broken_links_stay_rows(tmp_path: Path) -> None:
    (tmp_path / "gone.avi").symlink_to("nowhere")
    (tmp_path / "self.avi").symlink_to("self.avi")
    (tmp_path / "gone").symlink_to("nowhere")
    manifest = find_rows(tmp_path)
    assert (paths_of(manifest), manifest.ignored) == (["gone.avi", "self.avi"], ("gone",))


# ---------------------------------------------------------------------------------------------------- tables


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "videos", "a/1.mp4", "a/2.mp4", "b/3, or so.mp4", "not listed.mp4")


def write_table(videos: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    table = videos.parent / name
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return table


def test_a_table_with_all_columns(videos: Path) -> None:
    table = write_table(
        videos,
        "label,path,start,end,split\n"
        "walk,a/2.mp4,1.5,3.25,split1/train;split2/test\n"
        "run,a/1.mp4,,,\n"
        "\n"
        'walk,"b/3, or so.mp4",,2, test \n'
        "run,a/2.mp4,0,1.5,\n"
        ",a/gone.mp4,4,,\n",
    )
    manifest = find_rows(videos, table)
    assert (manifest.name, manifest.root, manifest.classes) == ("rows.csv", videos, ("run", "walk"))
    assert manifest.rows == (
        Row("a/1.mp4", (0,)),
        Row("a/2.mp4", (0,), 0.0, 1.5),
        Row("a/2.mp4", (1,), 1.5, 3.25, ("split1/train", "split2/test")),
        Row("a/gone.mp4", (), 4.0),
        Row("b/3, or so.mp4", (1,), None, 2.0, ("test",)),
    )
    assert find_rows(videos, str(table)) == manifest


def test_a_table_of_paths_alone(videos: Path) -> None:
    manifest = find_rows(videos, write_table(videos, "path\na/2.mp4\n./a//1.mp4\n"))
    assert (manifest.rows, manifest.classes) == ((Row("a/1.mp4"), Row("a/2.mp4")), ())


def test_tabs_byte_order_mark_and_windows_line_ends(videos: Path) -> None:
    table = write_table(videos, "\ufeffpath\tlabel\r\na/1.mp4\tx, y\r\nb/3, or so.mp4\tw\r\n", "rows.TSV")
    assert labels_by_path(find_rows(videos, table)) == {"a/1.mp4": "x, y", "b/3, or so.mp4": "w"}


def test_other_columns_are_passed_over(videos: Path) -> None:
    table = write_table(videos, "path,fold,codec,label\na/1.mp4,2,h264,x\n")
    assert labels_by_path(find_rows(videos, table)) == {"a/1.mp4": "x"}


def test_table_names_that_are_no_utf8(videos: Path) -> None:
    make_tree(videos, os.fsdecode(b"gru\xdf.mp4"))
    (row,) = find_rows(videos, write_table(videos, b"path\ngru\xdf.mp4\n")).rows
    assert (videos / row.path).exists()


def test_integer_labels_are_the_index(videos: Path) -> None:
    manifest = find_rows(videos, write_table(videos, "path,label\na/1.mp4,3\na/2.mp4,01\nb/x.mp4,\n"))
    assert manifest.classes == ("0", "1", "2", "3")
    assert [row.labels for row in manifest.rows] == [(3,), (1,), ()]


@needs_clips
def test_a_real_table_agrees_with_its_folders() -> None:
    root = SHARED / "data" / "EgoGestAR"
    from_table, from_folders = find_rows(root, root / "manifest.csv"), find_rows(root)
    assert from_table.rows == from_folders.rows
    assert (from_table.classes, len(from_table.rows)) == (from_folders.classes, 217)
    assert from_folders.ignored == ("manifest.csv",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must hold a header and one line a video; it lists no video"),
        ("path,label\n", r"must hold a header and one line a video"),
        ("file,label\na/1.mp4,x\n", r"line 1: header=\['file', 'label'\] must hold path, .* rename"),
        ("path,path\na/1.mp4,x\n", r"line 1: header=\['path', 'path'\] .* no name twice"),
        ("path,Labels\na/1.mp4,x\n", r"line 1: header=\['path', 'Labels'\] .* spelt so"),
        ("path,label\na/1.mp4,x\na/2.mp4\n", r"line 3: num_fields=1 must be 2 as in the header; quote"),
        ("path,label\na/1.mp4,x,y\n", r"line 2: num_fields=3 must be 2"),
        ('path,label\na/1.mp4,x\n"a/2.mp4,x\n', r"line 3: must be readable as \.csv \(.*\); quote"),
        ("path\n../a/1.mp4\n", r"line 2: path='\.\./a/1\.mp4' must name a file below the root; write it relative"),
        ("path\na/../../x.mp4\n", r"line 2: path='a/\.\./\.\./x\.mp4' must name a file below"),
        ("path\n/a/1.mp4\n", r"line 2: path='/a/1\.mp4' must name a file below"),
        ('path,label\na/1.mp4,x\n"",x\n', r"line 3: path='' must name a file below"),
        ("path\n.\n", r"line 2: path='\.' must name a file below"),
        ("path,start,end\na/1.mp4,2,2\n", r"line 2: start=2\.0, end=2\.0: the start must lie before the end"),
        ("path,start,end\na/1.mp4,3,2.5\n", r"line 2: start=3\.0, end=2\.5: .*; swap or correct"),
        ("path,start,end\na/1.mp4,1,1.0004\n", r"before the end, by a millisecond at least"),
        ("path,start,end\na/1.mp4,,0\n", r"line 2: start=0, end=0\.0"),
        ("path,start,end\na/1.mp4,-1,2\n", r"line 2: start='-1' must be a time in seconds .*; leave it empty"),
        ("path,start,end\na/1.mp4,1,0:02\n", r"line 2: end='0:02' must be a time in seconds"),
        ("path,start,end\na/1.mp4,nan,2\n", r"line 2: start='nan' must be a time"),
        ("path,start,end\na/1.mp4,1,inf\n", r"line 2: end='inf' must be a time"),
        ("path,start,end\na/1.mp4,1,1e308\n", r"line 2: end='1e308' must be a time in seconds .* below 1e\+09"),
        ("path,label\na/1.mp4,-1\n", r"line 2: label='-1' must be a class name or an integer from 0 to 999999; leave"),
        ("path,label\na/1.mp4,1000000\n", r"line 2: label='1000000' must be"),
        (
            "path,label\na/1.mp4,x\na/2.mp4,\nb/3.mp4,7\n",
            r"label='x' in line 2 and label='7' in line 4 must be both names or both integers; write",
        ),
        ("path,split\na/1.mp4,split-1\n", r"line 2: split='split-1' must be letters, .*; rename"),
        ("path,split\na/1.mp4,a/b/c\n", r"line 2: split='a/b/c' must be letters"),
        ("path,split\na/1.mp4,train;all\n", r"line 2: split='all' must be .* not 'all'"),
        ("path,label\na/1.mp4,x\na/2.mp4,x\n./a/1.mp4,y\n", r"line 4: path='a/1\.mp4' .* in line 2 too; remove"),
        ("path,start\na/1.mp4,1\na/1.mp4,1.0001\n", r"line 3: path='a/1\.mp4' must not stand there twice"),
        ("path\nvideos/a/1.mp4\nx.mp4\n", r"root='.*videos' must be the folder .* none of its 2 files is there, such"),
    ],
)
def test_table_errors_say_where_what_and_what_to_do(videos: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        find_rows(videos, write_table(videos, text))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.csv", r"manifest='.*nowhere\.csv' must be a file that can be read \(No such file.*\); correct"),
        ("videos.csv", r"manifest='.*videos\.csv' must be a file that can be read \(Is a directory\)"),
        ("rows.xlsx", r"manifest='.*rows\.xlsx' must be the name of a standard dataset \(.*ucf101.*\) or a \.csv"),
    ],
)
def test_what_is_no_table_is_refused(videos: Path, name: str, message: str) -> None:
    (videos.parent / "videos.csv").mkdir()
    with pytest.raises(ManifestError, match=message):
        find_rows(videos, videos.parent / name)


def test_messages_can_be_printed_whatever_the_names_hold(videos: Path) -> None:
    with pytest.raises(ManifestError) as raised:
        find_rows(videos, write_table(videos, b"path\n../gru\xdf.mp4\n"))
    assert str(raised.value).isascii()
