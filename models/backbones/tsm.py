"""TSM (Lin, Gan, Han, ICCV 2019): networks on pictures that see their neighbours in time, at no cost.

In each residual branch an eighth of the channels comes from the next frame and an eighth from the one before. Published
files: ``TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense.pth`` and its like for 16 segments, for
MobileNetV2 (``mobilenetv2``) and for Something-Something. The same weights run on any number of frames.
One thing differs in training: features are dropped behind their mean over the frames, not of each frame for itself.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torchvision
from torch import nn
from torch.nn import functional

from vidprep.models.backbones.network import Head, PerFrame, VideoNetwork
from vidprep.models.weights import KeyMap

SHIFT_DIVISOR = 8


def temporal_shift(maps: torch.Tensor, divisor: int = SHIFT_DIVISOR) -> torch.Tensor:
    """Let some channels come from the neighbouring frames, and zeros where there is none.

    Parameters
    ----------
    maps : torch.Tensor [shape=(N, C, T, H, W)]
    divisor : int
        The first ``C // divisor`` channels come from the next frame, as many after them from the one before.
    """
    frames = maps.transpose(1, 2)  # as they lie in memory between modules on frames
    num_shifted = frames.shape[2] // divisor
    ahead = functional.pad(frames[:, 1:, :num_shifted], (0, 0, 0, 0, 0, 0, 0, 1))
    behind = functional.pad(frames[:, :-1, num_shifted : 2 * num_shifted], (0, 0, 0, 0, 0, 0, 1, 0))
    return torch.cat([ahead, behind, frames[:, :, 2 * num_shifted :]], 2).transpose(1, 2)


class ShiftedBottleneck(nn.Module):
    """A bottleneck of ResNet-50 on clips, whose residual branch is shifted.

    Parameters
    ----------
    block : torchvision.models.resnet.Bottleneck
        Whose layers it takes.
    divisor : int
    """

    def __init__(self, block: torchvision.models.resnet.Bottleneck, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor
        layers = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3")
        self.branch = PerFrame(*(block.get_submodule(layer) for layer in layers))
        self.shortcut = nn.Identity() if block.downsample is None else PerFrame(*block.downsample)
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the block on maps [shape=(N, C, T, H, W)]."""
        total: torch.Tensor = self.relu(self.branch(temporal_shift(maps, self.divisor)) + self.shortcut(maps))
        return total


class ShiftedInvertedResidual(nn.Module):
    """A block of MobileNetV2 on clips, shifted where it has a shortcut.

    Parameters
    ----------
    block : torchvision.models.mobilenetv2.InvertedResidual
        Whose layers it takes.
    divisor : int
    """

    def __init__(self, block: torchvision.models.mobilenetv2.InvertedResidual, divisor: int) -> None:
        super().__init__()
        self.divisor, self.has_shortcut = divisor, block.use_res_connect
        self.branch = PerFrame(*(layer for layer in block.conv.modules() if not isinstance(layer, nn.Sequential)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the block on maps [shape=(N, C, T, H, W)]."""
        if not self.has_shortcut:
            return self.branch(maps)  # type: ignore[no-any-return]
        return maps + self.branch(temporal_shift(maps, self.divisor))  # type: ignore[no-any-return]


class TSMResNet50(VideoNetwork):
    """TSM over ResNet-50; logits are the mean of the frames'.

    Parameters
    ----------
    num_classes : int
    divisor : int
        Of the channels that are shifted each way.
    """

    def __init__(self, num_classes: int, *, divisor: int = SHIFT_DIVISOR) -> None:
        super().__init__()
        pictures = torchvision.models.resnet50()
        self.stem = nn.Sequential(PerFrame(pictures.conv1, pictures.bn1, pictures.maxpool), nn.ReLU())
        self.res2, self.res3, self.res4, self.res5 = (
            nn.Sequential(*(ShiftedBottleneck(block, divisor) for block in layer))
            for layer in (pictures.layer1, pictures.layer2, pictures.layer3, pictures.layer4)
        )
        self.num_features = 2048
        self.head = Head(self.num_features, num_classes)


class TSMMobileNetV2(VideoNetwork):
    """TSM over MobileNetV2, whose ten blocks with a shortcut are shifted; logits are the mean of the frames'.

    Parameters
    ----------
    num_classes : int
    divisor : int
        Of the channels that are shifted each way.
    """

    stage_names: ClassVar[tuple[str, ...]] = ("frames",)

    def __init__(self, num_classes: int, *, divisor: int = SHIFT_DIVISOR) -> None:
        super().__init__()
        first, *blocks, last = torchvision.models.mobilenet_v2().features
        shifted = [ShiftedInvertedResidual(block, divisor) for block in blocks]
        self.frames = nn.Sequential(PerFrame(*first), *shifted, PerFrame(*last))
        self.num_features = 1280
        self.head = Head(self.num_features, num_classes)


def tsm_resnet50(num_classes: int) -> TSMResNet50:
    """TSM over ResNet-50."""
    return TSMResNet50(num_classes)


def tsm_mobilenet_v2(num_classes: int) -> TSMMobileNetV2:
    """TSM over MobileNetV2."""
    return TSMMobileNetV2(num_classes)


def _resnet(prefix: str, head: str) -> KeyMap:
    return [
        (rf"{prefix}conv1\.(.*)", r"stem.0.0.\1"),
        (rf"{prefix}bn1\.(.*)", r"stem.0.1.\1"),
        *(
            (rf"{prefix}layer{n}\.(\d)\.{theirs}", rf"res{n + 1}.\1.{ours}")
            for n in range(1, 5)
            for theirs, ours in (
                (r"downsample\.(.*)", r"shortcut.\2"),
                *((rf"conv{k}\.(?:net\.)?(.*)", rf"branch.{3 * k - 3}.\2") for k in (1, 2, 3)),
                *((rf"bn{k}\.(.*)", rf"branch.{3 * k - 2}.\2") for k in (1, 2, 3)),
            )
        ),
        (rf"{head}\.(.*)", r"head.projection.\1"),
    ]


RESNET_LAYOUTS: dict[str, KeyMap] = {"tsm": _resnet(r"base_model\.", "new_fc"), "torchvision": _resnet("", "fc")}
"""Of TSM's own files, and of ImageNet's that its training begins with."""

MOBILENET_LAYOUTS: dict[str, KeyMap] = {
    "tsm": [
        (r"base_model\.features\.(\d+)\.conv\.(\d)\.(?:net\.)?(.*)", r"frames.\1.branch.\2.\3"),
        (r"base_model\.features\.(0|18)\.(.*)", r"frames.\1.\2"),
        (r"new_fc\.(.*)", r"head.projection.\1"),
    ],
    "torchvision": [
        (r"features\.(\d+)\.conv\.0\.([01])\.(.*)", r"frames.\1.branch.\2.\3"),
        (r"features\.1\.conv\.1\.(.*)", r"frames.1.branch.3.\1"),
        (r"features\.1\.conv\.2\.(.*)", r"frames.1.branch.4.\1"),
        (r"features\.(\d+)\.conv\.1\.0\.(.*)", r"frames.\1.branch.3.\2"),
        (r"features\.(\d+)\.conv\.1\.1\.(.*)", r"frames.\1.branch.4.\2"),
        (r"features\.(\d+)\.conv\.2\.(.*)", r"frames.\1.branch.6.\2"),
        (r"features\.(\d+)\.conv\.3\.(.*)", r"frames.\1.branch.7.\2"),
        (r"features\.(0|18)\.(.*)", r"frames.\1.\2"),
        (r"classifier\.1\.(.*)", r"head.projection.\1"),
    ],
}
"""Of TSM's own files, and of ImageNet's that its training begins with."""
