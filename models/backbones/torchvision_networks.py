"""Backbones that torchvision has: networks on pictures, run on each frame, and networks on clips."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torchvision
from torch import nn

from vidprep.models.backbones.network import Head, PerFrame, VideoNetwork
from vidprep.models.weights import KeyMap


class FrameNetwork(VideoNetwork):
    """A network on pictures, run on each frame of a clip; logits are those of the mean feature.

    Parameters
    ----------
    picture_network : nn.Sequential
        From pictures [shape=(N, C, H, W)] to maps [shape=(N, num_features, H', W')].
    num_features, num_classes : int
    dropout : float
        The share of the mean features that are dropped in training.
    """

    stage_names: ClassVar[tuple[str, ...]] = ("frames",)

    def __init__(
        self, picture_network: nn.Sequential, num_features: int, num_classes: int, *, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.frames = PerFrame(OrderedDict(picture_network.named_children()))
        self.num_features = num_features
        self.head = Head(num_features, num_classes, dropout)


def resnet50(num_classes: int) -> FrameNetwork:
    """ResNet-50 on each frame."""
    network = torchvision.models.resnet50()
    return FrameNetwork(nn.Sequential(*list(network.children())[:-2]), 2048, num_classes)


def mobilenet_v2(num_classes: int) -> FrameNetwork:
    """MobileNetV2 on each frame."""
    return FrameNetwork(torchvision.models.mobilenet_v2().features, 1280, num_classes)


def efficientnet_b0(num_classes: int) -> FrameNetwork:
    """EfficientNet-B0 on each frame."""
    return FrameNetwork(torchvision.models.efficientnet_b0().features, 1280, num_classes)


RESNET_LAYOUTS: dict[str, KeyMap] = {
    "torchvision": [
        (r"conv1\.(.*)", r"frames.0.\1"),
        (r"bn1\.(.*)", r"frames.1.\1"),
        *((rf"layer{n}\.(.*)", rf"frames.{n + 3}.\1") for n in range(1, 5)),
        (r"fc\.(.*)", r"head.projection.\1"),
    ]
}
"""As of ``resnet50-11ad3fa6.pth``."""

FEATURES_LAYOUTS: dict[str, KeyMap] = {
    "torchvision": [(r"features\.(.*)", r"frames.\1"), (r"classifier\.1\.(.*)", r"head.projection.\1")]
}
"""As of ``mobilenet_v2-b0353104.pth`` and ``efficientnet_b0_rwightman-7f5810bc.pth``."""


class _TorchvisionVideo(VideoNetwork):
    """A ``VideoResNet`` of torchvision as stages."""

    def __init__(self, network: torchvision.models.video.VideoResNet, num_classes: int) -> None:
        super().__init__()
        self.stem, self.res2, self.res3 = network.stem, network.layer1, network.layer2
        self.res4, self.res5 = network.layer3, network.layer4
        self.num_features = 512
        self.head = Head(self.num_features, num_classes, dropout=0.0)


def r3d_18(num_classes: int) -> VideoNetwork:
    """R3D-18 of Tran et al. (CVPR 2018), torchvision's; Hara's 3D-ResNet-18 is another network."""
    return _TorchvisionVideo(torchvision.models.video.r3d_18(), num_classes)


def r2plus1d_18(num_classes: int) -> VideoNetwork:
    """R(2+1)D-18 of Tran et al. (CVPR 2018), torchvision's."""
    return _TorchvisionVideo(torchvision.models.video.r2plus1d_18(), num_classes)


VIDEO_RESNET_LAYOUTS: dict[str, KeyMap] = {
    "torchvision": [
        *((rf"layer{n}\.(.*)", rf"res{n + 1}.\1") for n in range(1, 5)),
        (r"fc\.(.*)", r"head.projection.\1"),
    ]
}
"""As of ``r3d_18-b3b3357e.pth`` and ``r2plus1d_18-91a641e6.pth``."""
