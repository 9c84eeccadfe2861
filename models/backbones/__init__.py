"""Backbones that the methods stand on: one table of what each is and wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vidprep.models.backbones import hara, i3d, tsm
from vidprep.models.backbones import torchvision_networks as plain
from vidprep.models.backbones.network import Pathways, PerFrame, VideoNetwork
from vidprep.models.backbones.resnet3d import RESNET3D_LAYOUTS, resnet3d_18, resnet3d_50
from vidprep.models.backbones.slowfast import SLOWFAST_LAYOUTS, slowfast_r18_8x8, slowfast_r50_4x16, slowfast_r50_8x8
from vidprep.models.backbones.torchvision_networks import FrameNetwork
from vidprep.models.backbones.x3d import X3D_LAYOUTS, x3d_l, x3d_m, x3d_xl
from vidprep.models.weights import KeyMap, WeightsError, load_weights, read_state_dict

__all__ = ["BACKBONES", "Backbone", "FrameNetwork", "Pathways", "PerFrame", "VideoNetwork", "load_backbone"]

Colour = tuple[float, float, float]
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
    layouts : mapping of str to KeyMap
        The layouts of published checkpoints, and what their names become in the network.
    """

    build: Callable[[int], VideoNetwork]
    num_frames: int
    frame_stride: int = 1
    input_size: int = 224
    short_side: int = 256
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    layouts: Mapping[str, KeyMap] = field(default_factory=dict)


def load_backbone(
    name: str, num_classes: int, weights: str | Path | None = None, *, has_new_head: bool = False
) -> VideoNetwork:
    """Build a backbone, and load a checkpoint of its authors or of ours.

    Parameters
    ----------
    name : str
        In `BACKBONES`.
    num_classes : int
    weights : path, optional
        A checkpoint in any of the backbone's layouts; random weights without one.
    has_new_head : bool
        For fine-tuning: all but the classifier is loaded, which may be for other classes.

    Raises
    ------
    WeightsError
        If there is no such backbone, or the file doesn't fit it whole.
    """
    if name not in BACKBONES:
        raise WeightsError(f"backbone={name}: must be one of {', '.join(BACKBONES)}")
    backbone = BACKBONES[name]
    network = backbone.build(num_classes)
    if weights is not None:
        state = read_state_dict(weights)
        load_weights(
            network, state, source=f"{weights}", name=name, layouts=backbone.layouts, has_new_head=has_new_head
        )
    return network


def _pictures(build: Callable[[int], VideoNetwork], layouts: Mapping[str, KeyMap]) -> Backbone:
    return Backbone(build=build, num_frames=1, layouts=layouts)


def _tsm(build: Callable[[int], VideoNetwork], layouts: Mapping[str, KeyMap]) -> Backbone:
    return Backbone(build=build, num_frames=8, frame_stride=8, layouts=layouts)  # its "dense" files


def _kinetics_112(
    build: Callable[[int], VideoNetwork], mean: Colour, std: Colour, layouts: Mapping[str, KeyMap]
) -> Backbone:
    return Backbone(build=build, num_frames=16, input_size=112, short_side=128, mean=mean, std=std, layouts=layouts)


def _pyslowfast(
    build: Callable[[int], VideoNetwork],
    layouts: Mapping[str, KeyMap],
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
        layouts=layouts,
    )


BACKBONES = {
    "mobilenet_v2": _pictures(plain.mobilenet_v2, plain.FEATURES_LAYOUTS),
    "resnet50": _pictures(plain.resnet50, plain.RESNET_LAYOUTS),
    "efficientnet_b0": _pictures(plain.efficientnet_b0, plain.FEATURES_LAYOUTS),
    "tsm_mobilenet_v2": _tsm(tsm.tsm_mobilenet_v2, tsm.MOBILENET_LAYOUTS),
    "tsm_resnet50": _tsm(tsm.tsm_resnet50, tsm.RESNET_LAYOUTS),
    "r3d_18": _kinetics_112(plain.r3d_18, VIDEO_MEAN, VIDEO_STD, plain.VIDEO_RESNET_LAYOUTS),
    "r2plus1d_18": _kinetics_112(plain.r2plus1d_18, VIDEO_MEAN, VIDEO_STD, plain.VIDEO_RESNET_LAYOUTS),
    "hara_resnet18": _kinetics_112(hara.hara_resnet18, hara.MEAN_2020, hara.STD_2020, hara.LAYOUTS),
    "hara_resnet18_a": _kinetics_112(hara.hara_resnet18_a, hara.MEAN_2018, hara.STD_2018, hara.LAYOUTS),
    "i3d_resnet50": _pyslowfast(i3d.i3d_resnet50, i3d.LAYOUTS, 8, 8),
    "i3d_resnet50_windows": Backbone(build=i3d.i3d_resnet50_windows, num_frames=64, layouts=i3d.WINDOWS_LAYOUTS),
    "x3d_xs": _pyslowfast(x3d_m, X3D_LAYOUTS, 4, 12, 160, 182),
    "x3d_s": _pyslowfast(x3d_m, X3D_LAYOUTS, 13, 6, 160, 182),
    "x3d_m": _pyslowfast(x3d_m, X3D_LAYOUTS, 16, 5),
    "x3d_l": _pyslowfast(x3d_l, X3D_LAYOUTS, 16, 5, 312, 356),
    "x3d_xl": _pyslowfast(x3d_xl, X3D_LAYOUTS, 16, 5, 312, 356),
    "x3d_xs_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), X3D_LAYOUTS, 4, 12, 160, 182),
    "x3d_s_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), X3D_LAYOUTS, 13, 6, 160, 182),
    "x3d_m_pytorchvideo": _pyslowfast(partial(x3d_m, has_bare_shortcut=True), X3D_LAYOUTS, 16, 5),
    "x3d_l_pytorchvideo": _pyslowfast(partial(x3d_l, has_bare_shortcut=True), X3D_LAYOUTS, 16, 5, 312, 356),
    "slowfast_r50_8x8": _pyslowfast(slowfast_r50_8x8, SLOWFAST_LAYOUTS),
    "slowfast_r50_4x16": _pyslowfast(slowfast_r50_4x16, SLOWFAST_LAYOUTS),
    "slowfast_r18_8x8": _pyslowfast(slowfast_r18_8x8, SLOWFAST_LAYOUTS),
    "resnet3d_18": _pyslowfast(resnet3d_18, RESNET3D_LAYOUTS),
    "resnet3d_50": _pyslowfast(resnet3d_50, RESNET3D_LAYOUTS),
}
