"""I3D-ResNet-50: ResNet-50 with convolutions over time, as PySlowFast and as PyVideoResearch build it.

Both after Carreira and Zisserman (CVPR 2017) and Wang et al. (Non-local neural networks, CVPR 2018). Published files:
``I3D_8x8_R50.pyth`` of PySlowFast's and of PyTorchVideo's model zoo (Kinetics-400; two layouts of one network), and
``i3d8k.pth.tar`` (Kinetics-400) and ``i3d12b2.pth.tar`` (Charades) of PyVideoResearch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from vidprep.models.backbones.network import Head, Pathways, VideoNetwork
from vidprep.models.backbones.residual import bottleneck, initialise, named, pyslowfast_blocks, resnet_stem
from vidprep.models.weights import KeyMap


class I3DResNet50(VideoNetwork):
    """What the two variants share.

    Parameters
    ----------
    num_classes : int
    stem : nn.Sequential
        To 64 channels.
    res2_pool : nn.Module
        After res2.
    time_kernels : sequence of sequences of int
        Of each stage's blocks.
    """

    num_features = 2048

    def __init__(
        self, num_classes: int, *, stem: nn.Sequential, res2_pool: nn.Module, time_kernels: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.stem = stem
        in_width = 64
        for index, (name, kernels) in enumerate(zip(self.stage_names[1:], time_kernels, strict=True)):
            inner_width, out_width = 64 * 2**index, 256 * 2**index
            blocks: dict[str, nn.Module] = {}
            for number, time_kernel in enumerate(kernels):
                stride = 2 if number == 0 and index > 0 else 1
                block = bottleneck(in_width, inner_width, out_width, time_kernel=time_kernel, stride=stride)
                blocks[str(number)] = block
                in_width = out_width
            pool = {"pool": res2_pool} if name == "res3" else {}  # so that res2 ends with its activation
            self.add_module(name, named(**pool, **blocks))
        self.head: nn.Module = Head(self.num_features, num_classes)
        initialise(self)


class I3DWindows(I3DResNet50):
    """PyVideoResearch's variant, which has logits for windows of time, so that each frame can have its own labels."""

    def windows(self, clip: torch.Tensor) -> torch.Tensor:
        """Return features [shape=(N, T_out, num_features)]: means over two neighbouring maps.

        A clip of 16, 32, 64 or 128 frames has 1, 3, 7 or 15 windows.
        """
        (maps,) = self.maps(clip)
        return _windows(maps)

    def pool(self, pathways: Pathways) -> torch.Tensor:
        """Return features [shape=(N, num_features)]: the mean of the windows'."""
        return _mean_window(pathways[0])

    def frame_logits(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the logits of windows [shape=(N, T_out, num_classes)]; their mean is what ``forward`` returns."""
        logits: torch.Tensor = self.head(self.windows(clip))
        return logits


def i3d_resnet50(num_classes: int) -> I3DResNet50:
    """PySlowFast's I3D: no stride over time but one pooling after res2; every other block has a kernel over time."""
    return I3DResNet50(
        num_classes,
        stem=resnet_stem(64, time_kernel=5),
        res2_pool=nn.MaxPool3d((2, 1, 1), ceil_mode=True),  # an odd last map, or the only one, is not lost
        time_kernels=((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)),
    )


def i3d_resnet50_windows(num_classes: int) -> I3DWindows:
    """PyVideoResearch's I3D, of focused attention: time is halved three times; all blocks have a kernel over time."""
    network = I3DWindows(
        num_classes,
        stem=named(
            conv=nn.Conv3d(3, 64, (5, 7, 7), stride=2, padding=(2, 3, 3), bias=False),
            norm=nn.BatchNorm3d(64),
            pool=nn.MaxPool3d(3, stride=2, padding=1),
            relu=nn.ReLU(),
        ),
        res2_pool=nn.MaxPool3d((3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
        time_kernels=((3,) * 3, (3,) * 4, (3,) * 6, (3,) * 3),
    )
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm3d) and "shortcut" not in name:  # those have PyTorch's own
            module.eps, module.momentum = 1e-3, 0.01
    return network


def _mean_window(maps: torch.Tensor) -> torch.Tensor:
    if has_torch_function_unary(maps):  # clips of different lengths: run on those of one after the others
        means: torch.Tensor = handle_torch_function(_mean_window, (maps,), maps)
        return means
    return _windows(maps).mean(1)


def _windows(maps: torch.Tensor) -> torch.Tensor:
    means = maps.mean((3, 4)).transpose(1, 2)  # (N, T, C)
    if means.shape[1] == 1:  # of clips shorter than the authors' can be
        return means
    return (means[:, 1:] + means[:, :-1]) / 2


LAYOUTS: dict[str, KeyMap] = {
    "pyslowfast": [
        (r"s1\.pathway0_stem\.conv\.(.+)", r"stem.conv.\1"),
        (r"s1\.pathway0_stem\.bn\.(.+)", r"stem.norm.\1"),
        *pyslowfast_blocks(r"\1.\3"),
    ],
    "pytorchvideo": [
        (r"blocks\.0\.(.+)", r"stem.\1"),
        *(
            (rf"blocks\.{block}\.res_blocks\.(\d)\.{theirs}(.+)", rf"res{stage}.\1.{ours}\2")
            for block, stage in ((1, 2), (3, 3), (4, 4), (5, 5))  # 2 is the pooling after res2
            for theirs, ours in ((r"branch2\.", "branch."), ("branch1_", "shortcut."))
        ),
        (r"blocks\.6\.proj\.(.+)", r"head.projection.\1"),
    ],
}

_WRAPPED = r"(?:mA\.|basenet\.|encoder\.)*"
WINDOWS_LAYOUTS: dict[str, KeyMap] = {
    "pyvideoresearch": [
        (rf"{_WRAPPED}conv1\.(.+)", r"stem.conv.\1"),
        (rf"{_WRAPPED}bn1\.(.+)", r"stem.norm.\1"),
        *(
            (rf"{_WRAPPED}layer{stage - 1}\.(\d)\.{theirs}\.(.+)", rf"res{stage}.\1.{ours}.\2")
            for stage in (2, 3, 4, 5)
            for theirs, ours in (
                ("conv1", "branch.conv_a"),
                ("bn1", "branch.norm_a"),
                ("conv2", "branch.conv_b"),
                ("bn2", "branch.norm_b"),
                ("conv3", "branch.conv_c"),
                ("bn3", "branch.norm_c"),
                (r"downsample\.0", "shortcut.conv"),
                (r"downsample\.1", "shortcut.norm"),
            )
        ),
        (rf"{_WRAPPED}fc\.(.+)", r"head.projection.\1"),
    ]
}
