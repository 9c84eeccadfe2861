"""Every network on clips keeps the contract that methods rely on: where a stage ends, and features of any size."""

import pytest
import torch
from torch import nn

from vidprep.models.backbones import BACKBONES, VideoNetwork

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU)
# One of each kind of network; the others of the table differ in numbers alone.
IN_STAGES = (
    "tsm_resnet50",
    "r3d_18",
    "r2plus1d_18",
    "hara_resnet18_a",
    "i3d_resnet50",
    "i3d_resnet50_windows",
    "x3d_m",
    "slowfast_r18_8x8",
    "resnet3d_18",
)
IN_ONE = ("mobilenet_v2", "resnet50", "efficientnet_b0", "tsm_mobilenet_v2")


def on_meta(name: str, num_classes: int = 6) -> VideoNetwork:
    with torch.device("meta"):
        return BACKBONES[name].build(num_classes).eval()


def last_activation(stage: nn.Sequential) -> nn.Module:
    last = stage[-1]
    return last if isinstance(last, ACTIVATIONS) else last.get_submodule("relu")


@pytest.mark.parametrize("name", IN_STAGES)
def test_each_stage_ends_with_an_activation_of_its_own(name: str) -> None:
    """Similarity-guided sampling stands in front of it: it runs once, and its output is the stage's."""
    network = on_meta(name)
    pathways = network.pathways(torch.empty(1, 3, 16, 64, 64, device="meta"))
    for stage_name in network.stage_names:
        outputs: list[list[torch.Tensor]] = []
        for stage in network.stage(stage_name):
            outputs.append([])
            activation = last_activation(stage)
            assert isinstance(activation, ACTIVATIONS)
            activation.register_forward_hook(lambda _, __, output, found=outputs[-1]: found.append(output))
        stages = network.stage(stage_name)
        assert len(stages) == len(pathways)
        ends = [stage(maps) for stage, maps in zip(stages, pathways, strict=True)]
        assert [len(found) for found in outputs] == [1] * len(pathways)
        assert all(found[0] is end for found, end in zip(outputs, ends, strict=True))
        pathways = network.fuse(stage_name, ends)


@pytest.mark.parametrize("name", IN_STAGES + IN_ONE)
def test_features_and_logits_of_any_size(name: str) -> None:
    network = on_meta(name)
    clip = torch.empty(2, 3, 18, 70, 90, device="meta")
    features = network.features(clip)
    assert features.shape == (2, network.num_features)
    assert network.pool(network.maps(clip)).shape == features.shape
    assert network.head(features).shape == network(clip).shape == (2, 6)
