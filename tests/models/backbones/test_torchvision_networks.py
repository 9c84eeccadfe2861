"""Torchvision's networks as ours: its own files load, and its own networks give the same logits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from networks import filled_clip, filled_on_meta, giga_macs, num_parameters, shapes_of
from torch import nn

from vidprep.models.backbones import BACKBONES, PerFrame, load_backbone

ON_PICTURES = ("mobilenet_v2", "resnet50", "efficientnet_b0")
ON_CLIPS = ("r3d_18", "r2plus1d_18")
HEADS = {
    "mobilenet_v2": "classifier",
    "resnet50": "fc",
    "efficientnet_b0": "classifier",
    "r3d_18": "fc",
    "r2plus1d_18": "fc",
}


def torchvisions(name: str, num_classes: int) -> nn.Module:
    build: Callable[..., nn.Module] = getattr(
        torchvision.models.video if name in ON_CLIPS else torchvision.models, name
    )
    return build(num_classes=num_classes).eval()


def logits_of(network: nn.Module, name: str, clip: torch.Tensor) -> torch.Tensor:
    """What torchvision's network makes of a clip: one on pictures, of each frame, and their mean."""
    if name in ON_CLIPS:
        logits: torch.Tensor = network(clip)
        return logits
    frames = [network(frame) for frame in clip.unbind(2)]
    return torch.stack(frames).mean(0)


GOLDEN = {
    "mobilenet_v2": [-0.0673, 0.2990, -0.0270],
    "resnet50": [-0.2249, 1.2443, -0.4386],
    "efficientnet_b0": [-0.1040, 0.1066, -0.1545],
    "r3d_18": [0.7173, 0.1075, 0.1969],
    "r2plus1d_18": [0.7427, 0.0513, 0.0941],
}


@pytest.mark.parametrize("name", HEADS)
def test_torchvisions_file_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    original = filled_on_meta(lambda: torchvisions(name, 3))
    torch.save(original.state_dict(), tmp_path / "a.pth")
    network = load_backbone(name, 3, tmp_path / "a.pth").eval()
    clip = filled_clip("torchvision", 2, 3, 4, 40, 56)
    with torch.no_grad():
        logits = network(clip)
        torch.testing.assert_close(logits, logits_of(original, name, clip), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network.head(network.features(clip)), logits)
    torch.testing.assert_close(logits[0], torch.tensor(GOLDEN[name]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_left_out_and_nothing_added(name: str) -> None:
    with torch.device("meta"):
        original, network = torchvisions(name, 11), BACKBONES[name].build(11)
    assert num_parameters(original) == num_parameters(network)
    assert sorted(shapes_of(original).values()) == sorted(shapes_of(network).values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mobilenet_v2", 0.3005), ("resnet50", 4.089), ("efficientnet_b0", 0.3859)],
)  # fmt: skip
def test_giga_macs_of_pictures(name: str, expected: float) -> None:
    """What torchvision says of its weights."""
    with torch.device("meta"):
        network = BACKBONES[name].build(1000).eval()
    one, three = giga_macs(network, 1, 224, 224), giga_macs(network, 3, 224, 224)
    assert one == pytest.approx(expected, rel=0.002)
    assert three == pytest.approx(3 * one - 2 * network.num_features * 1000 / 1e9)  # one head for all


@pytest.mark.parametrize(("name", "expected"), [("r3d_18", 40.697), ("r2plus1d_18", 40.519)])
def test_giga_macs_of_clips(name: str, expected: float) -> None:
    """Torchvision says the same of its weights; 40.76 and 40.71 published count norms and activations too."""
    with torch.device("meta"):
        network = BACKBONES[name].build(400).eval()
    weights = torchvision.models.get_model_weights(name).DEFAULT
    assert giga_macs(network, 16, 112, 112) == pytest.approx(weights.meta["_ops"], rel=0.001)
    assert giga_macs(network, 16, 112, 112) == pytest.approx(expected, rel=0.0001)


@pytest.mark.parametrize("name", ON_CLIPS)
def test_preparation_of_clips_is_that_of_torchvisions_weights(name: str) -> None:
    backbone = BACKBONES[name]
    weights = torchvision.models.get_model_weights(name).DEFAULT
    transform = weights.transforms()
    assert (list(backbone.mean), list(backbone.std)) == (transform.mean, transform.std)
    assert [backbone.input_size] * 2 == transform.crop_size
    assert backbone.short_side == transform.resize_size[0]


class TestPerFrame:
    @pytest.fixture
    def modules(self) -> PerFrame:
        torch.manual_seed(0)
        return PerFrame(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())

    def test_runs_each_frame_alone(self, modules: PerFrame) -> None:
        clip = filled_clip("frames", 2, 3, 5, 9, 7)
        maps = modules(clip)
        assert maps.shape == (2, 4, 5, 4, 3)
        for number, frame in enumerate(clip.unbind(2)):
            torch.testing.assert_close(maps[:, :, number], modules[1](modules[0](frame)))

    def test_no_clips(self, modules: PerFrame) -> None:
        assert modules(torch.zeros(0, 3, 5, 9, 7)).shape == (0, 4, 5, 4, 3)

    def test_frames_stay_as_they_lie_in_memory(self, modules: PerFrame) -> None:
        """So that a module behind another copies nothing."""
        seen = []
        behind = PerFrame(nn.ReLU())
        behind[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].data_ptr()))
        maps = modules(torch.zeros(2, 3, 5, 9, 7))
        behind(maps)
        assert seen == [maps.data_ptr()]
