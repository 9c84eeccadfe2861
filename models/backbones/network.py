"""The contract of all networks on clips: stages that run one after the other, features, a head."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

Pathways = list[torch.Tensor]
"""What runs through the stages: one tensor [shape=(N, C, T, H, W)], or SlowFast's two."""


class VideoNetwork(nn.Module):
    """A network on clips.

    A subclass has one ``nn.Sequential`` for each stage (or, with several pathways, an ``nn.ModuleList`` of one for
    each), whose last child is an activation, or a block that ends with its ``relu``; and ``head``, which makes
    logits of features. Methods such as similarity-guided sampling rely on that.

    Attributes
    ----------
    stage_names : tuple of str
        The stages in their order.
    num_features : int
        Channels of the last maps, of all pathways together.
    """

    stage_names: ClassVar[tuple[str, ...]] = ("stem", "res2", "res3", "res4", "res5")
    num_features: int
    head: nn.Module

    def pathways(self, clip: torch.Tensor) -> Pathways:
        """Return what the first stage gets of a clip [shape=(N, 3, T, H, W)]."""
        return [clip]

    def stage(self, name: str) -> list[nn.Sequential]:
        """Return a stage's modules, one for each pathway."""
        module = self.get_submodule(name)
        modules = list(module) if isinstance(module, nn.ModuleList) else [module]
        assert all(isinstance(one, nn.Sequential) for one in modules)
        return modules  # type: ignore[return-value]

    def fuse(self, name: str, pathways: Pathways) -> Pathways:
        """Let pathways exchange what they know after a stage; with one pathway there is nothing to do."""
        return pathways

    def run(self, pathways: Pathways, names: tuple[str, ...]) -> Pathways:
        """Run some stages."""
        for name in names:
            stages = self.stage(name)
            pathways = self.fuse(name, [one(maps) for one, maps in zip(stages, pathways, strict=True)])
        return pathways

    def maps(self, clip: torch.Tensor) -> Pathways:
        """Return the last maps of a normalised clip [shape=(N, 3, T, H, W)], one tensor a pathway."""
        return self.run(self.pathways(clip), self.stage_names)

    def pool(self, pathways: Pathways) -> torch.Tensor:
        """Return features [shape=(N, num_features)]: means of the last maps over time and space, of any size."""
        return torch.cat([maps.mean((2, 3, 4)) for maps in pathways], 1)

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the features of a normalised clip [shape=(N, num_features)]."""
        return self.pool(self.maps(clip))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the logits of a normalised clip [shape=(N, num_classes)]."""
        logits: torch.Tensor = self.head(self.features(clip))
        return logits


class PerFrame(nn.Sequential):
    """Modules on pictures, run on each frame of maps [shape=(N, C, T, H, W)]; one after another they copy nothing."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the modules on frames [shape=(N*T, C, H, W)]."""
        num_clips, _, num_frames = maps.shape[:3]
        frames = maps.transpose(1, 2).flatten(0, 1)
        for module in self:
            frames = module(frames)
        return frames.reshape(num_clips, num_frames, *frames.shape[1:]).transpose(1, 2)


class Head(nn.Sequential):
    """Dropout and a linear classifier.

    Parameters
    ----------
    num_features, num_classes : int
    dropout : float
        The share of features that are dropped in training.
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.add_module("dropout", nn.Dropout(dropout))
        self.add_module("projection", nn.Linear(num_features, num_classes))
