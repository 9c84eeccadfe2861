"""A recipe as users write them: a small network with all that networks have, on small pictures."""

from collections.abc import Mapping

import torch
from torch import nn

from vidprep.dataset import RandomClip, RandomCrop, ThreeCrops, UniformClips
from vidprep.pipelines.recipes import RGB, Recipe

FRAMES, SIZE = 4, 32


def network(num_classes: int) -> nn.Sequential:
    """A convolution, a normalisation, a ReLU, a pooling and a classifier."""
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, stride=(1, 4, 4), bias=False),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )


def model(num_classes: int) -> nn.Module:
    return RGB(network(num_classes), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Skipping(nn.Module):
    """Looks at bright clips alone, so that its cost depends on the data."""

    def __init__(self, num_classes: int, threshold: float) -> None:
        super().__init__()
        self.model, self.num_classes, self.threshold = model(num_classes), num_classes, threshold

    def is_bright(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.float().mean((1, 2, 3, 4)) > self.threshold

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits = torch.zeros(len(batch["rgb"]), self.num_classes)
        chosen = self.is_bright(batch["rgb"])
        if chosen.any():
            logits[chosen] = self.model({"rgb": batch["rgb"][chosen]}).float()
        return logits


recipe = Recipe(
    model=model,
    train_clips=RandomClip(FRAMES),
    train_transform=(RandomCrop(SIZE),),
    test_clips=UniformClips(2, FRAMES),
    test_transform=(ThreeCrops(SIZE),),
    epochs=1,
    batch_size=4,
)
