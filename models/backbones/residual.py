"""Residual blocks, what they start from and what others call them: shared by the 3D ResNets, SlowFast and X3D."""

from __future__ import annotations

import torch
from torch import nn

from vidprep.models.weights import KeyMap


class ResidualBlock(nn.Module):
    """``relu(branch + shortcut)``.

    Parameters
    ----------
    branch : nn.Sequential
        Whose last child is ``norm_c``.
    shortcut : nn.Module
        ``nn.Identity`` where the branch changes neither width nor size.
    """

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the block on maps [shape=(N, C, T, H, W)]."""
        activations: torch.Tensor = self.relu(self.branch(maps) + self.shortcut(maps))
        return activations


def named(**modules: nn.Module) -> nn.Sequential:
    """Return modules that run one after the other, each under its name."""
    sequence = nn.Sequential()
    for name, module in modules.items():
        sequence.add_module(name, module)
    return sequence


def convolution(
    in_width: int, out_width: int, kernel: tuple[int, int, int], *, stride: int = 1, num_groups: int = 1
) -> nn.Conv3d:
    """Return a convolution without bias that keeps the length in time; ``kernel`` is odd, ``stride`` is in space."""
    time, height, width = kernel
    padding = (time // 2, height // 2, width // 2)
    return nn.Conv3d(in_width, out_width, kernel, (1, stride, stride), padding, groups=num_groups, bias=False)


def projection(in_width: int, out_width: int, *, stride: int, is_normed: bool = True) -> nn.Module:
    """Return a block's shortcut: a 1x1x1 convolution where width or size change, else nothing."""
    if in_width == out_width and stride == 1:
        return nn.Identity()
    shortcut = named(conv=convolution(in_width, out_width, (1, 1, 1), stride=stride))
    if is_normed:
        shortcut.add_module("norm", nn.BatchNorm3d(out_width))
    return shortcut


def bottleneck(in_width: int, inner_width: int, out_width: int, *, time_kernel: int, stride: int) -> ResidualBlock:
    """Return a bottleneck: ``time_kernel`` x1x1, 1x3x3 with the stride, 1x1x1."""
    branch = named(
        conv_a=convolution(in_width, inner_width, (time_kernel, 1, 1)),
        norm_a=nn.BatchNorm3d(inner_width),
        relu_a=nn.ReLU(),
        conv_b=convolution(inner_width, inner_width, (1, 3, 3), stride=stride),
        norm_b=nn.BatchNorm3d(inner_width),
        relu_b=nn.ReLU(),
        conv_c=convolution(inner_width, out_width, (1, 1, 1)),
        norm_c=nn.BatchNorm3d(out_width),
    )
    return ResidualBlock(branch, projection(in_width, out_width, stride=stride))


def bottlenecks(
    num_blocks: int, in_width: int, inner_width: int, out_width: int, *, time_kernel: int, stride: int
) -> nn.Sequential:
    """Return a stage of bottlenecks; the first has the stride."""
    first = bottleneck(in_width, inner_width, out_width, time_kernel=time_kernel, stride=stride)
    rest = [
        bottleneck(out_width, inner_width, out_width, time_kernel=time_kernel, stride=1) for _ in range(num_blocks - 1)
    ]
    return nn.Sequential(first, *rest)


def resnet_stem(width: int, *, time_kernel: int) -> nn.Sequential:
    """Return a ResNet's stem: a ``time_kernel`` x7x7 convolution and max-pooling, each halving height and width.

    The authors pool after the ReLU. The maximum of ReLUs is the ReLU of the maximum, so the result is the same, and
    like every stage this one ends with its activation.
    """
    return named(
        conv=convolution(3, width, (time_kernel, 7, 7), stride=2),
        norm=nn.BatchNorm3d(width),
        pool=nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        relu=nn.ReLU(),
    )


def initialise(network: nn.Module) -> None:
    """Draw a network's weights as its authors do.

    Convolutions: Kaiming normal of the fan-out; linear layers: normal of standard deviation 0.01; biases 0; and a
    block's last norm starts at 0, so that each block starts as its shortcut.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        elif isinstance(module, ResidualBlock):
            nn.init.zeros_(module.branch.get_submodule("norm_c").weight)  # type: ignore[arg-type]
        if isinstance(module, nn.Conv3d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def pyslowfast_blocks(place: str) -> KeyMap:
    r"""Return the map of blocks in PySlowFast's layout.

    Parameters
    ----------
    place : str
        Of a block with us: ``\1`` is its stage, ``\2`` its pathway, ``\3`` its number.
    """
    block = r"s([2-5])\.pathway(\d)_res(\d+)\."
    return (
        (block + r"branch1\.weight", rf"res{place}.shortcut.conv.weight"),
        (block + r"branch1_bn\.(.+)", rf"res{place}.shortcut.norm.\4"),
        (block + r"branch2\.([abc])\.weight", rf"res{place}.branch.conv_\4.weight"),
        (block + r"branch2\.([abc])_bn\.(.+)", rf"res{place}.branch.norm_\4.\5"),
        (block + r"branch2\.se\.(fc[12])\.(.+)", rf"res{place}.branch.se.\4.\5"),
    )


def pytorchvideo_blocks(pathway: str, place: str) -> KeyMap:
    r"""Return the map of blocks in PyTorchVideo's layout, where the stages are blocks 1 to 4.

    Parameters
    ----------
    pathway : str
        A pattern with one group for what stands between a stage and its blocks.
    place : str
        Of a block in its stage with us: ``\1`` is that group, ``\2`` the block's number.
    """
    key_map: list[tuple[str, str]] = []
    for stage in (2, 3, 4, 5):
        block, ours = rf"blocks\.{stage - 1}\.{pathway}res_blocks\.(\d+)\.", f"res{stage}.{place}"
        key_map += [
            (block + r"branch1_(conv|norm)\.(.+)", rf"{ours}.shortcut.\3.\4"),
            (block + r"branch2\.norm_b\.1\.block\.0\.(.+)", rf"{ours}.branch.se.fc1.\3"),
            (block + r"branch2\.norm_b\.1\.block\.2\.(.+)", rf"{ours}.branch.se.fc2.\3"),
            (block + r"branch2\.norm_b\.0\.(.+)", rf"{ours}.branch.norm_b.\3"),
            (block + r"branch2\.((?:conv|norm)_[abc])\.(.+)", rf"{ours}.branch.\3.\4"),
        ]
    return tuple(key_map)
