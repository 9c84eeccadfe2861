"""The modified 3D ResNets against their paper's table and numbers, checkpoint names, and functions written out."""

from collections.abc import Callable, Mapping

import pytest
import torch
from networks import (
    Shapes,
    conv,
    filled,
    filled_clip,
    filled_state,
    giga_macs,
    norm,
    norm_shapes,
    num_parameters,
    on_meta,
    renamed_shapes,
    shapes_of,
)
from torch.nn import functional

from vidprep.models.backbones.resnet3d import RESNET3D_LAYOUTS, ResNet3D, resnet3d_18, resnet3d_50
from vidprep.models.weights import load_weights, renamed

State = Mapping[str, torch.Tensor]
KEY_MAP = RESNET3D_LAYOUTS["pyslowfast"]

# Table A.1: the kernel in time of a block's first convolution, inner and output width; maps are halved before res3-5.
TABLE = {2: (3, 8, 32), 3: (1, 64, 256), 4: (1, 128, 512), 5: (3, 256, 1024)}
DEPTHS = {resnet3d_18: (2, 2, 2, 2), resnet3d_50: (3, 4, 6, 3)}


def official_shapes(depths: tuple[int, ...], num_classes: int) -> Shapes:
    """Names and shapes of checkpoints, from the naming in the sources of similarity-guided sampling."""
    shapes: Shapes = {"s1.pathway0_stem.conv.weight": (8, 3, 5, 7, 7), **norm_shapes("s1.pathway0_stem.bn", 8)}
    before = 8
    for (stage, (kernel, inner, output)), depth in zip(TABLE.items(), depths, strict=True):
        for block in range(depth):
            name = f"s{stage}.pathway0_res{block}"
            if block == 0:
                shapes[f"{name}.branch1.weight"] = (output, before, 1, 1, 1)
                shapes |= norm_shapes(f"{name}.branch1_bn", output)
            shapes[f"{name}.branch2.a.weight"] = (inner, before, kernel, 1, 1)
            shapes[f"{name}.branch2.b.weight"] = (inner, inner, 1, 3, 3)
            shapes[f"{name}.branch2.c.weight"] = (output, inner, 1, 1, 1)
            for part, width in {"a": inner, "b": inner, "c": output}.items():
                shapes |= norm_shapes(f"{name}.branch2.{part}_bn", width)
            before = output
    return shapes | {"head.projection.weight": (num_classes, 1024), "head.projection.bias": (num_classes,)}


def official_logits(state: State, depths: tuple[int, ...], clip: torch.Tensor) -> torch.Tensor:
    """The whole network by the paper's table, from weights under its authors' names."""
    maps = norm(state, "s1.pathway0_stem.bn", conv(state, "s1.pathway0_stem.conv", clip, 2)).relu()
    maps = functional.max_pool3d(maps, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, depth in zip(TABLE, depths, strict=True):
        for block in range(depth):
            name = f"s{stage}.pathway0_res{block}"
            stride = 2 if block == 0 and stage > 2 else 1
            branch = norm(state, f"{name}.branch2.a_bn", conv(state, f"{name}.branch2.a", maps)).relu()
            branch = norm(state, f"{name}.branch2.b_bn", conv(state, f"{name}.branch2.b", branch, stride)).relu()
            branch = norm(state, f"{name}.branch2.c_bn", conv(state, f"{name}.branch2.c", branch))
            if block == 0:
                maps = norm(state, f"{name}.branch1_bn", conv(state, f"{name}.branch1", maps, stride))
            maps = (maps + branch).relu()
    features = maps.flatten(2).mean(2)
    return functional.linear(features, state["head.projection.weight"], state["head.projection.bias"])


GOLDEN = [-0.37751, -0.1945, 0.01698, 0.30443, -0.75954]


@pytest.fixture(scope="module")
def network() -> ResNet3D:
    network = filled(resnet3d_18(5))
    assert isinstance(network, ResNet3D)
    return network


@pytest.mark.parametrize(("build", "expected"), [(resnet3d_18, 4_424_720), (resnet3d_50, 7_328_944)])
def test_numbers_of_parameters(build: Callable[[int], ResNet3D], expected: int) -> None:
    """4.425 and 7.329 M with the 200 classes of Mini-Kinetics, which the papers' ablations use."""
    assert num_parameters(on_meta(build, 200)) == expected


@pytest.mark.parametrize(
    ("build", "side", "expected"),
    [(resnet3d_18, 224, 18.06), (resnet3d_50, 256, 40.849)],  # published 40.8; 18's is computed from Table A.1
)
def test_giga_macs(build: Callable[[int], ResNet3D], side: int, expected: float) -> None:
    assert giga_macs(on_meta(build, 200), 32, side, side) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize(
    ("build", "side", "intercept", "slope"),
    [
        (resnet3d_18, 224, 2.649, 0.4817),
        (resnet3d_18, 256, 3.460, 0.6292),
        (resnet3d_50, 224, 2.809, 0.8895),
        (resnet3d_50, 256, 3.669, 1.1619),
    ],
)
@pytest.mark.parametrize("num_kept", [1, 32])
def test_giga_macs_are_a_line_in_the_frames_that_sampling_keeps(
    build: Callable[[int], ResNet3D], side: int, intercept: float, slope: float, num_kept: int
) -> None:
    """Sampling after res2: published 23.4 of the 50 layers is 17 of 32 frames, 14.0 of the 18 is 23.6."""
    found = giga_macs(on_meta(build, 200), 32, side, side, after="res2", num_kept=num_kept)
    assert found == pytest.approx(intercept + slope * num_kept, rel=0.001)


@pytest.mark.parametrize("build", DEPTHS)
def test_names_and_shapes_are_the_authors(build: Callable[[int], ResNet3D]) -> None:
    official = official_shapes(DEPTHS[build], 7)
    assert renamed_shapes(official, KEY_MAP) == shapes_of(on_meta(build, 7))


@pytest.mark.parametrize("build", DEPTHS)
def test_logits_are_those_of_the_network_written_out(build: Callable[[int], ResNet3D]) -> None:
    state = filled_state(official_shapes(DEPTHS[build], 5))
    network = build(5).eval()
    load_weights(network, renamed(state, KEY_MAP), source="test")
    clip = filled_clip("resnet3d", 2, 3, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(clip), official_logits(state, DEPTHS[build], clip), rtol=1e-4, atol=1e-5)


def test_golden_logits(network: ResNet3D) -> None:
    """Our own run of the filled network: guards against change; its truth is the network written out above."""
    with torch.no_grad():
        logits = network(filled_clip("resnet3d", 1, 3, 4, 64, 64))
    torch.testing.assert_close(logits, torch.tensor([GOLDEN]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 33, 47), (6, 64, 36)])
def test_clips_of_any_length_and_size(network: ResNet3D, size: tuple[int, int, int]) -> None:
    num_frames, height, width = size
    with torch.no_grad():
        (maps,) = network.maps(torch.zeros(2, 3, *size))
    assert maps.shape == (2, 1024, num_frames, -(-height // 32), -(-width // 32))
    assert network.pool([maps]).shape == (2, network.num_features)


def test_every_parameter_gets_a_gradient(network: ResNet3D) -> None:
    network(filled_clip("resnet3d", 1, 3, 2, 32, 32)).square().sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    network.zero_grad()
    assert without == []
