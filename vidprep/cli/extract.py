"""``vidprep extract``: its options, its progress bar and its closing summary."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidprep.pipelines.extract import Summary
    from vidprep.shards.index import Status

MAX_LISTED = 20
MODALITY_NAMES = ("rgb", "motion", "residual", "spectrogram", "pyramid")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGT]?B?)", value.strip().upper())
    if match is None:
        raise click.BadParameter(f"{value}: must be a number and a unit, such as 500MB or 1GB")
    unit = match[2] if match[2].endswith("B") or not match[2] else f"{match[2]}B"
    return int(float(match[1]) * _UNITS[unit])


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    chosen = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in MODALITY_NAMES]
    if unknown or not chosen:
        raise click.BadParameter(f"{value}: must be some of {', '.join(MODALITY_NAMES)}, separated by commas")
    return tuple(name for name in MODALITY_NAMES if name in chosen)


def _levels(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(level) for level in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value}: must be short sides in pixels, such as 112 or 112,56") from None


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the shards.  [default: SOURCE's name + -shards]"
)
@click.option(
    "--codec",
    type=click.Choice(["mpeg4", "h264", "copy"]),
    default="mpeg4",
    show_default=True,
    help="Encode to this codec first, or read the stream as it is.",
)
@click.option(
    "--modalities", callback=_names, default=",".join(MODALITY_NAMES), show_default=True, help="What to store."
)
@click.option(
    "--layout",
    type=click.Choice(["decoded", "bitstream"]),
    default="decoded",
    show_default=True,
    help="Store arrays, or the compressed stream, from which the reader makes them.",
)
@click.option(
    "--manifest",
    metavar="NAME|FILE",
    help="A standard dataset, or a CSV/TSV file with the columns path, "
    "label, start, end, split.  [default: found by itself, else class folders become labels]",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The official annotation files of the standard dataset that --manifest names, where it needs them.",
)
@click.option("--size", metavar="WxH|short:N|native", help="Size of the frames.  [default: 340x256]")
@click.option("--gop", type=int, help="Frames from one I-frame to the next.  [default: 12]")
@click.option(
    "--frames", default="all", show_default=True, metavar="all|uniform:N|stride:N|fps:R", help="Which frames to store."
)
@click.option("--segment", "segment_seconds", type=float, metavar="SECONDS", help="Cut videos into pieces.")
@click.option(
    "--residual-form",
    type=click.Choice(["accumulated", "coded", "magnitude"]),
    default="accumulated",
    show_default=True,
    help="Against the warped I-frame (RGB), against the codec's own prediction (luma), or the first one's norm at 1/4.",
)
@click.option(
    "--residual-format",
    type=click.Choice(["jpeg", "png"]),
    default="jpeg",
    show_default=True,
    help="JPEG is an approximation, PNG exact but clipped.",
)
@click.option(
    "--spectrogram-recipe",
    type=click.Choice(["mel", "tbn"]),
    default="mel",
    show_default=True,
    help="librosa's log-mel, or the log spectrogram of the temporal binding network.",
)
@click.option(
    "--levels",
    callback=_levels,
    default="112",
    show_default=True,
    metavar="N,...",
    help="Short sides of the pyramid's levels in pixels.",
)
@click.option(
    "--shard-size", "shard_bytes", callback=_size, default="1GB", show_default=True, help="Size of a shard, about."
)
@click.option("--workers", "num_workers", type=click.IntRange(min=1), help="Processes.  [default: one for each core]")
@click.option(
    "--engine", type=click.Choice(["local"]), default="local", show_default=True, help="What runs the workers."
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=float,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that one video may take.",
)
@click.option(
    "--decode-errors",
    type=click.Choice(["fail", "keep"]),
    default="fail",
    show_default=True,
    help="A damaged video fails, or is kept as far as it decodes.",
)
@click.option("--retry-failed", is_flag=True, help="Try the failed videos again and rewrite their shards.")
@click.option("--overwrite", is_flag=True, help="Remove the shards that are there and begin anew.")
def extract(source: Path, out: Path | None, manifest: str | None, annotations: Path | None, **choices: object) -> None:
    """Turn SOURCE, a folder of videos (or one video), into WebDataset shards.

    A run that was killed goes on where it ended: give the same command again.
    """
    from vidprep.pipelines.extract import Options, Settings, extract

    names = ("residual_form", "residual_format", "spectrogram_recipe", "levels")
    settings = Settings(**{name: choices.pop(name) for name in names})  # type: ignore[arg-type]
    options = Options(settings=settings, **{**choices, "num_workers": choices["num_workers"] or 0})  # type: ignore[arg-type]
    out = out or Path(f"{Path(os.path.realpath(source)).name}-shards")
    bar = _Bar()
    try:
        summary = extract(source, out, options, manifest=manifest, annotations=annotations, on_progress=bar)
    finally:
        bar.close()
    _show_summary(summary)
    if summary.failed:
        raise click.exceptions.Exit(1)


class _Bar:
    """A progress bar on a terminal, nothing elsewhere: videos, frames a second, failures."""

    def __init__(self) -> None:
        self._bar: object = None
        self._phase = ""
        self._num_frames = self._num_failed = 0

    def __call__(self, phase: str, num_done: int, num_total: int, status: Status | None) -> None:
        from tqdm import tqdm

        if phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = tqdm(total=num_total, desc=phase, unit="video", disable=None, dynamic_ncols=True)
        bar = self._bar
        assert isinstance(bar, tqdm)
        if status is not None:
            self._num_frames += status.num_frames
            self._num_failed += status.error is not None
            seconds = max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix(
                {"frames/s": f"{self._num_frames / seconds:.0f}", "failed": self._num_failed}, refresh=False
            )
        bar.update(num_done - bar.n)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()  # type: ignore[attr-defined]


def _show_summary(summary: Summary) -> None:
    click.echo(
        f"{summary.num_done} videos, {summary.num_frames} frames, {summary.num_bytes / 1e6:.1f} MB "
        f"in {summary.num_shards} shards: {summary.out}"
    )
    if summary.num_resumed:
        click.echo(f"{summary.num_resumed} of them were there from an earlier run")
    if summary.num_ignored:
        click.echo(f"{summary.num_ignored} files were passed over: no videos by their extension, or not in the dataset")
    if summary.num_inexact:
        click.echo(
            f"warning: motion_exact=false for {summary.num_inexact} videos: their vectors may refer to several "
            "pictures (H.264), lack B-frames or stand for global motion (MPEG-4); --codec mpeg4 makes them exact",
            err=True,
        )
    if summary.num_damaged:
        click.echo(
            f"warning: decode_errors>0 for {summary.num_damaged} videos: their decoders reported damage, pictures may "
            "be wrong or missing; get them anew, or leave them out by their json",
            err=True,
        )
    if summary.failed:
        click.echo(
            f"{len(summary.failed)} failed (after mending: the same command with --retry-failed):",
            err=True,
        )
        for status in summary.failed[:MAX_LISTED]:
            reason = (status.error or "").removeprefix(f"{status.path}: ")
            click.echo(f"  {status.path}: {reason}", err=True)
        if len(summary.failed) > MAX_LISTED:
            click.echo(f"  ... and {len(summary.failed) - MAX_LISTED} more: {summary.out}/status/*.jsonl", err=True)
