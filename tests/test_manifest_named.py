"""Standard datasets that need their official files, from the folder and the files to rows, counts and shards."""

import json
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from runs import extract_here, run_here, write_clip

from vidprep.codec.transcode import ffmpeg_path
from vidprep.errors import ManifestError
from vidprep.manifest import Manifest, check, find_rows, load_standard
from vidprep.pipelines.extract_options import Options

ANNOTATIONS = Path(__file__).resolve().parents[1].parent / "shared" / "annotations"
needs_annotations = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"{ANNOTATIONS} is not there")
SMALL = Options(size="native", modalities=("rgb",), num_workers=1)


def make_files(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write_epic(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    header = "video_id,start_timestamp,stop_timestamp,verb_class,noun_class"
    (folder / "EPIC_train_action_labels.csv").write_text("\n".join((header, *lines)))
    return folder


def samples(shards: Path) -> Iterator[dict[str, Any]]:
    """The json of each sample."""
    for file in sorted(shards.rglob("*.tar")):
        with tarfile.open(file) as tar:
            for entry in tar:
                if entry.name.endswith(".json"):
                    stream = tar.extractfile(entry)
                    assert stream is not None
                    yield json.load(stream)


# ------------------------------------------------------------------------------------------------ real files

NAMED = [
    ("epic-kitchens55", "epic-kitchens-55", {"P01/videos/P01_01.MP4": 326, "P26_02.mp4": 94}, "P01_101.MP4"),
    (
        "activitynet1.3",
        "activitynet",
        {"v_sJFgo9H6zNo.mp4": 1, "val/JDg--pjY5gg.mkv": 1, "v_yUSo_xjyGhM.mp4": 1},
        "v_sJFgo9H6zN0.mp4",
    ),
]


@needs_annotations
@pytest.mark.parametrize(("name", "folder", "files", "stranger"), NAMED)
def test_files_are_found_by_their_video_with_rows_of_the_real_lists(
    tmp_path: Path, name: str, folder: str, files: dict[str, int], stranger: str
) -> None:
    root = make_files(tmp_path, *files, stranger)
    manifest: Manifest = find_rows(root, name, ANNOTATIONS / folder)
    dataset = load_standard(name)
    assert {path: sum(row.path == path for row in manifest.rows) for path in files} == files
    assert manifest.ignored == (stranger,)
    assert (manifest.classes, manifest.targets) == (dataset.classes, dataset.targets)
    assert manifest.multi_label == (name != "epic-kitchens55")
    assert len({row.key for row in manifest.rows}) == len(manifest.rows)
    report = check(dataset, root, ANNOTATIONS / folder)
    assert (report.extra, len(report.present)) == ((stranger,), len(files))
    assert report.ok == dataset.videos_vanish  # the others are test videos, which have no labels
    assert all(split.is_as_published for split in report.splits)
    num_listed = sum(split.num_listed for split in report.splits)
    assert len(report.missing) == num_listed - len(files)


@needs_annotations
def test_a_list_of_something_v2_beside_the_videos(tmp_path: Path) -> None:
    real = ANNOTATIONS / "somethingv2" / "validation.txt"
    (tmp_path / "validation.txt").write_bytes(real.read_bytes())
    (tmp_path / "train.txt").write_text("1.webm 0\n")
    manifest = find_rows(make_files(tmp_path, "20bn/74225.webm", "20bn/1.webm"), "something-v2")
    assert [(row.path, row.labels, row.splits) for row in manifest.rows] == [
        ("20bn/1.webm", (0,), ("train",)),
        ("20bn/74225.webm", (140,), ("val",)),
    ]


def test_without_the_official_files_it_says_which_and_from_where(tmp_path: Path) -> None:
    make_files(tmp_path, "P01_01.MP4")
    with pytest.raises(ManifestError, match=r"labels: EPIC_train_action_labels\.csv.*epic-kitchens-55-annotations"):
        find_rows(tmp_path, "epic-kitchens55")
    for name, file in (("fcvid", "FCVID_Label.txt"), ("activitynet1.3", "actnet_train_split.txt")):
        with pytest.raises(ManifestError, match=f"4 official files must lie in|3 official files must lie in.*{file}"):
            find_rows(tmp_path, name)


# ------------------------------------------------------------------------------------- frames instead of videos


def write_frames(folder: Path, num_frames: int) -> list[bytes]:
    """Write frames as V1 is published: JPEG, height 100, numbered from 1."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(num_frames)
    for number in range(1, num_frames + 1):
        picture = Image.fromarray(noise.integers(0, 256, (100, 132, 3), dtype=np.uint8))
        picture.save(folder / f"{number:05}.jpg", quality=90)
    return [file.read_bytes() for file in sorted(folder.iterdir())]


def write_v1_lists(folder: Path) -> Path:
    classes = load_standard("something-v1").classes
    folder.mkdir()
    (folder / "something-something-v1-train.csv").write_text(f"11;{classes[2]}\n12;{classes[4]}\n")
    (folder / "something-something-v1-validation.csv").write_text(f"13;{classes[5]}\n")
    return folder


def test_folders_of_frames_are_refused_with_the_command_that_makes_videos(tmp_path: Path) -> None:
    root, lists = tmp_path / "frames", write_v1_lists(tmp_path / "lists")
    write_frames(root / "11", 2)
    message = r"holds 2 single frames, such as '11/00001.jpg'; make a video of each folder .*: ffmpeg -framerate 12 "
    with pytest.raises(ManifestError, match=message):
        find_rows(root, "something-v1", lists)
    with pytest.raises(ManifestError, match=message):
        check(load_standard("something-v1"), root, lists)
    with pytest.raises(ManifestError, match=r"ffmpeg -framerate FPS -i FOLDER/%05d.jpg -c copy FOLDER.mkv"):
        find_rows(root)
    write_clip(root / "13.mp4")
    assert [row.path for row in find_rows(root, "something-v1", lists).rows] == ["13.mp4"]


def test_that_command_loses_nothing_and_its_videos_can_be_extracted(tmp_path: Path) -> None:
    root, lists = tmp_path / "frames", write_v1_lists(tmp_path / "lists")
    for video, num_frames in (("11", 7), ("13", 5)):
        jpegs = write_frames(root / video, num_frames)
        command = shlex.split(load_standard("something-v1").facts["from_frames"].replace("ID", video))
        assert command[0] == "ffmpeg"
        subprocess.run([ffmpeg_path(), *command[1:]], cwd=root, check=True, capture_output=True)
        with av.open(str(root / f"{video}.mkv")) as container:
            assert container.streams.video[0].average_rate == 12
            assert [bytes(packet) for packet in container.demux(video=0) if packet.size] == jpegs
    out = tmp_path / "shards"
    extract_here(root, out, SMALL, manifest="something-v1", annotations=lists)
    found = {sample["path"]: (sample["labels"], sample["splits"], sample["num_frames"]) for sample in samples(out)}
    assert found == {"11.mkv": ([2], ["train"], 7), "13.mkv": ([5], ["val"], 5)}


# ------------------------------------------------------------------------------------------------ into shards


def test_overlapping_segments_of_epic_become_samples_with_verb_and_noun(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    write_clip(root / "P01_01.MP4", num_frames=40)
    write_clip(root / "P26" / "P26_01.MP4", num_frames=20)
    lists = write_epic(
        tmp_path / "lists",
        "P01_01,00:00:00.00,00:00:00.60,2,8",
        "P01_01,00:00:00.30,00:00:01.00,3,8",
        "P26_01,00:00:00.10,00:00:00.50,2,8",
        "P02_01,00:00:00.10,00:00:00.50,2,8",
    )
    out = tmp_path / "shards"
    arguments = ("--manifest", "epic-kitchens55", "--annotations", lists, "--size", "native", "--modalities", "rgb")
    run_here("extract", *arguments, "--workers", 1, "--out", out, root)
    classes = load_standard("epic-kitchens55").classes
    opened, closed = classes.index("open cupboard"), classes.index("close cupboard")
    found = {(sample["path"], sample["start_seconds"]): sample for sample in samples(out)}
    assert {key: (sample["labels"], sample["targets"]) for key, sample in found.items()} == {
        ("P01_01.MP4", 0.0): ([opened], {"noun": 8, "verb": 2}),
        ("P01_01.MP4", 0.3): ([closed], {"noun": 8, "verb": 3}),
        ("P26/P26_01.MP4", 0.1): ([opened], {"noun": 8, "verb": 2}),
    }
    assert found["P26/P26_01.MP4", 0.1]["splits"] == ["baradel/val"]


def test_charades_videos_become_samples_with_what_happens_when(tmp_path: Path) -> None:
    root, lists, out = tmp_path / "videos", tmp_path / "lists", tmp_path / "shards"
    write_clip(root / "46GP8.mp4", num_frames=20)
    write_clip(root / "YSKX3.mp4", seed=1, num_frames=20)
    lists.mkdir()
    (lists / "Charades_v1_train.csv").write_text("id,actions,length\n46GP8,c092 0.10 0.60;c003 0.50 9.00,24.83\n")
    (lists / "Charades_v1_test.csv").write_text("id,actions,length\nYSKX3,,2\n")
    extract_here(root, out, SMALL, manifest="charades", annotations=lists)
    found = {sample["path"]: sample for sample in samples(out)}
    assert found["46GP8.mp4"]["actions"] == [[92, 0.1, 0.6], [3, 0.5, 9.0]]
    assert found["46GP8.mp4"]["labels"] == [3, 92]
    assert (found["YSKX3.mp4"]["labels"], "actions" in found["YSKX3.mp4"]) == ([], False)


def test_the_command_line_says_a_broken_official_file_in_one_line(tmp_path: Path) -> None:
    lists = write_epic(tmp_path / "lists", "P01_01,00:00:00.00,00:00:00.60,2,8", "P01_01,00:00:00.00,00:00:0,2,8")
    root = make_files(tmp_path / "videos", "P01_01.MP4")
    for arguments in (
        ("manifest", "check", "epic-kitchens55", root, "--annotations", lists),
        ("extract", "--manifest", "epic-kitchens55", "--annotations", lists, "--out", tmp_path / "shards", root),
    ):
        run = run_here(*arguments, status=2)
        assert "line 3: stop_timestamp='00:00:0' must be a time such as" in run.stderr
        assert "Traceback" not in run.stderr
