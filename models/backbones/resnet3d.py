"""The modified 3DResNet-18 and -50 of similarity-guided sampling.

Fayyaz et al., "3D CNNs with adaptive temporal feature resolutions" (CVPR 2021), Table A.1. It is SlowFast's fast
pathway up to res2 and half the slow pathway's width behind; nothing lowers the resolution in time, so that the
sampling is what does.
"""

from __future__ import annotations

from torch import nn

from vidprep.models.backbones.network import Head, VideoNetwork
from vidprep.models.backbones.residual import bottlenecks, initialise, pyslowfast_blocks, resnet_stem

RESNET3D_LAYOUTS = {
    "pyslowfast": (  # also of the released code of similarity-guided sampling
        (r"s1\.pathway0_stem\.conv\.(.+)", r"stem.conv.\1"),
        (r"s1\.pathway0_stem\.bn\.(.+)", r"stem.norm.\1"),
        *pyslowfast_blocks(r"\1.\3"),
    ),
}


class ResNet3D(VideoNetwork):
    """A 3D ResNet of bottlenecks that keeps the number of frames.

    Parameters
    ----------
    num_classes : int
    num_blocks : tuple of int
        Of res2 to res5.
    """

    num_features = 1024

    def __init__(self, num_classes: int, *, num_blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        two, three, four, five = num_blocks
        self.stem = resnet_stem(8, time_kernel=5)
        self.res2 = bottlenecks(two, 8, 8, 32, time_kernel=3, stride=1)
        self.res3 = bottlenecks(three, 32, 64, 256, time_kernel=1, stride=2)
        self.res4 = bottlenecks(four, 256, 128, 512, time_kernel=1, stride=2)
        self.res5 = bottlenecks(five, 512, 256, 1024, time_kernel=3, stride=2)
        self.head: nn.Module = Head(self.num_features, num_classes)
        initialise(self)


def resnet3d_18(num_classes: int) -> ResNet3D:
    """Return the 3DResNet-18: bottlenecks too, unlike other networks of that name."""
    return ResNet3D(num_classes, num_blocks=(2, 2, 2, 2))


def resnet3d_50(num_classes: int) -> ResNet3D:
    """Return the 3DResNet-50."""
    return ResNet3D(num_classes, num_blocks=(3, 4, 6, 3))
