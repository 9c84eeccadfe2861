"""SlowFast against its papers' numbers, its authors' checkpoint names, and the network written out in functions."""

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

from vidprep.models.backbones.slowfast import (
    SLOWFAST_LAYOUTS,
    SlowFast,
    slowfast_r18_8x8,
    slowfast_r50_4x16,
    slowfast_r50_8x8,
)
from vidprep.models.weights import load_weights, renamed

State = Mapping[str, torch.Tensor]
Depths = tuple[int, int, int, int]
SMALL: Depths = (1, 2, 1, 1)  # every kind of block


def small(num_classes: int = 5) -> SlowFast:
    return SlowFast(num_classes, num_blocks=SMALL, alpha=4, lateral_kernel=7)


def widths(pathway: int, stage: int) -> tuple[int, int, int]:
    """Of a stage's input, inner and output maps, by the paper's table; beta is 1/8, laterals bring twice as much."""
    share = 8 if pathway else 1
    inner, output = 64 * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
    before = 64 if stage == 2 else output // 2
    return before // share + (0 if pathway else 2 * before // 8), inner // share, output // share


def time_kernel(pathway: int, stage: int) -> int:
    return 3 if pathway or stage >= 4 else 1


def official_shapes(depths: Depths, num_classes: int, lateral: int, layout: str) -> Shapes:
    """Names and shapes of checkpoints, from the naming in PySlowFast's and PyTorchVideo's sources."""
    ptv = layout == "pytorchvideo"
    shapes: Shapes = {}
    for pathway, (width, kernel) in enumerate([(64, 1), (8, 5)]):
        stem = f"blocks.0.multipathway_blocks.{pathway}" if ptv else f"s1.pathway{pathway}_stem"
        shapes[f"{stem}.conv.weight"] = (width, 3, kernel, 7, 7)
        shapes |= norm_shapes(f"{stem}.{'norm' if ptv else 'bn'}", width)
    for stage, width in enumerate((8, 32, 64, 128), start=1):
        fuse = f"blocks.{stage - 1}.multipathway_fusion" if ptv else f"s{stage}_fuse"
        shapes[f"{fuse}.{'conv_fast_to_slow' if ptv else 'conv_f2s'}.weight"] = (2 * width, width, lateral, 1, 1)
        shapes |= norm_shapes(f"{fuse}.{'norm' if ptv else 'bn'}", 2 * width)
    for stage, depth in enumerate(depths, start=2):
        for pathway in (0, 1):
            before, inner, output = widths(pathway, stage)
            for block in range(depth):
                if ptv:
                    name = f"blocks.{stage - 1}.multipathway_blocks.{pathway}.res_blocks.{block}"
                    conv_of, norm_of = "conv_{}", "norm_{}"
                    shortcut, shortcut_norm = f"{name}.branch1_conv", f"{name}.branch1_norm"
                else:
                    name = f"s{stage}.pathway{pathway}_res{block}"
                    conv_of, norm_of = "{}", "{}_bn"
                    shortcut, shortcut_norm = f"{name}.branch1", f"{name}.branch1_bn"
                first = before if block == 0 else output
                if block == 0:
                    shapes[f"{shortcut}.weight"] = (output, before, 1, 1, 1)
                    shapes |= norm_shapes(shortcut_norm, output)
                for part, (wide, *shape) in {
                    "a": (inner, first, time_kernel(pathway, stage), 1, 1),
                    "b": (inner, inner, 1, 3, 3),
                    "c": (output, inner, 1, 1, 1),
                }.items():
                    shapes[f"{name}.branch2.{conv_of.format(part)}.weight"] = (wide, *shape)
                    shapes |= norm_shapes(f"{name}.branch2.{norm_of.format(part)}", wide)
    head = "blocks.6.proj" if ptv else "head.projection"
    shapes[f"{head}.weight"], shapes[f"{head}.bias"] = (num_classes, 2048 + 256), (num_classes,)
    return shapes


def pyslowfast_logits(state: State, depths: Depths, alpha: int, clip: torch.Tensor) -> torch.Tensor:
    """The whole network by the paper's description, from weights under PySlowFast's names."""
    frames = torch.linspace(0, clip.shape[2] - 1, clip.shape[2] // alpha).long()
    pathways = [clip[:, :, frames], clip]
    for pathway, maps in enumerate(pathways):
        maps = norm(state, f"s1.pathway{pathway}_stem.bn", conv(state, f"s1.pathway{pathway}_stem.conv", maps, 2))
        pathways[pathway] = functional.max_pool3d(maps.relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, depth in enumerate((0, *depths), start=1):
        for pathway in (0, 1):
            for block in range(depth):
                name = f"s{stage}.pathway{pathway}_res{block}"
                stride = 2 if block == 0 and stage > 2 else 1
                maps = branch = pathways[pathway]
                branch = norm(state, f"{name}.branch2.a_bn", conv(state, f"{name}.branch2.a", branch)).relu()
                branch = norm(state, f"{name}.branch2.b_bn", conv(state, f"{name}.branch2.b", branch, stride)).relu()
                branch = norm(state, f"{name}.branch2.c_bn", conv(state, f"{name}.branch2.c", branch))
                if block == 0:
                    maps = norm(state, f"{name}.branch1_bn", conv(state, f"{name}.branch1", maps, stride))
                pathways[pathway] = (maps + branch).relu()
        if stage < 5:
            weight = state[f"s{stage}_fuse.conv_f2s.weight"]
            padding = (weight.shape[2] // 2, 0, 0)
            lateral = functional.conv3d(pathways[1], weight, stride=(alpha, 1, 1), padding=padding)
            pathways[0] = torch.cat([pathways[0], norm(state, f"s{stage}_fuse.bn", lateral).relu()], 1)
    features = torch.cat([maps.flatten(2).mean(2) for maps in pathways], 1)
    return functional.linear(features, state["head.projection.weight"], state["head.projection.bias"])


GOLDEN = [-0.64251, -0.09017, -0.73547, -0.1212, 0.11683]


@pytest.fixture(scope="module")
def network() -> SlowFast:
    network = filled(small())
    assert isinstance(network, SlowFast)
    return network


@pytest.mark.parametrize(
    ("build", "num_classes", "expected"),
    [
        (slowfast_r50_8x8, 400, 34_566_488),  # PyTorchVideo's model zoo: 34.57 M
        (slowfast_r50_4x16, 400, 34_480_216),  # the shorter lateral kernels: 34.48 M; published 34.40 M
    ],
)
def test_numbers_of_parameters(build: Callable[[int], SlowFast], num_classes: int, expected: int) -> None:
    assert num_parameters(on_meta(build, num_classes)) == expected


def test_the_lateral_kernel_explains_the_difference_of_the_two() -> None:
    lateral_inputs = (8, 32, 64, 128)
    assert sum(2 * (7 - 5) * width * width for width in lateral_inputs) == 34_566_488 - 34_480_216


@pytest.mark.parametrize(
    ("build", "size", "expected"),
    [
        (slowfast_r50_4x16, (32, 256, 256), 36.1),  # published
        (slowfast_r50_8x8, (32, 256, 256), 65.7),  # published
        (slowfast_r50_8x8, (64, 256, 256), 131.4),  # published 132.8
        (slowfast_r18_8x8, (32, 224, 224), 30.9),  # published; at 224, unlike the two above
        (slowfast_r18_8x8, (32, 256, 256), 40.4),  # published
    ],
)
def test_giga_macs(build: Callable[[int], SlowFast], size: tuple[int, int, int], expected: float) -> None:
    assert giga_macs(on_meta(build), *size) == pytest.approx(expected, rel=0.003)


@pytest.mark.parametrize(("build", "expected"), [(slowfast_r50_4x16, 36.3), (slowfast_r50_8x8, 66.1)])
def test_giga_flops_of_fvcore_count_norms_too(build: Callable[[int], SlowFast], expected: float) -> None:
    """fvcore counts two operations for each number that an affine norm gets, ours only multiply-adds."""
    network, num_normed = on_meta(build), 0

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal num_normed
        num_normed += inputs[0].numel()

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    handles = [module.register_forward_pre_hook(count) for module in norms]
    found = giga_macs(network, 32, 256, 256)
    for handle in handles:
        handle.remove()
    assert found + 2 * num_normed / 1e9 == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("layout", SLOWFAST_LAYOUTS)
@pytest.mark.parametrize(
    ("build", "depths", "lateral"),
    [(slowfast_r50_8x8, (3, 4, 6, 3), 7), (slowfast_r50_4x16, (3, 4, 6, 3), 5), (slowfast_r18_8x8, (2, 2, 2, 2), 7)],
)
def test_names_and_shapes_are_the_authors(
    build: Callable[[int], SlowFast], depths: Depths, lateral: int, layout: str
) -> None:
    official = official_shapes(depths, 7, lateral, layout)
    key_map = SLOWFAST_LAYOUTS[layout]
    assert renamed_shapes(official, key_map) == shapes_of(on_meta(build, 7))


def test_both_layouts_name_the_same_layers() -> None:
    """The list above is in the network's order, so that layers of one shape can't be taken for each other."""
    one, other = (
        list(renamed_shapes(official_shapes(SMALL, 7, 7, layout), key_map))
        for layout, key_map in SLOWFAST_LAYOUTS.items()
    )
    assert one == other


def test_logits_are_those_of_the_network_written_out() -> None:
    state = filled_state(official_shapes(SMALL, 5, 7, "pyslowfast"))
    network = small().eval()
    load_weights(network, renamed(state, SLOWFAST_LAYOUTS["pyslowfast"]), source="test")
    clip = filled_clip("slowfast", 2, 3, 8, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(network(clip), pyslowfast_logits(state, SMALL, 4, clip), rtol=1e-4, atol=1e-5)


def test_golden_logits(network: SlowFast) -> None:
    """Our own run of the filled network: guards against change; its truth is the network written out above."""
    with torch.no_grad():
        logits = network(filled_clip("slowfast", 1, 3, 8, 32, 32))
    torch.testing.assert_close(logits, torch.tensor([GOLDEN]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("alpha", "num_frames"), [(4, 32), (8, 32), (4, 64), (4, 8), (4, 4), (8, 16)])
def test_the_slow_pathway_sees_the_authors_frames(alpha: int, num_frames: int) -> None:
    """``torch.linspace`` from the first frame to the last, truncated, is what the authors select by."""
    network = SlowFast(1, num_blocks=(1, 1, 1, 1), alpha=alpha, lateral_kernel=5)
    clip = torch.arange(num_frames, dtype=torch.float32).reshape(1, 1, -1, 1, 1)
    slow, fast = network.pathways(clip)
    expected = torch.linspace(0, num_frames - 1, num_frames // alpha).long()
    torch.testing.assert_close(slow.flatten().long(), expected, rtol=0, atol=0)
    assert fast is clip


@pytest.mark.parametrize(
    ("num_slow", "num_fast", "slow_zeros", "lateral_zeros"),
    [
        (4, 16, (0, 0), (0, 0)),
        (4, 4, (0, 0), (1, 2)),  # sampling left the fast pathway 4 frames: one lateral frame, three zeros about it
        (1, 16, (1, 2), (0, 0)),
        (3, 5, (0, 0), (0, 1)),
    ],
)
def test_the_shorter_is_padded_on_both_sides(
    network: SlowFast, num_slow: int, num_fast: int, slow_zeros: tuple[int, int], lateral_zeros: tuple[int, int]
) -> None:
    slow, fast = torch.full((1, 256, num_slow, 2, 3), 2.0), filled_clip("fast", 1, 32, num_fast, 2, 3)
    with torch.no_grad():
        fused, same = network.fuse("res2", [slow, fast])
        lateral = network.laterals["res2"](fast)
    assert same is fast
    before, behind = slow_zeros
    torch.testing.assert_close(fused[:, :256], functional.pad(slow, (0, 0, 0, 0, before, behind)))
    before, behind = lateral_zeros
    torch.testing.assert_close(fused[:, 256:], functional.pad(lateral, (0, 0, 0, 0, before, behind)))


def test_nothing_is_fused_behind_res5(network: SlowFast) -> None:
    pathways = [torch.ones(1, 2048, 2, 1, 1), torch.ones(1, 256, 8, 1, 1)]
    assert network.fuse("res5", pathways) is pathways


@pytest.mark.parametrize("size", [(1, 32, 32), (4, 33, 47), (7, 64, 36), (12, 32, 32)])
def test_clips_of_any_length_and_size(network: SlowFast, size: tuple[int, int, int]) -> None:
    num_frames, height, width = size
    with torch.no_grad():
        slow, fast = network.maps(torch.zeros(2, 3, *size))
    side = (-(-height // 32), -(-width // 32))
    assert slow.shape == (2, 2048, -(-num_frames // 4), *side)
    assert fast.shape == (2, 256, num_frames, *side)
    assert network.pool([slow, fast]).shape == (2, network.num_features)
    torch.testing.assert_close(network.pool([slow, fast])[:, :2048], slow.mean((2, 3, 4)))


def test_every_parameter_gets_a_gradient(network: SlowFast) -> None:
    network(filled_clip("slowfast", 1, 3, 4, 32, 32)).square().sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    network.zero_grad()
    assert without == []
