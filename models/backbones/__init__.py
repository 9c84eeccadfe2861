"""Backbones that the methods stand on: one table of what each is and wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vidprep.models.backbones.network import Pathways, VideoNetwork
from vidprep.models.backbones.torchvision_networks import (
    FrameNetwork,
    efficientnet_b0,
    mobilenet_v2,
    r2plus1d_18,
    r3d_18,
    resnet50,
)

__all__ = ["BACKBONES", "Backbone", "FrameNetwork", "Pathways", "VideoNetwork"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VIDEO_MEAN = (0.43216, 0.394666, 0.37645)  # of Kinetics, torchvision's
VIDEO_STD = (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A network on clips, and the input that its published weights were trained with.

    Attributes
    ----------
    build : callable
        From a number of classes to the network, with random weights.
    num_frames, frame_stride : int
        Of a clip: how many frames, and each how manieth.
    input_size, short_side : int
        Pixels: the short side that pictures are brought to, and the crop that is taken of them.
    mean, std : tuple of float
        Of red, green and blue in 0 to 1.
    """

    build: Callable[[int], VideoNetwork]
    num_frames: int
    frame_stride: int = 1
    input_size: int = 224
    short_side: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _frames(build: Callable[[int], VideoNetwork]) -> Backbone:
    return Backbone(build=build, num_frames=1)


def _kinetics_112(build: Callable[[int], VideoNetwork]) -> Backbone:
    return Backbone(build=build, num_frames=16, input_size=112, short_side=128, mean=VIDEO_MEAN, std=VIDEO_STD)


BACKBONES = {
    "mobilenet_v2": _frames(mobilenet_v2),
    "resnet50": _frames(resnet50),
    "efficientnet_b0": _frames(efficientnet_b0),
    "r3d_18": _kinetics_112(r3d_18),
    "r2plus1d_18": _kinetics_112(r2plus1d_18),
}
