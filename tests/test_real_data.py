"""Real clips: what the field and phones really wrote. Needs the folder `shared` beside the checkout."""

import csv
import json
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from runs import extract_here

from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options, Summary, extract

SMALL = Options(modalities=("rgb", "motion"), size="short:32", num_workers=2)
UCF101 = {  # label, frames, frame rate; counted by decoding, as the originals' headers can't be trusted
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": (0, 164, 25.0),
    "BaseballPitch/v_BaseballPitch_g01_c01.avi": (6, 107, 29.97),
    "Basketball/v_Basketball_g01_c01.avi": (7, 141, 29.97),
}
WITHOUT_VECTORS = {"av1_video.mkv", "h265_video.mp4", "testsrc2_vp9.webm"}
ROTATED = {"video_90.mov", "video_180.mov", "nasa_13013_rotated.mp4"}
CORRUPT = {"corrupted.mp4"}


def facts_by_path(out: Path) -> dict[str, dict[str, Any]]:
    """The json of every sample, with the names of its entries, read with nothing of vidprep."""
    found: dict[str, dict[str, Any]] = {}
    entries: dict[str, set[str]] = {}
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, entry = member.name.partition(".")
                assert entry not in entries.setdefault(key, set()), "a key stands there twice"
                entries[key].add(entry)
                if entry == "json":
                    facts = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                    found[facts["path"]] = facts | {"entries": entries[key]}
    assert len(found) == len(entries)
    return found


def count_frames(path: Path) -> int:
    """Count by decoding with PyAV and nothing else."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 2
        return sum(1 for _ in container.decode(video=0))


def reasons(summary: Summary) -> dict[str, str]:
    return {status.path: status.error or "" for status in summary.failed}


class TestUcf101:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
        out = tmp_path_factory.mktemp("ucf101") / "shards"
        summary = extract(shared / "data/UCF101", out, Options(num_workers=2))  # in worker processes
        assert (summary.num_done, summary.num_frames, summary.failed) == (3, 164 + 107 + 141, [])
        assert json.loads((out / "index.json").read_bytes())["dataset"]["name"] == "ucf101"
        return facts_by_path(out)

    def test_labels_and_splits_are_the_official_ones(self, shared: Path, found: dict[str, dict[str, Any]]) -> None:
        lists = {split: (shared / f"annotations/ucf101/testlist0{split}.txt").read_text() for split in (1, 2, 3)}
        for path, (label, _, _) in UCF101.items():
            sides = [f"split{split}/{'test' if path in lists[split] else 'train'}" for split in lists]
            assert (found[path]["labels"], found[path]["splits"]) == ([label], sides)
            assert found[path]["label_names"] == [path.partition("/")[0]]

    def test_every_frame_is_there_at_its_time(self, found: dict[str, dict[str, Any]]) -> None:
        assert found.keys() == UCF101.keys()
        for path, (_, num_frames, fps) in UCF101.items():
            facts = found[path]
            assert (facts["num_frames"], facts["width"], facts["height"]) == (num_frames, 340, 256)
            times = facts["pts_seconds"]
            steps = [after - before for before, after in pairwise(times)]
            assert steps == pytest.approx([1 / fps] * (num_frames - 1), abs=2e-3)
            assert facts["picture_types"] == ("IPPPPPPPPPPP" * 14)[:num_frames]

    def test_entries(self, found: dict[str, dict[str, Any]]) -> None:
        for path, (_, num_frames, _) in UCF101.items():
            kinds = Counter(name.partition(".")[0] for name in found[path]["entries"])
            with_sound = {"spectrogram": 1} if "ApplyEyeMakeup" in path else {}
            numbered = dict.fromkeys(("rgb", "residual", "rgb112"), num_frames)
            assert kinds == {**numbered, "motion": 1, "json": 1, "cls": 1, **with_sound}

    def test_packed_bitstream_as_it_is(self, shared: Path, tmp_path: Path) -> None:
        """DivX's packed B-frames come in display order, each with a time of its own."""
        options = Options(codec="copy", modalities=("motion",), num_workers=2)
        assert extract_here(shared / "data/UCF101", tmp_path / "out", options).failed == []
        for path, facts in facts_by_path(tmp_path / "out").items():
            assert facts["num_frames"] == UCF101[path][1]
            assert sorted(set(facts["pts_seconds"])) == facts["pts_seconds"]
            assert facts["picture_types"].count("B") == (108 if "ApplyEyeMakeup" in path else 0)
            assert facts["motion_exact"]


class TestCodecs:
    @pytest.fixture(scope="class")
    @classmethod
    def transcoded(cls, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
        out = tmp_path_factory.mktemp("codecs") / "shards"
        return out, extract_here(shared / "data/codecs", out, SMALL)

    def test_all_but_the_corrupt_one_are_transcoded(self, shared: Path, transcoded: tuple[Path, Summary]) -> None:
        source = shared / "data/codecs"
        out, summary = transcoded
        assert reasons(summary).keys() == CORRUPT
        assert "ffmpeg gave up" in reasons(summary)["corrupted.mp4"]
        found = facts_by_path(out)
        assert found.keys() == {path.name for path in source.iterdir()} - CORRUPT
        counted = {name: facts["num_frames"] for name, facts in found.items()}
        assert counted == {name: count_frames(source / name) for name in found}
        for name, facts in found.items():
            assert facts["motion_exact"] is True, name
            assert facts["stream_codec"] == "mpeg4"
            assert set(facts["picture_types"][::12]) == {"I"}
            assert facts["picture_types"].count("I") == -(-facts["num_frames"] // 12)

    def test_as_they_are_fail_those_that_name_no_vectors_or_lie_on_their_side(
        self, shared: Path, tmp_path: Path
    ) -> None:
        options = Options(codec="copy", modalities=("rgb", "motion"), frames="uniform:2", num_workers=2)
        summary = extract_here(shared / "data/codecs", tmp_path / "out", options)
        why = reasons(summary)
        assert why.keys() == WITHOUT_VECTORS | ROTATED | CORRUPT
        assert {name for name in why if "its decoder exports no motion vectors" in why[name]} == WITHOUT_VECTORS
        assert {name for name in why if why[name].startswith("rotation_degrees=")} == ROTATED
        exact = {name: facts["motion_exact"] for name, facts in facts_by_path(tmp_path / "out").items()}
        assert exact["vid_mpeg4_part2.mp4"] is True
        assert exact["kinetics_style.mp4"] is False

    def test_rotated_clips_stand_upright(self, shared: Path, transcoded: tuple[Path, Summary]) -> None:
        sizes = {name: (facts["width"], facts["height"]) for name, facts in facts_by_path(transcoded[0]).items()}
        for name in ROTATED:
            with av.open(str(shared / "data/codecs" / name)) as container:
                stream = container.streams.video[0]
                lies = abs(next(container.decode(stream)).rotation) == 90
                assert (sizes[name][0] < sizes[name][1]) == ((stream.width < stream.height) != lies), name


class TestPhones:
    """One clip or two of each kind of phone; all 217 are slow."""

    CLIPS = (
        "carret/carret_22.mp4",  # MPEG-4
        "carret/carret_4.mp4",  # H.264 Baseline, a variable rate, AMR
        "right/right_7.mp4",  # AMR
        "carret/carret_17.mp4",  # Baseline, 15 frames a second
        "circlecc/circlecc_10.mp4",  # a variable rate
        "left/left_2.mp4",
        "carret/carret_12.mp4",  # H.264 High
        "carret/carret_7.mp4",  # High, 10 frames a second
    )

    def test_all_modalities(self, shared: Path, tmp_path: Path) -> None:
        source = shared / "data/EgoGestAR"
        with (source / "manifest.csv").open(newline="") as file:
            stated = {row["path"]: row for row in csv.DictReader(file) if row["path"] in self.CLIPS}
        assert {row["codec"] for row in stated.values()} == {"h264", "mpeg4"}
        assert len({row["device_family"] for row in stated.values()}) == 7
        for path in self.CLIPS:
            (tmp_path / "clips" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "clips" / path).symlink_to(source / path)
        options = Options(size="short:64", settings=Settings(levels=(32,)), num_workers=2)
        assert extract_here(tmp_path / "clips", tmp_path / "out", options).failed == []
        found = facts_by_path(tmp_path / "out")
        assert {path: facts["num_frames"] for path, facts in found.items()} == {
            path: int(row["frames"]) for path, row in stated.items()
        }
        for path, facts in found.items():
            with_sound = {"spectrogram": 1} if path in ("carret/carret_4.mp4", "right/right_7.mp4") else {}
            numbered = dict.fromkeys(("rgb", "residual", "rgb32"), facts["num_frames"])
            kinds = Counter(name.partition(".")[0] for name in facts["entries"])
            assert kinds == {**numbered, "motion": 1, "json": 1, "cls": 1, **with_sound}, path
            assert all(after > before for before, after in pairwise(facts["pts_seconds"])), path
            rate = (len(facts["pts_seconds"]) - 1) / (facts["pts_seconds"][-1] - facts["pts_seconds"][0])
            assert rate == pytest.approx(float(stated[path]["avg_fps"]), rel=0.05), path


@pytest.mark.slow
class TestEgoGestAR:
    """217 clips of ten phones: several codecs, variable frame rates, sound in five."""

    @pytest.fixture(scope="class")
    @classmethod
    def shards(cls, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp("ego") / "shards"
        options = Options(size="short:64", settings=SMALL.settings, num_workers=2, shard_bytes=20_000_000)
        summary = extract(shared / "data/EgoGestAR", out, options)
        assert (summary.num_done, summary.failed, summary.num_ignored) == (217, [], 1)
        return out

    def test_frames_are_those_that_pyav_decodes(self, shared: Path, shards: Path) -> None:
        root = shared / "data/EgoGestAR"
        with (root / "manifest.csv").open(newline="") as file:
            stated = {row["path"]: int(row["frames"]) for row in csv.DictReader(file)}
        found = {path: facts["num_frames"] for path, facts in facts_by_path(shards).items()}
        assert found.keys() == stated.keys()
        assert found == {path: count_frames(root / path) for path in found}
        assert {path for path in found if found[path] != stated[path]} == set()

    def test_times_increase_and_sound_is_kept(self, shards: Path) -> None:
        found = facts_by_path(shards)
        for path, facts in found.items():
            times = facts["pts_seconds"]
            assert all(after > before for before, after in pairwise(times)), path
        with_sound = {path for path, facts in found.items() if "spectrogram.npy" in facts["entries"]}
        assert with_sound == {path for path, facts in found.items() if facts["has_audio"]}
        assert len(with_sound) == 5

    # webdataset leaves the last shard to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_plain_webdataset_reads_them(self, shards: Path) -> None:
        import webdataset

        urls = [str(path) for path in sorted(shards.glob("*.tar"))]
        assert len(urls) > 2
        keys: Counter[str] = Counter()
        labels: Counter[int] = Counter()
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"):
            keys[sample["__key__"]] += 1
            labels[sample["cls"]] += 1
            facts = sample["json"]
            assert sample["rgb.000000.jpg"].shape == (facts["height"], facts["width"], 3)
            assert f"residual.{facts['num_frames'] - 1:06}.jpg" in sample
        assert set(keys.values()) == {1}
        assert len(keys) == 217
        assert labels.keys() == set(range(10))
