"""Small datasets, runs with and without processes of their own, comparisons of folders: for tests of extraction."""

import hashlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vidprep.cli import main
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.writer import write_video
from vidprep.engines import ENGINES, Outcome
from vidprep.engines.serve import describe
from vidprep.errors import VidprepError
from vidprep.pipelines.extract import Summary, extract

CLASSES = ("Run", "Sit")
GROUPS = (1, 7, 8, 14, 15, 21, 22, 25)  # both ends of UCF101's three test sets, and of what is in none
MARK = "VIDPREP_TEST_RUN"
# About 8 shards of 2 samples; no library of sound, so that a run takes two seconds.
SMALL = ("--size", "native", "--modalities", "rgb,motion,residual,pyramid", "--levels", "16", "--shard-size", "150KB")
DEADLINE_SECONDS = 60.0


def write_clip(path: Path, seed: int = 0, num_frames: int = 10, size: tuple[int, int] = (64, 48), **more: Any) -> Path:
    """Write a view that moves over noise; no two seeds look alike."""
    width, height = size
    scene = np.random.default_rng(seed).integers(0, 256, (height + num_frames, width + num_frames, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [scene[i : i + height, i : i + width] for i in range(num_frames)], **more)
    return path


def clip_name(name: str, group: int) -> str:
    return f"{name}/v_{name}_g{group:02}_c01.avi"


def write_dataset(root: Path, groups: tuple[int, ...] = GROUPS, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write a dataset of UCF101's layout: one clip of 8 to 14 frames for each class and group."""
    for label, name in enumerate(classes):
        for group in groups:
            write_clip(root / clip_name(name, group), seed=100 * label + group, num_frames=8 + group % 7)
    return root


def map_in_process(
    function: Callable[[Any], Any], tasks: Iterable[Any], *, num_workers: int, **limits: Any
) -> Iterator[Outcome[Any]]:
    """An engine without processes: quick, and a test can reach into it."""
    for index, task in enumerate(tasks):
        try:
            yield Outcome(index, function(task), None, "ok")
        except (VidprepError, OSError) as error:
            yield Outcome(index, None, describe(error), "error")


@contextmanager
def in_process() -> Iterator[pytest.MonkeyPatch]:
    """Extract in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "local", map_in_process)
        yield patch


def extract_here(*arguments: Any, **more: Any) -> Summary:
    """Extract in this process, for tests of what comes out: workers take seconds to start, most of all with sound."""
    with in_process():
        return extract(*arguments, **more)


def run_here(*arguments: object, status: int = 0, **environment: str) -> Result:
    """Run the command line in this process; whatever goes wrong, an exit status comes out and never an exception."""
    with in_process():
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, result.output
    return result


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vidprep.cli", *map(str, arguments)]


def vidprep(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    options = {
        "capture_output": True,
        "text": True,
        "errors": "replace",
        "check": False,
        "timeout": DEADLINE_SECONDS,
    } | more
    return subprocess.run(command(*arguments), **options)


def contents(folder: Path) -> dict[str, str]:
    """Digest every file below a folder, hidden ones and unfinished ones too."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    folders = {f"{path.relative_to(folder)}/": "" for path in folder.rglob("*") if path.is_dir()}
    return folders | {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of every file: equal for a file that nobody wrote."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def write_ffmpeg(path: Path, cases: str) -> str:
    """Write an ffmpeg that behaves, but for the lines of a shell's case statement over its arguments."""
    path.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\nesac\nexec "{ffmpeg_path()}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def wait_until(condition: Callable[[], object], what: str) -> None:
    end_seconds = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end_seconds, f"waited in vain: {what}"
        time.sleep(0.005)


def running(mark: str) -> list[str]:
    """Commands of all processes that inherited a mark from the run that began them."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # not a process, not ours, or just gone
            continue
    return found


def marked(mark: str, **more: str) -> dict[str, str]:
    return {**os.environ, MARK: mark, **more}
