"""Hara's 3D-ResNet-18 (Hara, Kataoka, Satoh, CVPR 2018): the R3D of adaptive zooming, four times less work than r3d_18.

Two families of published files: of 2018 with shortcuts A (``resnet-18-kinetics.pth``, Kinetics-400) and of 2020 with
shortcuts B (``r3d18_K_200ep.pth``, Kinetics-700). Their pictures are normalised differently.
"""

from __future__ import annotations

import torch
import torchvision
from torch import nn
from torch.nn import functional

from vidprep.models.backbones.network import Head, VideoNetwork
from vidprep.models.backbones.residual import named
from vidprep.models.weights import KeyMap

MEAN_2018 = (114.7748 / 255, 107.7354 / 255, 99.4750 / 255)
STD_2018 = (1 / 255, 1 / 255, 1 / 255)  # those files want 0 to 255, less the mean
MEAN_2020 = (0.4345, 0.4051, 0.3775)
STD_2020 = (0.2768, 0.2713, 0.2737)


class PaddedShortcut(nn.Module):
    """Shortcut A: every so manieth pixel and frame, and zeros for the channels that are new; no parameters.

    Parameters
    ----------
    stride, num_new_channels : int
    """

    def __init__(self, stride: int, num_new_channels: int) -> None:
        super().__init__()
        self.stride, self.num_new_channels = stride, num_new_channels

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Shorten maps [shape=(N, C, T, H, W)]."""
        kept = maps[:, :, :: self.stride, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.num_new_channels))


class HaraResNet18(VideoNetwork):
    """Hara's 3D-ResNet-18: torchvision's blocks behind a stem of 7x7x7 and a max-pool that halves time as well.

    Parameters
    ----------
    num_classes : int
    has_padded_shortcuts : bool
        Shortcuts A instead of B (convolutions of size 1).
    """

    def __init__(self, num_classes: int, *, has_padded_shortcuts: bool = False) -> None:
        super().__init__()
        blocks = torchvision.models.video.r3d_18()
        convolution = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.stem = named(
            conv=convolution,
            norm=nn.BatchNorm3d(64),
            pool=nn.MaxPool3d(3, stride=2, padding=1),
            relu=nn.ReLU(),  # behind the pooling, which gives the same as before it
        )
        self.res2, self.res3, self.res4, self.res5 = blocks.layer1, blocks.layer2, blocks.layer3, blocks.layer4
        if has_padded_shortcuts:
            for stage, num_channels in ((self.res3, 64), (self.res4, 128), (self.res5, 256)):
                stage[0].downsample = PaddedShortcut(2, num_channels)
        self.num_features = 512
        self.head = Head(self.num_features, num_classes, dropout=0.0)


def hara_resnet18(num_classes: int) -> HaraResNet18:
    """3D-ResNet-18 with shortcuts B, as of 2020."""
    return HaraResNet18(num_classes)


def hara_resnet18_a(num_classes: int) -> HaraResNet18:
    """3D-ResNet-18 with shortcuts A, as of 2018."""
    return HaraResNet18(num_classes, has_padded_shortcuts=True)


LAYOUTS: dict[str, KeyMap] = {
    "hara": [
        (r"conv1\.(.*)", r"stem.conv.\1"),
        (r"bn1\.(.*)", r"stem.norm.\1"),
        *((rf"layer{n}\.(\d)\.conv(\d)\.(.*)", rf"res{n + 1}.\1.conv\2.0.\3") for n in range(1, 5)),
        *((rf"layer{n}\.(\d)\.bn(\d)\.(.*)", rf"res{n + 1}.\1.conv\2.1.\3") for n in range(1, 5)),
        *((rf"layer{n}\.(\d)\.downsample\.(.*)", rf"res{n + 1}.\1.downsample.\2") for n in range(1, 5)),
        (r"fc\.(.*)", r"head.projection.\1"),
    ]
}
"""As of the files of 2018 and 2020."""
