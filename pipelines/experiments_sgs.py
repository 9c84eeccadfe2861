"""Does similarity-guided sampling work? ``python -m vidprep.pipelines.experiments_sgs --egogestar FOLDER RESULTS``.

Trains the 3DResNet-18 of the paper with and without sampling after res2, from random weights, on the demo dataset and
on EgoGestAR (one family of devices left out), and prints the table of ``models/README.md``. Each run is kept in
RESULTS: killed and told again, it goes on. Three to six CPU minutes a run; two processes may share seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vidprep.dataset import CenterCrop, RandomCrop, Resize, Segments, ShardDataset
from vidprep.models import AdaptiveTemporalResolution, GuidedZoom
from vidprep.models.backbones import BACKBONES
from vidprep.pipelines.demo_clip import DemoSettings
from vidprep.pipelines.experiments import (
    Row,
    Run,
    demo_shards,
    egogestar_shards,
    is_made,
    markdown,
    mean_and_spread,
    options_of,
    publish,
    runs_of,
    train_and_evaluate,
)
from vidprep.pipelines.experiments_zoom import GUIDE_SIZE
from vidprep.pipelines.extract_options import Options as ExtractOptions
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes_methods import Zoomed

NUM_FRAMES, NUM_FEWER = 16, 9
PICTURE, CROP = (48, 36), (40, 32)  # width and height: small, so that two cores do
DEMO_PICTURE, DEMO_CROP = (171, 128), 40  # what is zoomed into, and the side of the crop around the disc
DEMO = DemoSettings(clips_per_group=4)
EXTRACTION = ExtractOptions(size="short:96", modalities=("rgb",))
DEMO_EXTRACTION = ExtractOptions(size="short:128", modalities=("rgb", "residual"))

METHODS: Mapping[str, Mapping[str, Any] | None] = {
    "all-frames": None,
    "fewer-frames": None,
    "sgs": {},
    "sgs-blocks": {"block_frames": 4},
    "sgs-blocks-6": {"block_frames": 4, "num_bins": 6},
}
"""Options of the sampling. None are baselines: on all frames, or on evenly chosen ones for about as many GMAC as with
sampling. The samplings are the paper's: over the whole clip; as on Something-Something, over blocks; and with bins two
thirds as wide there, for more of them."""
OF_DEMO = ("all-frames", "sgs", "sgs-blocks")


class Differences(nn.Module):
    """A network on what changes from frame to frame of ``batch["rgb"]``, one frame less than there are.

    From random weights and some 150 clips, the same network on RGB itself stays at chance.

    Parameters
    ----------
    network : nn.Module
        On clips.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return logits [shape=(N, classes)]."""
        changes = torch.diff(batch["rgb"].float(), dim=2) / 57  # the usual standard deviation of RGB, in levels
        logits: torch.Tensor = self.network(changes)
        return logits


def _model(sampling: Mapping[str, Any] | None, num_classes: int) -> nn.Module:
    network = BACKBONES["resnet3d_18"].build(num_classes)
    return Differences(network if sampling is None else AdaptiveTemporalResolution(network, **sampling))


def _zoomed(sampling: Mapping[str, Any] | None, num_classes: int) -> nn.Module:
    zoom = GuidedZoom(size=DEMO_CROP, scale=0.5, guide_size=GUIDE_SIZE)
    return Zoomed(zoom, _model(sampling, num_classes))


def recipe(dataset: str, method: str, epochs: int) -> Recipe:
    """Return the recipe of a method: on a dataset the same for all, but for the sampling.

    On the demo dataset all see the crop where the residual has most: of a whole frame, small enough for two cores, the
    network learns nothing, for the disc has seven pixels.
    """
    is_demo, num_frames = dataset == "demo", _num_frames(method)
    common = Recipe(
        model=partial(_zoomed if is_demo else _model, METHODS[method]),
        train_clips=Segments(num_frames + 1),  # one frame each from the middle of 17 parts of the video
        test_clips=Segments(num_frames + 1),
        epochs=epochs,
        batch_size=8,
        optimiser="adamw",
        learning_rate=3e-3,
        weight_decay=0.05,
        warmup_epochs=min(3, epochs / 5),
        max_grad_norm=5.0,
        label_smoothing=0.1,
    )
    if is_demo:
        resized = (Resize(*DEMO_PICTURE),)
        return replace(common, modalities=("rgb", "residual"), train_transform=resized, test_transform=resized)
    return replace(
        common,
        train_transform=(Resize(*PICTURE), RandomCrop(CROP)),
        test_transform=(Resize(*PICTURE), CenterCrop(CROP)),
    )


def bins_and_motion(model: nn.Module, how: Recipe, shards: Path, split: str) -> dict[str, Any]:
    """Return the bins of each test clip, of the same clip stood still, and how much it moves.

    Motion is the mean difference of neighbouring frames, in levels.
    """
    network = next((one for one in model.modules() if isinstance(one, AdaptiveTemporalResolution)), None)
    if network is None:
        return {}
    dataset = ShardDataset(shards, split, how.modalities, clips=how.test_clips, transform=how.test_transform)
    bins, still, motion = list[float](), list[float](), list[float]()
    with torch.inference_mode():
        for batch in dataset.loader(how.batch_size):
            clips = batch["rgb"]
            model(batch)
            bins += network.last_num_bins.float().mean(1).tolist()
            seen = model.zoom(clips, batch["residual"]) if isinstance(model, Zoomed) else clips.float()
            motion += torch.diff(seen, dim=2).abs().mean((1, 2, 3, 4)).tolist()
            model({**batch, "rgb": clips[:, :, :1].expand_as(clips)})
            still += network.last_num_bins.float().mean(1).tolist()
    return {"bins": bins, "still_bins": still, "motion": motion}


def runs(shards: Mapping[str, Path], seeds: list[int], epochs: Mapping[str, int]) -> list[Run]:
    """Return all runs: see :func:`~vidprep.pipelines.experiments.runs_of`."""
    found = runs_of(tuple(METHODS), recipe, shards, seeds, epochs)
    return [run for run in found if run.dataset != "demo" or run.method in OF_DEMO]


def table(rows: list[Row]) -> str:
    """Return the table of all runs: means and standard deviations over seeds."""
    lines = []
    for dataset, method in dict.fromkeys((row["dataset"], row["method"]) for row in rows):
        found = [row for row in rows if (row["dataset"], row["method"]) == (dataset, method)]
        sampled = [row for row in found if "bins" in row]
        lines.append(
            [
                dataset,
                method,
                str(len(found)),
                mean_and_spread((row["top1"] for row in found), 1, 100),
                mean_and_spread((row["gmacs"] for row in found), 3),
                mean_and_spread((row["train_cpu_seconds"] for row in found), 0),
                *(
                    mean_and_spread(float(np.mean(_bins(row, which))) for row in sampled)
                    if sampled
                    else str(_num_frames(method))
                    for which in ("all", "least", "most", "still")
                ),
                mean_and_spread(_correlation(row) for row in sampled) if sampled else "",
            ]
        )
    header = ["dataset", "method", "runs", "top-1 %", "GMAC", "training, CPU s"]
    header += ["bins", "of the stillest quarter", "of the liveliest quarter", "of stills", "correlation with motion"]
    return markdown(header, lines)


def _correlation(row: Row) -> float:
    """Of bins with motion; none where all clips take equally many."""
    return float(np.corrcoef(row["bins"], row["motion"])[0, 1]) if len(set(row["bins"])) > 1 else 0.0


def _num_frames(method: str) -> int:
    return NUM_FEWER if method == "fewer-frames" else NUM_FRAMES


def _bins(row: Row, which: str) -> list[float]:
    by_motion = [bins for _, bins in sorted(zip(row["motion"], row["bins"], strict=True))]
    quarter = max(1, len(by_motion) // 4)
    chosen: dict[str, list[float]] = {
        "all": by_motion,
        "least": by_motion[:quarter],
        "most": by_motion[-quarter:],
        "still": row["still_bins"],
    }
    return chosen[which]


def main() -> None:
    """Make what is missing, and print the table of what there is."""
    options = options_of(__doc__, epochs=(6, 25))
    torch.set_num_threads(1)
    shards = {}
    if options.egogestar:
        shards["egogestar"] = egogestar_shards(options.egogestar, options.results, EXTRACTION)
    shards["demo"] = options.results / "demo" if options.made else demo_shards(options.results, DEMO_EXTRACTION, DEMO)
    epochs = dict(zip(("demo", "egogestar"), options.epochs, strict=True))
    rows = []
    for run in runs(shards, options.seeds, epochs):
        if not options.made or is_made(run, options.results):
            rows.append(train_and_evaluate(run, options.results, bins_and_motion))
            publish(table(rows), "experiments_sgs", options.readme)


if __name__ == "__main__":
    main()
