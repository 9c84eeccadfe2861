"""What the experiments of the methods share: two small datasets, runs that are made once, a table."""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from vidprep.errors import UsageError
from vidprep.pipelines.demo_clip import DemoSettings
from vidprep.pipelines.demo_data import make_demo_data
from vidprep.pipelines.evaluate import Options as EvaluateOptions
from vidprep.pipelines.evaluate import evaluate
from vidprep.pipelines.evaluate_metrics import class_accuracies, confusion_matrix, top_k
from vidprep.pipelines.extract import extract
from vidprep.pipelines.extract_options import Options as ExtractOptions
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import load_model
from vidprep.pipelines.train_options import Options as TrainOptions

NUM_FOLDS = 5
FOLDS = (0, 1, 3, 4)  # for one seed after the other; on fold 2 it was seen what learns at all

Row = dict[str, Any]
"""What one run gave: numbers and names."""
Look = Callable[[nn.Module, Recipe, Path, str], Mapping[str, Any]]
"""What else is measured of a trained model, on a test split of shards."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training and its evaluation.

    Attributes
    ----------
    dataset, method : str
    seed : int
    recipe : Recipe
    shards : path
    train_split, test_split : str
    """

    dataset: str
    method: str
    seed: int
    recipe: Recipe
    shards: Path
    train_split: str
    test_split: str

    @property
    def settings(self) -> dict[str, str]:
        """All that its result depends on, but for the shards."""
        return {**self.recipe.identity, **self.recipe.facts}

    @property
    def name(self) -> str:
        """Of its folder and its file."""
        return "-".join((self.dataset, self.test_split.replace("/", "-"), self.method, str(self.seed)))


def runs_of(
    methods: Sequence[str],
    recipe: Callable[[str, str, int], Recipe],
    shards: Mapping[str, Path],
    seeds: Sequence[int],
    epochs: Mapping[str, int],
) -> list[Run]:
    """Return all runs: on the demo dataset's first split, and, seed by seed, on the next fold of EgoGestAR.

    ``recipe`` makes those of a dataset, a method and a number of epochs.
    """
    return [
        Run(
            dataset=dataset,
            method=method,
            seed=seed,
            recipe=_named(recipe(dataset, method, epochs[dataset])),
            shards=shards[dataset],
            train_split=f"{split}/train",
            test_split=f"{split}/test",
        )
        for seed, dataset, method in product(seeds, shards, methods)
        for split in ("split1" if dataset == "demo" else f"fold{FOLDS[seed % len(FOLDS)]}",)
    ]


def _named(recipe: Recipe) -> Recipe:
    """Name a recipe by its model, so that another model's run or result is not taken for its own."""
    return replace(recipe, name=re.sub(r" at 0x[0-9a-f]+", "", repr(recipe.model)))


def demo_shards(folder: Path, options: ExtractOptions, settings: DemoSettings | None = None) -> Path:
    """Make the demo dataset and extract it; what is there already stays."""
    make_demo_data(folder / "demo-data", settings)
    return extract(folder / "demo-data", folder / "demo", options).out


def egogestar_shards(source: Path, folder: Path, options: ExtractOptions) -> Path:
    """Extract EgoGestAR; fold k is the split ``foldk/test``, and all others are ``foldk/train``.

    Parameters
    ----------
    source : path
        Its folder; ``manifest.csv`` has columns path, label and fold, each fold one family of devices.
    folder : path
    options : Options

    Raises
    ------
    UsageError
        If there is no manifest.
    """
    if not (manifest := source / "manifest.csv").is_file():
        raise UsageError(f"egogestar={source}: must hold manifest.csv; give the folder of EgoGestAR")
    table = folder / "egogestar.csv"
    with manifest.open(newline="") as file, table.open("w", newline="") as split_file:
        writer = csv.writer(split_file)
        writer.writerow(("path", "label", "split"))
        for row in csv.DictReader(file):
            splits = (f"fold{k}/{'test' if str(k) == row['fold'] else 'train'}" for k in range(NUM_FOLDS))
            writer.writerow((row["path"], row["label"], ";".join(splits)))
    return extract(source, folder / "egogestar", options, manifest=table).out


def made_once(path: Path, settings: Mapping[str, str], make: Callable[[], Row]) -> Row:
    """Return what a JSON file holds, or make it: so experiments can be killed and go on.

    Raises
    ------
    UsageError
        If it was made with other settings.
    """
    if not path.exists():
        made = json.dumps({**make(), "settings": dict(settings)}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(made)
        part.rename(path)
    row: Row = json.loads(path.read_text())
    if changed := [name for name in settings if settings[name] != row["settings"].get(name)]:
        name = changed[0]
        raise UsageError(
            f"{name}={settings[name]}: {path} was made with {row['settings'].get(name)}; name another folder for"
            " results, or remove this file and the folder of its run"
        )
    return row


def train_and_evaluate(run: Run, folder: Path, look: Look) -> Row:
    """Train and evaluate; a run that was made before is read."""

    def make() -> Row:
        is_whole, start = not (folder / run.name).exists(), time.process_time()
        options = TrainOptions(split=run.train_split, seed=run.seed)
        summary = train(run.recipe, run.shards, folder / run.name, options)
        seconds = time.process_time() - start
        model, recipe, state = load_model(summary.checkpoint, run.recipe)
        found = evaluate(model, recipe, run.shards, EvaluateOptions(split=run.test_split), classes=state["classes"])
        by_class = class_accuracies(confusion_matrix(found.scores, found.labels)).tolist()
        return {
            "dataset": run.dataset,
            "split": run.test_split,
            "method": run.method,
            "seed": run.seed,
            "top1": top_k(found.scores, found.labels, 1),
            "class_accuracies": dict(zip(found.classes, by_class, strict=True)),
            "gmacs": found.cost.macs / 1e9,
            "train_cpu_seconds": seconds if is_whole else None,  # of what was killed and went on, they are too few
            **look(model, recipe, run.shards, run.test_split),
        }

    return made_once(folder / f"{run.name}.json", run.settings, make)


def options_of(page: str | None, *, epochs: tuple[int, int]) -> argparse.Namespace:
    """Return what an experiment's command is told; ``page`` is its help, ``epochs`` are those without ``--epochs``."""
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder for shards, checkpoints and results")
    parser.add_argument("--egogestar", type=Path, help="the folder of EgoGestAR; without, the demo dataset alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="so two processes may share them")
    parser.add_argument("--epochs", type=int, nargs=2, default=epochs, help="on the demo dataset and on EgoGestAR")
    parser.add_argument("--made", action="store_true", help="train nothing: the table of the runs that there are")
    parser.add_argument("--readme", type=Path, help="write the tables into this page, between their marks")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    return options


def is_made(run: Run, folder: Path) -> bool:
    """Tell whether a run was made before."""
    return (folder / f"{run.name}.json").exists()


def publish(tables: str, mark: str, page: Path | None) -> None:
    """Print tables; and put them into a page, between ``<!-- mark -->`` and the next ``<!-- end -->``."""
    print(tables, flush=True)  # noqa: T201 - a command
    if page is not None:
        before, begin, rest = page.read_text().partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not begin or not end:
            raise UsageError(f"readme={page}: must hold <!-- {mark} --> and <!-- end -->; add them")
        page.write_text(f"{before}{begin}{tables}\n{end}{after}")


def mean_and_spread(values: Iterable[float | None], digits: int = 1, scale: float = 1.0) -> str:
    """Return the mean and the standard deviation over runs, as a table has them; of those that are known."""
    numbers = [scale * value for value in values if value is not None]
    if not numbers:
        return ""
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.{digits}f}{spread}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its first two columns are text, the others numbers."""
    lines = [header, ["---" if place < 2 else "--:" for place in range(len(header))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
