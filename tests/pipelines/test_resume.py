"""A run that ends early, by a signal, a kill or a failure, loses nothing, doubles nothing and can be repeated."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result
from runs import (
    SMALL,
    clip_name,
    command,
    contents,
    identities,
    marked,
    run_here,
    running,
    wait_until,
    write_clip,
    write_dataset,
    write_ffmpeg,
)

NUM_KILLS = 10
NUM_CLIPS, NUM_SHARDS = 10, 5  # five shards of two clips
# Runs the command line and dies by SIGKILL just before the n-th call of a method, such as pathlib:Path.replace.
DIE_BEFORE = """
import importlib, os, signal, sys
from vidprep.cli import main

module, _, names = sys.argv[1].partition(":")
owner_name, method = names.split(".")
calls_left = int(sys.argv[2])

def counted(*arguments, **more):
    global calls_left
    calls_left -= 1
    if not calls_left:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **more)

if __name__ == "__main__":
    owner = getattr(importlib.import_module(module), owner_name)
    original = getattr(owner, method)
    setattr(owner, method, counted)
    main(sys.argv[3:])
"""
RENAME, REMOVE, ANSWER = "pathlib:Path.replace", "pathlib:Path.unlink", "vidprep.engines.worker:Worker.receive"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "clips", groups=(1, 2, 8, 15, 22))


@pytest.fixture(scope="module")
def reference(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of an uninterrupted run."""
    out = tmp_path_factory.mktemp("reference") / "shards"
    run(clips, out)
    assert len(list(out.glob("*.tar"))) == NUM_SHARDS
    return out


def arguments(clips: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("extract", clips, "--out", out, "--workers", 1, *SMALL, *more)


def run(clips: Path, out: Path, *more: object, status: int = 0, **environment: str) -> Result:
    return run_here(*arguments(clips, out, *more), status=status, **environment)


def die_before(method: str, count: int, *arguments: object) -> None:
    script = [sys.executable, "-c", DIE_BEFORE, method, str(count), *map(str, arguments)]
    assert subprocess.run(script, check=False, timeout=60, capture_output=True).returncode == -signal.SIGKILL


def check_what_looks_finished(out: Path, reference: Path) -> None:
    """Whatever has its final name is whole, and the index, the only file that grows, names only what is there."""
    unfinished = {*out.rglob("*.part"), *out.rglob(".spool-*/*")}
    for path in out.rglob("*"):
        name = path.relative_to(out)
        if path.is_file() and path not in unfinished and path.name != "index.json":
            assert path.read_bytes() == (reference / name).read_bytes(), name
    if (out / "index.json").exists():
        index = json.loads((out / "index.json").read_bytes())
        expected = {entry["name"]: entry for entry in json.loads((reference / "index.json").read_bytes())["shards"]}
        for entry in index["shards"]:
            assert entry == expected[entry["name"]]
            assert (out / entry["name"]).stat().st_size == entry["num_bytes"]


class TestSigkill:
    def test_ten_kills_at_random_moments(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        """Each run goes on where the kill before left the folder; a finished folder makes way for a new one."""
        moments = random.Random(2)
        expected = contents(reference)
        outs = [tmp_path / "out0"]
        num_kills = 0
        while num_kills < NUM_KILLS:
            out, mark = outs[-1], f"{tmp_path}{num_kills}"
            # Shards first, then seconds: by the clock alone a run on a busy machine would not get far.
            num_shards = len(list(out.glob("*.tar"))) + moments.choice((0, 1, 1, 2))
            num_kills += self.kill(clips, out, mark, num_shards, moments.uniform(0, 0.15))
            check_what_looks_finished(out, reference)
            if len(list(out.glob("*.tar"))) == NUM_SHARDS:
                run(clips, out)
                assert contents(out) == expected
                outs.append(tmp_path / f"out{len(outs)}")
        run(clips, out)
        assert contents(out) == expected
        assert len(outs) > 1  # they did come far

    def kill(self, clips: Path, out: Path, mark: str, num_shards: int, seconds: float) -> bool:
        """Kill a run after so many shards and seconds; say whether it was not too late."""
        line = command(*arguments(clips, out))
        process = subprocess.Popen(line, env=marked(mark), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begun = lambda: list(out.glob(".spool-*")) and len(list(out.glob("*.tar"))) >= num_shards  # noqa: E731
        wait_until(lambda: process.poll() is not None or begun(), "the run gets so far")
        time.sleep(seconds)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        wait_until(lambda: not running(mark), "workers and ffmpeg end with the run")
        return process.returncode != 0

    def test_around_every_kind_of_rename(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for count, newest in (
            (1, "plan.json.part"),
            (2, "*.tar.part"),
            (2, "status/*.jsonl.part"),
            (3, "index.json.part"),
        ):
            die_before(RENAME, count, *arguments(clips, out))
            assert len(list(out.glob(newest))) == 1
            check_what_looks_finished(out, reference)
        result = run(clips, out)
        assert contents(out) == contents(reference)
        assert "earlier run" not in result.stdout  # no index was ever written

    def test_after_the_last_shard_but_before_the_end(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        die_before(RENAME, 1 + 3 * NUM_SHARDS + 1, *arguments(clips, tmp_path / "out"))
        result = run(clips, tmp_path / "out")
        assert contents(tmp_path / "out") == contents(reference)
        assert f"{NUM_CLIPS} of them were there from an earlier run" in result.stdout

    def test_in_the_probe(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        die_before(ANSWER, 4, *arguments(clips, out))  # a worker is ready, two videos are probed
        assert [path.name[:7] for path in out.iterdir()] == [".spool-"]
        run(clips, out)
        assert contents(out) == contents(reference)


@contextmanager
def hanging_run(clips: Path, out: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Begin a run whose ffmpeg hangs in one clip, and wait until it does and a shard is done."""
    ffmpeg = write_ffmpeg(folder / "hanging", f"*{clip_name('Run', 22)}*) sleep 1000; exit 1;;")
    environment = marked(str(folder), VIDPREP_FFMPEG=ffmpeg)
    process = subprocess.Popen(
        command(*arguments(clips, out)), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        hangs = lambda: any("sleep" in line for line in running(str(folder)))  # noqa: E731
        wait_until(lambda: process.poll() is not None or ((out / "index.json").exists() and hangs()), "a shard")
        yield process
    finally:
        process.kill()
        process.communicate()


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
    )
    def test_end_the_run_cleanly(
        self, clips: Path, reference: Path, tmp_path: Path, number: int, status: int, word: str
    ) -> None:
        out = tmp_path / "out"
        with hanging_run(clips, out, tmp_path) as process:
            process.send_signal(number)
            printed, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        assert errors == f"vidprep: error: {word}; run the same command again, it goes on where it ended\n"
        assert printed == ""
        assert running(str(tmp_path)) == []
        assert not [*out.glob(".spool-*"), *out.rglob("*.part")]
        check_what_looks_finished(out, reference)
        assert "of them were there from an earlier run" in run(clips, out).stdout
        assert contents(out) == contents(reference)

    def test_sigkill_takes_workers_and_a_hanging_ffmpeg_along(self, clips: Path, tmp_path: Path) -> None:
        with hanging_run(clips, tmp_path / "out", tmp_path) as process:
            process.kill()
            process.wait()
            wait_until(lambda: not running(str(tmp_path)), "workers and ffmpeg end with the run")

    def test_a_second_run_on_the_same_folder_is_refused(self, clips: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with hanging_run(clips, out, tmp_path) as process:
            before = contents(out)
            for more in ((), ("--overwrite",), ("--retry-failed",)):
                result = run(clips, out, *more, status=1)
                assert f"out={out}: another vidprep extract is writing to it; wait for it, or end it" in result.stderr
            assert contents(out).items() >= {name: data for name, data in before.items() if "spool" not in name}.items()
            assert process.poll() is None


class TestResume:
    @pytest.fixture
    def finished(self, reference: Path, tmp_path: Path) -> Path:
        shutil.copytree(reference, tmp_path / "finished")
        return tmp_path / "finished"

    def test_a_finished_run_does_nothing(self, clips: Path, finished: Path) -> None:
        before = identities(finished)
        del before["index.json"]
        result = run(clips, finished)
        assert result.stdout.splitlines()[1:] == [f"{NUM_CLIPS} of them were there from an earlier run"]
        assert before.items() <= identities(finished).items()

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--levels", "16,24"), "levels=[16, 24]: the shards in {out} were begun with [16]"),
            (("--gop", "6"), "encode={{'codec': 'mpeg4', 'size': 'native', 'gop': 6}}: the shards in {out} were begun"),
            (("--frames", "stride:2"), "frames={{'kind': 'stride', 'number': 2}}: the shards in {out} were begun with"),
            (("--modalities", "rgb"), "modalities=['rgb']: the shards in {out} were begun with ['rgb', 'motion'"),
            (("--residual-format", "png"), "residual_format=png: the shards in {out} were begun with jpeg"),
            (("--spectrogram-recipe", "tbn"), "spectrogram_recipe=tbn: the shards in {out} were begun with mel"),
            (("--shard-size", "2MB"), "shard_bytes=2000000: the shards in {out} were begun with 150000"),
            (("--segment", "2"), "segment_seconds=2.0: the shards in {out} were begun with None"),
        ],
    )
    def test_refuses_other_options(self, clips: Path, reference: Path, more: tuple[str, ...], said: str) -> None:
        before = identities(reference)
        errors = run(clips, reference, *more, status=1).stderr
        assert said.format(out=reference) in errors
        assert "use the same options, another folder (--out), or --overwrite to begin anew" in errors
        assert identities(reference) == before

    def test_refuses_other_rows(self, clips: Path, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(clips, tmp_path / "more")
        write_clip(tmp_path / "more" / clip_name("Sit", 3))
        before = identities(finished)
        result = run(tmp_path / "more", finished, status=1)
        assert "dataset=ucf-layout of 11 rows (" in result.stderr
        assert f"): the shards in {finished} were begun with ucf-layout of 10 rows (" in result.stderr
        shutil.move(tmp_path / "more" / clip_name("Sit", 1), tmp_path / "more" / clip_name("Sit", 4))
        (tmp_path / "more" / clip_name("Sit", 3)).unlink()
        assert "dataset=ucf-layout of 10 rows (" in run(tmp_path / "more", finished, status=1).stderr
        assert identities(finished) == before

    def test_shards_that_are_damaged_are_written_again(self, clips: Path, reference: Path, finished: Path) -> None:
        deleted, cut, longer, without_status, *others = sorted(finished.glob("*.tar"))
        kept = {path.name: identities(finished)[path.name] for path in others}
        deleted.unlink()
        cut.write_bytes(cut.read_bytes()[:1000])
        longer.write_bytes(longer.read_bytes() + bytes(1024))
        (finished / "status" / f"{without_status.stem}.jsonl").unlink()
        assert "2 of them were there from an earlier run" in run(clips, finished).stdout
        assert contents(finished) == contents(reference)
        assert kept.items() <= identities(finished).items()

    def test_leftovers_of_a_kill_go(self, clips: Path, reference: Path, finished: Path) -> None:
        (finished / ".spool-old").mkdir()
        (finished / ".spool-old" / "sample.tar").write_text("half")
        (finished / "all-000000.tar.part").write_text("half")
        (finished / "status" / "all-000000.jsonl.part").write_text("half")
        run(clips, finished)
        assert contents(finished) == contents(reference)

    @pytest.mark.parametrize("name", ["plan.json", "index.json"])
    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "vidprep-shards", "version": 1}'])
    def test_says_that_a_broken_plan_or_index_needs_overwrite(
        self, clips: Path, finished: Path, name: str, text: str
    ) -> None:
        (finished / name).write_text(text)
        before = contents(finished)
        errors = run(clips, finished, status=1).stderr
        assert str(finished / name) in errors
        assert "extract again with --overwrite" in errors
        assert contents(finished) == before


class TestOverwrite:
    def test_begins_anew_and_spares_what_is_not_its_own(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(clips, out, "--shard-size", "1MB", "--levels", "8")
        mine = {"notes.txt", "holiday-000000.tar", "status/mine.txt", "sub/a-000001.tar"}
        for name in mine:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(name)
        assert "earlier run" not in run(clips, out, "--overwrite").stdout
        assert all((out / name).read_text() == name for name in mine)
        expected = contents(reference)
        assert contents(out).items() >= expected.items()
        assert contents(out).keys() == {*expected, *mine, "sub/"}

    def test_killed_at_any_step(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        """Removing takes 1 + 2 * NUM_SHARDS calls, 2 for the index and each shard; then come the spooled samples."""
        out = tmp_path / "out"
        shutil.copytree(reference, out)
        (out / "notes.txt").write_text("mine")
        (out / "index.json").write_text((out / "index.json").read_text().replace("10", "11"))  # so it is really anew
        for count in (2, 9, 14):
            die_before(REMOVE, count, *arguments(clips, out, "--overwrite"))
        run(clips, out, "--overwrite")
        assert (out / "notes.txt").read_text() == "mine"
        (out / "notes.txt").unlink()
        assert contents(out) == contents(reference)

    @pytest.mark.parametrize("text", ["", '{"format": "vidprep-shards", "version": 0}'])
    def test_mends_a_broken_plan(self, clips: Path, reference: Path, tmp_path: Path, text: str) -> None:
        out = tmp_path / "out"
        shutil.copytree(reference, out)
        (out / "plan.json").write_text(text)
        run(clips, out, "--overwrite")
        assert contents(out) == contents(reference)

    @pytest.mark.parametrize("more", [(), ("--overwrite",)])
    def test_never_touches_a_folder_that_is_not_its_own(self, clips: Path, tmp_path: Path, more: tuple[str]) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "train-000000.tar").write_text("mine")
        result = run(clips, tmp_path / "out", *more, status=1)
        assert f"out={tmp_path / 'out'}: it holds other files, such as train-000000.tar; choose" in result.stderr
        assert list(contents(tmp_path / "out")) == ["train-000000.tar"]


class TestRetryFailed:
    BAD = clip_name("Run", 8)

    @pytest.fixture(scope="class")
    @classmethod
    def failed(cls, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Shards of a run in which one video failed."""
        folder = tmp_path_factory.mktemp("failed")
        ffmpeg = write_ffmpeg(folder / "ffmpeg", f'*{cls.BAD}*) echo "bad luck" >&2; exit 1;;')
        result = run(clips, folder / "out", status=1, VIDPREP_FFMPEG=ffmpeg)
        assert result.stdout.startswith("9 videos, ")
        assert "1 failed (after mending: the same command with --retry-failed):" in result.stderr
        assert f"  {cls.BAD}: ffmpeg gave up (bad luck); the file is damaged" in result.stderr
        return folder / "out"

    @pytest.fixture
    def out(self, failed: Path, tmp_path: Path) -> Path:
        shutil.copytree(failed, tmp_path / "out")
        return tmp_path / "out"

    def shard(self, out: Path) -> str:
        plan = json.loads((out / "plan.json").read_bytes())
        (name,) = (shard["name"] for shard in plan["shards"] if self.BAD in [row["path"] for row in shard["rows"]])
        return str(name)

    def test_a_failure_stays_in_its_shard_and_in_the_summary(self, clips: Path, out: Path, reference: Path) -> None:
        different = {name for name, data in contents(reference).items() if contents(out)[name] != data}
        assert different == {"index.json", self.shard(out), f"status/{self.shard(out)[:-4]}.jsonl"}
        before = contents(out)
        result = run(clips, out, status=1)  # without --retry-failed nothing is tried again
        assert f"  {self.BAD}: ffmpeg gave up (bad luck)" in result.stderr
        assert contents(out) == before

    def test_a_mended_video_gets_into_its_own_shard(self, clips: Path, out: Path, reference: Path) -> None:
        before = identities(out)
        result = run(clips, out, "--retry-failed")
        assert "9 of them were there from an earlier run" in result.stdout
        assert contents(out) == contents(reference)
        changed = {name for name, identity in identities(out).items() if before.get(name) != identity}
        assert changed == {"index.json", self.shard(out), f"status/{self.shard(out)[:-4]}.jsonl"}

    def test_a_video_that_fails_again_changes_nothing(self, clips: Path, failed: Path, out: Path) -> None:
        run(clips, out, "--retry-failed", status=1, VIDPREP_FFMPEG=str(failed.parent / "ffmpeg"))
        assert contents(out) == contents(failed)

    def test_killed_while_it_rewrites(self, clips: Path, out: Path, reference: Path) -> None:
        for count in (1, 2, 3):
            die_before(RENAME, count, *arguments(clips, out, "--retry-failed"))
        run(clips, out, "--retry-failed")
        assert contents(out) == contents(reference)

    def test_killed_while_it_rewrites_and_resumed_without_it(self, clips: Path, out: Path, reference: Path) -> None:
        die_before(RENAME, 2, *arguments(clips, out, "--retry-failed"))  # a new tar with the old status rows
        run(clips, out)
        assert contents(out) == contents(reference)

    def test_a_file_that_could_not_even_be_probed(self, clips: Path, reference: Path, tmp_path: Path) -> None:
        """Its size could not be guessed, and the plan doesn't change; the samples are the same all the same."""
        shutil.copytree(clips, tmp_path / "clips")
        (tmp_path / "clips" / self.BAD).write_bytes(b"")
        run(tmp_path / "clips", tmp_path / "out", status=1)
        plan = (tmp_path / "out/plan.json").read_bytes()
        shutil.copy(clips / self.BAD, tmp_path / "clips" / self.BAD)
        run(tmp_path / "clips", tmp_path / "out", "--retry-failed")
        assert (tmp_path / "out/plan.json").read_bytes() == plan
        tars = {path.name for path in reference.glob("*.tar")}
        mended, expected = contents(tmp_path / "out"), contents(reference)
        same = {name for name in tars if mended.get(name) == expected[name]}
        assert len(tars - same) <= 2  # the cell may be cut elsewhere
        assert json.loads((tmp_path / "out/index.json").read_bytes())["num_samples"] == NUM_CLIPS

    def test_all_failed_leave_no_tar_until_they_are_mended(self, tmp_path: Path) -> None:
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips/only.avi").touch()
        out = tmp_path / "out"
        result = run(tmp_path / "clips", out, status=1)
        assert result.stdout.startswith("0 videos, 0 frames, 0.0 MB in 0 shards")
        assert contents(out).keys() == {"plan.json", "index.json", "status/", "status/all-000000.jsonl"}
        write_clip(tmp_path / "clips/only.avi")
        run(tmp_path / "clips", out, "--retry-failed")
        assert contents(out).keys() >= {"all-000000.tar"}
