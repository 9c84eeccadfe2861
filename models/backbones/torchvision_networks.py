"""Backbones that torchvision has: networks on pictures, run on each frame, and networks on clips."""

from __future__ import annotations

from typing import ClassVar

import torchvision
from torch import nn

from vidprep.models.backbones.network import Head, Pathways, VideoNetwork


class FrameNetwork(VideoNetwork):
    """A network on pictures, run on each frame of a clip; logits are those of the mean feature.

    Parameters
    ----------
    picture_network : nn.Sequential
        From pictures [shape=(N, 3, H, W)] to maps [shape=(N, num_features, H', W')].
    num_features, num_classes : int
    """

    stage_names: ClassVar[tuple[str, ...]] = ("frames",)

    def __init__(self, picture_network: nn.Sequential, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.frames = picture_network
        self.num_features = num_features
        self.head = Head(num_features, num_classes)

    def run(self, pathways: Pathways, names: tuple[str, ...]) -> Pathways:
        """Run the network on pictures."""
        assert names == self.stage_names
        (clip,) = pathways
        num_frames = clip.shape[2]
        maps = self.frames(clip.transpose(1, 2).flatten(0, 1))
        return [maps.unflatten(0, (-1, num_frames)).transpose(1, 2)]


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
