"""The command line: parse, call one function, turn known errors into messages.

Exit status: 0 all done, 1 some work was not done (failed videos are listed with their reasons), 2 bad usage.
"""

from __future__ import annotations

import io
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vidprep import __version__
from vidprep.cli.evaluate import evaluate, plot
from vidprep.cli.export import export
from vidprep.cli.extract import extract
from vidprep.cli.flops import flops
from vidprep.cli.manifest import manifest
from vidprep.cli.train import train
from vidprep.errors import ManifestError, UsageError, VidprepError

if TYPE_CHECKING:
    from types import FrameType


class _Terminated(KeyboardInterrupt):
    """SIGTERM came, from a job scheduler: end as in Ctrl-C, so that workers and spooled files go."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us without ado
    raise _Terminated


class _Commands(click.Group):
    """Turns vidprep's errors into one message and an exit status, for every command."""

    def invoke(self, context: click.Context) -> object:
        handler = signal.signal(signal.SIGTERM, _terminate)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
        try:
            return super().invoke(context)
        except (UsageError, ManifestError) as error:
            _fail(str(error), 2)
        except VidprepError as error:
            _fail(str(error), 1)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
        except KeyboardInterrupt as error:
            word, status = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
            command = "the same command, without --overwrite," if "--overwrite" in sys.argv else "the same command"
            _fail(f"{word}; run {command} again, it goes on where it ended", status)
        finally:
            signal.signal(signal.SIGTERM, handler)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"vidprep: error: {message}", err=True)
    raise click.exceptions.Exit(status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vidprep")
def main() -> None:
    """Prepare video for machine learning: read a dataset once, hand everything to every method."""


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The PNG to write.  [default: SOURCE's name + -sheet.png]")
@click.option("--frames", "num_frames", type=click.IntRange(1, 24), default=6, show_default=True, help="Columns.")
@click.option("--key", help="The sample of a shard to show.")
def inspect(source: Path, out: Path | None, num_frames: int, key: str | None) -> None:
    """Draw a contact sheet of SOURCE (a video, a shard or a folder of shards) and print its facts."""
    from vidprep.pipelines.inspect import inspect_source

    inspection = inspect_source(source, out, num_frames=num_frames, key=key)
    click.echo(inspection.facts)
    click.echo(f"contact sheet: {inspection.image}")


@main.command()
@click.argument("shards", type=click.Path(path_type=Path))
def verify(shards: Path) -> None:
    """Check a folder of shards against its plan and index: sizes, checksums, every entry of every sample."""
    from vidprep.shards.verify import verify

    report = verify(shards)
    for problem in report.problems:
        click.echo(str(problem), err=True)
    found = f"{len(report.problems)} problems" if report.problems else "all good"
    click.echo(
        f"{report.num_shards} shards, {report.num_samples} samples, {report.num_failed} failed at extraction: {found}"
    )
    if report.problems:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("shards", type=click.Path(path_type=Path))
def stats(shards: Path) -> None:
    """Add up what a folder of shards holds: samples, frames, hours, bytes, splits, classes, failures."""
    from vidprep.shards.stats import format_stats, shard_stats

    click.echo(format_stats(shard_stats(shards)))


@main.command("demo-data")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--classes", "num_classes", type=int, default=8, show_default=True, help="Number of classes: 2, 4, 6 or 8."
)
@click.option("--groups", "num_groups", type=int, default=25, show_default=True, help="Groups of clips a class.")
@click.option("--clips", "clips_per_group", type=int, default=1, show_default=True, help="Clips a group.")
@click.option("--frames", "num_frames", type=int, default=48, show_default=True, help="Frames a clip.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
def demo_data(folder: Path, **choices: int) -> None:
    """Generate the demo dataset in FOLDER: UCF101's layout, half of the classes told apart by motion alone."""
    from tqdm import tqdm

    from vidprep.pipelines.demo_clip import DemoSettings
    from vidprep.pipelines.demo_data import write_demo_data

    settings = DemoSettings(**choices)  # type: ignore[arg-type]
    clips = list(tqdm(write_demo_data(folder, settings), total=settings.num_clips, unit="clip", disable=None))
    click.echo(f"{len(clips)} clips of {settings.num_classes} classes: {folder}")


main.add_command(evaluate)
main.add_command(export)
main.add_command(extract)
main.add_command(flops)
main.add_command(manifest)
main.add_command(plot)
main.add_command(train)
