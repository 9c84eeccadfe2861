"""Residual blocks, how networks of them start, and that their stages run one by one."""

from collections.abc import Callable

import pytest
import torch
from networks import filled_clip, shapes_of
from torch import nn

from vidprep.models.backbones import VideoNetwork
from vidprep.models.backbones.residual import ResidualBlock, bottleneck, convolution, named, projection, resnet_stem
from vidprep.models.backbones.resnet3d import resnet3d_18
from vidprep.models.backbones.slowfast import SlowFast
from vidprep.models.backbones.x3d import x3d_m


def small_slowfast(num_classes: int) -> SlowFast:
    return SlowFast(num_classes, num_blocks=(1, 1, 1, 1), alpha=4, lateral_kernel=5)


BUILDS = (x3d_m, small_slowfast, resnet3d_18)


@pytest.fixture(params=BUILDS, ids=lambda build: build.__name__, scope="module")
def network(request: pytest.FixtureRequest) -> VideoNetwork:
    torch.manual_seed(0)
    build: Callable[[int], VideoNetwork] = request.param
    return build(50).eval()


def blocks_of(network: VideoNetwork) -> list[ResidualBlock]:
    return [module for module in network.modules() if isinstance(module, ResidualBlock)]


def test_every_block_starts_as_its_shortcut(network: VideoNetwork) -> None:
    for block in blocks_of(network):
        in_width = next(block.branch.children()).in_channels
        maps = filled_clip("maps", 1, in_width, 2, 4, 4)
        with torch.no_grad():
            torch.testing.assert_close(block(maps), block.shortcut(maps).relu())


def test_weights_start_as_the_authors(network: VideoNetwork) -> None:
    """Of each layer: the spread over the first layers' thousands of weights is the formula's within a few percent."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear) and module.bias is not None:
            assert not module.bias.any(), name
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 10_000:
            num_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / num_out) ** 0.5, rel=0.05), name
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05), name


def test_what_stands_before_a_blocks_relu_reaches_all_that_follows(network: VideoNetwork) -> None:
    """Sampling stands there: a block whose ReLU gives zeros gives zeros."""
    for stage in network.stage("res2"):
        block = stage[-1]
        relu, block.relu = block.relu, named(drop=nn.Threshold(torch.inf, 0.0))
        try:
            assert not block(torch.ones(1, block.branch.conv_a.in_channels, 1, 4, 4)).any()
        finally:
            block.relu = relu


def test_stages_run_one_by_one_as_all_at_once(network: VideoNetwork) -> None:
    clip = filled_clip("stages", 1, 3, 5, 32, 40)
    with torch.no_grad():
        pathways = network.pathways(clip)
        for name in network.stage_names:
            pathways = network.run(pathways, (name,))
        together = network.maps(clip)
        assert len(pathways) == len(together)
        for one, other in zip(pathways, together, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(network.head(network.pool(pathways)), network(clip))


def test_a_clip_alone_gives_what_it_gives_in_a_batch(network: VideoNetwork) -> None:
    clips = filled_clip("batch", 3, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(clips)[1:2], network(clips[1:2]), rtol=1e-4, atol=1e-5)


def test_pooling_before_the_relu_changes_nothing() -> None:
    stem = resnet_stem(4, time_kernel=3).eval()
    clip = filled_clip("stem", 2, 3, 3, 17, 22)
    with torch.no_grad():
        expected = stem.pool(stem.norm(stem.conv(clip)).relu())
        torch.testing.assert_close(stem(clip), expected, rtol=0, atol=0)
        assert expected.shape == (2, 4, 3, 5, 6)


def test_a_bottleneck_is_its_three_convolutions_and_its_shortcut() -> None:
    block = bottleneck(6, 4, 8, time_kernel=3, stride=2)
    kernels = {name: shape for name, shape in shapes_of(block).items() if len(shape) == 5}
    assert kernels == {
        "branch.conv_a.weight": (4, 6, 3, 1, 1),
        "branch.conv_b.weight": (4, 4, 1, 3, 3),
        "branch.conv_c.weight": (8, 4, 1, 1, 1),
        "shortcut.conv.weight": (8, 6, 1, 1, 1),
    }
    strides = {name: module.stride for name, module in block.named_modules() if isinstance(module, nn.Conv3d)}
    assert {name for name, stride in strides.items() if stride == (1, 2, 2)} == {"branch.conv_b", "shortcut.conv"}
    assert all(module.bias is None for module in block.modules() if isinstance(module, nn.Conv3d))


@pytest.mark.parametrize(("in_width", "stride", "is_identity"), [(8, 1, True), (8, 2, False), (4, 1, False)])
def test_a_shortcut_projects_only_where_it_must(in_width: int, stride: int, is_identity: bool) -> None:
    shortcut = projection(in_width, 8, stride=stride)
    assert isinstance(shortcut, nn.Identity) == is_identity
    maps = torch.ones(1, in_width, 2, 5, 5)
    assert shortcut(maps).shape == (1, 8, 2, 5 if stride == 1 else 3, 5 if stride == 1 else 3)


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 1, 1), (5, 7, 7), (1, 3, 3)])
def test_a_convolution_keeps_the_length_in_time(kernel: tuple[int, int, int]) -> None:
    maps = torch.ones(1, 2, 5, 9, 10)
    assert convolution(2, 4, kernel)(maps).shape == (1, 4, 5, 9, 10)
    assert convolution(2, 4, kernel, stride=2, num_groups=2)(maps).shape == (1, 4, 5, 5, 5)
