"""Networks with sampling inside: what they compute doesn't depend on the batch, in training neither, and saves."""

import copy
import math

import pytest
import torch
from networks import filled, filled_clip, giga_macs, on_meta
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vidprep.models import AdaptiveTemporalResolution
from vidprep.models.adaptive_temporal_resolution import sampled_layouts
from vidprep.models.backbones import BACKBONES
from vidprep.models.backbones.network import VideoNetwork
from vidprep.models.weights import load_weights

NUM_CLASSES = 5
LIKE_ANOTHER = {  # one network under several names, or with more of the same blocks
    *("x3d_s", "x3d_m", "x3d_l", "x3d_xl", "x3d_s_pytorchvideo", "x3d_m_pytorchvideo", "x3d_l_pytorchvideo"),
    *("x3d_xs_pytorchvideo", "slowfast_r50_8x8", "slowfast_r50_4x16", "resnet3d_50", "hara_resnet18_a"),
}
NAMES = sorted(
    name
    for name, backbone in BACKBONES.items()
    if backbone.num_frames > 1 and "tsm" not in name and name not in LIKE_ANOTHER
)
PLACES = [(name, "res2") for name in NAMES]
PLACES += [("resnet3d_18", "stem"), ("resnet3d_18", "res3"), ("slowfast_r18_8x8", "stem")]


def adaptive(name: str, after: str = "res2", **options: object) -> AdaptiveTemporalResolution:
    torch.manual_seed(0)
    return AdaptiveTemporalResolution(filled(BACKBONES[name].build(NUM_CLASSES)), after=after, **options).eval()


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def built(request: pytest.FixtureRequest) -> AdaptiveTemporalResolution:
    """Each network, made once for the tests of all networks, which follow each other; it is left as it was."""
    return adaptive(*request.param)


@pytest.fixture
def network(built: AdaptiveTemporalResolution) -> AdaptiveTemporalResolution:
    return copy.deepcopy(built)


def clips_of_many_lengths(num_frames: int = 10) -> torch.Tensor:
    """A still clip, one that changes once, one of noise, and one that is brighter and brighter."""
    clips = filled_clip("sgs", 4, 3, num_frames, 32, 32)
    clips[0] = clips[0, :, :1]
    clips[1, :, 5:], clips[1, :, :5] = clips[1, :, 5:6], clips[1, :, :1]
    clips[3] = clips[3, :, :1] * torch.linspace(0, 1, num_frames)[:, None, None]
    return clips


def test_released_checkpoints_load_with_their_sampling() -> None:
    """PySlowFast's names with ``s2.ts_layer``, or one for each pathway."""
    for name, layers in (
        ("resnet3d_18", ["s2.ts_layer"]),
        ("slowfast_r18_8x8", ["s2.pathway0_ts_layer", "s2.pathway1_ts_layer"]),
    ):
        network = adaptive(name, variant="official")
        inner = network.network.state_dict()
        state = {f"network.{key}": value for key, value in inner.items()}
        official = {
            f"{layer}.{key}": torch.randn_like(value.float())
            for place, layer in enumerate(layers)
            for key, value in network.samplers[place].state_dict().items()
        }
        assert {key.rsplit("ts_layer.")[1].split(".")[0] for key in official} == {"fc", "bn"}
        load_weights(network, state | official, source="file.pyth", layouts=sampled_layouts({"own": ()}))
        for place, layer in enumerate(layers):
            found = network.samplers[place].fc[2].weight
            assert torch.equal(found, official[f"{layer}.fc.2.weight"])
    assert set(sampled_layouts(BACKBONES["slowfast_r50_8x8"].layouts)) == {"pyslowfast", "pytorchvideo"}


def test_networks_that_have_no_time_or_no_stages_are_refused() -> None:
    with pytest.raises(
        ValueError, match="its stages are on single frames, which time can't be sampled in; give a 3D network"
    ):
        AdaptiveTemporalResolution(BACKBONES["tsm_resnet50"].build(2))
    with pytest.raises(TypeError, match=r"network=Linear: must be a VideoNetwork.*own"):
        AdaptiveTemporalResolution(nn.Linear(2, 2))  # type: ignore[arg-type]


@torch.no_grad()
def test_a_clip_alone_and_in_a_batch(network: AdaptiveTemporalResolution) -> None:
    clips = clips_of_many_lengths()
    logits = network(clips)
    num_bins = network.last_num_bins
    assert len(num_bins.unique(dim=0)) > 1
    for clip, expected, num in zip(clips, logits, num_bins, strict=True):
        torch.testing.assert_close(network(clip[None])[0], expected, rtol=1e-4, atol=1e-5)
        assert network.last_num_bins.tolist() == [num.tolist()]
    torch.testing.assert_close(network(clips[[2, 0, 3, 1]]), logits[[2, 0, 3, 1]], rtol=1e-4, atol=1e-5)


def test_training_normalises_by_the_statistics_of_all_clips_and_of_nothing_else(
    network: AdaptiveTemporalResolution,
) -> None:
    """So evaluation with the statistics that a training step leaves gives the logits of that step."""
    clips = clips_of_many_lengths()
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm3d)]
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for norm in norms:
        norm.momentum = 1.0
    counts: dict[nn.Module, int] = {}
    for norm in norms:
        norm.register_forward_pre_hook(
            lambda norm, inputs: counts.update({norm: inputs[0].numel() // norm.num_features})
        )
    logits = network.train()(clips)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.network.parameters())
    for norm in norms:  # kept without bias, used with it
        assert norm.running_var is not None
        norm.running_var *= (counts[norm] - 1) / counts[norm]
    torch.testing.assert_close(network.eval()(clips), logits, rtol=0.02, atol=2e-3)  # 50 layers of rounding


@torch.no_grad()
def test_with_a_bin_for_each_frame_it_is_the_network(network: AdaptiveTemporalResolution) -> None:
    clips = filled_clip("plain", 2, 3, 8, 32, 32)
    for sampler in network.samplers:
        sampler.num_bins, sampler.edge_weight, sampler.order = 10**6, 1.0, "time"  # type: ignore[assignment]
    sampled = network(clips)
    for stage, activation in zip(network.network.stage(network.after), network.activations, strict=True):
        stage.append(activation)  # where it was
    torch.testing.assert_close(sampled, network.network(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_frames", [1, 5, 16])
def test_each_pathway_has_blocks_of_its_own(num_frames: int) -> None:
    """Those of the paper for Something-Something: 2 frames of the slow pathway, 8 of the fast one."""
    network, clips = adaptive("slowfast_r18_8x8", block_frames=[2, 8]), clips_of_many_lengths(num_frames)
    logits = network(clips)
    logits.sum().backward()
    num_slow = network.network.pathways(clips)[0].shape[2]
    least = torch.tensor([math.ceil(num_slow / 2), math.ceil(num_frames / 8)])
    assert (network.last_num_bins >= least).all()
    for sampler in network.samplers:
        sampler.num_bins = 1  # type: ignore[assignment]
    assert torch.equal(network(clips).isfinite().all(1), torch.ones(4, dtype=torch.bool))
    assert torch.equal(network.last_num_bins, least.expand(4, 2))
    alone = network(clips[1:2])
    torch.testing.assert_close(alone, network(clips)[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [(2, 8), (2.5,), 2.5, "8"])
def test_blocks_that_can_not_be_meant_are_refused(blocks: object) -> None:
    with pytest.raises(
        ValueError, match=r"block_frames=.*: (give an int, or one for each of 1 pathways|must be a positive)"
    ):
        adaptive("resnet3d_18", block_frames=blocks)


@torch.no_grad()
def test_under_autocast_frames_are_grouped_by_exact_numbers() -> None:
    """Maps of the same numbers go to the same bins, with the same weights, whatever type the network computes in."""
    sampler = adaptive("resnet3d_18").samplers[0]
    maps = torch.randn(3, sampler.num_channels, 16, 2, 2, generator=torch.Generator().manual_seed(3))  # type: ignore[call-overload]
    expected = sampler.assign(maps)  # type: ignore[operator]
    with torch.autocast("cpu", torch.bfloat16):
        found = sampler.assign(maps)  # type: ignore[operator]
    assert torch.equal(found.slots, expected.slots)
    assert torch.equal(found.weights, expected.weights)


def test_weights_keep_their_names() -> None:
    plain = BACKBONES["r3d_18"].build(NUM_CLASSES)
    state = copy.deepcopy(plain.state_dict())
    network = AdaptiveTemporalResolution(plain)
    load_weights(network.network, state, source="here")
    own = {name for name in network.state_dict() if not name.startswith("network.")}
    assert all(name.startswith("samplers.0.") for name in own)


@torch.no_grad()
def test_fewer_bins_may_be_asked_for_after_training() -> None:
    network, clips = adaptive("resnet3d_18"), clips_of_many_lengths()
    network(clips)
    many = network.last_num_bins
    network.samplers[0].num_bins = 2  # type: ignore[assignment]
    network(clips)
    assert (network.last_num_bins <= 2).all()
    assert (many > 2).any()


@pytest.mark.parametrize("name", ["resnet3d_18", "r2plus1d_18"])
@torch.no_grad()
def test_the_cost_is_that_of_the_bins(name: str) -> None:
    """METHODS 5.4: an intercept, and a slope times the bins."""
    network, clips = adaptive(name), clips_of_many_lengths()
    with FlopCounterMode(display=False) as counter:
        network(clips)
    num_bins = network.last_num_bins[:, 0].tolist()
    build = BACKBONES[name].build
    rest = [giga_macs(on_meta(build, NUM_CLASSES), 10, 32, 32, after="res2", num_kept=num) for num in num_bins]
    assert counter.get_total_flops() / 2e9 == pytest.approx(sum(rest), rel=0.01)  # the sampling itself costs less
    assert sum(rest) < 4 * giga_macs(on_meta(build, NUM_CLASSES), 10, 32, 32)


@torch.no_grad()
def test_the_official_variant_pads_and_so_depends_on_batch_mates() -> None:
    network, clips = adaptive("resnet3d_18", variant="official", num_bins=10), clips_of_many_lengths()
    logits = network(clips)
    num_bins = network.last_num_bins[:, 0]
    shortest = int(num_bins.argmin())
    assert num_bins[shortest] < num_bins.max()
    alone = network(clips[shortest : shortest + 1])[0]
    assert (alone - logits[shortest]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "stage",
    [
        nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.MaxPool3d(2)),
        nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 1)),
    ],
)
def test_a_stage_that_does_not_end_with_its_activation_is_refused(stage: nn.Sequential) -> None:
    network: VideoNetwork = BACKBONES["r3d_18"].build(NUM_CLASSES)
    network.res2 = stage
    with pytest.raises(ValueError, match="and no activation; a network can be sampled once, so build another"):
        AdaptiveTemporalResolution(network)


def test_what_can_not_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"after='res9': must be a stage before the last; choose one of stem, res2"):
        AdaptiveTemporalResolution(BACKBONES["r3d_18"].build(NUM_CLASSES), after="res9")
    network = BACKBONES["r3d_18"].build(NUM_CLASSES)
    AdaptiveTemporalResolution(network)
    with pytest.raises(ValueError, match="can be sampled once, so build another"):
        AdaptiveTemporalResolution(network)
