"""Similarity-guided sampling: identities, a slow oracle, finite differences."""

import math
import warnings
from pathlib import Path
from typing import Any

import networks as _networks  # noqa: F401 - one thread for all tests of networks
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vidprep.models import SimilarityGuidedSampling

EMBEDDING = 4


def given_embedding(**options: Any) -> SimilarityGuidedSampling:
    """A sampler whose frames are embedded as their maps' means: the tests choose them."""
    sampler = SimilarityGuidedSampling(num_channels=EMBEDDING, embedding=EMBEDDING, **options).eval()
    sampler.fc, sampler.bn = nn.Sequential(), nn.Identity()  # type: ignore[assignment]
    return sampler


def maps_of(embedded: torch.Tensor) -> torch.Tensor:
    """Maps [shape=(N, L, T, 2, 2)] that are embedded so [shape=(N, T, L)], exactly."""
    return embedded.transpose(1, 2)[..., None, None].expand(-1, -1, -1, 2, 2)


def maps_with(*magnitudes: list[float]) -> torch.Tensor:
    """Maps of clips whose frames have these magnitudes."""
    values = torch.tensor(magnitudes, dtype=torch.float64)
    return maps_of(torch.stack([values, *[torch.zeros_like(values)] * (EMBEDDING - 1)], 2))


def some_maps(seed: int, num_clips: int = 3, num_frames: int = 8) -> torch.Tensor:
    return torch.randn(num_clips, EMBEDDING, num_frames, 2, 2, generator=torch.Generator().manual_seed(seed)).double()


def slow_sampling(
    maps: torch.Tensor, num_bins: int, *, edge_weight: float, kernel: str, order: str
) -> tuple[list[torch.Tensor], list[int]]:
    """The sampling by magnitude of one clip [shape=(C, T, H, W)], one frame after the other, by the definition."""
    magnitudes = [math.hypot(*maps[:, t].mean((1, 2)).tolist()) for t in range(maps.shape[1])]
    half_width = max(magnitudes) / (2 * num_bins)
    members: dict[int, list[int]] = {}
    for t, magnitude in enumerate(magnitudes):
        number = min(num_bins, math.floor(magnitude / (2 * half_width)) + 1)
        members.setdefault(number, []).append(t)
    numbers = sorted(members, key=lambda b: (sum(members[b]) / len(members[b]), b) if order == "time" else b)
    bins = []
    for number in numbers:
        offsets = [abs(magnitudes[t] - (2 * number - 1) * half_width) / half_width for t in members[number]]
        weights = [1.0 if kernel == "kronecker" else 1 - (1 - edge_weight) * offset for offset in offsets]
        total = sum(weights) if kernel == "kronecker" else 1.0
        bins.append(sum(w / total * maps[:, t] for w, t in zip(weights, members[number], strict=True)))
    return bins, [len(members[b]) for b in numbers]  # type: ignore[return-value]


@pytest.mark.parametrize("order", ["similarity", "time"])
@pytest.mark.parametrize("kernel", ["linear", "kronecker"])
@settings(max_examples=25)
@given(seed=st.integers(0, 99), num_bins=st.integers(1, 12), edge_weight=st.sampled_from([0.0, 0.5, 1.0]))
def test_it_is_what_the_definition_says(kernel: str, order: str, seed: int, num_bins: int, edge_weight: float) -> None:
    maps = some_maps(seed)
    sampler = given_embedding(num_bins=num_bins, kernel=kernel, order=order, edge_weight=edge_weight)
    sampled, found = sampler(maps)
    for clip, bins, num in zip(maps, sampled, found.tolist(), strict=True):
        expected, _ = slow_sampling(clip, num_bins, edge_weight=edge_weight, kernel=kernel, order=order)
        assert num == len(expected)
        torch.testing.assert_close(bins[:, :num], torch.stack(expected, 1))
        assert not bins[:, num:].any()


@pytest.mark.parametrize("order", ["similarity", "time"])
@settings(max_examples=25)
@given(seed=st.integers(0, 99), num_bins=st.integers(1, 12), block_frames=st.integers(1, 9))
def test_blocks_are_sampled_each_on_its_own(order: str, seed: int, num_bins: int, block_frames: int) -> None:
    """The paper's temporal domain size: the bins of all blocks, one after the other."""
    maps = some_maps(seed)
    sampler = given_embedding(num_bins=num_bins, order=order, block_frames=block_frames)
    sampled, found = sampler(maps)
    for clip, bins, num in zip(maps, sampled, found.tolist(), strict=True):
        blocks = [clip[:, t : t + block_frames] for t in range(0, clip.shape[1], block_frames)]
        rule: dict[str, Any] = {"edge_weight": 0.5, "kernel": "linear", "order": order}
        expected = [one for block in blocks for one in slow_sampling(block, num_bins, **rule)[0]]
        torch.testing.assert_close(bins[:, :num], torch.stack(expected, 1))


@pytest.mark.parametrize(("block_frames", "num_bins"), [(1, 9), (2, 5), (4, 3), (9, 1), (20, 1)])
def test_a_still_clip_fills_one_bin_a_block(block_frames: int, num_bins: int) -> None:
    sampler = given_embedding(block_frames=block_frames)
    assert sampler(maps_with([3.0] * 9))[1].tolist() == [num_bins]


def test_a_block_has_as_many_bins_as_frames() -> None:
    """Frames of a block of 4 that lie apart by less than a quarter of the largest share a bin, in a clip of 8 too."""
    distinct, alike = [0.5, 1.5, 2.5, 4.0], [3.05, 3.55, 3.65, 4.0]
    sampler = given_embedding(block_frames=4)
    assert sampler(maps_with(distinct * 2, alike * 2))[1].tolist() == [8, 2]
    assert given_embedding()(maps_with(distinct * 2, alike * 2))[1].tolist() == [4, 2]
    assert given_embedding(num_bins=8)(maps_with(alike))[1].tolist() == [2]
    assert given_embedding(num_bins=4)(maps_with(alike))[1].tolist() == [1]


def test_distinct_well_spread_frames_are_all_kept() -> None:
    magnitudes = [float(t) + 0.5 for t in range(7)] + [8.0]
    maps = maps_with(magnitudes)
    sampled, num_bins = given_embedding()(maps)
    assert num_bins.tolist() == [8]
    kept = sampled[0, :, :, 0, 0] / sampled[0, :, :, 0, 0].norm(dim=0)  # each a multiple of its frame
    torch.testing.assert_close(kept, maps[0, :, :, 0, 0] / maps[0, :, :, 0, 0].norm(dim=0))


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 7.0])
def test_equal_magnitudes_fill_one_bin(value: float) -> None:
    sampled, num_bins = given_embedding()(maps_with([value] * 6, [0.5, 1.5, 2.5, 3.5, 4.5, 6.0]))
    assert num_bins.tolist() == [1, 6]
    assert sampled.isfinite().all()


@pytest.mark.parametrize("similarity", [{}, {"similarity": "angular", "num_bins": (4, 8)}])
def test_a_still_clip_fills_one_bin_with_any_weights(similarity: dict[str, Any]) -> None:
    torch.manual_seed(0)
    sampler = SimilarityGuidedSampling(num_channels=6, **similarity).eval()
    still = torch.randn(4, 6, 1, 5, 5).expand(-1, -1, 9, -1, -1)
    assert sampler.assign(still).num_bins.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("num_bins", [1, 4, 8])
def test_frames_on_edges_and_the_largest_are_not_lost(num_bins: int) -> None:
    on_edges = [8.0 * b / num_bins for b in range(num_bins + 1)]
    assignment = given_embedding(num_bins=num_bins).assign(maps_with(on_edges))
    assert assignment.weights.min() >= 0.5
    assert assignment.slots[0].tolist() == [*range(num_bins), num_bins - 1]  # the largest joins the last bin
    lost = given_embedding(num_bins=num_bins, edge_weight=0.0).assign(maps_with(on_edges))
    assert (lost.weights.abs() < 1e-12).all()  # the paper's kernel


@settings(max_examples=25)
@given(seed=st.integers(0, 99), shuffled=st.permutations(range(8)))
def test_the_order_of_frames_does_not_matter_to_bins_by_similarity(seed: int, shuffled: list[int]) -> None:
    maps, sampler = some_maps(seed), given_embedding()
    torch.testing.assert_close(sampler(maps[:, :, shuffled])[0], sampler(maps)[0])


@settings(max_examples=25)
@given(seed=st.integers(0, 99))
def test_bins_by_time_turn_round_with_the_clip(seed: int) -> None:
    sampler, maps = given_embedding(order="time"), some_maps(seed, num_clips=1)
    sampled, backwards = sampler(maps)[0], sampler(maps.flip(2))[0]
    times = slow_mean_times(sampler.assign(maps).slots[0].tolist())
    if len(set(times)) == len(times):
        torch.testing.assert_close(backwards, sampled.flip(2))


def slow_mean_times(slots: list[int]) -> list[float]:
    held = [[t for t, one in enumerate(slots) if one == slot] for slot in range(max(slots) + 1)]
    return [sum(times) / len(times) for times in held]


def test_bins_in_time_order_follow_their_frames_mean_times() -> None:
    maps = maps_with([5.0, 1.0, 8.0, 1.0, 5.0, 5.0])  # bins of 8: times 1, 3 (mean 2); 0, 4, 5 (mean 3); 2
    by_time = given_embedding(num_bins=8, order="time").assign(maps)
    assert by_time.slots.tolist() == [[2, 0, 1, 0, 2, 2]]  # mean times 2 and 2: then the more alike first
    assert given_embedding(num_bins=8).assign(maps).slots.tolist() == [[1, 0, 2, 0, 1, 1]]


def test_values_that_are_no_numbers_stay_so() -> None:
    """So that the loss, or an evaluation, can say it; nothing is read out of range."""
    sampling = SimilarityGuidedSampling(num_channels=4).eval()
    for value in (math.nan, math.inf, -math.inf):
        clips = torch.rand(2, 4, 5, 3, 3)
        expected, _ = sampling(clips[1:])
        clips[0, 0, 2, 1, 1] = value
        sampled, num_bins = sampling(clips)
        assert not sampled[0].isfinite().all()
        assert 1 <= int(num_bins[0]) <= 5
        torch.testing.assert_close(sampled[1:, :, : expected.shape[2]], expected)


def test_other_types_of_numbers() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        sampling = SimilarityGuidedSampling(num_channels=4).to(dtype).eval()
        assert sampling(torch.rand(1, 4, 5, 3, 3, dtype=dtype))[0].dtype == dtype
    with pytest.raises(ValueError, match=r"maps=\(1, 3, 5, 2, 2\): must have num_channels=4"):
        SimilarityGuidedSampling(num_channels=4)(torch.rand(1, 3, 5, 2, 2))


@pytest.mark.parametrize("shape", [(0, 4, 5, 2, 2), (1, 4, 0, 2, 2), (1, 4, 5, 0, 2)])
def test_nothing_to_sample_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"maps=\(.*\): must hold clips of at least one frame"):
        SimilarityGuidedSampling(num_channels=4)(torch.rand(shape))


def test_kronecker_leaves_nothing_to_wait_for_among_ranks() -> None:
    sampling = SimilarityGuidedSampling(num_channels=4, kernel="kronecker")
    assert not any(parameter.requires_grad for parameter in sampling.parameters())


@settings(max_examples=25)
@given(seed=st.integers(0, 99), clips=st.permutations(range(3)))
def test_batch_mates_do_not_matter(seed: int, clips: list[int]) -> None:
    maps, sampler = some_maps(seed), given_embedding()
    sampled, num_bins = sampler(maps)
    again, num_again = sampler(maps[clips])
    torch.testing.assert_close(again, sampled[clips])
    assert num_again.tolist() == num_bins[clips].tolist()
    alone, num = sampler(maps[:1])
    torch.testing.assert_close(alone, sampled[:1, :, : int(num)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_bins": 3},
        {"average": True},
        {"order": "time"},
        {"block_frames": 3},
        {"similarity": "angular", "num_bins": (2, 3)},
        {"similarity": "spherical", "num_bins": (2, 2, 3)},
    ],
)
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    sampler, maps = given_embedding(**options), some_maps(5, num_clips=2, num_frames=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: sampler(values)[0], (maps,), eps=1e-7, atol=1e-5)


def test_the_similarity_network_learns_with_the_linear_kernel_alone() -> None:
    torch.manual_seed(0)
    for kernel, learns in (("linear", True), ("kronecker", False)):
        sampler = SimilarityGuidedSampling(num_channels=6, kernel=kernel)
        sampler(torch.randn(2, 6, 8, 4, 4).requires_grad_())[0].square().sum().backward()
        grads = [parameter.grad for parameter in sampler.parameters()]
        assert any(grad is not None and grad.any() for grad in grads) is learns


def test_the_number_of_bins_may_be_changed_after_training() -> None:
    sampler, maps = given_embedding(), maps_with([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 8.0])
    state = sampler.state_dict()
    for num_bins in (1, 2, 4, 8, 100, None):
        sampler.num_bins = num_bins
        assert sampler.assign(maps).num_bins.tolist() == [min(num_bins or 8, 8)]
    assert sampler.state_dict().keys() == state.keys()


@pytest.mark.parametrize(("similarity", "num_bins"), [("angular", (4, 8)), ("spherical", (2, 4, 4))])
def test_angles_are_those_of_spherical_coordinates(similarity: str, num_bins: tuple[int, ...]) -> None:
    embedded = torch.randn(2, 30, EMBEDDING, generator=torch.Generator().manual_seed(1)).double()
    assignment = given_embedding(similarity=similarity, num_bins=num_bins).assign(maps_of(embedded))
    for clip, slots, weights in zip(embedded.tolist(), assignment.slots.tolist(), assignment.weights, strict=True):
        values = [spherical(vector) for vector in clip]
        values = [one[1:] if similarity == "angular" else one for one in values]
        largest = [max(one[k] for one in values) for k in range(len(num_bins))]
        positions = [[n * v / top for n, v, top in zip(num_bins, one, largest, strict=True)] for one in values]
        places = [tuple(min(int(p), n - 1) for p, n in zip(one, num_bins, strict=True)) for one in positions]
        ranks = {place: rank for rank, place in enumerate(sorted(set(places)))}
        assert slots == [ranks[place] for place in places]
        expected = [
            math.prod(1 - 0.5 * abs(2 * (p - b) - 1) for p, b in zip(one, place, strict=True))
            for one, place in zip(positions, places, strict=True)
        ]
        torch.testing.assert_close(weights.tolist(), expected)


def spherical(vector: list[float]) -> list[float]:
    """The length, then the first two angles, by the arc cosine."""
    first, second = vector[0] / math.hypot(*vector), vector[1] / math.hypot(*vector[1:])
    return [math.hypot(*vector), math.acos(first), math.acos(second)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "cubic"}, "kernel='cubic': must be one of linear, kronecker"),
        ({"kernel": "delta"}, "kernel='delta'"),
        ({"variant": "official", "kernel": "kronecker"}, "must be one of linear, linear_normalized"),
        ({"variant": "paper"}, "variant='paper'"),
        ({"average": True, "edge_weight": 0.0}, "edge_weight=0, average=True: a frame alone on an edge"),
        ({"similarity": "cosine"}, "similarity='cosine'"),
        ({"order": "random"}, "order='random'"),
        ({"edge_weight": 1.5}, "edge_weight=1.5: must be in"),
        ({"num_bins": 0}, "num_bins=0: must be positive"),
        ({"num_bins": (4, 8)}, "give an int"),
        ({"similarity": "angular"}, r"give \(4, 8\) for angular"),
        ({"similarity": "angular", "num_bins": (2, 2, 2), "embedding": 4}, "1 to 2 angles"),
        ({"similarity": "spherical", "num_bins": 8}, "wants a tuple"),
        ({"variant": "official", "order": "time"}, "has neither"),
        ({"variant": "official", "block_frames": 8}, "has neither"),
        ({"block_frames": 0}, "block_frames=0: must be a positive integer"),
    ],
)
def test_what_can_not_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimilarityGuidedSampling(num_channels=4, **options)


class Static(nn.Module):
    """The parts whose shapes don't depend on values: all but leaving out empty bins."""

    def __init__(self, sampler: SimilarityGuidedSampling) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assignment = self.sampler.assign(maps)
        return self.sampler.aggregate(maps, assignment, maps.shape[2]), assignment.num_bins


@pytest.mark.parametrize("options", [{"order": "time"}, {"block_frames": 3}])
def test_the_static_parts_compile(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    static = Static(SimilarityGuidedSampling(num_channels=6, **options).eval())
    maps = torch.randn(2, 6, 8, 4, 4)
    compiled = torch.compile(static, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(maps), static(maps), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"block_frames": 3}, {"kernel": "kronecker"}])
def test_the_static_parts_are_exported(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    static = Static(SimilarityGuidedSampling(num_channels=6, **options).eval())
    maps = torch.randn(2, 6, 8, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own
        torch.onnx.export(static, (maps,), tmp_path / "a.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for found, expected in zip(
        session.run(None, {session.get_inputs()[0].name: maps.numpy()}), static(maps), strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
