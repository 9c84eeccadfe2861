"""Backbones that the methods stand on: one table of what each is and wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from vidprep.models.backbones.network import Pathways, VideoNetwork
from vidprep.models.backbones.resnet3d import resnet3d_18, resnet3d_50
from vidprep.models.backbones.slowfast import slowfast_r18_8x8, slowfast_r50_4x16, slowfast_r50_8x8
from vidprep.models.backbones.torchvision_networks import (
    FrameNetwork,
    efficientnet_b0,
    mobilenet_v2,
    r2plus1d_18,
    r3d_18,
    resnet50,
)
from vidprep.models.backbones.x3d import x3d_l, x3d_m, x3d_xl

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


def _pyslowfast(
    build: Callable[[int], VideoNetwork],
    num_frames: int = 32,
    frame_stride: int = 2,
    input_size: int = 224,
    short_side: int = 256,
) -> Backbone:
    return Backbone(
        build=build,
        num_frames=num_frames,
        frame_stride=frame_stride,
        input_size=input_size,
        short_side=short_side,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    )


BACKBONES = {
    "mobilenet_v2": _frames(mobilenet_v2),
    "resnet50": _frames(resnet50),
    "efficientnet_b0": _frames(efficientnet_b0),
    "r3d_18": _kinetics_112(r3d_18),
    "r2plus1d_18": _kinetics_112(r2plus1d_18),
    "x3d_xs": _pyslowfast(x3d_m, 4, 12, 160, 182),
    "x3d_s": _pyslowfast(x3d_m, 13, 6, 160, 182),
    "x3d_m": _pyslowfast(x3d_m, 16, 5),
    "x3d_l": _pyslowfast(x3d_l, 16, 5, 312, 356),
    "x3d_xl": _pyslowfast(x3d_xl, 16, 5, 312, 356),
    "x3d_xs_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), 4, 12, 160, 182),
    "x3d_s_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), 13, 6, 160, 182),
    "x3d_m_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), 16, 5),
    "x3d_l_pytorchvideo": _pyslowfast(partial(x3d_l, has_bare_shortcut=True), 16, 5, 312, 356),
    "slowfast_r50_8x8": _pyslowfast(slowfast_r50_8x8),
    "slowfast_r50_4x16": _pyslowfast(slowfast_r50_4x16),
    "slowfast_r18_8x8": _pyslowfast(slowfast_r18_8x8),
    "resnet3d_18": _pyslowfast(resnet3d_18),
    "resnet3d_50": _pyslowfast(resnet3d_50),
}
