"""``vidprep train``: its options, its progress bar and its closing summary."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vidprep.pipelines.train_options import Summary

RECIPE_NAMES = (
    "r3d-18",
    "r2plus1d-18",
    "hara-resnet18",
    "hara-resnet18-a",
    "x3d-xs",
    "x3d-s",
    "x3d-m",
    "x3d-l",
    "x3d-xl",
    "x3d-xs-pytorchvideo",
    "x3d-s-pytorchvideo",
    "x3d-m-pytorchvideo",
    "x3d-l-pytorchvideo",
    "resnet3d-18",
    "resnet3d-50",
    "slowfast-r18-8x8",
    "slowfast-r50-8x8",
    "slowfast-r50-4x16",
    "i3d-resnet50",
    "i3d-resnet50-windows",
    "tsm-mobilenet-v2",
    "tsm-resnet50",
    "coviar-motion",
    "coviar-residual",
    "fixed-zoom-r2plus1d-18",
    "adaptive-zoom-r2plus1d-18",
    "fixed-zoom-hara-resnet18",
    "adaptive-zoom-hara-resnet18",
    "fixed-zoom-x3d-m",
    "adaptive-zoom-x3d-m",
    "sgs-resnet3d-18",
    "sgs-resnet3d-50",
    "sgs-x3d-s",
    "sgs-slowfast-r50-8x8",
)
_CHANGED = ("epochs", "batch_size", "learning_rate")


@click.command(epilog=f"Recipes: {', '.join(RECIPE_NAMES)}; or a Python file that defines recipe = Recipe(...).")
@click.argument("recipe")
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--split", metavar="SPLIT", help="What to train on, such as split1/train.  [default: all]")
@click.option("--validate", metavar="SPLIT", help="What to measure the accuracy on; the best checkpoint is kept.")
@click.option(
    "--validate-every", type=click.IntRange(min=1), default=1, show_default=True, metavar="EPOCHS", help="How often."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of a step, over all GPUs, instead of the recipe's.")
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="What the backbone begins with.")
@click.option("--new-head", "has_new_head", is_flag=True, help="All of --weights but the classifier: other classes.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of weights, order, clips, views and dropout.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--amp",
    type=click.Choice(["off", "bf16", "fp16"]),
    default="off",
    show_default=True,
    help="Compute in a shorter type.",
)
@click.option("--sync-batchnorm", is_flag=True, help="Normalise over the batches of all GPUs.")
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that read.",
)
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    help="The longest time without a checkpoint.",
)
@click.option("--tensorboard", is_flag=True, help="Write metrics for TensorBoard too.")
@click.option("--overwrite", is_flag=True, help="Remove the training that is there and begin anew.")
def train(recipe: str, shards: Path, to: Path, **choices: object) -> None:
    """Train the model of RECIPE on SHARDS.

    A run that was killed goes on where it ended: give the same command again. On several GPUs: torchrun
    --nproc_per_node 8 -m vidprep.cli train ...
    """
    from tqdm import tqdm

    from vidprep.pipelines.recipes import find_recipe
    from vidprep.pipelines.train import train
    from vidprep.pipelines.train_options import Options

    settings = {name: value for name in _CHANGED if (value := choices.pop(name)) is not None}
    options = Options(**choices)  # type: ignore[arg-type]
    found = find_recipe(recipe, settings)
    with tqdm(unit="step", disable=None, dynamic_ncols=True, delay=0.5) as bar:

        def show(num_done: int, num_total: int, loss: float) -> None:
            if bar.total is None:
                bar.total = num_total
                bar.n = bar.last_print_n = bar.initial = (
                    num_done - 1
                )  # an earlier run's say nothing of this one's speed
            bar.set_postfix({"loss": f"{loss:.3f}"}, refresh=False)
            bar.update(num_done - bar.n)

        def tell(row: dict[str, float]) -> None:
            numbers = (f"{name} {value:.3g}" for name, value in row.items() if name != "epoch")
            bar.write(f"epoch {row['epoch']:.0f} of {found.epochs}: {', '.join(numbers)}", file=sys.stderr)

        summary = train(found, shards, to, options, on_progress=show, on_epoch=tell)
    if summary.is_first_rank:
        _show_summary(summary)


def _show_summary(summary: Summary) -> None:
    score = "" if summary.score is None else f", {summary.score[0]} {summary.score[1]:.3f}"
    click.echo(f"{summary.num_epochs} epochs, loss {summary.loss:.4f}{score}: {summary.checkpoint}")
    if summary.num_resumed == summary.num_epochs:
        click.echo("all of it was there from an earlier run; --overwrite to begin anew")
    elif summary.num_resumed:
        click.echo(f"{summary.num_resumed} of the epochs were there from an earlier run")
