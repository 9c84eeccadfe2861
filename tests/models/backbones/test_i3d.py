"""Both I3D-ResNet-50 against published numbers, their checkpoints' names, functions, and torchvision's ResNet-50."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from networks import (
    Shapes,
    conv,
    filled_clip,
    filled_on_meta,
    filled_state,
    giga_macs,
    norm_shapes,
    num_parameters,
    on_meta,
    renamed_shapes,
    shapes_of,
)
from torch import nn
from torch.nn import functional

from vidprep.models.backbones import load_backbone
from vidprep.models.backbones.i3d import (
    LAYOUTS,
    WINDOWS_LAYOUTS,
    I3DResNet50,
    I3DWindows,
    i3d_resnet50,
    i3d_resnet50_windows,
)
from vidprep.models.weights import load_weights, renamed

State = Mapping[str, torch.Tensor]
DEPTHS = (3, 4, 6, 3)
ALTERNATING = ([3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1])


def official_shapes(layout: str, num_classes: int) -> Shapes:
    """Names and shapes of checkpoints, from the naming in their sources."""
    names = {
        "pyslowfast": ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn", "head.projection"),
        "pytorchvideo": ("blocks.0.conv", "blocks.0.norm", "blocks.6.proj"),
        "pyvideoresearch": ("basenet.conv1", "basenet.bn1", "basenet.fc"),
    }
    stem, stem_norm, head = names[layout]
    shapes: Shapes = {f"{stem}.weight": (64, 3, 5, 7, 7), **norm_shapes(stem_norm, 64)}
    before = 64
    for stage, depth in enumerate(DEPTHS):
        inner = 64 * 2**stage
        for block in range(depth):
            if layout == "pyslowfast":
                name = f"s{stage + 2}.pathway0_res{block}"
                convs, norms = (
                    [f"{name}.branch2.{part}" for part in "abc"],
                    [f"{name}.branch2.{part}_bn" for part in "abc"],
                )
                shortcut, shortcut_norm = f"{name}.branch1", f"{name}.branch1_bn"
            elif layout == "pytorchvideo":
                name = f"blocks.{(1, 3, 4, 5)[stage]}.res_blocks.{block}"  # blocks.2 is a pooling
                convs, norms = [f"{name}.branch2.conv_{x}" for x in "abc"], [f"{name}.branch2.norm_{x}" for x in "abc"]
                shortcut, shortcut_norm = f"{name}.branch1_conv", f"{name}.branch1_norm"
            else:
                name = f"basenet.layer{stage + 1}.{block}"
                convs, norms = [f"{name}.conv{k}" for k in (1, 2, 3)], [f"{name}.bn{k}" for k in (1, 2, 3)]
                shortcut, shortcut_norm = f"{name}.downsample.0", f"{name}.downsample.1"
            time_kernel = 3 if layout == "pyvideoresearch" else ALTERNATING[stage][block]
            shapes[f"{convs[0]}.weight"] = (inner, before, time_kernel, 1, 1)
            shapes[f"{convs[1]}.weight"] = (inner, inner, 1, 3, 3)
            shapes[f"{convs[2]}.weight"] = (4 * inner, inner, 1, 1, 1)
            for norm_name, width in zip(norms, (inner, inner, 4 * inner), strict=True):
                shapes |= norm_shapes(norm_name, width)
            if block == 0:
                shapes[f"{shortcut}.weight"] = (4 * inner, before, 1, 1, 1)
                shapes |= norm_shapes(shortcut_norm, 4 * inner)
            before = 4 * inner
    shapes[f"{head}.weight"] = (num_classes, 2048, 1, 1, 1) if layout == "pyvideoresearch" else (num_classes, 2048)
    return shapes | {f"{head}.bias": (num_classes,)}


def normed(state: State, name: str, maps: torch.Tensor, eps: float) -> torch.Tensor:
    vectors = (state[f"{name}.{vector}"] for vector in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(maps, *vectors, eps=eps)


def pyslowfast_logits(state: State, clip: torch.Tensor) -> torch.Tensor:
    """The whole network by the paper's table, from weights under PySlowFast's names."""
    maps = normed(state, "s1.pathway0_stem.bn", conv(state, "s1.pathway0_stem.conv", clip, 2), 1e-5).relu()
    maps = functional.max_pool3d(maps, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, depth in enumerate(DEPTHS, start=2):
        for block in range(depth):
            name, stride = f"s{stage}.pathway0_res{block}", 2 if stage > 2 and block == 0 else 1
            branch = maps
            for part in "abc":
                branch = conv(state, f"{name}.branch2.{part}", branch, stride if part == "b" else 1)
                branch = normed(state, f"{name}.branch2.{part}_bn", branch, 1e-5)
                branch = branch.relu() if part != "c" else branch
            if block == 0:
                maps = normed(state, f"{name}.branch1_bn", conv(state, f"{name}.branch1", maps, stride), 1e-5)
            maps = (maps + branch).relu()
        if stage == 2:
            maps = functional.max_pool3d(maps, (2, 1, 1))
    return functional.linear(maps.mean((2, 3, 4)), state["head.projection.weight"], state["head.projection.bias"])


def pyvideoresearch_rows(state: State, clip: torch.Tensor) -> torch.Tensor:
    """Logits of windows [shape=(N, T_out, C)] by METHODS.md 4.1, whose average pooling fits pictures of 224 pixels."""
    stem = functional.conv3d(clip, state["basenet.conv1.weight"], None, 2, (2, 3, 3))
    maps = functional.max_pool3d(normed(state, "basenet.bn1", stem, 1e-3).relu(), 3, 2, 1)
    for layer, depth in enumerate(DEPTHS, start=1):
        for block in range(depth):
            name, stride = f"basenet.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            branch = maps
            for number in (1, 2, 3):
                branch = conv(state, f"{name}.conv{number}", branch, stride if number == 2 else 1)
                branch = normed(state, f"{name}.bn{number}", branch, 1e-3)
                branch = branch.relu() if number < 3 else branch
            if block == 0:
                shortcut = conv(state, f"{name}.downsample.0", maps, stride)
                maps = normed(state, f"{name}.downsample.1", shortcut, 1e-5)
            maps = (maps + branch).relu()
        if layer == 1:
            maps = functional.max_pool3d(maps, (3, 1, 1), (2, 1, 1), (1, 0, 0))
    pooled = functional.avg_pool3d(maps, (2, *maps.shape[3:]), 1)
    logits = functional.conv3d(pooled, state["basenet.fc.weight"], state["basenet.fc.bias"])
    return logits.flatten(2).transpose(1, 2)


GOLDEN = [-0.0411, -1.3063, -2.0153]
GOLDEN_WINDOWS = [[3.7714, 1.4933, 1.3567], [4.1118, 1.8796, 1.5546], [4.0913, 2.1722, 1.4016]]


def test_a_file_of_pyslowfast_gives_the_logits_of_the_network_written_out(tmp_path: Path) -> None:
    state = filled_state(official_shapes("pyslowfast", 3))
    torch.save({"epoch": 1, "model_state": state}, tmp_path / "a.pyth")
    network = load_backbone("i3d_resnet50", 3, tmp_path / "a.pyth").eval()
    clip = filled_clip("i3d", 1, 3, 6, 48, 36)
    with torch.no_grad():
        logits = network(clip)
        torch.testing.assert_close(logits, pyslowfast_logits(state, clip), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, torch.tensor([GOLDEN]), rtol=1e-3, atol=1e-4)


def test_a_file_of_pyvideoresearch_gives_the_rows_of_the_network_written_out(tmp_path: Path) -> None:
    """Its classifier is a convolution of size 1, and its norms have two epsilons."""
    state = filled_state(official_shapes("pyvideoresearch", 3))
    torch.save({"state_dict": {f"module.{name}": state[name] for name in state}, "epoch": 1}, tmp_path / "a.pth.tar")
    network = load_backbone("i3d_resnet50_windows", 3, tmp_path / "a.pth.tar").eval()
    assert isinstance(network, I3DWindows)
    clip = filled_clip("i3d_windows", 1, 3, 32, 40, 48)
    with torch.no_grad():
        rows, logits = network.frame_logits(clip), network(clip)
        torch.testing.assert_close(rows, pyvideoresearch_rows(state, clip), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, rows.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows, torch.tensor([GOLDEN_WINDOWS]), rtol=1e-3, atol=1e-4)


def test_on_a_still_clip_it_is_torchvisions_resnet50() -> None:
    """With kernels over time that look at their own frame alone."""
    pictures = filled_on_meta(lambda: torchvision.models.resnet50(num_classes=3))
    network = i3d_resnet50(3).eval()
    wanted = renamed_from_pyvideoresearch(shapes_of(network), pictures.state_dict())
    load_weights(network, wanted, source="test")
    picture = filled_clip("still", 1, 3, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            network(picture.expand(-1, -1, 4, -1, -1)), pictures(picture[:, :, 0]), rtol=1e-4, atol=1e-5
        )


def renamed_from_pyvideoresearch(shapes: Shapes, state: State) -> dict[str, torch.Tensor]:
    """Weights of pictures, whose names are PyVideoResearch's too, in the middle of kernels over time."""
    inflated = {}
    for name, value in renamed(state, WINDOWS_LAYOUTS["pyvideoresearch"]).items():
        inflated[name] = value if value.ndim < 4 else torch.zeros(shapes[name])
        if value.ndim == 4:
            inflated[name][:, :, shapes[name][2] // 2] = value
    return inflated


@pytest.mark.parametrize("layout", ["pyslowfast", "pytorchvideo", "pyvideoresearch"])
def test_names_and_shapes_are_the_authors(layout: str) -> None:
    official = official_shapes(layout, 7)
    key_map = {**LAYOUTS, **WINDOWS_LAYOUTS}[layout]
    ours = renamed_shapes(official, key_map)
    wanted = shapes_of(on_meta(i3d_resnet50_windows if layout == "pyvideoresearch" else i3d_resnet50, 7))
    if layout == "pyvideoresearch":
        assert ours.pop("head.projection.weight") == (*wanted.pop("head.projection.weight"), 1, 1, 1)
    assert ours == wanted


def test_layouts_of_one_network_hold_the_same() -> None:
    """PySlowFast's and PyTorchVideo's: the same places in the same order."""
    one, other = official_shapes("pyslowfast", 7), official_shapes("pytorchvideo", 7)
    assert list(one.values()) == list(other.values())
    both = [
        list(renamed({old: torch.empty(0) for old in official_shapes(layout, 7)}, LAYOUTS[layout]))
        for layout in LAYOUTS
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("wrapping", ["basenet.", "mA.basenet.", "basenet.encoder.", ""])
def test_wrappings_of_pyvideoresearch(wrapping: str) -> None:
    state = {f"{wrapping}layer3.5.downsample.0.weight": torch.zeros(1), f"{wrapping}fc.bias": torch.zeros(1)}
    assert set(renamed(state, WINDOWS_LAYOUTS["pyvideoresearch"])) == {
        "res4.5.shortcut.conv.weight",
        "head.projection.bias",
    }


@pytest.mark.parametrize(
    ("build", "num_classes", "expected"),
    [
        (i3d_resnet50, 400, 28_043_472),  # PyTorchVideo's model zoo: 28.04 M
        (i3d_resnet50_windows, 157, 32_526_301),  # 32.526 M
        (i3d_resnet50_windows, 400, 33_024_208),  # 33.024 M
    ],
)
def test_numbers_of_parameters(build: Callable[[int], I3DResNet50], num_classes: int, expected: int) -> None:
    assert num_parameters(on_meta(build, num_classes)) == expected


@pytest.mark.parametrize(
    ("num_frames", "num_windows", "expected"), [(16, 1, 18.21), (32, 3, 36.42), (64, 7, 72.83), (128, 15, 145.67)]
)
def test_windows_and_giga_macs(num_frames: int, num_windows: int, expected: float) -> None:
    network = on_meta(i3d_resnet50_windows)
    assert isinstance(network, I3DWindows)
    clip = torch.empty(2, 3, num_frames, 224, 224, device="meta")
    assert network.frame_logits(clip).shape == (2, num_windows, 400)
    assert giga_macs(network, num_frames, 224, 224) == pytest.approx(expected, rel=0.001)


def test_giga_macs_of_pyslowfasts_variant() -> None:
    """Published are 148.4, and 37.53 of the 8 x 8 model; fvcore's 149.1 counts two operations a number normed."""
    network, num_normed = on_meta(i3d_resnet50), 0

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal num_normed
        num_normed += inputs[0].numel()

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    hooks = [module.register_forward_pre_hook(count) for module in norms]
    macs = giga_macs(network, 32, 256, 256)
    for hook in hooks:
        hook.remove()
    assert macs == pytest.approx(148.4, rel=0.001)
    assert macs + 2 * num_normed / 1e9 == pytest.approx(149.1, rel=0.003)
    assert giga_macs(network, 8, 256, 256) == pytest.approx(37.53, rel=0.015)


def test_at_224_windows_are_the_authors_average_pooling_and_other_sizes_run() -> None:
    network = I3DWindows.__new__(I3DWindows)  # ``pool`` needs no weights
    maps = filled_clip("maps", 2, 8, 4, 7, 7)
    expected = functional.avg_pool3d(maps, (2, 7, 7), 1).flatten(2)
    torch.testing.assert_close(network.pool([maps]), expected.mean(2))
    windows = on_meta(i3d_resnet50_windows).features(torch.empty(1, 3, 16, 112, 150, device="meta"))
    assert windows.shape == (1, 2048)


def test_a_clip_too_short_for_a_window_is_one() -> None:
    """The authors' network takes 9 frames at least; similarity-guided sampling leaves fewer of still clips."""
    network = on_meta(i3d_resnet50_windows)
    assert isinstance(network, I3DWindows)
    for num_frames in (9, 8):
        clip = torch.empty(1, 3, num_frames, 64, 64, device="meta")
        assert network.frame_logits(clip).shape == (1, 1, 400)
        assert network(clip).shape == (1, 400)
    network = I3DWindows.__new__(I3DWindows)
    maps = filled_clip("maps", 2, 8, 1, 3, 3)
    torch.testing.assert_close(network.pool([maps]), maps.mean((2, 3, 4)))


def test_norms_have_the_authors_epsilons() -> None:
    norms = {name: m for name, m in on_meta(i3d_resnet50_windows).named_modules() if isinstance(m, nn.BatchNorm3d)}
    found = {("shortcut" in name, module.eps, module.momentum) for name, module in norms.items()}
    assert found == {(True, 1e-5, 0.1), (False, 1e-3, 0.01)}
    assert {m.eps for m in on_meta(i3d_resnet50).modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}
