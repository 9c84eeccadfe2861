"""SlowFast: a slow, wide pathway on few frames beside a fast, narrow one on all of them.

Feichtenhofer et al., "SlowFast networks for video recognition" (ICCV 2019); the fast pathway's width is 1/8 of the
slow one's, and lateral connections carry twice its width over. Published weights: PyTorchVideo's
``SLOWFAST_8x8_R50.pyth``; PySlowFast's own are Caffe2 files, but what it trains has its layout, and so has the
released code of similarity-guided sampling.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from vidprep.models.backbones.network import Head, Pathways, VideoNetwork
from vidprep.models.backbones.residual import (
    bottlenecks,
    initialise,
    named,
    pyslowfast_blocks,
    pytorchvideo_blocks,
    resnet_stem,
)

_FUSED = ("stem", "res2", "res3", "res4")

SLOWFAST_LAYOUTS = {
    "pyslowfast": (
        (r"s1\.pathway(\d)_stem\.conv\.(.+)", r"stem.\1.conv.\2"),
        (r"s1\.pathway(\d)_stem\.bn\.(.+)", r"stem.\1.norm.\2"),
        (r"s1_fuse\.conv_f2s\.(.+)", r"laterals.stem.conv.\1"),
        (r"s1_fuse\.bn\.(.+)", r"laterals.stem.norm.\1"),
        (r"s([2-4])_fuse\.conv_f2s\.(.+)", r"laterals.res\1.conv.\2"),
        (r"s([2-4])_fuse\.bn\.(.+)", r"laterals.res\1.norm.\2"),
        *pyslowfast_blocks(r"\1.\2.\3"),
    ),
    "pytorchvideo": (
        (r"blocks\.0\.multipathway_blocks\.(\d)\.(conv|norm)\.(.+)", r"stem.\1.\2.\3"),
        *(
            (rf"blocks\.{block}\.multipathway_fusion\.{theirs}\.(.+)", rf"laterals.{name}.{ours}.\1")
            for block, name in enumerate(_FUSED)
            for theirs, ours in (("conv_fast_to_slow", "conv"), ("norm", "norm"))
        ),
        *pytorchvideo_blocks(r"multipathway_blocks\.(\d)\.", r"\1.\2"),
        (r"blocks\.6\.proj\.(.+)", r"head.projection.\1"),
    ),
}


class SlowFast(VideoNetwork):
    """SlowFast; its pathways are the slow and the fast one, in this order.

    Parameters
    ----------
    num_classes : int
    num_blocks : tuple of int
        Of res2 to res5, in both pathways.
    alpha : int
        The fast pathway has this many times the slow one's frames.
    lateral_kernel : int
        In time, of the lateral connections. The paper says 5; its authors use 7 for alpha 4 in their configurations
        and published weights, and 5 for alpha 8.
    """

    num_features = 2048 + 256

    def __init__(
        self, num_classes: int, *, num_blocks: tuple[int, int, int, int], alpha: int, lateral_kernel: int
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.stem = nn.ModuleList([resnet_stem(64, time_kernel=1), resnet_stem(8, time_kernel=5)])
        self.laterals = nn.ModuleDict({"stem": _lateral(8, alpha, lateral_kernel)})
        slow_in, fast_in = 64 + 2 * 8, 8
        for index, (name, depth) in enumerate(zip(self.stage_names[1:], num_blocks, strict=True)):
            stride = 1 if index == 0 else 2
            inner, width = 64 * 2**index, 256 * 2**index
            slow_kernel = 1 if index < 2 else 3  # motion is for the fast pathway; late slow stages see some
            slow = bottlenecks(depth, slow_in, inner, width, time_kernel=slow_kernel, stride=stride)
            fast = bottlenecks(depth, fast_in, inner // 8, width // 8, time_kernel=3, stride=stride)
            self.add_module(name, nn.ModuleList([slow, fast]))
            if name in _FUSED:
                self.laterals[name] = _lateral(width // 8, alpha, lateral_kernel)
            slow_in, fast_in = width + 2 * width // 8, width // 8
        self.head: nn.Module = Head(self.num_features, num_classes)
        initialise(self)

    def pathways(self, clip: torch.Tensor) -> Pathways:
        """Return the slow pathway's frames, spread evenly from the first to the last, and all frames.

        The authors' rule for a multiple of alpha frames; for other numbers the slow pathway's are rounded up, so that
        it is as long as what the lateral connections bring.
        """
        num_frames = clip.shape[2]
        num_slow = (num_frames + self.alpha - 1) // self.alpha  # ONNX rounds negative quotients to zero
        slow = torch.arange(num_slow, device=clip.device) * (num_frames - 1) // max(num_slow - 1, 1)
        return [clip.index_select(2, slow), clip]

    def fuse(self, name: str, pathways: Pathways) -> Pathways:
        """Give the slow pathway what the fast one saw; where lengths in time differ, the shorter is padded."""
        if name not in self.laterals:
            return pathways
        slow, fast = pathways
        return [_joined(slow, self.laterals[name](fast)), fast]


def _lateral(width: int, alpha: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv3d(width, 2 * width, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False)
    return named(conv=conv, norm=nn.BatchNorm3d(2 * width), relu=nn.ReLU())


def _joined(slow: torch.Tensor, lateral: torch.Tensor) -> torch.Tensor:
    """Join the channels of maps whose lengths in time may differ."""
    if has_torch_function((slow, lateral)):  # clips of several lengths side by side, each padded for itself
        joined: torch.Tensor = handle_torch_function(_joined, (slow, lateral), slow, lateral)
        return joined
    num_frames = max(slow.shape[2], lateral.shape[2])
    return torch.cat([_padded(slow, num_frames), _padded(lateral, num_frames)], 1)


def _padded(maps: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Pad maps [shape=(N, C, T, H, W)] with zeros in time, as much before as behind, to ``num_frames``."""
    missing = num_frames - maps.shape[2]
    return functional.pad(maps, (0, 0, 0, 0, missing // 2, missing - missing // 2)) if missing else maps


def slowfast_r50_8x8(num_classes: int) -> SlowFast:
    """Return SlowFast-R50 with 8 slow of 32 fast frames."""
    return SlowFast(num_classes, num_blocks=(3, 4, 6, 3), alpha=4, lateral_kernel=7)


def slowfast_r50_4x16(num_classes: int) -> SlowFast:
    """Return SlowFast-R50 with 4 slow of 32 fast frames."""
    return SlowFast(num_classes, num_blocks=(3, 4, 6, 3), alpha=8, lateral_kernel=5)


def slowfast_r18_8x8(num_classes: int) -> SlowFast:
    """Return SlowFast-R18 (bottlenecks too) of the ablations of similarity-guided sampling."""
    return SlowFast(num_classes, num_blocks=(2, 2, 2, 2), alpha=4, lateral_kernel=7)
