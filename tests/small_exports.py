"""Shards of a few clips, by the real extraction, and exports of them, for the tests of stores."""

import os
import signal
from collections.abc import Callable, Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from runs import clip_name, extract_here, write_clip, write_dataset

from vidprep.cli import main
from vidprep.engines import Outcome
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options

NUM_CLIPS, WIDTH, HEIGHT = 9, 64, 48
LAYOUTS = ("decoded", "bitstream")


def extracted(folder: Path, layout: str, modalities: tuple[str, ...] = tuple(MODALITIES), size: str = "native") -> Path:
    """Extract 9 clips of 8 to 14 frames, one of them with sound, into about five shards."""
    clips = write_dataset(folder / "clips", groups=(1, 8, 15, 22))
    sound = np.sin(np.arange(44100, dtype=np.float32) / 20)
    write_clip(clips / clip_name("Run", 2), seed=2, num_frames=14, audio=sound)
    settings = Settings(levels=(16,))
    options = Options(
        size=size,
        gop=4,
        layout=layout,
        shard_bytes=100_000,
        settings=settings,
        modalities=modalities,
    )
    extract_here(clips, folder / layout, options)
    return folder / layout


def map_here(
    function: Callable[[Any], Any], tasks: Iterable[Any], **_limits: object
) -> Generator[Outcome[Any], None, None]:
    """An engine without workers, which take seconds to start: the last task first, since no order is promised."""
    for index, task in reversed(list(enumerate(tasks))):
        yield Outcome(index, function(task), None, "ok")


def die(_job: object, _part: object) -> None:
    """What a worker does that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(*arguments: object, status: int = 0) -> Result:
    """Run the command line in this process; whatever goes wrong, an exit status comes out and never an exception."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, result.output
    return result


def export(shards: Path, to: Path, *options: object, status: int = 0) -> Result:
    return run("export", shards, "--to", to, "--workers", 1, *options, status=status)


@cache
def entries_of(shards: Path) -> dict[str, tuple[dict[str, bytes], dict[str, Any]]]:
    """Entries and json of each sample by key, in the shards' order."""
    from vidprep.shards.index import load_index
    from vidprep.shards.reader import read_samples

    found = {}
    for shard in load_index(shards).shards_of():
        for sample in read_samples(shards / shard.name):
            found[sample.key] = sample.entries, sample.facts
    return found
