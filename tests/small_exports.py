"""Shards of a few clips, by the real extraction, and exports of them, for the tests of stores."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from runs import clip_name, write_clip, write_dataset

from vidprep.cli import main
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options, extract

NUM_CLIPS, WIDTH, HEIGHT = 9, 64, 48
LAYOUTS = ("decoded", "bitstream")


def extracted(folder: Path, layout: str) -> Path:
    """Extract 9 clips of 8 to 14 frames, one of them with sound, into about five shards."""
    clips = write_dataset(folder / "clips", groups=(1, 8, 15, 22))
    sound = np.sin(np.arange(44100, dtype=np.float32) / 20)
    write_clip(clips / clip_name("Run", 2), seed=2, num_frames=14, audio=sound)
    options = Options(
        size="native", gop=4, layout=layout, shard_bytes=100_000, num_workers=1, settings=Settings(levels=(16,))
    )
    extract(clips, folder / layout, options)
    return folder / layout


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
