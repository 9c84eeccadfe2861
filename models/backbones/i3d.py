"""I3D-ResNet-50: ResNet-50 with convolutions over time, as PySlowFast and as PyVideoResearch build it.

Both after Carreira and Zisserman (CVPR 2017) and Wang et al. (Non-local neural networks, CVPR 2018). Published files:
``I3D_8x8_R50.pyth`` of PySlowFast's and of PyTorchVideo's model zoo (Kinetics-400; two layouts of one network), and
``i3d8k.pth.tar`` (Kinetics-400) and ``i3d12b2.pth.tar`` (Charades) of PyVideoResearch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from vidprep.models.backbones.network import Head, Pathways, VideoNetwork
from vidprep.models.weights import KeyMap

Norm = Callable[[int], nn.Module]
_WIDTHS = (64, 128, 256, 512)


class Bottleneck(nn.Module):
    """Convolutions over time and channels, over space, and over channels, beside a shortcut.

    Parameters
    ----------
    num_in, num_inner, num_out : int
        Channels.
    kernel_frames : int
        Of the first convolution: odd.
    stride : int
        Over space.
    norm, shortcut_norm : callable
        From a number of channels to a normalisation.
    """

    def __init__(
        self,
        num_in: int,
        num_inner: int,
        num_out: int,
        *,
        kernel_frames: int,
        stride: int,
        norm: Norm,
        shortcut_norm: Norm,
    ) -> None:
        super().__init__()
        over_space = (1, stride, stride)
        layers = {
            "a": nn.Conv3d(num_in, num_inner, (kernel_frames, 1, 1), padding=(kernel_frames // 2, 0, 0), bias=False),
            "a_bn": norm(num_inner),
            "a_relu": nn.ReLU(),
            "b": nn.Conv3d(num_inner, num_inner, (1, 3, 3), stride=over_space, padding=(0, 1, 1), bias=False),
            "b_bn": norm(num_inner),
            "b_relu": nn.ReLU(),
            "c": nn.Conv3d(num_inner, num_out, 1, bias=False),
            "c_bn": norm(num_out),
        }
        self.branch = nn.Sequential(OrderedDict(layers))
        self.shortcut: nn.Module = nn.Identity()
        if num_in != num_out or stride != 1:
            convolution = nn.Conv3d(num_in, num_out, 1, stride=over_space, bias=False)
            self.shortcut = nn.Sequential(convolution, shortcut_norm(num_out))
        self.relu = nn.ReLU()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run the block on maps [shape=(N, C, T, H, W)]."""
        total: torch.Tensor = self.relu(self.branch(maps) + self.shortcut(maps))
        return total


class I3DResNet50(VideoNetwork):
    """What the two variants share.

    Parameters
    ----------
    num_classes : int
    stem_stride_frames : int
    stem_pool, res2_pool : nn.Module
        After the stem and after res2.
    kernels_frames : sequence of sequences of int
        Of each stage's blocks.
    norm, shortcut_norm : callable
    """

    def __init__(
        self,
        num_classes: int,
        *,
        stem_stride_frames: int,
        stem_pool: nn.Module,
        res2_pool: nn.Module,
        kernels_frames: Sequence[Sequence[int]],
        norm: Norm = nn.BatchNorm3d,
        shortcut_norm: Norm = nn.BatchNorm3d,
    ) -> None:
        super().__init__()
        stem = nn.Conv3d(3, 64, (5, 7, 7), stride=(stem_stride_frames, 2, 2), padding=(2, 3, 3), bias=False)
        self.stem = nn.Sequential(stem, norm(64), nn.ReLU())
        pools = {"res2": stem_pool, "res3": res2_pool}
        num_in = 64
        for name, num_inner, kernels in zip(self.stage_names[1:], _WIDTHS, kernels_frames, strict=True):
            modules = {"pool": pools[name]} if name in pools else {}
            for number, kernel_frames in enumerate(kernels):
                modules[str(number)] = Bottleneck(
                    num_in,
                    num_inner,
                    4 * num_inner,
                    kernel_frames=kernel_frames,
                    stride=2 if number == 0 and name != "res2" else 1,
                    norm=norm,
                    shortcut_norm=shortcut_norm,
                )
                num_in = 4 * num_inner
            self.add_module(name, nn.Sequential(OrderedDict(modules)))
        self.num_features = num_in
        self.head = Head(num_in, num_classes)
        _initialise(self)


class I3DWindows(I3DResNet50):
    """PyVideoResearch's variant, which has logits for windows of time, so that each frame can have its own labels."""

    def windows(self, clip: torch.Tensor) -> torch.Tensor:
        """Return features [shape=(N, T_out, num_features)]: means over two neighbouring maps.

        A clip of 16, 32, 64 or 128 frames has 1, 3, 7 or 15 windows.

        Raises
        ------
        ValueError
            If the clip is too short for one.
        """
        (maps,) = self.maps(clip)
        return _windows(maps, clip.shape[2])

    def pool(self, pathways: Pathways) -> torch.Tensor:
        """Return features [shape=(N, num_features)]: the mean of the windows'."""
        return _windows(pathways[0]).mean(1)

    def frame_logits(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the logits of windows [shape=(N, T_out, num_classes)]; their mean is what ``forward`` returns."""
        logits: torch.Tensor = self.head(self.windows(clip))
        return logits


def i3d_resnet50(num_classes: int) -> I3DResNet50:
    """PySlowFast's I3D: no stride over time but one pooling after res2; every other block has a kernel over time."""
    return I3DResNet50(
        num_classes,
        stem_stride_frames=1,
        stem_pool=nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        res2_pool=nn.MaxPool3d((2, 1, 1)),
        kernels_frames=((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)),
    )


def i3d_resnet50_windows(num_classes: int) -> I3DWindows:
    """PyVideoResearch's I3D, of focused attention: time is halved three times; all blocks have a kernel over time."""
    return I3DWindows(
        num_classes,
        stem_stride_frames=2,
        stem_pool=nn.MaxPool3d(3, stride=2, padding=1),
        res2_pool=nn.MaxPool3d((3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
        kernels_frames=((3,) * 3, (3,) * 4, (3,) * 6, (3,) * 3),
        norm=partial(nn.BatchNorm3d, eps=1e-3, momentum=0.01),  # the shortcuts' have PyTorch's own
    )


def _windows(maps: torch.Tensor, num_frames: int | None = None) -> torch.Tensor:
    means = maps.mean((3, 4)).transpose(1, 2)  # (N, T, C)
    if means.shape[1] < 2:
        raise ValueError(f"clip: {num_frames or 'too few'} frames; a window of time needs 9 or more")
    return (means[:, 1:] + means[:, :-1]) / 2


def _initialise(network: nn.Module) -> None:
    """As PySlowFast does: each block begins as its shortcut."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.branch.get_submodule("c_bn").weight)  # type: ignore[arg-type]


_LAYERS = (("a", 1), ("b", 2), ("c", 3))

LAYOUTS: dict[str, KeyMap] = {
    "pyslowfast": [
        (r"s1\.pathway0_stem\.conv\.(.*)", r"stem.0.\1"),
        (r"s1\.pathway0_stem\.bn\.(.*)", r"stem.1.\1"),
        (r"s(\d)\.pathway0_res(\d)\.branch2\.(.*)", r"res\1.\2.branch.\3"),
        (r"s(\d)\.pathway0_res(\d)\.branch1\.(.*)", r"res\1.\2.shortcut.0.\3"),
        (r"s(\d)\.pathway0_res(\d)\.branch1_bn\.(.*)", r"res\1.\2.shortcut.1.\3"),
    ],
    "pytorchvideo": [
        (r"blocks\.0\.conv\.(.*)", r"stem.0.\1"),
        (r"blocks\.0\.norm\.(.*)", r"stem.1.\1"),
        # blocks.2 is the pooling after res2
        *(
            (rf"blocks\.{block}\.res_blocks\.(\d)\.{theirs}\.(.*)", rf"res{stage}.\1.{ours}.\2")
            for block, stage in ((1, 2), (3, 3), (4, 4), (5, 5))
            for theirs, ours in (
                *((f"branch2\\.conv_{layer}", f"branch.{layer}") for layer, _ in _LAYERS),
                *((f"branch2\\.norm_{layer}", f"branch.{layer}_bn") for layer, _ in _LAYERS),
                ("branch1_conv", "shortcut.0"),
                ("branch1_norm", "shortcut.1"),
            )
        ),
        (r"blocks\.6\.proj\.(.*)", r"head.projection.\1"),
    ],
}

_WRAPPED = r"(?:mA\.|basenet\.|encoder\.)*"
WINDOWS_LAYOUTS: dict[str, KeyMap] = {
    "pyvideoresearch": [
        (rf"{_WRAPPED}conv1\.(.*)", r"stem.0.\1"),
        (rf"{_WRAPPED}bn1\.(.*)", r"stem.1.\1"),
        *(
            (rf"{_WRAPPED}layer{n}\.(\d)\.{theirs}\.(.*)", rf"res{n + 1}.\1.{ours}.\2")
            for n in range(1, 5)
            for theirs, ours in (
                *((f"conv{number}", f"branch.{layer}") for layer, number in _LAYERS),
                *((f"bn{number}", f"branch.{layer}_bn") for layer, number in _LAYERS),
                ("downsample", "shortcut"),
            )
        ),
        (rf"{_WRAPPED}fc\.(.*)", r"head.projection.\1"),
    ]
}
