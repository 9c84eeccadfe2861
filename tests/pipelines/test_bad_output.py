"""Output folders that can't be written, fill up or hold something else: a clear message, and nothing lost."""

import ctypes
import errno
import os
import pkgutil
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bad_videos import make
from click.testing import CliRunner, Result
from runs import contents, in_process, vidprep

from vidprep import cli
from vidprep.pipelines.extract import Options, extract
from vidprep.shards.verify import verify

OPTIONS = Options(
    size="native", modalities=("rgb", "motion", "residual"), num_workers=1, shard_bytes=1
)  # one sample a shard
ARGUMENTS = ("--size", "native", "--modalities", "rgb,motion,residual", "--workers", "1", "--shard-size", "1B")
NAMES = ("a/1.avi", "a/2.avi", "b/3.avi")
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "videos"
    for seed, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make(root / name, num_frames=5, seed=seed)
    (root / "a" / "bad.mp4").write_text("no video")
    return root


@pytest.fixture(autouse=True)
def patch() -> Iterator[pytest.MonkeyPatch]:
    with in_process() as patch:
        yield patch


@pytest.fixture(scope="module")
def reference(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what an uninterrupted run gives."""
    out = tmp_path_factory.mktemp("reference") / "out"
    with in_process():
        extract(source, out, OPTIONS)
    return contents(out)


def command(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def assert_refused(result: Result | subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    found, errors = (
        (result.exit_code, result.stderr) if isinstance(result, Result) else (result.returncode, result.stderr)
    )
    assert found == status, errors
    assert errors.startswith("vidprep: error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    for word in words:
        assert word in errors


def assert_nothing_unfinished(out: Path) -> None:
    left = [path for path in out.rglob("*") if path.name.endswith(".part") or path.name.startswith(".spool")]
    assert left == []


class TestFullDisk:
    """Every kind of write fails once as on a full disk, and then the same command is given again."""

    @pytest.mark.parametrize(
        ("where", "calls"),
        [
            ("vidprep.shards.files:os.fsync", range(0, 24, 4)),
            ("vidprep.shards.writer:ShardWriter._write", range(4)),
            ("vidprep.shards.sample:SampleWriter.add", (0, 5, 30)),
            ("vidprep.pipelines.extract:save_plan", (0,)),
            ("vidprep.pipelines.extract:save_index", range(4)),
            ("vidprep.shards.writer:save_statuses", range(4)),
            ("vidprep.codec.transcode:tempfile.TemporaryFile", (0,)),
        ],
    )
    def test_any_write(
        self, source: Path, tmp_path: Path, reference: dict[str, str], where: str, calls: Sequence[int]
    ) -> None:
        for number in calls:
            out, code = tmp_path / str(number), (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)[number % 3]
            with failing(where, number, code):
                result = command("extract", source, "--out", out, *ARGUMENTS)
            assert_refused(result, 1, os.strerror(code), "free some space and run the same command")
            assert_nothing_unfinished(out)
            found = contents(out)
            finished = {name: digest for name, digest in found.items() if name.endswith((".tar", ".jsonl"))}
            assert finished.items() <= reference.items()
            extract(source, out, OPTIONS)
            assert contents(out) == reference, number

    @pytest.mark.parametrize("limit_bytes", [20_000, 90_000])
    def test_real_limit(self, source: Path, tmp_path: Path, reference: dict[str, str], limit_bytes: int) -> None:
        """The system refuses to let a file grow: what a worker writes, or the shard."""
        out, arguments = tmp_path / "out", ("--size", "native", "--workers", "1", "--modalities", "rgb,motion,residual")
        limit = (limit_bytes, limit_bytes)
        result = vidprep(
            "extract",
            source,
            "--out",
            out,
            *arguments,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit),
        )
        assert_refused(result, 1, "free some space and run the same command")
        assert_nothing_unfinished(out)
        assert list(out.glob("*.tar")) == []
        assert command("extract", source, "--out", out, *arguments).exit_code == 1
        assert verify(out).problems == ()
        assert verify(out).num_samples == len(NAMES)

    def test_real_disk(self, source: Path, tmp_path: Path, reference: dict[str, str]) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("a small disk can't be mounted here")
        try:
            result = command("extract", source, "--out", disk / "out", *ARGUMENTS)
            assert_refused(result, 1, os.strerror(errno.ENOSPC), "free some space and run the same command")
            assert_nothing_unfinished(disk)
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            extract(source, disk / "out", OPTIONS)
            assert contents(disk / "out") == reference
        finally:
            subprocess.run(["umount", disk], check=True)


@contextmanager
def failing(where: str, number: int, code: int) -> Iterator[None]:
    """Let one call of a function fail as on a full disk."""
    owner, _, name = where.rpartition(".") if "." in where.partition(":")[2] else where.rpartition(":")
    function, calls = pkgutil.resolve_name(where), iter(range(number + 1))

    def wrapped(*arguments: Any, **more: Any) -> Any:
        if next(calls, None) == number:
            raise OSError(code, os.strerror(code))
        return function(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pkgutil.resolve_name(owner), name, wrapped)
        yield
        assert next(calls, None) is None, "it was never called so often"


class TestNoPermission:
    """Root may read and write everything: it gives up that right first."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
        secret = tmp_path / "secret"
        secret.touch(mode=0)
        look = [sys.executable, "-c", f"open({str(secret)!r})"]
        if not subprocess.run(look, preexec_fn=give_up_rights, capture_output=True, check=False).returncode:
            pytest.skip("this user reads everything, and can't give that up")
        return partial(vidprep, preexec_fn=give_up_rights)

    def test_of_a_video(
        self, run: Callable[..., subprocess.CompletedProcess[str]], source: Path, tmp_path: Path
    ) -> None:
        root, out = tmp_path / "videos", tmp_path / "out"
        shutil.copytree(source, root)
        (root / "a" / "1.avi").chmod(0)
        result = run("extract", root, "--out", out, *ARGUMENTS)
        assert result.returncode == 1
        assert "a/1.avi: Permission denied; the file must exist and be readable" in result.stderr
        assert "Traceback" not in result.stderr
        report = verify(out)
        assert (report.num_samples, report.num_failed, report.problems) == (2, 2, ())

        (root / "a" / "1.avi").chmod(0o644)
        extract(root, out, replace(OPTIONS, retry_failed=True))
        assert verify(out).num_samples == len(NAMES)

    def test_of_a_folder_of_videos(
        self, run: Callable[..., subprocess.CompletedProcess[str]], source: Path, tmp_path: Path
    ) -> None:
        root = tmp_path / "videos"
        shutil.copytree(source, root)
        (root / "b").chmod(0)
        result = run("extract", root, "--out", tmp_path / "out", *ARGUMENTS)
        (root / "b").chmod(0o755)
        assert_refused(result, 2, f"{root}/b", "Permission denied", "correct the path or its permissions")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("inside", [False, True])
    def test_of_the_output(
        self, run: Callable[..., subprocess.CompletedProcess[str]], source: Path, tmp_path: Path, inside: bool
    ) -> None:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o555)
        out = folder / "out" if inside else folder
        result = run("extract", source, "--out", out, *ARGUMENTS)
        assert_refused(result, 2, f"out={out}", "Permission denied", "(--out)")
        assert list(folder.iterdir()) == []


def give_up_rights() -> None:
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability)


class TestOtherContent:
    @pytest.mark.parametrize(
        "name",
        ["notes.txt", ".hidden", "all-000000.tar", "index.json", "status/all-000000.jsonl", "mine.part", "x.tar.part"],
    )
    def test_other_files(self, source: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / "out" / name).parent.mkdir(parents=True)
        (tmp_path / "out" / name).write_text("mine")
        before = contents(tmp_path)
        for more in ((), ("--overwrite",)):
            result = command("extract", source, "--out", tmp_path / "out", *ARGUMENTS, *more)
            assert_refused(result, 1, f"out={tmp_path / 'out'}", Path(name).parts[0], "choose an empty folder (--out)")
        assert contents(tmp_path) == before

    def test_files_that_look_like_remains(self, source: Path, tmp_path: Path) -> None:
        for name in ("notes.txt", ".spool-mine/letter.txt", "plan.json.part"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("mine")
        before = contents(tmp_path)
        assert_refused(command("extract", source, "--out", tmp_path, *ARGUMENTS), 1, "choose an empty folder (--out)")
        assert contents(tmp_path) == before

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--gop", "6"), ("encode=", "'gop': 6", "'gop': 12")),
            (("--frames", "stride:2"), ("frames=", "stride")),
            (("--shard-size", "1GB"), ("shard_bytes=1000000000",)),
            (("--segment", "0.1"), ("segment_seconds=0.1", "None")),
            (("--codec", "h264"), ("encode=", "h264", "mpeg4")),
        ],
    )
    def test_shards_of_other_options(
        self, source: Path, tmp_path: Path, reference: dict[str, str], more: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        extract(source, tmp_path, OPTIONS)
        result = command("extract", source, "--out", tmp_path, *ARGUMENTS, *more)
        assert_refused(result, 1, *words, "use the same options, another folder (--out), or --overwrite")
        assert contents(tmp_path) == reference

    def test_shards_of_another_dataset(self, source: Path, tmp_path: Path, reference: dict[str, str]) -> None:
        (tmp_path / "other").mkdir()
        make(tmp_path / "other" / "x.avi", num_frames=2)
        extract(source, tmp_path / "out", OPTIONS)
        result = command("extract", tmp_path / "other", "--out", tmp_path / "out", *ARGUMENTS)
        assert_refused(result, 1, "dataset=flat-folder of 1 rows", "class-folders of 4 rows", "--overwrite")
        assert contents(tmp_path / "out") == reference

    def test_overwriting_them_leaves_nothing_of_them_and_all_else(
        self, source: Path, tmp_path: Path, reference: dict[str, str]
    ) -> None:
        extract(source, tmp_path, replace(OPTIONS, modalities=("rgb",), frames="stride:2", shard_bytes=10**9))
        (tmp_path / "notes.txt").write_text("mine")
        extract(source, tmp_path, replace(OPTIONS, overwrite=True))
        found = contents(tmp_path)
        assert found.pop("notes.txt")
        assert found == reference

    @pytest.mark.parametrize("kind", ["file", "below a file", "broken link"])
    def test_no_folder(self, source: Path, tmp_path: Path, kind: str) -> None:
        (tmp_path / "file").write_text("mine")
        (tmp_path / "broken").symlink_to("nowhere")
        out = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "out", "broken link": tmp_path / "broken"}
        result = command("extract", source, "--out", out[kind], *ARGUMENTS)
        assert_refused(result, 2, f"out={out[kind]}", "choose a folder that can be written (--out)")
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_link_to_a_folder(self, source: Path, tmp_path: Path, reference: dict[str, str]) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        extract(source, tmp_path / "link", OPTIONS)
        assert contents(tmp_path / "real") == reference

    def test_the_source_itself(self, source: Path) -> None:
        before = contents(source)
        assert_refused(command("extract", source, "--out", source, *ARGUMENTS), 1, "it holds other files, such as a")
        assert contents(source) == before

    @pytest.mark.parametrize("name", ["shards", "a/shards"])
    def test_a_folder_within_the_source(
        self, source: Path, tmp_path: Path, reference: dict[str, str], name: str
    ) -> None:
        root = tmp_path / "videos"
        shutil.copytree(source, root)
        for num_resumed in (0, len(NAMES)):
            summary = extract(root, root / name, OPTIONS)
            assert (summary.num_done, summary.num_resumed) == (len(NAMES), num_resumed)
        assert contents(root / name) == reference

    def test_remains_of_a_killed_run(self, source: Path, tmp_path: Path, reference: dict[str, str]) -> None:
        remains = (".spool-abc/x.tar", "plan.json.part", "index.json.part", "all-000000.tar.part")
        for names in (remains[:2], (*remains, "status/all-000000.jsonl.part")):
            for name in names:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_bytes(b"half")
            extract(source, tmp_path, OPTIONS)
            assert contents(tmp_path) == reference
        (tmp_path / "mine.part").write_text("mine")
        extract(source, tmp_path, OPTIONS)
        assert (tmp_path / "mine.part").read_text() == "mine"
        (tmp_path / "mine.part").unlink()
        assert contents(tmp_path) == reference


class TestDamagedOutput:
    """What an earlier run wrote has been damaged since: it is written anew, or refused with the cure."""

    @staticmethod
    def damage(path: Path, how: str) -> None:
        if how == "missing":
            path.unlink()
        elif how == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif how == "empty":
            path.write_bytes(b"")

    @pytest.mark.parametrize("how", ["missing", "cut", "empty"])
    @pytest.mark.parametrize("kind", ["shard", "status"])
    def test_of_one_shard(self, source: Path, tmp_path: Path, reference: dict[str, str], kind: str, how: str) -> None:
        extract(source, tmp_path, OPTIONS)
        shard = min(tmp_path.glob("*.tar"))
        path = shard if kind == "shard" else tmp_path / "status" / f"{shard.stem}.jsonl"
        self.damage(path, how)
        if (kind, how) == ("status", "cut"):
            assert_refused(command("extract", source, "--out", tmp_path, *ARGUMENTS), 1, str(path), "remove it and run")
            path.unlink()
        extract(source, tmp_path, OPTIONS)
        assert contents(tmp_path) == reference

    def test_a_lost_index(self, source: Path, tmp_path: Path, reference: dict[str, str]) -> None:
        extract(source, tmp_path, OPTIONS)
        (tmp_path / "index.json").unlink()
        extract(source, tmp_path, OPTIONS)
        assert contents(tmp_path) == reference

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format":"vidprep-shards","version":99}', "\x00\xff"])
    @pytest.mark.parametrize("name", ["plan.json", "index.json"])
    def test_of_a_table(self, source: Path, tmp_path: Path, reference: dict[str, str], name: str, text: str) -> None:
        extract(source, tmp_path, OPTIONS)
        (tmp_path / name).write_text(text, "latin-1")
        before = contents(tmp_path)
        assert_refused(command("extract", source, "--out", tmp_path, *ARGUMENTS), 1, name, "--overwrite")
        assert contents(tmp_path) == before
        extract(source, tmp_path, replace(OPTIONS, overwrite=True))
        assert contents(tmp_path) == reference


class TestSource:
    @pytest.mark.parametrize("name", ["missing", "missing/below", "text.txt", "broken", "itself", "missing.mp4"])
    def test_none(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "text.txt").write_text("no video")
        (tmp_path / "broken").symlink_to("nowhere")
        (tmp_path / "itself").symlink_to("itself")
        result = command("extract", tmp_path / name, "--out", tmp_path / "out", *ARGUMENTS)
        assert_refused(result, 2, f"{tmp_path / name}", "; ")
        assert not (tmp_path / "out").exists()

    def test_one_bad_video(self, source: Path, tmp_path: Path) -> None:
        result = command("extract", source / "a" / "bad.mp4", "--out", tmp_path / "out", *ARGUMENTS)
        assert result.exit_code == 1
        assert "1 failed" in result.stderr
        assert "bad.mp4: " in result.stderr
        assert "get it anew or remove it" in result.stderr
        assert verify(tmp_path / "out").num_failed == 1

    def test_a_video_that_vanishes(
        self, source: Path, tmp_path: Path, reference: dict[str, str], patch: pytest.MonkeyPatch
    ) -> None:
        root, out = tmp_path / "videos", tmp_path / "out"
        shutil.copytree(source, root)

        def vanish(phase: str, num_done: int, num_total: int, status: object) -> None:
            if phase == "extract":
                (root / "b" / "3.avi").unlink(missing_ok=True)
                (root / "a" / "2.avi").unlink(missing_ok=True)

        summary = extract(root, out, OPTIONS, on_progress=vanish)
        gone = [status for status in summary.failed if status.error and "No such file or directory" in status.error]
        assert 1 <= len(gone) <= 2
        assert summary.num_done == len(NAMES) - len(gone)
        assert verify(out).problems == ()
        for name in ("a/2.avi", "b/3.avi"):
            shutil.copy(source / name, root / name)
        extract(root, out, replace(OPTIONS, retry_failed=True))
        assert contents(out) == reference
