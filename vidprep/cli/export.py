"""``vidprep export``: its options, its progress bar and its closing summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidprep.cli.extract import MAX_LISTED

if TYPE_CHECKING:
    from vidprep.pipelines.export import Summary

BACKBONE_NAMES = ("mobilenet_v2", "resnet50", "efficientnet_b0")


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Split at commas; each name once, in the order given."""
    return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))


@click.command()
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The HDF5 file to write.")
@click.option(
    "--modalities",
    callback=_names,
    default="",
    metavar="NAME,...",
    help="rgb, motion, accumulated_motion, residual, coded_residual, residual_magnitude, spectrogram, or levels "
    "such as rgb112.",
)
@click.option("--backbone", type=click.Choice(BACKBONE_NAMES), help="Export what this network makes of the frames.")
@click.option("--weights", metavar="FILE|random:SEED", help="The network's state dict.")
@click.option(
    "--outputs",
    callback=_names,
    default="maps",
    show_default=True,
    metavar="maps,pooled",
    help="The network's last maps, or their mean over the picture.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Of the network's outputs.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where the network runs."
)
@click.option(
    "--frames",
    default="all",
    show_default=True,
    metavar="all|uniform:N|stride:N|fps:R",
    help="Which of the stored frames to export.",
)
@click.option(
    "--compression",
    type=click.Choice(["none", "lzf", "gzip"]),
    default="lzf",
    show_default=True,
    help="How arrays are packed; readers other than h5py know gzip.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="If videos can't be read, write no store, or one without them.",
)
@click.option("--workers", "num_workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]")
@click.option("--overwrite", is_flag=True, help="Remove the store that is there and begin anew.")
def export(shards: Path, to: Path, num_workers: int | None, **choices: object) -> None:
    """Write arrays of all videos of SHARDS into one HDF5 file, which vidprep.features reads.

    A run that was killed goes on where it ended: give the same command again.
    """
    from tqdm import tqdm

    from vidprep.pipelines.export import Options, export

    options = Options(num_workers=num_workers or 0, **choices)  # type: ignore[arg-type]
    with tqdm(unit="video", disable=None, dynamic_ncols=True, delay=0.5) as bar:

        def show(num_done: int, num_total: int, num_failed: int) -> None:
            bar.total = num_total
            bar.set_postfix({"failed": num_failed}, refresh=False)
            bar.update(num_done - bar.n)

        summary = export(shards, to, options, on_progress=show)
    _show_summary(summary)
    if summary.failed:
        raise click.exceptions.Exit(1)


def _show_summary(summary: Summary) -> None:
    if summary.is_written:
        size = f"{summary.num_bytes / 1e6:.1f} MB"
        click.echo(f"{summary.num_videos} videos, {summary.num_frames} frames, {size}: {summary.path}")
    if summary.num_resumed:
        click.echo(f"{summary.num_resumed} of them were there from an earlier run")
    if not summary.failed:
        return
    cure = (
        "the store is without them: to try again, --overwrite"
        if summary.is_written
        else f"no {summary.path} yet: after mending, the same command; or --on-error skip"
    )
    click.echo(f"{len(summary.failed)} failed ({cure}):", err=True)
    for key, reason in list(summary.failed.items())[:MAX_LISTED]:
        click.echo(f"  {key}: {reason}", err=True)
    if len(summary.failed) > MAX_LISTED:
        click.echo(f"  ... and {len(summary.failed) - MAX_LISTED} more", err=True)
