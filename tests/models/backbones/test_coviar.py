"""CoViAR's networks against torchvision's ResNets, and its input coding against what the authors' code computes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from networks import filled_clip, filled_on_meta, norm_shapes, num_parameters, shapes_of
from torch import nn

from vidprep.models.backbones import FrameNetwork
from vidprep.models.backbones.coviar import (
    IMAGENET_STD,
    LAYOUTS,
    iframe_network,
    mirrored_bytes,
    motion_bytes,
    motion_input,
    motion_network,
    residual_bytes,
    residual_input,
    residual_network,
    scaled_motion,
)
from vidprep.models.weights import load_weights, read_state_dict, renamed


def official_network(num_channels: int, num_classes: int = 3) -> tuple[nn.Module, nn.Module]:
    """The authors' network of one modality: a batch norm of the input, and torchvision's ResNet-18."""

    def build() -> nn.Module:
        pictures = torchvision.models.resnet18(num_classes=num_classes)
        if num_channels == 2:
            pictures.conv1 = nn.Conv2d(2, 64, kernel_size=7, stride=2, padding=3, bias=False)
        return pictures

    return filled_on_meta(lambda: nn.BatchNorm2d(num_channels)), filled_on_meta(build)


def official_state(data_bn: nn.Module, pictures: nn.Module) -> dict[str, torch.Tensor]:
    """Under the names of the authors' files."""
    state = {f"base_model.{name}": value for name, value in pictures.state_dict().items()}
    return state | {f"data_bn.{name}": value for name, value in data_bn.state_dict().items()}


GOLDEN = {2: [2.0298, -2.1476, 1.1693], 3: [1.9938, -2.1106, 0.9256]}


class TestNetworks:
    @pytest.mark.parametrize(("num_channels", "build"), [(2, motion_network), (3, residual_network)])
    def test_an_official_file_gives_the_authors_logits(self, num_channels: int, build: object, tmp_path: Path) -> None:
        data_bn, pictures = official_network(num_channels)
        state = {f"module.{name}": value for name, value in official_state(data_bn, pictures).items()}
        torch.save({"epoch": 1, "arch": "resnet18", "state_dict": state, "best_prec1": 0.5}, tmp_path / "a.pth.tar")
        assert callable(build)
        network = build(3).eval()
        load_weights(network, read_state_dict(tmp_path / "a.pth.tar"), source="test", layouts=LAYOUTS)
        clip = filled_clip("coviar", 2, num_channels, 3, 64, 48)
        with torch.no_grad():
            logits = network(clip)
            expected = pictures(data_bn(clip.transpose(1, 2).flatten(0, 1))).reshape(2, 3, 3).mean(1)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[0], torch.tensor(GOLDEN[num_channels]), rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("num_channels", [0, 2, 3])
    def test_names_and_shapes_are_the_authors(self, num_channels: int) -> None:
        with torch.device("meta"):
            build = {0: iframe_network, 2: motion_network, 3: residual_network}[num_channels]
            depth = torchvision.models.resnet18 if num_channels else torchvision.models.resnet152
            official = {f"base_model.{name}": shape for name, shape in shapes_of(depth(num_classes=7)).items()}
            wanted = shapes_of(build(7))
        if num_channels:
            official |= norm_shapes("data_bn", num_channels)
        if num_channels == 2:
            official["base_model.conv1.weight"] = (64, 2, 7, 7)
        ours = {new: official[old] for old in official for new in renamed({old: torch.empty(0)}, LAYOUTS["coviar"])}
        assert len(ours) == len(official)
        assert ours == wanted

    def test_iframes_begin_with_imagenets_weights(self) -> None:
        with torch.device("meta"):
            names = shapes_of(torchvision.models.resnet152(num_classes=7))
            assert set(renamed({name: torch.empty(0) for name in names}, LAYOUTS["torchvision"])) == set(
                shapes_of(iframe_network(7))
            )

    def test_sizes(self) -> None:
        with torch.device("meta"):
            motion, residual, iframe = motion_network(101), residual_network(101), iframe_network(101)
        assert all(isinstance(network, FrameNetwork) for network in (motion, residual, iframe))
        assert (motion.num_features, residual.num_features, iframe.num_features) == (512, 512, 2048)
        assert num_parameters(residual) == 11_228_325 + 2 * 3  # torchvision's, with 101 classes, and the input's norm
        assert num_parameters(residual) - num_parameters(motion) == 64 * 49 + 2


def oracle(shared: Path) -> tuple[ModuleType, dict[str, np.ndarray]]:
    folder = shared / "golden" / "official"
    if not (folder / "coviar_transforms.npz").is_file():
        pytest.skip(f"no {folder / 'coviar_transforms.npz'}")
    spec = importlib.util.spec_from_file_location("official_fill", folder / "fill.py")
    assert spec is not None and spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill, fill.load(folder / "coviar_transforms.npz")[0]


EXTREMES = (-200, -60, -41, -40, -21, -20, -19, -10, -1, 0, 1, 10, 19, 20, 21, 40, 41, 60, 200)


def as_clip(pictures: np.ndarray) -> torch.Tensor:
    """From one picture [shape=(H, W, C)] to a clip [shape=(1, C, 1, H, W)]."""
    return torch.from_numpy(np.array(pictures)).permute(2, 0, 1)[None, :, None]


def as_picture(clip: torch.Tensor) -> np.ndarray:
    return clip[0, :, 0].permute(1, 2, 0).numpy()


class TestOfficialCoding:
    @pytest.fixture
    def expected(self, shared: Path) -> dict[str, np.ndarray]:
        return oracle(shared)[1]

    @pytest.fixture
    def motion(self, shared: Path) -> torch.Tensor:
        fill, _ = oracle(shared)
        return as_clip(np.floor(fill.make_input("cov.mv", (16, 20, 2)) * 30).astype(np.int16))

    @pytest.fixture
    def residual(self, shared: Path) -> torch.Tensor:
        """As our arrays have it, red first; the authors' blue first."""
        fill, _ = oracle(shared)
        blue_first = np.floor(fill.make_input("cov.res", (16, 20, 3)) * 120).astype(np.int16)
        return as_clip(blue_first[..., ::-1])

    def test_motion(self, motion: torch.Tensor, expected: dict[str, np.ndarray]) -> None:
        np.testing.assert_array_equal(as_picture(scaled_motion(motion)), expected["mv.clip_and_scale20"], strict=True)
        np.testing.assert_array_equal(as_picture(motion_bytes(motion)), expected["mv.uint8"], strict=True)
        found = motion_input(motion, variant="official")[:, :, 0]
        np.testing.assert_allclose(found, expected["mv.input"], rtol=0, atol=1e-6, strict=True)

    def test_extreme_motion(self, expected: dict[str, np.ndarray]) -> None:
        motion = torch.tensor(EXTREMES, dtype=torch.int16).expand(1, 2, 1, 1, -1)
        np.testing.assert_array_equal(as_picture(scaled_motion(motion)), expected["ext.clip_and_scale20"], strict=True)
        np.testing.assert_array_equal(as_picture(motion_bytes(motion)), expected["mv_ext.uint8"], strict=True)
        found = motion_input(motion, variant="official")[:, :, 0]
        np.testing.assert_allclose(found, expected["mv_ext.input"], rtol=0, atol=1e-6, strict=True)

    def test_residual(self, residual: torch.Tensor, expected: dict[str, np.ndarray]) -> None:
        blue_first = residual_bytes(residual).flip(1)
        np.testing.assert_array_equal(as_picture(blue_first), expected["residual.uint8"], strict=True)
        found = residual_input(residual, variant="official")[:, :, 0]
        np.testing.assert_allclose(found, expected["residual.input"], rtol=0, atol=1e-6, strict=True)

    def test_mirroring(self, motion: torch.Tensor, residual: torch.Tensor, expected: dict[str, np.ndarray]) -> None:
        mirrored = mirrored_bytes(motion_bytes(motion), is_motion=True, variant="official")
        np.testing.assert_array_equal(as_picture(mirrored), expected["flip.mv"], strict=True)
        assert expected["flip.mv"].max() == 256  # which is why the default isn't this
        mirrored = mirrored_bytes(residual_bytes(residual).flip(1), is_motion=False, variant="official")
        np.testing.assert_array_equal(as_picture(mirrored), expected["flip.residual"], strict=True)


MOTIONS = st.lists(st.integers(-300, 300), min_size=4, max_size=4)


def motions(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int16).reshape(1, 2, 1, 1, 2)


class TestDefaultCoding:
    def test_nothing_moves_and_nothing_differs_is_zero(self) -> None:
        """The authors' bytes have no zero: theirs is off by half a level."""
        zeros = torch.zeros(1, 2, 1, 2, 2, dtype=torch.int16)
        assert not motion_input(zeros).any()
        assert motion_input(zeros, variant="official").unique().item() == pytest.approx(128 / 255 - 0.5, rel=1e-3)
        assert not residual_input(zeros[:, :1].expand(-1, 3, -1, -1, -1)).any()

    @given(MOTIONS)
    def test_a_mirrored_clip_has_the_negated_motion(self, values: list[int]) -> None:
        """Flipping the arrays, as views of the loader do, is flipping the input."""
        motion = motions(values)
        flipped = motion.flip(-1)
        flipped[:, 0] *= -1
        expected = motion_input(motion).flip(-1)
        expected[:, 0] *= -1
        assert torch.equal(motion_input(flipped), expected)

    @given(MOTIONS)
    def test_motion_is_within_a_level_and_a_half_of_the_authors(self, values: list[int]) -> None:
        """Less than one for what they cut, and half of one since their zero is 128 of 255."""
        official = motion_input(motions(values), variant="official")
        assert (motion_input(motions(values)) - official).abs().max() <= 1.5 / 255 + 1e-6

    @given(st.lists(st.integers(-255, 255), min_size=3, max_size=3))
    def test_residuals_are_the_authors_but_for_channels_and_half_a_level(self, values: list[int]) -> None:
        """By default each channel is divided by its own deviation; the authors' blue by that of red."""
        residual = torch.tensor(values, dtype=torch.int16).reshape(1, 3, 1, 1, 1)
        std = torch.tensor(IMAGENET_STD)[:, None, None, None]
        official = (residual_input(residual, variant="official") * std).flip(1)
        assert ((residual_input(residual) * std - official).abs() <= 0.5 / 255 + 1e-6).all()

    def test_channels_keep_their_order(self) -> None:
        red = torch.tensor([100, 0, 0], dtype=torch.int16).reshape(1, 3, 1, 1, 1)
        assert residual_input(red).flatten().tolist() == pytest.approx([100 / 255 / 0.229, 0, 0])
        official = residual_input(red, variant="official").flatten()
        assert official.argmax() == 2
        assert official[2].item() == pytest.approx((228 / 255 - 0.5) / 0.225)

    def test_large_values_are_bounded(self) -> None:
        assert motion_input(motions([-300, -20, 20, 300])).flatten().tolist() == [-0.5, -0.5, 0.5, 0.5]
        ends = residual_input(torch.tensor([-255, 255, 0], dtype=torch.int16).reshape(1, 3, 1, 1, 1)).flatten()
        assert ends.tolist() == pytest.approx([-128 / 255 / 0.229, 127 / 255 / 0.224, 0])

    def test_motion_of_resized_fields_keeps_its_fractions(self) -> None:
        motion = torch.tensor([0.25, -0.25, 19.5, 1.0]).reshape(1, 2, 1, 1, 2)
        assert motion_input(motion).flatten().tolist() == pytest.approx([0.25 / 40, -0.25 / 40, 19.5 / 40, 1 / 40])

    def test_mirrored_bytes_stay_bytes(self) -> None:
        code = torch.tensor([0, 1, 128, 255], dtype=torch.uint8).expand(1, 2, 1, 1, -1)
        mirrored = mirrored_bytes(code, is_motion=True)
        assert mirrored[0, 0].flatten().tolist() == [1, 128, 255, 255]
        assert mirrored[0, 1].flatten().tolist() == [255, 128, 1, 0]
        assert code[0, 0].flatten().tolist() == [0, 1, 128, 255]
