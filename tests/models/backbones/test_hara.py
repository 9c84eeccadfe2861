"""Hara's 3D-ResNet-18 against its published size, its checkpoints' names, and the network written out in functions."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from networks import (
    Shapes,
    conv,
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

from vidprep.models.backbones import BACKBONES, load_backbone
from vidprep.models.backbones.hara import (
    LAYOUTS,
    MEAN_2018,
    STD_2018,
    HaraResNet18,
    PaddedShortcut,
    hara_resnet18,
    hara_resnet18_a,
)
from vidprep.models.weights import WeightsError

State = Mapping[str, torch.Tensor]
BUILDS = {"hara_resnet18": hara_resnet18, "hara_resnet18_a": hara_resnet18_a}


def official_shapes(num_classes: int, *, has_downsample: bool) -> Shapes:
    """Names and shapes of the files of 2018 and 2020, from the naming in their sources."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7, 7), **norm_shapes("bn1", 64)}
    before = 64
    for layer, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            shapes[f"{name}.conv1.weight"] = (width, before, 3, 3, 3)
            shapes |= norm_shapes(f"{name}.bn1", width)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3, 3)
            shapes |= norm_shapes(f"{name}.bn2", width)
            if before != width and has_downsample:
                shapes[f"{name}.downsample.0.weight"] = (width, before, 1, 1, 1)
                shapes |= norm_shapes(f"{name}.downsample.1", width)
            before = width
    return shapes | {"fc.weight": (num_classes, 512), "fc.bias": (num_classes,)}


def logits_written_out(state: State, clip: torch.Tensor) -> torch.Tensor:
    """The whole network by the paper's description, from weights under the official names."""
    maps = norm(state, "bn1", conv(state, "conv1", clip, 2)).relu()
    maps = functional.max_pool3d(maps, 3, 2, 1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            weight = state[f"{name}.conv1.weight"]
            branch = norm(state, f"{name}.bn1", functional.conv3d(maps, weight, None, stride, 1)).relu()
            branch = norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", branch))
            if f"{name}.downsample.0.weight" in state:
                shortcut = functional.conv3d(maps, state[f"{name}.downsample.0.weight"], None, stride)
                maps = norm(state, f"{name}.downsample.1", shortcut)
            elif stride == 2:  # shortcut A, as its authors do it: by a pooling of size 1
                maps = functional.avg_pool3d(maps, 1, 2)
                maps = torch.cat([maps, torch.zeros_like(maps)], 1)
            maps = (maps + branch).relu()
    return functional.linear(maps.mean((2, 3, 4)), state["fc.weight"], state["fc.bias"])


GOLDEN = {
    "hara_resnet18": [0.5981, -0.2295, -0.2721],
    "hara_resnet18_a": [1.0472, -0.1588, 0.5679],
}


@pytest.mark.parametrize("name", BUILDS)
def test_an_official_file_gives_the_logits_of_the_network_written_out(name: str, tmp_path: Path) -> None:
    """Loaded as its authors wrote it, from a network on several devices; sizes that no stride divides."""
    state = filled_state(official_shapes(3, has_downsample=name == "hara_resnet18"))
    wrapped = {"epoch": 200, "arch": "resnet-18", "state_dict": {f"module.{key}": state[key] for key in state}}
    torch.save(wrapped, tmp_path / "a.pth")
    network = load_backbone(name, 3, tmp_path / "a.pth").eval()
    clip = filled_clip("hara", 2, 3, 9, 38, 52)
    with torch.no_grad():
        logits = network(clip)
        torch.testing.assert_close(logits, logits_written_out(state, clip), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[0], torch.tensor(GOLDEN[name]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BUILDS)
def test_names_and_shapes_are_the_authors(name: str) -> None:
    official = official_shapes(7, has_downsample=name == "hara_resnet18")
    ours = renamed_shapes(official, LAYOUTS["hara"])
    assert ours == shapes_of(on_meta(BUILDS[name], 7))


@pytest.mark.parametrize(
    ("build", "num_classes", "expected"),
    [
        (hara_resnet18, 700, 33_563_004),
        (hara_resnet18_a, 400, 33_235_280),
        (hara_resnet18_a, 101, 33_081_893),
    ],
)
def test_numbers_of_parameters(build: Callable[[int], HaraResNet18], num_classes: int, expected: int) -> None:
    assert num_parameters(on_meta(build, num_classes)) == expected


def test_projections_explain_the_difference_of_the_two() -> None:
    difference = num_parameters(on_meta(hara_resnet18)) - num_parameters(on_meta(hara_resnet18_a))
    assert difference == sum(2 * width * width + 2 * 2 * width for width in (64, 128, 256))


@pytest.mark.parametrize(("build", "published"), [(hara_resnet18, 8.3275), (hara_resnet18_a, 8.316)])
def test_giga_macs(build: Callable[[int], HaraResNet18], published: float) -> None:
    """Published are multiply-adds and what norms, activations and poolings do, a fourth of a percent."""
    assert published - 0.025 < giga_macs(on_meta(build), 16, 112, 112) < published


def test_it_is_not_torchvisions_r3d_18() -> None:
    """That one has no pooling behind its stem, so it is five times the work."""
    with torch.device("meta"):
        other = BACKBONES["r3d_18"].build(400).eval()
    assert giga_macs(other, 16, 112, 112) == pytest.approx(40.76, rel=0.01)


def test_maps_are_an_eighth_in_time_and_a_sixteenth_doubled_in_space() -> None:
    (maps,) = on_meta(hara_resnet18).maps(torch.empty(2, 3, 16, 112, 112, device="meta"))
    assert maps.shape == (2, 512, 1, 4, 4)
    (maps,) = on_meta(hara_resnet18).maps(torch.empty(2, 3, 33, 160, 65, device="meta"))
    assert maps.shape == (2, 512, 3, 5, 3)


def test_a_padded_shortcut_has_no_parameters_and_keeps_every_other_pixel() -> None:
    maps = filled_clip("shortcut", 1, 2, 3, 4, 5)
    shortened = PaddedShortcut(2, 3)(maps)
    assert not list(PaddedShortcut(2, 3).parameters())
    assert shortened.shape == (1, 5, 2, 2, 3)
    assert torch.equal(shortened[:, :2], maps[:, :, ::2, ::2, ::2])
    assert not shortened[:, 2:].any()


def test_one_shortcuts_file_is_refused_by_the_other(tmp_path: Path) -> None:
    state = {name: torch.zeros(shape) for name, shape in official_shapes(3, has_downsample=True).items()}
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"b\.pth: not those of hara_resnet18_a: 18 unexpected \(layer2\.0\.downs"):
        load_backbone("hara_resnet18_a", 3, tmp_path / "b.pth")


def test_files_of_2018_want_pictures_of_0_to_255_less_the_mean() -> None:
    backbone = BACKBONES["hara_resnet18_a"]
    assert (backbone.mean, backbone.std) == (MEAN_2018, STD_2018)
    picture = torch.tensor([[0.0, 128.0, 255.0]] * 3)
    mean, std = torch.tensor(backbone.mean)[:, None], torch.tensor(backbone.std)[:, None]
    expected = picture - torch.tensor([114.7748, 107.7354, 99.4750])[:, None]
    torch.testing.assert_close((picture / 255 - mean) / std, expected, rtol=1e-5, atol=1e-4)
