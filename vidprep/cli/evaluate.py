"""``vidprep evaluate`` and ``vidprep plot``: their options, progress and closing lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

MEASURES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mAP",
}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--split", metavar="SPLIT", help="What to evaluate on, such as split1/test.  [default: all]")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="The JSON to write; scores go into an .npz beside it."
    "  [default: evaluation[-best]-SPLIT[-VIEWS][-AMP].json beside CHECKPOINT]",
)
@click.option("--views", metavar="CLIPS[xCROPS]", help="Test views such as 10x3, instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Views at once, instead of the recipe's.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--amp",
    type=click.Choice(["off", "bf16", "fp16"]),
    default="off",
    show_default=True,
    help="Compute in a shorter type.",
)
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that read.",
)
def evaluate(checkpoint: Path, shards: Path, to: Path | None, **choices: Any) -> None:
    """Measure what CHECKPOINT, a file or folder that vidprep train wrote, knows of SHARDS, and what it costs."""
    from tqdm import tqdm

    from vidprep.pipelines.evaluate import Options, evaluate_checkpoint

    with tqdm(unit="batch", disable=None, dynamic_ncols=True, delay=0.5) as bar:

        def show(num_done: int, num_total: int) -> None:
            bar.total = num_total
            bar.update(num_done - bar.n)

        report, path = evaluate_checkpoint(checkpoint, shards, Options(**choices), to=to, on_progress=show)
    known = [f"{title} {100 * report[name]:.2f} %" for name, title in MEASURES.items() if report[name] is not None]
    click.echo(f"{report['num_videos']} videos x {report['num_views']} views: {', '.join(known) or 'no labels'}")
    if report["num_unlabelled"]:
        click.echo(f"{report['num_unlabelled']} videos without a label are left out of these numbers")
    latency_ms = 1000 * report["latency_seconds_per_view"]
    click.echo(
        f"{report['gmacs_per_video']:.3f} GMAC a video, {latency_ms:.1f} ms a view,"
        f" {report['videos_per_second']:.2f} videos/s: {path}"
    )


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The PNG file to write.")
@click.option("--measure", type=click.Choice([*MEASURES]), help="The accuracy to show.  [default: top1, or map]")
@click.option("--confusions", is_flag=True, help="Instead: which class one report's videos were taken for.")
def plot(reports: tuple[Path, ...], to: Path, measure: str | None, confusions: bool) -> None:
    """Draw accuracy against GFLOPs of REPORTS, JSON files that vidprep evaluate wrote."""
    from vidprep.errors import UsageError
    from vidprep.pipelines.evaluate_plot import plot_confusions, plot_costs

    if not confusions:
        shown = plot_costs(reports, to, measure)
        click.echo(f"{MEASURES[shown]} of {len(reports)} evaluations: {to}")
        return
    if len(reports) > 1 or measure:
        raise UsageError("confusions=True: takes one report and no measure; leave out the others")
    plot_confusions(reports[0], to)
    click.echo(f"confusions: {to}")
