"""What similarity-guided sampling saves: does the time of a batch fall with its operations?

``python tests/benchmarks/sgs.py [NAME ...]`` prints a table of Markdown. Each network runs on a batch of clips whose
frames repeat, so that their numbers of bins are spread; with sampling after res2, and without. One thread; CPU
seconds, medians of runs in turn. "Arrived" is the share of time saved over the share of operations saved. "Possible"
is the same for clips that all have the mean number of bins, found for nothing: what a network's first stages leave.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from vidprep.models import AdaptiveTemporalResolution
from vidprep.models.backbones import BACKBONES
from vidprep.models.backbones.network import VideoNetwork
from vidprep.pipelines.flops import count_flops

NUM_RUNS = 3
NUM_CLIPS = 8
INPUTS = {  # network -> frames, pixels of its clips
    "resnet3d_18": (32, 112),
    "resnet3d_50": (32, 112),
    "x3d_s": (13, 160),
    "r2plus1d_18": (16, 112),
}


def clips(num_frames: int, size: int) -> torch.Tensor:
    """Noise whose frames repeat: of the first clip none, of the last nearly all."""
    draws = torch.Generator().manual_seed(0)
    made = torch.randn(NUM_CLIPS, 3, num_frames, size, size, generator=draws)
    for clip, one in enumerate(made):
        num_distinct = max(1, num_frames * (NUM_CLIPS - clip) // NUM_CLIPS)
        one.copy_(one[:, torch.arange(num_frames) * num_distinct // num_frames])
    return made


def medians(*works: Callable[[], object]) -> list[float]:
    """Return CPU seconds of each work: medians of runs in turn, after one to warm up."""
    found: list[list[float]] = [[] for _ in works]
    for run in range(NUM_RUNS + 1):
        for work, seconds in zip(works, found, strict=True):
            start = time.process_time()
            work()
            if run:
                seconds.append(time.process_time() - start)
    return [statistics.median(one) for one in found]


def normalise(network: AdaptiveTemporalResolution, batch: torch.Tensor) -> None:
    """Give all normalisations the statistics of a batch, so that the bins are those of a network in training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(batch)


def infer(network: nn.Module, batch: torch.Tensor) -> None:
    """Run a batch."""
    with torch.inference_mode():
        network(batch)


def step(network: nn.Module, batch: torch.Tensor) -> None:
    """Run a batch and back."""
    network(batch).square().sum().backward()


class Possible(nn.Module):
    """A network whose stages behind one get the first of its maps: as many as the sampling leaves on average."""

    def __init__(self, sampling: AdaptiveTemporalResolution, plain: VideoNetwork) -> None:
        super().__init__()
        self.network, self.after = plain, sampling.after
        self.num_bins = round(sampling.last_num_bins.float().mean().item())

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        network, names = self.network, self.network.stage_names
        place = names.index(self.after) + 1
        maps = [one[:, :, : self.num_bins].contiguous() for one in network.run(network.pathways(clip), names[:place])]
        logits: torch.Tensor = network.head(network.pool(network.run(maps, names[place:])))
        return logits


def row(name: str) -> str:
    """Measure a network."""
    torch.manual_seed(0)
    plain, batch = BACKBONES[name].build(200), clips(*INPUTS[name])
    sampling = AdaptiveTemporalResolution(BACKBONES[name].build(200))
    normalise(sampling, batch)
    possible, lines = Possible(sampling, plain), []
    for mode, work in (("inference", infer), ("training step", step)):
        for network in (plain, sampling):
            network.train(mode == "training step")
        full, sampled = (count_flops(one, batch)[""].macs / 1e9 for one in (plain, sampling))
        seconds = medians(*(partial(work, network, batch) for network in (plain, sampling, possible)))
        saved, faster, ideal = 1 - sampled / full, 1 - seconds[1] / seconds[0], 1 - seconds[2] / seconds[0]
        bins = sampling.last_num_bins[:, 0].tolist()
        cells = [name, mode, f"{min(bins)}-{max(bins)} of {INPUTS[name][0]}", f"{full:.2f}", f"{sampled:.2f}"]
        cells += [f"{saved:.0%}", *(f"{one * 1e3:.0f}" for one in seconds), f"{faster:.0%}"]
        cells += [f"{faster / saved:.0%}", f"{ideal / saved:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| network | what | bins | GMAC | sampling | saved | ms | sampling | at best | saved | arrived | possible |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in sys.argv[1:] or INPUTS:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
