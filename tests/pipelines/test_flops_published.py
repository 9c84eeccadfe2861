"""Published costs in both conventions, most of them in C2.

The tests of X3D, SlowFast, I3D, TSM and the 3D ResNets have theirs in C1, by PyTorch's own counter.
"""

import re
from functools import cache

import pytest

from vidprep.pipelines.flops import Cost, backbone_flops

C1, C2 = "macs", "operations"

# Network, frames, side, classes, convention, 10^9 operations, and what the number is.
PUBLISHED = [
    ("hara_resnet18", 16, 112, 400, C2, 8.3275, "adaptive zoom's R3D, published as 8.33: shortcuts B"),
    ("hara_resnet18_a", 16, 112, 400, C2, 8.316, "shortcuts A"),
    (
        "x3d_m",
        16,
        224,
        400,
        C2,
        4.968 - 0.015,
        "adaptive zoom's X3D, published as 4.97; squeezing by a mean, as ours does, is free",
    ),
    ("x3d_m_pytorchvideo", 16, 224, 400, C2, 4.953, "the same without the poolings of squeeze and excitation"),
    ("r2plus1d_18", 16, 112, 400, C2, 40.707, "adaptive zoom's R(2+1)D, published as 40.71"),
    ("r3d_18", 16, 112, 400, C2, 40.76, "torchvision's; the R3D of adaptive zoom is Hara's"),
    ("r3d_18", 16, 112, 400, C1, 40.697, "torchvision's own table"),
    ("r2plus1d_18", 16, 112, 400, C1, 40.519, "torchvision's own table"),
    ("resnet50", 1, 224, 1000, C1, 4.089, "torchvision's own table"),
    ("mobilenet_v2", 1, 224, 1000, C1, 0.301, "torchvision's own table"),
    ("efficientnet_b0", 1, 224, 1000, C1, 0.386, "torchvision's own table"),
]

# Network, input as above, parameters in millions, as torchvision's tables have them.
PARAMETERS = [
    ("r2plus1d_18", 16, 112, 400, 31.505),
    ("r3d_18", 16, 112, 400, 33.371),
    ("resnet50", 1, 224, 1000, 25.557),
    ("mobilenet_v2", 1, 224, 1000, 3.505),
    ("efficientnet_b0", 1, 224, 1000, 5.289),
]


@cache
def cost_of(name: str, num_frames: int, size: int, num_classes: int) -> Cost:
    return backbone_flops(name, num_frames=num_frames, size=size, num_classes=num_classes)[""]


@pytest.mark.parametrize(("name", "num_frames", "size", "num_classes", "convention", "billions", "remark"), PUBLISHED)
def test_cost(
    name: str, num_frames: int, size: int, num_classes: int, convention: str, billions: float, remark: str
) -> None:
    cost = cost_of(name, num_frames, size, num_classes)
    assert getattr(cost, convention) / 1e9 == pytest.approx(billions, rel=1e-3), remark


@pytest.mark.parametrize(("name", "num_frames", "size", "num_classes", "millions"), PARAMETERS)
def test_parameters(name: str, num_frames: int, size: int, num_classes: int, millions: float) -> None:
    found = cost_of(name, num_frames, size, num_classes).num_parameters
    assert found / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("name", ["r3d_18", "slowfast_r18_8x8"])
def test_stages_and_head_are_the_whole(name: str) -> None:
    """What each module costs adds up, on the input that each network's weights take."""
    costs = backbone_flops(name)
    parts = [cost for inner, cost in costs.items() if re.fullmatch(r"[^.]+", inner)]
    for what in (C1, C2, "num_parameters"):
        assert sum(getattr(part, what) for part in parts) == pytest.approx(getattr(costs[""], what), rel=1e-9)
