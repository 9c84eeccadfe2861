"""X3D: a small ResNet of channel-wise convolutions, expanded along one axis at a time.

Feichtenhofer, "X3D: Expanding architectures for efficient video recognition" (CVPR 2020). XS, S and M are one network
on clips of different sizes; L is deeper, XL deeper and wider. Published weights: PySlowFast's ``x3d_{xs,s,m,l}.pyth``
and PyTorchVideo's ``X3D_{XS,S,M,L}.pyth``.

The two are not one network: PyTorchVideo normalises a shortcut only where its width changes, so the first block of
res2, which changes the size alone, has a bare convolution there. ``has_bare_shortcut`` makes that network.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from vidprep.models.backbones.network import VideoNetwork
from vidprep.models.backbones.residual import (
    ResidualBlock,
    convolution,
    initialise,
    named,
    projection,
    pyslowfast_blocks,
    pytorchvideo_blocks,
)

X3D_LAYOUTS = {
    "pyslowfast": (
        (r"s1\.pathway0_stem\.conv_xy\.(.+)", r"stem.conv_xy.\1"),
        (r"s1\.pathway0_stem\.conv\.(.+)", r"stem.conv_t.\1"),
        (r"s1\.pathway0_stem\.bn\.(.+)", r"stem.norm.\1"),
        *pyslowfast_blocks(r"\1.\3"),
        (r"head\.conv_5\.(.+)", r"conv5.conv.\1"),
        (r"head\.conv_5_bn\.(.+)", r"conv5.norm.\1"),
        (r"head\.lin_5\.(.+)", r"head.hidden.\1"),
    ),
    "pytorchvideo": (
        (r"blocks\.0\.conv\.conv_t\.(.+)", r"stem.conv_xy.\1"),  # not a slip: what is called conv_t is spatial
        (r"blocks\.0\.conv\.conv_xy\.(.+)", r"stem.conv_t.\1"),
        (r"blocks\.0\.norm\.(.+)", r"stem.norm.\1"),
        *pytorchvideo_blocks("()", r"\2"),
        (r"blocks\.5\.pool\.pre_conv\.(.+)", r"conv5.conv.\1"),
        (r"blocks\.5\.pool\.pre_norm\.(.+)", r"conv5.norm.\1"),
        (r"blocks\.5\.pool\.post_conv\.(.+)", r"head.hidden.\1"),
        (r"blocks\.5\.proj\.(.+)", r"head.projection.\1"),
    ),
}

_HIDDEN_WIDTH = 2048


class SqueezeExcitation(nn.Module):
    """Scale each channel by what two small layers make of all channels' means.

    Parameters
    ----------
    width : int
        Channels; the inner layer has about a 16th.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = _rounded_to_8(width / 16)
        self.fc1 = nn.Conv3d(width, squeezed, 1)
        self.fc2 = nn.Conv3d(squeezed, width, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Scale maps [shape=(N, width, T, H, W)]."""
        means = maps.mean((2, 3, 4), keepdim=True)
        logits: torch.Tensor = self.fc2(self.fc1(means).relu())
        return maps * logits.sigmoid()


class X3D(VideoNetwork):
    """X3D.

    Parameters
    ----------
    num_classes : int
    widths : tuple of int
        Of the stem and of res2 to res5.
    num_blocks : tuple of int
        Of res2 to res5.
    has_bare_shortcut : bool
        PyTorchVideo's network: no norm in the shortcut of res2's first block.
    """

    stage_names: ClassVar[tuple[str, ...]] = (*VideoNetwork.stage_names, "conv5")

    def __init__(
        self,
        num_classes: int,
        *,
        widths: tuple[int, int, int, int, int] = (24, 24, 48, 96, 192),
        num_blocks: tuple[int, int, int, int] = (3, 5, 11, 7),
        has_bare_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.stem = named(
            conv_xy=convolution(3, widths[0], (1, 3, 3), stride=2),
            conv_t=convolution(widths[0], widths[0], (5, 1, 1), num_groups=widths[0]),
            norm=nn.BatchNorm3d(widths[0]),
            relu=nn.ReLU(),
        )
        for index, name in enumerate(("res2", "res3", "res4", "res5")):
            in_width, width = widths[index : index + 2]
            is_normed = in_width != width or not has_bare_shortcut
            first = _block(in_width, width, stride=2, has_se=True, is_shortcut_normed=is_normed)
            rest = [_block(width, width, has_se=place % 2 == 0) for place in range(1, num_blocks[index])]
            self.add_module(name, nn.Sequential(first, *rest))
        self.num_features = _inner_width(widths[-1])
        self.conv5 = named(
            conv=convolution(widths[-1], self.num_features, (1, 1, 1)),
            norm=nn.BatchNorm3d(self.num_features),
            relu=nn.ReLU(),
        )
        self.head: nn.Module = named(
            unflatten=nn.Unflatten(1, (self.num_features, 1, 1, 1)),  # the checkpoints' layer is a convolution
            hidden=convolution(self.num_features, _HIDDEN_WIDTH, (1, 1, 1)),
            flatten=nn.Flatten(),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            projection=nn.Linear(_HIDDEN_WIDTH, num_classes),
        )
        initialise(self)


def _block(
    in_width: int, width: int, *, has_se: bool, stride: int = 1, is_shortcut_normed: bool = True
) -> ResidualBlock:
    """Return a block: 1x1x1, 3x3x3 on each channel alone with the stride, 1x1x1."""
    inner = _inner_width(width)
    branch = named(
        conv_a=convolution(in_width, inner, (1, 1, 1)),
        norm_a=nn.BatchNorm3d(inner),
        relu_a=nn.ReLU(),
        conv_b=convolution(inner, inner, (3, 3, 3), stride=stride, num_groups=inner),
        norm_b=nn.BatchNorm3d(inner),
        **({"se": SqueezeExcitation(inner)} if has_se else {}),
        swish_b=nn.SiLU(),
        conv_c=convolution(inner, width, (1, 1, 1)),
        norm_c=nn.BatchNorm3d(width),
    )
    return ResidualBlock(branch, projection(in_width, width, stride=stride, is_normed=is_shortcut_normed))


def _inner_width(width: int) -> int:
    return int(2.25 * width)


def _rounded_to_8(width: float) -> int:
    """Return the nearest multiple of 8, at least 8, never more than a tenth below."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def x3d_m(num_classes: int, *, has_bare_shortcut: bool = False) -> X3D:
    """Return X3D-XS, -S or -M: one network, on clips of different sizes."""
    return X3D(num_classes, has_bare_shortcut=has_bare_shortcut)


def x3d_l(num_classes: int, *, has_bare_shortcut: bool = False) -> X3D:
    """Return X3D-L."""
    return X3D(num_classes, num_blocks=(5, 10, 25, 15), has_bare_shortcut=has_bare_shortcut)


def x3d_xl(num_classes: int) -> X3D:
    """Return X3D-XL, which no weights were published for."""
    return X3D(num_classes, widths=(32, 32, 72, 136, 280), num_blocks=(5, 10, 25, 15))
