"""TSM against torchvision's networks whose frames are shifted by a loop, its published work, and its files' names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from networks import filled_clip, filled_on_meta, giga_macs, num_parameters, on_meta, renamed_shapes, shapes_of
from torch import nn

from vidprep.models.backbones import BACKBONES, VideoNetwork, load_backbone
from vidprep.models.backbones.tsm import (
    MOBILENET_LAYOUTS,
    RESNET_LAYOUTS,
    TSMMobileNetV2,
    TSMResNet50,
    temporal_shift,
    tsm_mobilenet_v2,
    tsm_resnet50,
)
from vidprep.models.weights import load_weights

BUILDS = {"tsm_resnet50": tsm_resnet50, "tsm_mobilenet_v2": tsm_mobilenet_v2}
LAYOUTS = {"tsm_resnet50": RESNET_LAYOUTS, "tsm_mobilenet_v2": MOBILENET_LAYOUTS}
PICTURES: dict[str, Callable[..., nn.Module]] = {
    "tsm_resnet50": torchvision.models.resnet50,
    "tsm_mobilenet_v2": torchvision.models.mobilenet_v2,
}


def shifted_by_a_loop(maps: torch.Tensor, divisor: int) -> torch.Tensor:
    """Frame by frame, as the paper's figure draws it."""
    num_shifted = maps.shape[1] // divisor
    shifted = maps.clone()
    for t in range(maps.shape[2]):
        for channel in range(2 * num_shifted):
            source = t + 1 if channel < num_shifted else t - 1
            is_inside = 0 <= source < maps.shape[2]
            shifted[:, channel, t] = maps[:, channel, source] if is_inside else torch.zeros_like(maps[:, channel, t])
    return shifted


def shifted_convolutions(pictures: nn.Module) -> list[nn.Module]:
    """Where the authors put their shift: before a block's first convolution; in MobileNetV2 ten times."""
    if isinstance(pictures, torchvision.models.ResNet):
        return [
            module.conv1 for module in pictures.modules() if isinstance(module, torchvision.models.resnet.Bottleneck)
        ]
    inverted = torchvision.models.mobilenetv2.InvertedResidual
    return [module.conv for module in pictures.modules() if isinstance(module, inverted) and module.use_res_connect]


MOBILENET_LAYERS = {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}  # nested in torchvision, theirs counted
FIRST_LAYERS = {"0.0": 0, "0.1": 1, "1": 3, "2": 4}  # of the block that doesn't expand
SHIFTED_BLOCKS = {"3", "5", "6", "8", "9", "10", "12", "13", "15", "16"}


def official_name(name: str, family: str) -> str:
    """What a parameter of torchvision's network is called in TSM's files."""
    if re.match(r"(fc|classifier\.1)\.", name):
        return f"new_fc.{name.rsplit('.', 1)[-1]}"
    if family == "tsm_resnet50":
        return "base_model." + re.sub(r"^(layer\d\.\d\.conv1)\.", r"\1.net.", name)
    found = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
    if not found:
        return f"base_model.{name}"
    block, place, parameter = found.groups()
    layer = (FIRST_LAYERS if block == "1" else MOBILENET_LAYERS)[place]
    wrapper = "net." if layer == 0 and block in SHIFTED_BLOCKS else ""
    return f"base_model.features.{block}.conv.{layer}.{wrapper}{parameter}"


def pictures_and_state(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    pictures = filled_on_meta(lambda: PICTURES[name](num_classes=3))
    return pictures, {official_name(key, name): value for key, value in pictures.state_dict().items()}


class TestShift:
    @pytest.mark.parametrize(
        "shape", [(2, 16, 4, 3, 2), (1, 9, 3, 1, 1), (1, 8, 1, 2, 2), (2, 7, 3, 2, 2), (1, 24, 2, 1, 5)]
    )
    @pytest.mark.parametrize("divisor", [2, 8])
    def test_is_that_of_a_loop(self, shape: tuple[int, ...], divisor: int) -> None:
        maps = filled_clip("shift", *shape)
        assert torch.equal(temporal_shift(maps, divisor), shifted_by_a_loop(maps, divisor))

    def test_one_frame_goes_one_way_in_each_eighth(self) -> None:
        maps = torch.zeros(1, 8, 3, 1, 1)
        maps[:, :, 1] = torch.arange(1, 9).reshape(1, 8, 1, 1)
        first, second, third = temporal_shift(maps)[0, :, :, 0, 0].T.int().tolist()
        assert first == [1, 0, 0, 0, 0, 0, 0, 0]
        assert second == [0, 0, 3, 4, 5, 6, 7, 8]
        assert third == [0, 2, 0, 0, 0, 0, 0, 0]

    def test_nothing_is_shifted_of_fewer_channels_than_the_divisor(self) -> None:
        maps = filled_clip("shift", 1, 7, 3, 2, 2)
        assert torch.equal(temporal_shift(maps), maps)

    def test_gradients(self) -> None:
        maps = filled_clip("shift", 1, 8, 3, 1, 2).double().requires_grad_()
        assert torch.autograd.gradcheck(temporal_shift, maps)

    def test_frames_in_memory_are_not_copied_twice(self) -> None:
        """Maps between modules on frames lie frame by frame, and so does what is shifted."""
        maps = torch.zeros(2, 3, 16, 4, 4).transpose(1, 2)
        assert temporal_shift(maps).transpose(1, 2).is_contiguous()


GOLDEN = {"tsm_resnet50": [0.1486, 1.3333, -0.9748], "tsm_mobilenet_v2": [-0.0587, 0.3116, 0.0514]}


@pytest.mark.parametrize("name", BUILDS)
def test_an_official_file_gives_torchvisions_logits_with_shifted_frames(name: str, tmp_path: Path) -> None:
    pictures, state = pictures_and_state(name)
    torch.save({"epoch": 99, "state_dict": {f"module.{key}": state[key] for key in state}}, tmp_path / "a.pth")
    network = load_backbone(name, 3, tmp_path / "a.pth").eval()
    clip = filled_clip("tsm", 2, 3, 4, 64, 96)

    def shift(_: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        maps = inputs[0].reshape(2, 4, *inputs[0].shape[1:]).transpose(1, 2)
        return shifted_by_a_loop(maps, 8).transpose(1, 2).reshape(inputs[0].shape)

    with torch.no_grad():
        logits = network(clip)
        without = pictures(clip.transpose(1, 2).flatten(0, 1)).reshape(2, 4, 3).mean(1)
        for module in shifted_convolutions(pictures):
            module.register_forward_pre_hook(shift)
        expected = pictures(clip.transpose(1, 2).flatten(0, 1)).reshape(2, 4, 3).mean(1)
    assert (expected - without).abs().max() > 0.001
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[0], torch.tensor(GOLDEN[name]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "build"), [("tsm_resnet50", TSMResNet50), ("tsm_mobilenet_v2", TSMMobileNetV2)])
def test_weights_of_pictures_load_and_without_a_shift_each_frame_is_alone(
    name: str, build: Callable[..., VideoNetwork]
) -> None:
    pictures, _ = pictures_and_state(name)
    network = build(3, divisor=1 << 20).eval()
    load_weights(network, pictures.state_dict(), source="test", layouts=LAYOUTS[name])
    clip = filled_clip("tsm", 1, 3, 3, 64, 64)
    with torch.no_grad():
        expected = pictures(clip[0].transpose(0, 1)).mean(0, keepdim=True)
        torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BUILDS)
def test_names_and_shapes_are_the_authors(name: str) -> None:
    with torch.device("meta"):
        official = {official_name(key, name): shape for key, shape in shapes_of(PICTURES[name](num_classes=7)).items()}
    key_map = LAYOUTS[name]["tsm"]
    ours = renamed_shapes(official, key_map)
    assert ours == shapes_of(on_meta(BUILDS[name], 7))
    assert sum(key.endswith(".net.weight") for key in official) == (16 if name == "tsm_resnet50" else 10)


def test_some_official_names() -> None:
    """Written down from TSM's sources; the rule above must give them too."""
    with torch.device("meta"):
        resnet = {official_name(key, "tsm_resnet50") for key in shapes_of(torchvision.models.resnet50())}
        mobile = {official_name(key, "tsm_mobilenet_v2") for key in shapes_of(torchvision.models.mobilenet_v2())}
    assert {
        "base_model.conv1.weight",
        "base_model.layer1.0.conv1.net.weight",
        "base_model.layer1.0.downsample.0.weight",
    } <= resnet
    assert {"base_model.layer4.2.conv3.weight", "base_model.layer4.2.bn3.running_var", "new_fc.bias"} <= resnet
    assert {
        "base_model.features.0.0.weight",
        "base_model.features.1.conv.0.weight",
        "base_model.features.1.conv.3.weight",
    } <= mobile
    assert {
        "base_model.features.1.conv.4.bias",
        "base_model.features.2.conv.0.weight",
        "base_model.features.3.conv.0.net.weight",
    } <= mobile
    assert {"base_model.features.17.conv.7.running_mean", "base_model.features.18.1.weight", "new_fc.weight"} <= mobile
    assert "base_model.features.17.conv.0.net.weight" not in mobile


@pytest.mark.parametrize(("name", "expected"), [("tsm_resnet50", 24_327_632), ("tsm_mobilenet_v2", 2_736_272)])
def test_a_shift_has_no_parameters(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert num_parameters(on_meta(BUILDS[name])) == num_parameters(PICTURES[name](num_classes=400)) == expected


@pytest.mark.parametrize(("num_frames", "expected"), [(8, 32.70), (16, 65.4)])
def test_giga_macs(num_frames: int, expected: float) -> None:
    assert giga_macs(on_meta(tsm_resnet50), num_frames, 224, 224) == pytest.approx(expected, rel=0.001)


def test_giga_macs_of_both_on_8_frames() -> None:
    """TSM+ of AdaFocus: published 35.1."""
    both = sum(giga_macs(on_meta(build), 8, 224, 224) for build in BUILDS.values())
    assert both == pytest.approx(35.09, rel=0.001)


@pytest.mark.parametrize("name", BUILDS)
def test_the_table_says_what_dense_files_were_trained_on(name: str) -> None:
    """8 frames of 64 consecutive ones; the same weights run on other numbers of frames."""
    backbone = BACKBONES[name]
    assert (backbone.num_frames, backbone.frame_stride) == (8, 8)
    for num_frames in (1, 5):
        assert on_meta(BUILDS[name], 7)(torch.empty(2, 3, num_frames, 64, 64, device="meta")).shape == (2, 7)
