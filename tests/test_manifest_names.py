"""Matching of files by id: wherever a video lies, whatever its extension, and never the wrong one."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.manifest import Row, load_standard, official_rows
from vidprep.manifest.names import VIDEO_EXTENSIONS, OfficialNames, clip_name, match_rows, stem_of

# YouTube's alphabet, with what ids and file names share made frequent.
youtube_ids = st.text(
    st.one_of(st.sampled_from("_-v01"), st.sampled_from(string.ascii_letters)), min_size=11, max_size=11
)
times = st.tuples(st.integers(0, 99999), st.integers(1, 20)).map(lambda pair: (pair[0], sum(pair)))
folders = st.lists(st.sampled_from(["train", "abseiling", "clean_and_jerk", "v_", "a_1_2", "x.mp4"]), max_size=3)
extensions = st.sampled_from([*sorted(VIDEO_EXTENSIONS), ".MP4", ".MkV"])


def path_of(folders: list[str], name: str, extension: str) -> str:
    return "/".join([*folders, name + extension])


@given(st.dictionaries(youtube_ids, times, min_size=1, max_size=8), folders, extensions, st.data())
def test_a_clip_is_found_by_every_name_that_it_goes_by(
    clips: dict[str, tuple[int, int]], folders: list[str], extension: str, data: st.DataObject
) -> None:
    rows = [Row(clip_name(video, *seconds), labels=(i,)) for i, (video, seconds) in enumerate(clips.items())]
    names = OfficialNames(rows)
    video, (start, end) = data.draw(st.sampled_from(sorted(clips.items())))
    (row,) = (row for row in rows if row.path.startswith(video))
    spellings = [row.path, video, f"v_{video}", f"v_{row.path}", f"{video}_{start}_{end}", f"{video}-{start}-{end}"]
    for spelling in spellings:
        path = path_of(folders, spelling, extension)
        assert names.find(path) == [row], path
        assert not names.is_unclear(path)
        (found,) = match_rows(names, [path])
        assert (found.path, found.labels) == (path, row.labels)


@given(st.dictionaries(youtube_ids, times, max_size=6), youtube_ids, times, folders, extensions)
def test_what_is_not_in_the_lists_is_not_found(
    clips: dict[str, tuple[int, int]], video: str, seconds: tuple[int, int], folders: list[str], extension: str
) -> None:
    """Against a slow rule that says the same with a regular expression for each id."""
    names = OfficialNames(Row(clip_name(*clip[:1], *clip[1])) for clip in clips.items())
    for name in (
        video,
        video.swapcase(),
        clip_name(video, *seconds),
        f"{video}_{seconds[0]}_{seconds[1] + 1}",
        f"x{video}",
    ):
        path = path_of(folders, name, extension)
        expected = [
            clip_name(other, start, end)
            for other, (start, end) in clips.items()
            if re.fullmatch(rf"(v_)?{re.escape(other)}([_-]0*{start}[_-]0*{end})?", name)
        ]
        assert [row.path for row in names.find(path)] == expected


@given(youtube_ids, st.lists(times, min_size=2, max_size=4, unique=True), extensions)
def test_a_video_with_several_clips_is_unclear_without_times(
    video: str, clips: list[tuple[int, int]], extension: str
) -> None:
    names = OfficialNames(Row(clip_name(video, *clip), labels=(i,)) for i, clip in enumerate(clips))
    assert names.find(video + extension) == []
    assert names.is_unclear(video + extension)
    for i, clip in enumerate(clips):
        path = clip_name(video, *clip) + extension
        assert [row.labels for row in names.find(path)] == [(i,)]
        assert not names.is_unclear(path)


@pytest.mark.parametrize(
    ("official", "path", "is_found"),
    [
        ("P01_01", "P01/P01_01.MP4", True),
        ("P01_01", "P01/P01_011.MP4", False),
        ("46GP8", "Charades_v1_480/46GP8.mp4", True),
        ("46GP8", "Charades_v1_480/46gp8.mp4", False),
        ("v_sJFgo9H6zNo", "v1-2/train/v_sJFgo9H6zNo.mkv", True),
        ("v_sJFgo9H6zNo", "sJFgo9H6zNo.mp4", True),
        ("74225", "20bn-something-something-v2/74225.webm", True),
        ("74225", "174225.webm", False),
        ("74225", "v_74225.webm", True),
        ("0wR5jVB-WPk_000417_000427", "0wR5jVB-WPk_000417_000427.avi.mp4", False),
        ("q-kzc-82_54_000001_000011", "q-kzc-82_54.mp4", True),
        ("YoYo/v_YoYo_g15_c01.avi", "UCF-101/YoYo/v_YoYo_g15_c01.mp4", True),
        ("YoYo/v_YoYo_g15_c01.avi", "v_YoYo_g15_c01.avi", False),
        ("YoYo/v_YoYo_g15_c01.avi", "Yo/v_YoYo_g15_c01.avi", False),
        ("YoYo/v_YoYo_g15_c01.avi", "MyYoYo/v_YoYo_g15_c01.avi", False),
    ],
)
def test_names_by_hand(official: str, path: str, is_found: bool) -> None:
    assert bool(OfficialNames([Row(official)]).find(path)) == is_found


def test_case_is_ignored_only_where_asked() -> None:
    rows = [Row("HandstandPushups/v_HandStandPushups_g01_c01.avi")]
    path = "handstandPushups/v_HandstandPushups_g01_c01.avi"
    assert OfficialNames(rows).find(path) == []
    assert OfficialNames(rows, ignore_case=True).find(path) == rows


def test_a_video_brings_all_its_segments_with_the_path_of_the_file() -> None:
    segments = [Row("P01_01", (3,), 1.0, 2.0, ("train",), (("noun", 2),)), Row("P01_01", (1,), 2.0, 4.0)]
    names = OfficialNames([*segments, Row("P01_02", (0,), 0.0, 1.0)])
    assert names.find("P01_01.MP4") == segments
    first, second = match_rows(names, ["videos/P01_01.MP4"])
    assert first == Row("videos/P01_01.MP4", (3,), 1.0, 2.0, ("train",), (("noun", 2),))
    assert (second.path, second.labels, second.start_seconds) == ("videos/P01_01.MP4", (1,), 2.0)


def test_a_stem_loses_a_videos_extension_and_nothing_else() -> None:
    assert [stem_of(path) for path in ("a/x.mp4", "a/x.MKV", "a/x.jpg", "P01_01", ".mp4", "a.mp4/x")] == [
        "a/x",
        "a/x",
        "a/x.jpg",
        "P01_01",
        ".mp4",
        "a.mp4/x",
    ]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_every_official_name_finds_itself_alone(name: str, tmp_path: Path) -> None:
    dataset = load_standard(name)
    rows = official_rows(dataset)
    names = OfficialNames(rows, ignore_case=dataset.ignore_case)
    assert all(names.find(row.path) == [row] for row in rows)
