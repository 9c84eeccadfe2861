"""X3D against its papers' numbers, its authors' checkpoint names, and the network written out in functions."""

import math
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
from torch import nn
from torch.nn import functional

from vidprep.models.backbones import BACKBONES
from vidprep.models.backbones.x3d import X3D, X3D_LAYOUTS, x3d_l, x3d_m, x3d_xl
from vidprep.models.weights import WeightsError, load_weights, renamed

State = Mapping[str, torch.Tensor]
STAGES = (2, 3, 4, 5)


def rounded_width(width: float) -> int:
    """The paper's (and MobileNet's) rule: a multiple of 8, at least 8, that loses less than a tenth."""
    nearest = max(8, 8 * math.floor(width / 8 + 0.5))
    return nearest if nearest >= 0.9 * width else nearest + 8


def expanded(width_factor: float, depth_factor: float) -> tuple[list[int], list[int]]:
    """Widths of stem and res2 to res5, and their depths, from the factors of the paper's expansion."""
    widths = [rounded_width(width * width_factor) for width in (12, 12, 24, 48, 96)]
    return widths, [math.ceil(depth * depth_factor) for depth in (1, 2, 5, 3)]


# The factors of the authors' configurations; no configuration of XL was published, the paper's width is 2.9 times 12.
FACTORS = {"m": (x3d_m, 2.0, 2.2), "l": (x3d_l, 2.0, 5.0), "xl": (x3d_xl, 2.9, 5.0)}


def pyslowfast_shapes(width_factor: float, depth_factor: float, num_classes: int) -> Shapes:
    """Names and shapes of PySlowFast's checkpoints, from its sources' naming."""
    (stem, *widths), depths = expanded(width_factor, depth_factor)
    shapes: Shapes = {
        "s1.pathway0_stem.conv_xy.weight": (stem, 3, 1, 3, 3),
        "s1.pathway0_stem.conv.weight": (stem, 1, 5, 1, 1),
        **norm_shapes("s1.pathway0_stem.bn", stem),
    }
    before = stem
    for stage, width, depth in zip(STAGES, widths, depths, strict=True):
        inner = int(2.25 * width)
        for block in range(depth):
            name = f"s{stage}.pathway0_res{block}"
            if block == 0:
                shapes[f"{name}.branch1.weight"] = (width, before, 1, 1, 1)
                shapes |= norm_shapes(f"{name}.branch1_bn", width)
            shapes[f"{name}.branch2.a.weight"] = (inner, before if block == 0 else width, 1, 1, 1)
            shapes |= norm_shapes(f"{name}.branch2.a_bn", inner)
            shapes[f"{name}.branch2.b.weight"] = (inner, 1, 3, 3, 3)
            shapes |= norm_shapes(f"{name}.branch2.b_bn", inner)
            if block % 2 == 0:
                squeezed = rounded_width(inner / 16)
                shapes[f"{name}.branch2.se.fc1.weight"] = (squeezed, inner, 1, 1, 1)
                shapes[f"{name}.branch2.se.fc1.bias"] = (squeezed,)
                shapes[f"{name}.branch2.se.fc2.weight"] = (inner, squeezed, 1, 1, 1)
                shapes[f"{name}.branch2.se.fc2.bias"] = (inner,)
            shapes[f"{name}.branch2.c.weight"] = (width, inner, 1, 1, 1)
            shapes |= norm_shapes(f"{name}.branch2.c_bn", width)
        before = width
    inner = int(2.25 * before)
    shapes["head.conv_5.weight"] = (inner, before, 1, 1, 1)
    shapes |= norm_shapes("head.conv_5_bn", inner)
    shapes["head.lin_5.weight"] = (2048, inner, 1, 1, 1)
    shapes["head.projection.weight"] = (num_classes, 2048)
    shapes["head.projection.bias"] = (num_classes,)
    return shapes


def pytorchvideo_shapes(width_factor: float, depth_factor: float, num_classes: int) -> Shapes:
    """Names and shapes of PyTorchVideo's checkpoints, from its sources' naming."""
    (stem, *widths), depths = expanded(width_factor, depth_factor)
    shapes: Shapes = {
        "blocks.0.conv.conv_t.weight": (stem, 3, 1, 3, 3),  # spatial, whatever its name says
        "blocks.0.conv.conv_xy.weight": (stem, 1, 5, 1, 1),
        **norm_shapes("blocks.0.norm", stem),
    }
    before = stem
    for stage, width, depth in zip(STAGES, widths, depths, strict=True):
        inner = int(2.25 * width)
        for block in range(depth):
            name = f"blocks.{stage - 1}.res_blocks.{block}"
            if block == 0:
                shapes[f"{name}.branch1_conv.weight"] = (width, before, 1, 1, 1)
                if before != width:
                    shapes |= norm_shapes(f"{name}.branch1_norm", width)
            shapes[f"{name}.branch2.conv_a.weight"] = (inner, before if block == 0 else width, 1, 1, 1)
            shapes |= norm_shapes(f"{name}.branch2.norm_a", inner)
            shapes[f"{name}.branch2.conv_b.weight"] = (inner, 1, 3, 3, 3)
            shapes |= norm_shapes(f"{name}.branch2.norm_b.0", inner)
            if block % 2 == 0:
                squeezed = rounded_width(inner / 16)
                shapes[f"{name}.branch2.norm_b.1.block.0.weight"] = (squeezed, inner, 1, 1, 1)
                shapes[f"{name}.branch2.norm_b.1.block.0.bias"] = (squeezed,)
                shapes[f"{name}.branch2.norm_b.1.block.2.weight"] = (inner, squeezed, 1, 1, 1)
                shapes[f"{name}.branch2.norm_b.1.block.2.bias"] = (inner,)
            shapes[f"{name}.branch2.conv_c.weight"] = (width, inner, 1, 1, 1)
            shapes |= norm_shapes(f"{name}.branch2.norm_c", width)
        before = width
    inner = int(2.25 * before)
    shapes["blocks.5.pool.pre_conv.weight"] = (inner, before, 1, 1, 1)
    shapes |= norm_shapes("blocks.5.pool.pre_norm", inner)
    shapes["blocks.5.pool.post_conv.weight"] = (2048, inner, 1, 1, 1)
    shapes["blocks.5.proj.weight"] = (num_classes, 2048)
    shapes["blocks.5.proj.bias"] = (num_classes,)
    return shapes


def squeezed_and_excited(state: State, fc1: str, fc2: str, maps: torch.Tensor) -> torch.Tensor:
    means = maps.flatten(2).mean(2)
    inner = functional.linear(means, state[f"{fc1}.weight"].flatten(1), state[f"{fc1}.bias"]).relu()
    scale = functional.linear(inner, state[f"{fc2}.weight"].flatten(1), state[f"{fc2}.bias"]).sigmoid()
    return maps * scale[:, :, None, None, None]


def pyslowfast_logits(state: State, depths: list[int], clip: torch.Tensor) -> torch.Tensor:
    """The whole network by the paper's description, from weights under PySlowFast's names."""
    maps = conv(state, "s1.pathway0_stem.conv_xy", clip, 2)
    maps = conv(state, "s1.pathway0_stem.conv", maps, groups=maps.shape[1])
    maps = norm(state, "s1.pathway0_stem.bn", maps).relu()
    for stage, depth in zip(STAGES, depths, strict=True):
        for block in range(depth):
            name, stride = f"s{stage}.pathway0_res{block}", 2 if block == 0 else 1
            branch = norm(state, f"{name}.branch2.a_bn", conv(state, f"{name}.branch2.a", maps)).relu()
            branch = conv(state, f"{name}.branch2.b", branch, stride, groups=branch.shape[1])
            branch = norm(state, f"{name}.branch2.b_bn", branch)
            if block % 2 == 0:
                branch = squeezed_and_excited(state, f"{name}.branch2.se.fc1", f"{name}.branch2.se.fc2", branch)
            branch = branch * branch.sigmoid()
            branch = norm(state, f"{name}.branch2.c_bn", conv(state, f"{name}.branch2.c", branch))
            if block == 0:
                maps = norm(state, f"{name}.branch1_bn", conv(state, f"{name}.branch1", maps, 2))
            maps = (maps + branch).relu()
    maps = norm(state, "head.conv_5_bn", conv(state, "head.conv_5", maps)).relu()
    features = maps.flatten(2).mean(2)
    hidden = functional.linear(features, state["head.lin_5.weight"].flatten(1)).relu()
    return functional.linear(hidden, state["head.projection.weight"], state["head.projection.bias"])


GOLDEN = [0.48666, 0.15452, -0.21994, -0.09421, 0.34824]


@pytest.fixture(scope="module")
def network() -> X3D:
    network = filled(x3d_m(5))
    assert isinstance(network, X3D)
    return network


@pytest.mark.parametrize(
    ("build", "expected"),
    [  # The paper's 3.8, 6.1 and 11.0 M leave biases and norms' shifts out here and there; in full:
        (x3d_m, 3_794_322),  # 3.794 M
        (x3d_l, 6_153_432),  # 6.153 M
        (x3d_xl, 11_095_904),  # 11.096 M
    ],
)
def test_numbers_of_parameters(build: Callable[[int], X3D], expected: int) -> None:
    assert num_parameters(on_meta(build)) == expected


def test_pytorchvideo_lacks_one_norm() -> None:
    assert num_parameters(on_meta(x3d_m, has_bare_shortcut=True)) == 3_794_322 - 2 * 24
    with_norm, bare = (shapes_of(on_meta(x3d_m, has_bare_shortcut=is_bare)) for is_bare in (False, True))
    assert set(with_norm) - set(bare) == set(norm_shapes("res2.0.shortcut.norm", 24))
    assert set(bare) <= set(with_norm)


@pytest.mark.parametrize(
    ("name", "short_side", "expected"),
    [  # C1; published 1.9 (paper 1.96), 6.2, 18.3 / 24.8, 35.8 / 48.4; M at 224 is the paper's 4.7, XS its 0.60
        ("x3d_xs", 160, 0.605),
        ("x3d_s", 160, 1.963),
        ("x3d_m", 224, 4.733),
        ("x3d_m", 256, 6.181),
        ("x3d_l", 312, 18.37),
        ("x3d_l", 356, 24.76),
        ("x3d_xl", 312, 35.84),
        ("x3d_xl", 356, 48.41),
        ("x3d_s_pytorchvideo", 160, 1.963),
    ],
)
def test_giga_macs(name: str, short_side: int, expected: float) -> None:
    backbone = BACKBONES[name]
    assert giga_macs(on_meta(backbone.build), backbone.num_frames, short_side, short_side) == pytest.approx(
        expected, rel=0.01
    )


@pytest.mark.parametrize(
    ("stage", "intercept", "slope"), [("stem", 0.066, 0.146), ("res2", 0.411, 0.1194), ("res3", 0.789, 0.0903)]
)
@pytest.mark.parametrize("num_kept", [1, 13])
def test_giga_macs_of_s_are_a_line_in_the_frames_that_sampling_keeps(
    stage: str, intercept: float, slope: float, num_kept: int
) -> None:
    found = giga_macs(on_meta(x3d_m), 13, 160, 160, after=stage, num_kept=num_kept)
    assert found == pytest.approx(intercept + slope * num_kept, rel=0.01)


@pytest.mark.parametrize("size", FACTORS)
def test_names_and_shapes_are_pyslowfasts(size: str) -> None:
    build, *factors = FACTORS[size]
    official = pyslowfast_shapes(*factors, num_classes=7)
    assert renamed_shapes(official, X3D_LAYOUTS["pyslowfast"]) == shapes_of(on_meta(build, 7))


@pytest.mark.parametrize("size", ["m", "l"])
def test_names_and_shapes_are_pytorchvideos(size: str) -> None:
    build, *factors = FACTORS[size]
    official = pytorchvideo_shapes(*factors, num_classes=7)
    key_map = X3D_LAYOUTS["pytorchvideo"]
    assert renamed_shapes(official, key_map) == shapes_of(on_meta(build, 7, has_bare_shortcut=True))


def test_both_layouts_name_the_same_layers() -> None:
    """Both lists above are in the network's order, so that layers of one shape can't be taken for each other."""
    pyslowfast = renamed_shapes(pyslowfast_shapes(2.0, 2.2, 7), X3D_LAYOUTS["pyslowfast"])
    pytorchvideo = renamed_shapes(pytorchvideo_shapes(2.0, 2.2, 7), X3D_LAYOUTS["pytorchvideo"])
    assert list(pytorchvideo) == [name for name in pyslowfast if not name.startswith("res2.0.shortcut.norm.")]


def test_logits_are_those_of_the_network_written_out() -> None:
    state = filled_state(pyslowfast_shapes(2.0, 2.2, num_classes=5))
    network = x3d_m(5).eval()
    load_weights(network, renamed(state, X3D_LAYOUTS["pyslowfast"]), source="test")
    clip = filled_clip("x3d", 2, 3, 4, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(clip), pyslowfast_logits(state, [3, 5, 11, 7], clip), rtol=1e-4, atol=1e-5)


def test_both_layouts_hold_the_same_network() -> None:
    """Where PySlowFast's extra norm is the identity, weights under either's names give the same logits."""
    state = filled_state(shapes_of(on_meta(x3d_m, 5, has_bare_shortcut=True)))
    bare, full = x3d_m(5, has_bare_shortcut=True).eval(), x3d_m(5).eval()
    bare.load_state_dict(state)
    full.load_state_dict(state, strict=False)
    extra = full.get_submodule("res2.0.shortcut.norm")
    assert isinstance(extra, nn.BatchNorm3d)
    nn.init.constant_(extra.weight, math.sqrt(1 + 1e-5))
    clip = filled_clip("x3d", 1, 3, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(bare(clip), full(clip), rtol=1e-4, atol=1e-5)


def test_the_other_librarys_file_is_refused_by_name() -> None:
    state = filled_state(pytorchvideo_shapes(2.0, 2.2, num_classes=5))
    network = x3d_m(5)
    with pytest.raises(WeightsError, match=r"4 missing \(res2\.0\.shortcut\.norm\.weight"):
        load_weights(network, renamed(state, X3D_LAYOUTS["pytorchvideo"]), source="X3D_M.pyth")


def test_golden_logits(network: X3D) -> None:
    """Our own run of the filled network: guards against change; its truth is the network written out above."""
    with torch.no_grad():
        logits = network(filled_clip("x3d", 1, 3, 4, 64, 64))
    torch.testing.assert_close(logits, torch.tensor([GOLDEN]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 33, 47), (5, 64, 36)])
def test_clips_of_any_length_and_size(network: X3D, size: tuple[int, int, int]) -> None:
    num_frames, height, width = size
    with torch.no_grad():
        (maps,) = network.maps(torch.zeros(2, 3, *size))
        assert maps.shape == (2, 432, num_frames, -(-height // 32), -(-width // 32))
        assert network.features(torch.zeros(2, 3, *size)).shape == (2, network.num_features)
        assert network(torch.zeros(2, 3, *size)).shape == (2, 5)


def test_every_parameter_gets_a_gradient(network: X3D) -> None:
    network(filled_clip("x3d", 1, 3, 2, 32, 32)).square().sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    network.zero_grad()
    assert without == []
