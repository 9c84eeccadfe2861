"""The extraction as a whole: which bytes come out, and that they depend on the dataset and the recipe alone."""

import gc
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import (
    CLASSES,
    GROUPS,
    clip_name,
    command,
    contents,
    extract_here,
    marked,
    running,
    vidprep,
    write_clip,
    write_dataset,
)
from runs import write_ffmpeg as fake_ffmpeg

from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.engines import ENGINES, Outcome
from vidprep.errors import UsageError
from vidprep.manifest import find_rows
from vidprep.modalities.base import Settings
from vidprep.pipelines import extract as pipeline
from vidprep.pipelines.extract import Options, Summary, extract
from vidprep.pipelines.extract_video import spool_path
from vidprep.shards.index import Status, load_index, load_statuses
from vidprep.shards.plan import load_plan
from vidprep.shards.reader import read_samples

OPTIONS = Options(
    modalities=("rgb", "motion", "residual", "pyramid"),
    size="native",
    settings=Settings(levels=(16,)),
    shard_bytes=150_000,
    num_workers=2,
)
TEST_GROUPS = {"split1": range(1, 8), "split2": range(8, 15), "split3": range(15, 22)}
EMPTY, CUT, LOST = clip_name("Run", 2), clip_name("Sit", 9), clip_name("Sit", 16)  # three that fail


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 clips that can be read and 3 that can't: empty, cut in the middle, a link to nothing."""
    root = write_dataset(tmp_path_factory.mktemp("data") / "clips")
    (root / EMPTY).touch()
    whole = write_clip(root / CUT, seed=9, num_frames=14)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (root / LOST).symlink_to("nowhere.avi")
    (root / "readme.txt").write_text("no video")
    return root


@pytest.fixture(scope="module")
def reference(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("reference") / "shards"
    return out, extract_here(clips, out, OPTIONS)


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def samples(out: Path) -> dict[str, dict[str, Any]]:
    """The json of every sample by path, with the names of its entries."""
    found: dict[str, dict[str, Any]] = {}
    for shard in sorted(out.glob("*.tar")):
        for sample in read_samples(shard):
            path = sample.facts["path"]
            assert (path, sample.facts.get("start_seconds")) not in found
            found[path] = sample.facts | {"entries": sorted(sample.entries)}
    return found


class TestBytesDependOnTheDatasetAlone:
    def test_not_on_the_number_of_workers(self, clips: Path, reference: tuple[Path, Summary], tmp_path: Path) -> None:
        """The reference is by none, the command line below has two."""
        extract(clips, tmp_path / "out", replace(OPTIONS, num_workers=3))
        assert contents(tmp_path / "out") == contents(reference[0])

    def test_not_on_where_it_lies_nor_on_how_that_is_spelt(
        self, clips: Path, reference: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(clips, tmp_path / "elsewhere" / "copy", symlinks=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        result = vidprep("extract", "./copy/", *("--out", "../there/shards/"), *arguments(OPTIONS))
        assert result.returncode == 1, result.stderr
        assert contents(tmp_path / "there/shards") == contents(reference[0])
        assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["copy"]

    def test_not_on_the_current_folder_being_the_source(
        self, clips: Path, reference: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(clips)
        extract_here(Path(), tmp_path / "out", OPTIONS)
        assert contents(tmp_path / "out") == contents(reference[0])


def arguments(options: Options) -> list[str]:
    levels = ",".join(map(str, options.settings.levels))
    chosen = {"--size": options.size, "--modalities": ",".join(options.modalities), "--levels": levels}
    chosen |= {"--shard-size": str(options.shard_bytes), "--workers": str(options.num_workers)}
    return [str(part) for pair in chosen.items() for part in pair]


class TestWhatIsThere:
    def test_files_are_those_of_the_plan_and_no_others(self, reference: tuple[Path, Summary]) -> None:
        out, _ = reference
        index = load_index(out)
        names = {shard.name for shard in load_plan(out).shards}
        expected = {"plan.json", "index.json", "status/"} | {f"status/{name[:-4]}.jsonl" for name in names}
        expected |= {name for name in names if index.shards[name].num_samples}
        assert contents(out).keys() == expected
        assert len(names) >= 8

    def test_every_video_is_a_sample_or_a_failure_with_its_reason(
        self, clips: Path, reference: tuple[Path, Summary]
    ) -> None:
        out, summary = reference
        failed = {status.path: status.error or "" for status in summary.failed}
        assert failed.keys() == {EMPTY, CUT, LOST}
        assert failed[EMPTY] == f"size_bytes=0 of {EMPTY}: an empty file holds no video; get it anew or remove it"
        assert failed[LOST].startswith(f"{LOST} -> nowhere.avi: No such file or directory")
        assert CUT in failed[CUT]
        assert not any(str(clips) in error for error in failed.values())
        assert samples(out).keys() == {clip_name(name, group) for name in CLASSES for group in GROUPS}
        assert (summary.num_done, summary.num_ignored, summary.num_resumed) == (16, 1, 0)
        assert summary.num_frames == sum(8 + group % 7 for group in GROUPS) * 2

    def test_index_says_what_lies_on_disk(self, reference: tuple[Path, Summary]) -> None:
        out, summary = reference
        data = json.loads((out / "index.json").read_bytes())
        plan = load_plan(out)
        assert [entry["name"] for entry in data["shards"]] == [shard.name for shard in plan.shards]
        for entry, shard in zip(data["shards"], plan.shards, strict=True):
            statuses = load_statuses(out, shard.name)
            assert [status.key for status in statuses] == [row.key for row in shard.rows]
            done = [status for status in statuses if status.error is None]
            assert (entry["num_samples"], entry["num_failed"]) == (len(done), len(statuses) - len(done))
            assert entry["num_frames"] == sum(status.num_frames for status in done)
            if done:
                tar = (out / shard.name).read_bytes()
                assert (entry["num_bytes"], entry["sha256"]) == (len(tar), hashlib.sha256(tar).hexdigest())
            else:
                assert (entry["num_bytes"], entry["sha256"]) == (0, None)
        totals = {name: data[name] for name in ("complete", "num_samples", "num_failed")}
        assert totals == {"complete": True, "num_samples": 16, "num_failed": 3}
        assert summary.num_bytes == sum(path.stat().st_size for path in out.glob("*.tar"))

    def test_status_rows_say_where_a_sample_stands(self, reference: tuple[Path, Summary]) -> None:
        out, _ = reference
        for shard in load_plan(out).shards:
            done = [status for status in load_statuses(out, shard.name) if status.error is None]
            offset = 0
            for status in done:
                assert status.offset_bytes == offset
                head = (out / shard.name).read_bytes()[offset : offset + 512]
                assert tarfile.TarInfo.frombuf(head, "utf-8", "strict").name.partition(".")[0] == status.key
                offset += status.num_bytes
            if done:
                assert (out / shard.name).stat().st_size == offset + 1024  # the tar's end

    def test_rows_stand_in_the_order_of_their_hashes_within_a_cell(self, reference: tuple[Path, Summary]) -> None:
        plan = load_plan(reference[0])
        for cell in {shard.cell for shard in plan.shards}:
            shards = [shard for shard in plan.shards if shard.cell == cell]
            assert [shard.name for shard in shards] == [f"{cell}-{i:06}.tar" for i in range(len(shards))]
            hashes = [hashlib.sha256(row.key.encode()).hexdigest() for shard in shards for row in shard.rows]
            assert hashes == sorted(hashes)
            for shard in shards:
                size = sum(row.estimated_bytes for row in shard.rows)
                assert size <= OPTIONS.shard_bytes or len(shard.rows) == 1

    def test_headers_carry_no_clock_and_no_user(self, reference: tuple[Path, Summary]) -> None:
        for shard in reference[0].glob("*.tar"):
            with tarfile.open(shard) as tar:
                for member in tar:
                    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                    assert member.isreg()

    def test_sample_holds_what_the_layout_says(self, clips: Path, reference: tuple[Path, Summary]) -> None:
        path = clip_name("Sit", 25)
        facts = samples(reference[0])[path]
        numbered = [f"{i:06}.jpg" for i in range(8 + 25 % 7)]
        expected = [f"{kind}.{end}" for kind in ("residual", "rgb", "rgb16") for end in numbered]
        assert facts["entries"] == sorted([*expected, "motion.npz", "cls", "json"])
        assert facts["sha256"] == hashlib.sha256((clips / path).read_bytes()).hexdigest()
        assert (facts["labels"], facts["label_names"]) == ([1], ["Sit"])
        assert (facts["width"], facts["height"], facts["num_frames"]) == (64, 48, len(numbered))
        assert facts["picture_types"] == "I" + "P" * (len(numbered) - 1)
        assert facts["pts_seconds"] == pytest.approx([i / 25 for i in range(len(numbered))])
        assert facts["splits"] == ["split1/train", "split2/train", "split3/train"]
        assert facts["has_audio"] is False


class TestSplits:
    @pytest.fixture(scope="class")
    @classmethod
    def groups(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Shards of a dataset with one clip for each of 25 groups."""
        root = write_dataset(tmp_path_factory.mktemp("groups"), groups=tuple(range(1, 26)), classes=("Walk",))
        out = tmp_path_factory.mktemp("out") / "shards"
        extract_here(root, out, Options(codec="copy", modalities=("motion",), frames="uniform:1", shard_bytes=60_000))
        return out

    def test_a_shard_holds_one_cell(self, groups: Path) -> None:
        cells: dict[str, set[int]] = {}
        for shard in sorted(groups.glob("*.tar")):
            cell = re.fullmatch(r"(.+)-\d{6}\.tar", shard.name)
            assert cell is not None
            found = {int(sample.key.partition("_g")[2][:2]) for sample in read_samples(shard)}
            cells.setdefault(cell[1], set()).update(found)
        assert cells == {
            "split1-test+split2-train+split3-train": set(range(1, 8)),
            "split1-train+split2-test+split3-train": set(range(8, 15)),
            "split1-train+split2-train+split3-test": set(range(15, 22)),
            "split1-train+split2-train+split3-train": set(range(22, 26)),
        }

    @pytest.mark.parametrize("split", ["split1", "split2", "split3"])
    def test_the_index_lists_the_shards_of_each_side(self, groups: Path, split: str) -> None:
        listed = json.loads((groups / "index.json").read_bytes())["splits"]
        assert len(listed) == 6
        held = {
            side: Counter(
                sample.facts["path"] for name in listed[f"{split}/{side}"] for sample in read_samples(groups / name)
            )
            for side in ("train", "test")
        }
        test = {clip_name("Walk", group) for group in TEST_GROUPS[split]}
        everything = {clip_name("Walk", group) for group in range(1, 26)}
        assert held == {"test": Counter(test), "train": Counter(everything - test)}

    def test_split_lists_follow_the_manifest(self, clips: Path, reference: tuple[Path, Summary]) -> None:
        out, summary = reference
        failed = {status.path for status in summary.failed}
        rows = find_rows(clips).rows
        listed = json.loads((out / "index.json").read_bytes())["splits"]
        assert listed.keys() == {split for row in rows for split in row.splits}
        for split, names in listed.items():
            keys = [sample.key for name in names for sample in read_samples(out / name)]
            assert sorted(keys) == sorted(row.key for row in rows if split in row.splits and row.path not in failed)

    def test_splits_of_a_table(self, clips: Path, tmp_path: Path) -> None:
        rows = ["path,label,start,end,split", f"{clip_name('Run', 1)},go,,0.16,train"]
        rows += [f"{clip_name('Run', 1)},stop,0.16,,val;train", f"{clip_name('Run', 7)},,,,"]
        (tmp_path / "rows.csv").write_text("\n".join(rows))
        extract_here(clips, tmp_path / "out", OPTIONS, manifest=tmp_path / "rows.csv")
        found = {
            shard.name: [
                (s.facts["label_names"], s.facts["num_frames"], s.entries.get("cls")) for s in read_samples(shard)
            ]
            for shard in (tmp_path / "out").glob("*.tar")
        }
        assert found == {
            "train-000000.tar": [(["go"], 4, b"0")],
            "train+val-000000.tar": [(["stop"], 5, b"1")],
            "all-000000.tar": [([], 8, None)],
        }
        listed = json.loads((tmp_path / "out/index.json").read_bytes())["splits"]
        assert listed == {"train": ["train-000000.tar", "train+val-000000.tar"], "val": ["train+val-000000.tar"]}

    # webdataset leaves the last shard to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_plain_webdataset_reads_them(self, reference: tuple[Path, Summary]) -> None:
        import webdataset

        out, _ = reference
        names = json.loads((out / "index.json").read_bytes())["splits"]["split1/train"]
        urls = [str(out / name) for name in names]
        read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
        assert len({sample["__key__"] for sample in read}) == len(read)
        expected = {clip_name(name, group) for name in CLASSES for group in GROUPS if group > 7}
        assert {sample["json"]["path"] for sample in read} == expected
        for sample in read:
            assert sample["cls"] == CLASSES.index(sample["json"]["label_names"][0])
            assert sample["rgb.000000.jpg"].size == (64, 48)
            assert sample["residual.000007.jpg"].size == (64, 48)
            assert sample["rgb16.000000.jpg"].size == (21, 16)
            assert sample["motion.npz"]
        del read, sample
        gc.collect()


class TestSegments:
    @pytest.mark.parametrize("codec", ["mpeg4", "copy"])
    def test_no_frame_is_lost_or_doubled(self, tmp_path: Path, codec: str) -> None:
        write_clip(tmp_path / "clips/long.avi", num_frames=40)
        options = Options(codec=codec, modalities=("motion",), segment_seconds=0.5, num_workers=1)
        summary = extract_here(tmp_path / "clips", tmp_path / "out", options)
        (shard,) = (tmp_path / "out").glob("*.tar")
        parts = {sample.key: sample.facts for sample in read_samples(shard)}
        assert parts.keys() == {"long%2Eavi@0-500", "long%2Eavi@500-1000", "long%2Eavi@1000-"}
        stored = [
            round(facts["pts_seconds"][i] * 25)
            for _, facts in sorted(parts.items(), key=lambda item: item[1]["start_seconds"])
            for i in facts["frame_indices"]
        ]
        assert stored == list(range(40))
        assert (summary.num_done, summary.num_frames) == (3, 40)


class TestABadVideoFailsAlone:
    def check(self, out: Path, reference: Path, bad: dict[str, str]) -> None:
        """All videos but the bad ones are as they always are; the bad ones have their reasons."""
        index = load_index(out)
        found = {status.path: status.error or "" for name in index.shards for status in load_statuses(out, name)}
        for path, reason in bad.items():
            assert re.search(reason, found[path]), found[path]
        assert {path for path, error in found.items() if error} == {*bad, EMPTY, CUT, LOST}
        entries = {name: data for shard in out.glob("*.tar") for name, data in members(shard).items()}
        expected = {name: data for shard in reference.glob("*.tar") for name, data in members(shard).items()}
        keys = tuple(status.key for name in index.shards for status in load_statuses(out, name) if status.path in bad)
        assert entries == {name: data for name, data in expected.items() if not name.startswith(keys)}

    def test_crash_hang_and_complaint_in_one_run(
        self, clips: Path, reference: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cases = (
            f"*{clip_name('Run', 7)}*) kill -SEGV $PPID; exec sleep 1000;;\n"
            f"*{clip_name('Sit', 14)}*) sleep 1000; exit 1;;\n"
            f'*{clip_name("Run", 22)}*) echo "no such luck" >&2; exit 1;;\n'
            f"*{clip_name('Sit', 22)}*) kill -KILL $$;;"
        )
        monkeypatch.setenv("VIDPREP_FFMPEG", fake_ffmpeg(tmp_path / "ffmpeg", cases))
        monkeypatch.setenv("VIDPREP_TEST_RUN", str(tmp_path))
        summary = extract(clips, tmp_path / "out", replace(OPTIONS, timeout_seconds=3.0))
        assert [command for command in running(str(tmp_path)) if "sleep" in command] == []
        bad = {
            clip_name("Run", 7): r"^exit=SIGSEGV: the task ended its worker process; .* \(attempts: 2\)$",
            clip_name("Sit", 14): r"^timeout_seconds=3: the task took longer; allow more with --timeout",
            clip_name("Run", 22): r"ffmpeg gave up \(no such luck\)",
            clip_name("Sit", 22): r"^ffmpeg was ended by signal 9 on .*memory",
        }
        self.check(tmp_path / "out", reference[0], bad)
        assert summary.num_done == 12

    def test_memory(
        self, clips: Path, reference: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(clips, tmp_path / "clips", symlinks=True)
        big = tmp_path / "clips" / clip_name("Run", 3)
        write_video(big, [np.zeros((4096, 4096, 3), np.uint8)] * 2)
        for frame in Video(clips / clip_name("Run", 1)).frames(track="residual"):
            frame.accumulated_residual_uint8()  # compiled here and kept, kernels need no memory there
        monkeypatch.setattr(pipeline, "_memory_limit", lambda _: 200 << 20)
        extract(tmp_path / "clips", tmp_path / "out", OPTIONS)
        assert big.stat().st_size < 1 << 20
        self.check(tmp_path / "out", reference[0], {clip_name("Run", 3): "^memory_limit_bytes=its share: .*--workers"})

    def test_reasons_are_the_same_in_every_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They name neither the spool folder, whose name is random, nor a worker's share of the memory."""

        def out_of_memory(
            function: Any, tasks: Any, *, memory_limit_bytes: int = 0, **_: Any
        ) -> Iterator[Outcome[Any]]:
            for index, task in enumerate(tasks):
                if not memory_limit_bytes:
                    yield Outcome(index, function(task), None, "ok")  # probes
                    continue
                (job,) = function.args
                reason = f"memory_limit_bytes={memory_limit_bytes}: too little; {spool_path(job.spool, task.key)}"
                yield Outcome(index, None, reason, "memory")

        monkeypatch.setitem(ENGINES, "local", out_of_memory)
        write_clip(tmp_path / "clips/x.avi")
        found = []
        for num_workers in (1, 3, 64):
            options = replace(OPTIONS, num_workers=num_workers, overwrite=True)
            found += extract(tmp_path / "clips", tmp_path / "out", options).failed
        assert len(found) == 3
        assert found[0] == found[1] == found[2]
        assert re.fullmatch(r"memory_limit_bytes=its share: too little; spool/\w+\.tar", found[0].error or "")


class TestProgress:
    def test_counts_up_to_the_end_of_each_phase(self, clips: Path, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int, Status | None]] = []
        options = Options(codec="copy", modalities=("motion",), frames="uniform:1", num_workers=2)
        extract_here(clips, tmp_path / "out", options, on_progress=lambda *call: calls.append(call))
        assert [call[1:] for call in calls if call[0] == "probe"] == [(i, 19, None) for i in range(1, 20)]
        statuses = [call[3] for call in calls if call[0] == "extract"]
        assert [call[1:3] for call in calls if call[0] == "extract"] == [(i, 19) for i in range(1, 20)]
        assert Counter(status is not None and status.error is None for status in statuses) == {True: 16, False: 3}


class TestImports:
    HEAVY = ("torch", "torchvision", "webdataset", "librosa")

    def imported(self, root: Path, out: Path) -> set[str]:
        """Names of all modules that the command and its workers imported."""
        script = command("extract", root, "--out", out, "--workers", 2, "--codec", "copy", "--frames", "uniform:1")
        environment = marked("imports", PYTHONPROFILEIMPORTTIME="1")
        result = subprocess.run(script, capture_output=True, text=True, check=False, env=environment, timeout=120)
        assert result.returncode == 0, result.stderr[-2000:]
        names = re.findall(r"^import time:.*\|\s*(\S+)$", result.stderr, re.MULTILINE)
        assert names.count("vidprep.pipelines.extract_video") >= 2  # here and in a worker
        return set(names)

    def test_silent_videos_need_no_library_of_sound_and_no_torch(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "clips/silent.avi")
        assert self.imported(tmp_path / "clips", tmp_path / "out").isdisjoint(self.HEAVY)

    def test_planning_needs_none_even_with_sound(self) -> None:
        code = "import sys, vidprep.pipelines.extract; print(*sys.modules, sep='\\n')"
        names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert "vidprep.pipelines.extract" in names
        assert set(names).isdisjoint(self.HEAVY)


class TestOptions:
    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"modalities": ()}, "modalities=: must be some of rgb, motion"),
            ({"modalities": ("rgb", "depth")}, "modalities=rgb,depth: must be some of"),
            ({"codec": "copy", "size": "64x48"}, "codec=copy keeps the stream's size"),
            ({"codec": "copy", "gop": 12}, "codec=copy keeps the stream's size"),
            ({"segment_seconds": 0.01}, "segment=0.01: must be between 0.1 and 300"),
            ({"segment_seconds": float("nan")}, "segment=nan: must be between"),
            ({"shard_bytes": 0}, "shard_size=0: must be at least one byte"),
            ({"num_workers": -1}, "workers=-1: must be positive"),
            ({"timeout_seconds": 0.0}, "timeout=0.0: must be a positive"),
            ({"engine": "cloud"}, "engine=cloud: must be one of local"),
        ],
    )
    def test_refuses_what_cannot_be_meant(self, choices: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=re.escape(message)):
            Options(**choices)

    def test_one_worker_for_each_core_by_default(self) -> None:
        assert Options().workers >= 1
        assert Options(num_workers=3).workers == 3


def test_the_process_that_asks_keeps_its_own_signals(clips: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    extract(clips, tmp_path / "out", Options(codec="copy", modalities=("motion",), frames="uniform:1", num_workers=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
