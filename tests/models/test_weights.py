"""Reading checkpoints and loading them whole: any layout, and what doesn't fit is named."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import filled_tensor
from torch import nn

from vidprep.models.backbones import BACKBONES, load_backbone
from vidprep.models.backbones.network import Head
from vidprep.models.weights import WeightsError, load_weights, read_state_dict, renamed, with_input_channels

LAYOUTS = {
    "theirs": [(r"conv\.(.*)", r"stem.0.\1"), (r"fc\.(.*)", r"head.projection.\1")],
    "others": [(r"net\.conv\.(.*)", r"stem.0.\1"), (r"net\.fc\.(.*)", r"head.projection.\1")],
}


class Small(nn.Module):
    """A network of our naming."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = Head(4, num_classes)


def state_of(num_classes: int = 5) -> dict[str, torch.Tensor]:
    state = Small(num_classes).state_dict()
    return {name: filled_tensor(name, value.shape).to(value.dtype) for name, value in state.items()}


def named(state: dict[str, torch.Tensor], layout: str) -> dict[str, torch.Tensor]:
    prefix = "net." if layout == "others" else ""
    to = [(r"stem\.0\.(.*)", rf"{prefix}conv.\1"), (r"head\.projection\.(.*)", rf"{prefix}fc.\1")]
    return renamed(state, to)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


class TestReading:
    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state", "model_state_dict", "model"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_wrappings(self, wrapper: str | None, prefix: str, tmp_path: Path) -> None:
        state = {f"{prefix}{name}": value for name, value in state_of().items()}
        content = {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}} if wrapper else state
        read = read_state_dict(saved(tmp_path / "a.pth", content))
        assert list(read) == list(state_of())
        assert all(torch.equal(read[name], value) for name, value in state_of().items())

    def test_a_network_that_is_called_module_inside_keeps_it(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", {"net.module.weight": torch.zeros(1)})
        assert set(read_state_dict(path)) == {"net.module.weight"}

    @pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": [1]}, torch.zeros(2), "text"])
    def test_no_state_dict(self, content: Any, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", content)
        with pytest.raises(WeightsError, match=r"weights=.*a\.pth: holds no state dict; give the file of a state dict"):
            read_state_dict(path)

    def test_no_file_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"weights=.*none\.pth: No such file or directory; give the file"):
            read_state_dict(tmp_path / "none.pth")
        with pytest.raises(WeightsError, match="Is a directory; give the file"):
            read_state_dict(tmp_path)

    def test_damaged_files(self, tmp_path: Path) -> None:
        data = saved(tmp_path / "a.pth", state_of()).read_bytes()
        for damaged in (b"", b"text", data[:100], data[: len(data) // 2]):
            (tmp_path / "b.pth").write_bytes(damaged)
            with pytest.raises(
                WeightsError, match=r"weights=.*b\.pth: can't be read: it is damaged, .*; give the file"
            ):
                read_state_dict(tmp_path / "b.pth")

    def test_code_in_a_file_is_not_run(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", {"state_dict": Attack(tmp_path / "made")})
        with pytest.raises(WeightsError, match="can't be read"):
            read_state_dict(path)
        assert not (tmp_path / "made").exists()
        torch.load(path, weights_only=False)
        assert (tmp_path / "made").exists()  # so it would have been


class Attack:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class TestLoading:
    @pytest.mark.parametrize("layout", ["ours", "theirs", "others"])
    def test_finds_the_layout_by_itself(self, layout: str) -> None:
        network = Small()
        load_weights(
            network, named(state_of(), layout) if layout != "ours" else state_of(), source="a", layouts=LAYOUTS
        )
        assert all(torch.equal(value, state_of()[name]) for name, value in network.state_dict().items())

    def test_old_files_have_no_counters(self) -> None:
        """``num_batches_tracked`` came with PyTorch 0.4.1."""
        network, state = Small(), state_of()
        del state["stem.1.num_batches_tracked"]
        load_weights(network, state, source="a")
        assert torch.equal(network.state_dict()["stem.1.weight"], state["stem.1.weight"])

    def test_names_what_does_not_fit(self) -> None:
        """Names of the file as it has them; the layout is the one that fits best."""
        state = named(state_of(), "others")
        del state["net.conv.bias"]
        state |= {"net.extra": torch.zeros(1), "stem.1.weight": torch.zeros(7)}
        with pytest.raises(WeightsError) as error:
            load_weights(Small(), state, source="a.pth", layouts=LAYOUTS)
        assert str(error.value) == (
            "weights=a.pth: not those of Small: 1 missing (stem.0.bias); 1 unexpected (net.extra); "
            "1 of another shape (stem.1.weight (7,) for (4,)); give its own"
        )

    def test_names_no_more_than_five(self) -> None:
        with pytest.raises(
            WeightsError, match=r"the tower: 8 missing \(stem\.0\.weight, .* and 3 more\); 1 unexpected"
        ):
            load_weights(Small(), {"a": torch.zeros(1)}, source="a", name="the tower")

    def test_a_refused_file_changes_nothing(self) -> None:
        network = Small()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with pytest.raises(WeightsError):
            load_weights(network, {**state_of(), "more": torch.zeros(1)}, source="a")
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

    def test_two_names_for_one_parameter_are_refused(self) -> None:
        """One of them would be dropped in silence."""
        state = {**state_of(), "conv.weight": torch.zeros(4, 3, 3, 3)}
        with pytest.raises(WeightsError, match=r"1 unexpected \(conv\.weight\)"):
            load_weights(Small(), state, source="a", layouts=LAYOUTS)

    def test_a_convolution_of_size_one_is_a_linear_layer(self) -> None:
        network, state = Small(), state_of()
        state["head.projection.weight"] = state["head.projection.weight"][:, :, None, None, None]
        load_weights(network, state, source="a")
        assert torch.equal(network.state_dict()["head.projection.weight"], state_of()["head.projection.weight"])

    @pytest.mark.parametrize("shape", [(5, 4, 2), (1, 5, 4), (4, 5), (20,)])
    def test_as_many_numbers_in_another_shape_are_not(self, shape: tuple[int, ...]) -> None:
        state = {**state_of(), "stem.1.bias": torch.zeros(4, 2), "head.projection.weight": torch.zeros(shape)}
        with pytest.raises(WeightsError, match=r"stem\.1\.bias \(4, 2\) for \(4,\)"):
            load_weights(Small(), state, source="a")
        with pytest.raises(WeightsError):
            load_weights(Small(), {**state_of(), "head.projection.weight": torch.zeros(shape)}, source="a")


class TestOtherClasses:
    @pytest.mark.parametrize("layout", ["theirs", "others"])
    def test_are_refused(self, layout: str) -> None:
        told = "weights=a: are for 9 classes, and the network has 5; give weights for 5, or begin with a new head"
        with pytest.raises(WeightsError) as error:
            load_weights(Small(), named(state_of(9), layout), source="a", layouts=LAYOUTS)
        assert str(error.value) == told

    @pytest.mark.parametrize("num_classes", [9, 5])
    def test_a_new_head_is_left_as_it_is_and_all_the_rest_loaded(self, num_classes: int) -> None:
        network, state = Small(), state_of(num_classes)
        before = network.head.projection.weight.clone()
        load_weights(network, named(state, "theirs"), source="a", layouts=LAYOUTS, has_new_head=True)
        assert torch.equal(network.head.projection.weight, before)
        for name, value in network.state_dict().items():
            assert name.startswith("head.") or torch.equal(value, state[name])

    def test_a_new_head_needs_none_in_the_file(self) -> None:
        state = {name: value for name, value in state_of().items() if not name.startswith("head.")}
        with pytest.raises(WeightsError, match=r"2 missing \(head\.projection\.weight, head\.projection\.bias\)"):
            load_weights(Small(), state, source="a")
        load_weights(Small(), state, source="a", has_new_head=True)

    def test_a_new_head_excuses_nothing_else(self) -> None:
        state = {**state_of(9), "stem.1.weight": torch.zeros(7), "head.more.weight": torch.zeros(1)}
        del state["stem.0.bias"]
        with pytest.raises(WeightsError) as error:
            load_weights(Small(), state, source="a", has_new_head=True)
        assert "1 missing (stem.0.bias); 1 unexpected (head.more.weight); 1 of another shape" in str(error.value)


class TestBackbones:
    def test_every_layout_is_a_way_to_load(self) -> None:
        assert all(backbone.layouts for backbone in BACKBONES.values())
        for name, backbone in BACKBONES.items():
            for layout, key_map in backbone.layouts.items():
                assert any("head" in new for _, new in key_map) or layout == "pyslowfast", name

    def test_our_own_files_load(self, tmp_path: Path) -> None:
        network = load_backbone("tsm_mobilenet_v2", 4)
        path = saved(tmp_path / "a.pth", {"model_state": network.state_dict()})
        other = load_backbone("tsm_mobilenet_v2", 4, path)
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
        with pytest.raises(WeightsError, match=r"weights=.*a\.pth: are for 4 classes, and the network has 6"):
            load_backbone("tsm_mobilenet_v2", 6, path)
        fresh = load_backbone("tsm_mobilenet_v2", 6, path, has_new_head=True)
        assert torch.equal(fresh.state_dict()["frames.0.0.weight"], network.state_dict()["frames.0.0.weight"])

    def test_another_networks_file_is_refused(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pth", load_backbone("mobilenet_v2", 4).state_dict())
        with pytest.raises(
            WeightsError, match=r"not those of efficientnet_b0: .* missing .* unexpected .*; give its own"
        ):
            load_backbone("efficientnet_b0", 4, path)

    def test_no_such_backbone(self) -> None:
        with pytest.raises(WeightsError, match="backbone=resnet5: must be one of mobilenet_v2, resnet50, "):
            load_backbone("resnet5", 4)


class TestInputChannels:
    @pytest.mark.parametrize(("num_channels", "scale"), [(16, 3 / 16), (2, 1.5), (3, 1), (1, 3)])
    def test_all_channels_together_answer_as_rgb_does_to_grey(self, num_channels: int, scale: float) -> None:
        weight = filled_tensor("conv.weight", (8, 3, 3, 3)).double()
        grey = filled_tensor("grey", (2, 1, 9, 9)).double()
        expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), weight)
        adapted = with_input_channels(weight, num_channels, scale=scale)
        assert adapted.shape == (8, num_channels, 3, 3)
        found = nn.functional.conv2d(grey.expand(-1, num_channels, -1, -1), adapted)
        torch.testing.assert_close(found, expected)

    def test_each_channel_has_the_mean_times_the_scale_and_is_its_own(self) -> None:
        weight = filled_tensor("conv.weight", (4, 3, 5, 7, 7))
        adapted = with_input_channels(weight, 2, scale=1)
        torch.testing.assert_close(adapted[:, 1], (weight[:, 0] + weight[:, 1] + weight[:, 2]) / 3)
        adapted[:, 0] = 0
        assert adapted[:, 1].any()
