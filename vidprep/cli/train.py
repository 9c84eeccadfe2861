"""``vidprep train`` and ``vidprep evaluate``: their options, progress and closing lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("recipe")
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--split", metavar="SPLIT", help="What to train on, such as split1/train.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--amp", type=click.Choice(["off", "bf16", "fp16"]), default="off", show_default=True)
@click.option("--workers", "num_workers", type=click.IntRange(min=0), default=1, show_default=True)
def train(recipe: str, shards: Path, to: Path, **choices: object) -> None:
    """Train the model of RECIPE, a name or a Python file, on SHARDS."""
    from dataclasses import replace

    from tqdm import tqdm

    from vidprep.pipelines.recipes import find_recipe
    from vidprep.pipelines.train import Options, train

    names = ("epochs", "batch_size", "learning_rate")
    changed: dict[str, Any] = {name: value for name in names if (value := choices.pop(name)) is not None}
    found = replace(find_recipe(recipe), **changed)
    options = Options(**choices)  # type: ignore[arg-type]
    with tqdm(unit="step", disable=None, dynamic_ncols=True) as bar:

        def show(num_done: int, num_total: int, loss: float) -> None:
            bar.total = num_total
            bar.set_postfix({"loss": f"{loss:.3f}"}, refresh=False)
            bar.update(num_done - bar.n)

        train(found, shards, to, options, name=recipe, on_progress=show)
    click.echo(f"{found.epochs} epochs: {to / 'checkpoint.pt'}")
