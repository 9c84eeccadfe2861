"""Backbones that the methods stand on: one table of what each gives and wants."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network on pictures, cut off before its pooling and its classifier.

    Attributes
    ----------
    build : callable
        Makes the whole network, with random weights; its state dict is that of published checkpoints.
    maps : callable
        From the network and pictures [shape=(N, 3, input_size, input_size)] to its last maps
        [shape=(N, num_channels, input_size / stride, input_size / stride)].
    num_channels, stride : int
        Of the maps.
    input_size, short_side : int
        Pixels: the short side that pictures are brought to, and the centre crop that is taken of them.
    mean, std : (float, float, float)
        Of red, green and blue in 0 to 1, which the network was trained with.
    """

    build: Callable[[], torch.nn.Module]
    maps: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]
    num_channels: int
    stride: int = 32
    input_size: int = 224
    short_side: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _features(network: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    maps: torch.Tensor = network.get_submodule("features")(pictures)
    return maps


def _resnet_maps(network: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    maps = pictures
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        maps = network.get_submodule(name)(maps)
    return maps


BACKBONES = {
    "mobilenet_v2": Backbone(torchvision.models.mobilenet_v2, _features, 1280),
    "resnet50": Backbone(torchvision.models.resnet50, _resnet_maps, 2048),
    "efficientnet_b0": Backbone(torchvision.models.efficientnet_b0, _features, 1280),
}
