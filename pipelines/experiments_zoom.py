"""Does adaptive zoom work? ``python -m vidprep.pipelines.experiments_zoom RESULTS --egogestar FOLDER``.

Trains a small 3D network behind a crop in the middle, behind the paper's zoom, and behind zooms that begin where the
guide has most, from random weights, on the demo dataset and on EgoGestAR (one family of devices left out), and prints
the tables of ``models/README.md``. Each run is kept in RESULTS: killed and told again, it goes on. One to
three CPU minutes a run on the demo dataset; two processes may share the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
from torch import nn

from vidprep.dataset import Resize, Segments, ShardDataset
from vidprep.models import AdaptiveZoom, FixedZoom, GuidedZoom
from vidprep.models.zooms import Zoom
from vidprep.pipelines.demo_clip import CLASSES, DemoSettings
from vidprep.pipelines.evaluate import Options as EvaluateOptions
from vidprep.pipelines.evaluate import evaluate
from vidprep.pipelines.evaluate_metrics import top_k
from vidprep.pipelines.experiments import (
    Row,
    Run,
    demo_shards,
    egogestar_shards,
    is_made,
    made_once,
    markdown,
    mean_and_spread,
    options_of,
    publish,
    runs_of,
    train_and_evaluate,
)
from vidprep.pipelines.extract_options import Options as ExtractOptions
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes_methods import Zoomed
from vidprep.pipelines.train_checkpoint import CHECKPOINT_NAME, load_model

NUM_FRAMES = 9
FRAME, SIZE = (171, 128), 64  # width and height of what is zoomed into, and the side of what the network sees
WIDTH = 16
LIMITS = (0.25, 4 / 3)  # the upper one shows all of a 4:3 frame
DEMO = DemoSettings(clips_per_group=4)
EXTRACTION = ExtractOptions(size="short:128", modalities=("rgb", "motion", "residual"))

GUIDE_SIZE = (32, 43)  # a quarter of the frame, as the paper has it
_fixed = partial(FixedZoom, size=SIZE, shear=0.1)
_zoom = partial(AdaptiveZoom, size=SIZE, num_frames=NUM_FRAMES, limits=LIMITS, guide_size=GUIDE_SIZE)
_at_guide = partial(_zoom, centre="guide", start=0.5)

METHODS: Mapping[str, tuple[Callable[[], Zoom], str]] = {
    "centre": (_fixed, "residual"),
    "paper": (_zoom, "residual"),
    "paper-rgb": (_zoom, "rgb"),
    "at-residual": (_at_guide, "residual"),
    "at-motion": (_at_guide, "motion"),
    "at-rgb": (_at_guide, "rgb"),
    "at-residual-unlearned": (partial(GuidedZoom, size=SIZE, scale=0.5, guide_size=GUIDE_SIZE), "residual"),
    "at-residual-wide": (partial(_at_guide, start=0.875), "residual"),
}
"""Zoom and guide."""
OF_DEMO = tuple(name for name in METHODS if name != "at-residual-wide")
OF_EGOGESTAR = ("centre", "paper", "at-residual", "at-residual-wide")

CROPS: Mapping[str, Callable[[], Zoom]] = {
    "random 80-100 %": partial(_fixed, scale=(0.8, 1.0), anywhere=True),
    **{f"centre {100 * scale:g} %": partial(_fixed, scale=scale) for scale in (0.925, 0.875, 0.8, 0.75, 0.6)},
}
"""Table 7: what the baseline's network is shown in the test."""


class SmallNetwork(nn.Sequential):
    """Four convolutions with strides on what changes from frame to frame of ``batch["rgb"]``, and a classifier.

    From random weights and some hundred clips, networks on RGB itself stay at chance. Features are the largest over
    space, and means over time.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)
        for place in range(4):
            kernel, stride = ((3, 5, 5), (1, 2, 2)) if place == 0 else ((3, 3, 3), (2, 2, 2))
            time, height, width = kernel
            padding = (time // 2, height // 2, width // 2)
            self.append(nn.Conv3d(widths[place], widths[place + 1], kernel, stride, padding, bias=False))
            self.append(nn.BatchNorm3d(widths[place + 1]))
            self.append(nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[-1], num_classes))

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        maps = torch.diff(batch["rgb"].float(), dim=2) / 57  # the usual standard deviation of RGB, in levels
        for module in list(self)[:-1]:
            maps = module(maps)
        logits: torch.Tensor = self.head(maps.amax((3, 4)).mean(2))
        return logits


def _model(make: Callable[[], Zoom], guide: str, num_classes: int) -> nn.Module:
    network = SmallNetwork(num_classes)  # first, so that it begins alike in all methods
    return Zoomed(make(), network, guide)


def recipe(dataset: str, method: str, epochs: int) -> Recipe:
    """Return the recipe of a method: the same for all and on all datasets, but for the zoom."""
    make, guide = METHODS[method]
    return Recipe(
        model=partial(_model, make, guide),
        modalities=tuple(dict.fromkeys(("rgb", guide))),
        train_clips=Segments(NUM_FRAMES),  # one frame each from the middle of 9 parts of the video
        test_clips=Segments(NUM_FRAMES),
        train_transform=(Resize(*FRAME),),
        test_transform=(Resize(*FRAME),),
        epochs=epochs,
        batch_size=8,
        optimiser="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup_epochs=min(1, epochs / 5),
        max_grad_norm=5.0,
        label_smoothing=0.1,
    )


def crops_of(model: nn.Module, how: Recipe, shards: Path, split: str) -> dict[str, Any]:
    """Return the scale that the zoom gives to each test clip, and where its crop stands."""
    zoom = model.get_submodule("zoom")
    assert isinstance(zoom, Zoom) and isinstance(model, Zoomed)
    dataset = ShardDataset(shards, split, how.modalities, clips=how.test_clips, transform=how.test_transform)
    scales, positions = list[float](), list[list[float]]()
    with torch.inference_mode():
        for batch in dataset.loader(how.batch_size):
            crop = zoom.crop(batch["rgb"], batch[str(model.guide)])
            scales += crop.scale.tolist()
            positions += crop.position.tolist()
    return {"scales": scales, "positions": positions}


def runs(shards: Mapping[str, Path], seeds: list[int], epochs: Mapping[str, int]) -> list[Run]:
    """Return all runs: see :func:`~vidprep.pipelines.experiments.runs_of`."""
    found = runs_of(tuple(METHODS), recipe, shards, seeds, epochs)
    return [run for run in found if run.method in (OF_DEMO if run.dataset == "demo" else OF_EGOGESTAR)]


def other_crops(run: Run, adaptive: Row, folder: Path) -> Row:
    """Show the baseline's network other crops than it was trained with, as Table 7 does.

    Parameters
    ----------
    run : Run
        Of the baseline, which has been made.
    adaptive : dict
        What the zoom gave whose mean scale is among the crops.
    folder : path
    """

    def make() -> Row:
        model, how, state = load_model(folder / run.name / CHECKPOINT_NAME, run.recipe)
        crops: dict[str, Callable[[], Zoom]] = dict(CROPS)
        crops[f"centre, mean scale of {adaptive['method']}"] = partial(_fixed, scale=mean(adaptive["scales"]))
        found = {}
        for name, crop in crops.items():
            torch.manual_seed(run.seed)
            setattr(model, "zoom", crop())  # noqa: B010 - of a module in general
            options = EvaluateOptions(split=run.test_split)
            scores = evaluate(model, how, run.shards, options, classes=state["classes"])
            found[name] = top_k(scores.scores, scores.labels, 1)
        return {"dataset": run.dataset, "seed": run.seed, "top1": found}

    return made_once(folder / f"{run.name}-crops.json", run.settings, make)


def table(rows: list[Row]) -> str:
    """Return the table of all runs: means and standard deviations over seeds."""
    lines = []
    for dataset, method in dict.fromkeys((row["dataset"], row["method"]) for row in rows):
        found = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        lines.append(
            [
                dataset,
                method,
                str(len(found)),
                mean_and_spread((row["top1"] for row in found), 1, 100),
                *(_of_kind(found, kind) for kind in ("static", "temporal")),
                f"{mean(row['gmacs'] for row in found):.4f}",
                mean_and_spread((mean(row["scales"]) for row in found), 2),
                f"{mean(pstdev(row['scales']) for row in found):.2f}",
                mean_and_spread((row["train_cpu_seconds"] for row in found), 0),
            ]
        )
    header = ["dataset", "method", "runs", "top-1 %", "static %", "temporal %", "GMAC", "mean scale"]
    return markdown([*header, "its spread over clips", "training, CPU s"], lines)


def _of_kind(rows: list[Row], kind: str) -> str:
    names = [one.name for one in CLASSES if one.kind == kind]
    values = [[row["class_accuracies"][name] for name in names if name in row["class_accuracies"]] for row in rows]
    return mean_and_spread((mean(row) for row in values), 1, 100) if all(values) else ""


def table_of_crops(rows: list[Row]) -> str:
    """Return the table of the crops that the baseline's network was shown."""
    lines = []
    for dataset, name in dict.fromkeys((row["dataset"], name) for row in rows for name in row["top1"]):
        found = [row["top1"][name] for row in rows if row["dataset"] == dataset]
        lines.append([dataset, name, mean_and_spread(found, 1, 100)])
    return markdown(["dataset", "crop in the test", "top-1 %"], lines)


def main() -> None:
    """Make what is missing, and print the tables of what there is."""
    options = options_of(__doc__, epochs=(5, 15))
    torch.set_num_threads(1)
    shards = {"demo": options.results / "demo" if options.made else demo_shards(options.results, EXTRACTION, DEMO)}
    if options.egogestar:
        shards["egogestar"] = egogestar_shards(options.egogestar, options.results, EXTRACTION)
    rows, crops, baselines = list[Row](), list[Row](), dict[tuple[str, int], Run]()
    for run in runs(shards, options.seeds, dict(zip(("demo", "egogestar"), options.epochs, strict=True))):
        if options.made and not is_made(run, options.results):
            continue
        rows.append(train_and_evaluate(run, options.results, crops_of))
        place = (run.dataset, run.seed)
        if run.method == "centre":
            baselines[place] = run
        if run.method == "paper":
            crops.append(other_crops(baselines[place], rows[-1], options.results))
        publish(f"{table(rows)}\n\n{table_of_crops(crops)}", "experiments_zoom", options.readme)


if __name__ == "__main__":
    main()
