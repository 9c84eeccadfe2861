"""Backbones that the methods stand on: one table of what each is and wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidprep.models.backbones import torchvision_networks as from_torchvision
from vidprep.models.backbones.network import Pathways, PerFrame, VideoNetwork
from vidprep.models.backbones.torchvision_networks import FrameNetwork
from vidprep.models.weights import KeyMap, WeightsError, load_weights, read_state_dict

__all__ = ["BACKBONES", "Backbone", "FrameNetwork", "Pathways", "PerFrame", "VideoNetwork", "load_backbone"]

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
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
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


def _frames(build: Callable[[int], VideoNetwork], layouts: Mapping[str, KeyMap]) -> Backbone:
    return Backbone(build=build, num_frames=1, layouts=layouts)


def _kinetics_112(build: Callable[[int], VideoNetwork]) -> Backbone:
    return Backbone(
        build=build,
        num_frames=16,
        input_size=112,
        short_side=128,
        mean=VIDEO_MEAN,
        std=VIDEO_STD,
        layouts=from_torchvision.VIDEO_RESNET_LAYOUTS,
    )


BACKBONES = {
    "mobilenet_v2": _frames(from_torchvision.mobilenet_v2, from_torchvision.FEATURES_LAYOUTS),
    "resnet50": _frames(from_torchvision.resnet50, from_torchvision.RESNET_LAYOUTS),
    "efficientnet_b0": _frames(from_torchvision.efficientnet_b0, from_torchvision.FEATURES_LAYOUTS),
    "r3d_18": _kinetics_112(from_torchvision.r3d_18),
    "r2plus1d_18": _kinetics_112(from_torchvision.r2plus1d_18),
}
