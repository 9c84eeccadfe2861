"""CoViAR (Wu et al., CVPR 2018): the baseline that recognises actions from compressed video, one network a modality.

ResNet-18 on accumulated motion (2 channels) and on accumulated residuals (3 channels), each behind a batch
normalisation of its input, and ResNet-152 on I-frames; all run on each frame of a clip and give the mean of the frames'
logits. The paper adds up the scores of the three.

Two ways to make input of our arrays. The default is in whole numbers of what it means: nothing moves, nothing differs
is exactly zero, and a mirrored clip has exactly the negated motion. ``variant="official"`` is what the authors'
checkpoints were trained with, met exactly: bytes, whose zero is 128 of 255, so that it isn't quite zero; vectors scaled
by 127.5/20 and cut toward zero before they are bytes; residuals blue first, though divided by the deviations of red
first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
import torchvision
from torch import nn

from vidprep.models.backbones.torchvision_networks import FrameNetwork
from vidprep.models.weights import KeyMap

Variant = Literal["default", "official"]
MOTION_BOUND = 20  # pixels; larger motion is taken for this much
IMAGENET_STD = (0.229, 0.224, 0.225)
_BYTE_ZERO = 128


def motion_network(num_classes: int) -> FrameNetwork:
    """ResNet-18 on motion [shape=(N, 2, T, H, W)], as `motion_input` gives it."""
    pictures = torchvision.models.resnet18()
    pictures.conv1 = nn.Conv2d(2, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(pictures.conv1.weight, mode="fan_out", nonlinearity="relu")
    return _on_frames(pictures, num_classes, num_normalised=2)


def residual_network(num_classes: int) -> FrameNetwork:
    """ResNet-18 on residuals [shape=(N, 3, T, H, W)], as `residual_input` gives them."""
    return _on_frames(torchvision.models.resnet18(), num_classes, num_normalised=3)


def iframe_network(num_classes: int) -> FrameNetwork:
    """ResNet-152 on I-frames [shape=(N, 3, T, H, W)], normalised as ImageNet's."""
    return _on_frames(torchvision.models.resnet152(), num_classes, num_normalised=0)


def _on_frames(pictures: torchvision.models.ResNet, num_classes: int, *, num_normalised: int) -> FrameNetwork:
    layers = OrderedDict(list(pictures.named_children())[:-2])
    if num_normalised:
        layers = OrderedDict([("data_bn", nn.BatchNorm2d(num_normalised)), *layers.items()])
    return FrameNetwork(nn.Sequential(layers), pictures.fc.in_features, num_classes, dropout=0.0)


LAYOUTS: dict[str, KeyMap] = {
    "coviar": [
        (r"base_model\.fc\.(.*)", r"head.projection.\1"),
        (r"base_model\.(.*)", r"frames.\1"),
        (r"data_bn\.(.*)", r"frames.data_bn.\1"),
    ],
    "torchvision": [(r"fc\.(.*)", r"head.projection.\1"), (r"((?:conv1|bn1|layer\d)\..*)", r"frames.\1")],
}
"""Of CoViAR's own files, and (for I-frames) of ImageNet's that its training begins with."""


def motion_input(motion: torch.Tensor, *, variant: Variant = "default") -> torch.Tensor:
    """Make a network's input of accumulated motion.

    Parameters
    ----------
    motion : torch.Tensor [shape=(N, 2, T, H, W)]
        To the right and down, in pixels; whole numbers or, of resized fields, not.
    variant : {"default", "official"}
        Motion over 40 pixels, within -0.5 to 0.5; or the authors' bytes over 255, less 0.5.

    Returns
    -------
    torch.Tensor, float32 [shape=(N, 2, T, H, W)]
    """
    if variant == "official":
        return motion_bytes(motion) / 255 - 0.5
    return motion.to(torch.float32).clamp(-MOTION_BOUND, MOTION_BOUND) / (2 * MOTION_BOUND)


def residual_input(residual: torch.Tensor, *, variant: Variant = "default") -> torch.Tensor:
    """Make a network's input of accumulated residuals.

    Parameters
    ----------
    residual : torch.Tensor [shape=(N, 3, T, H, W)]
        Red, green, blue in -255 to 255; -128 to 127 is kept.
    variant : {"default", "official"}
        Over 255 and each channel's own deviation, red first; or the authors' bytes over 255, less 0.5, blue first but
        divided by the deviations of red first.

    Returns
    -------
    torch.Tensor, float32 [shape=(N, 3, T, H, W)]
    """
    std = torch.tensor(IMAGENET_STD, device=residual.device)[:, None, None, None]
    if variant == "official":
        return (residual_bytes(residual).flip(1) / 255 - 0.5) / std
    return residual.to(torch.float32).clamp(-_BYTE_ZERO, _BYTE_ZERO - 1) / 255 / std


def scaled_motion(motion: torch.Tensor) -> torch.Tensor:
    """Scale motion so that 20 pixels become 127.5, cut toward zero: int32, as the authors' ``clip_and_scale`` does."""
    return (motion.to(torch.float64) * (127.5 / MOTION_BOUND)).to(torch.int32)


def motion_bytes(motion: torch.Tensor) -> torch.Tensor:
    """Code motion in pixels as the authors' bytes: uint8, 128 for none."""
    return (scaled_motion(motion) + _BYTE_ZERO).clamp(0, 255).to(torch.uint8)


def residual_bytes(residual: torch.Tensor) -> torch.Tensor:
    """Code residuals as the authors' bytes: uint8, 128 for none, in the order of channels that they have."""
    return (residual.to(torch.int32) + _BYTE_ZERO).clamp(0, 255).to(torch.uint8)


def mirrored_bytes(code: torch.Tensor, *, is_motion: bool, variant: Variant = "default") -> torch.Tensor:
    """Mirror a coded clip [shape=(N, C, T, H, W)] from left to right.

    Parameters
    ----------
    code : torch.Tensor, uint8
        Of motion, whose first channel, to the right, turns about 128, or of residuals.
    is_motion : bool
    variant : {"default", "official"}
        The byte 0 of motion becomes 255; or 256, which is none.

    Returns
    -------
    torch.Tensor, int32
    """
    mirrored = code.to(torch.int32).flip(-1)
    if is_motion:
        mirrored[:, 0] = 2 * _BYTE_ZERO - mirrored[:, 0]
    return mirrored if variant == "official" else mirrored.clamp(0, 255)
