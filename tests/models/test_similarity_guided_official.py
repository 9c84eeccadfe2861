"""The official variant computes what the released code does; the default differs where that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import filled_clip, filled_state, filled_uniform, shapes_of
from numpy.typing import NDArray

from vidprep.models import SimilarityGuidedSampling
from vidprep.models.similarity_guided_official import distances, kernel_matrix

INPUTS = ("iid", "walk")
KERNELS = ("linear", "linear_normalized", "delta", "delta_normalized")
BATCHES = {"b1": slice(0, 1), "b1b": slice(1, 2), "b2": slice(0, 2)}
LAST_BIN = 31


class Oracle:
    """What the released code gave, by name."""

    def __init__(self, path: Path) -> None:
        stored = np.load(path, allow_pickle=False)
        self.arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files if name != "meta"}
        self.stride = {one["output"]: one["stride"] for one in map(json.loads, map(str, stored["meta"][1:]))}

    def matches(self, name: str, found: torch.Tensor, **tolerance: float) -> None:
        values = found.detach().numpy().ravel()[:: self.stride.get(name, 1)]
        np.testing.assert_allclose(values, self.arrays[name].ravel(), **tolerance, err_msg=name)


@pytest.fixture(scope="module")
def oracle(shared: Path) -> Oracle:
    path = shared / "golden" / "official" / "sgs_layer.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return Oracle(path)


def official(kernel: str = "linear", **options: Any) -> SimilarityGuidedSampling:
    sampler = SimilarityGuidedSampling(num_channels=32, num_bins=32, variant="official", kernel=kernel, **options)
    sampler.load_state_dict(filled_state(shapes_of(sampler)))
    return sampler.eval()


def clips(name: str) -> torch.Tensor:
    if name == "iid":
        return filled_clip("sgs.iid", 2, 32, 32, 14, 14)
    base, step = filled_clip("sgs.walk.base", 2, 32, 1, 14, 14), filled_clip("sgs.walk.step", 2, 32, 32, 1, 1)
    steps = (step * (filled_uniform("sgs.walk.gate", 2, 1, 32, 1, 1) > 0.6)).numpy()
    return base + torch.from_numpy(np.cumsum(steps, 2, dtype=np.float32))


@pytest.mark.parametrize("name", INPUTS)
def test_the_embedding_and_the_distances(oracle: Oracle, name: str) -> None:
    embedded = official().embed(clips(name))
    oracle.matches(f"{name}.emb.b2", embedded.transpose(1, 2), atol=1e-5)
    oracle.matches(f"{name}.dist.b2", distances(embedded, 32), atol=3e-4)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", INPUTS)
def test_every_kernel(oracle: Oracle, name: str, kernel: str, batch: str) -> None:
    sampler, maps, case = official(kernel), clips(name)[BATCHES[batch]], f"{name}.{kernel}.{batch}"
    weights = kernel_matrix(distances(sampler.embed(maps), 32), 32, kernel)
    stored = torch.from_numpy(oracle.arrays[f"{case}.kernel"])
    torch.testing.assert_close(weights[:, :LAST_BIN], stored[:, :LAST_BIN], atol=3e-4, rtol=0)
    sampled, num_bins = sampler(maps)
    edge = ((weights[:, LAST_BIN] > 0).any(1).int() - (stored[:, LAST_BIN] > 0).any(1).int()).numpy()
    np.testing.assert_array_equal(num_bins.numpy() - edge, oracle.arrays[f"{case}.bins"])  # its rounding decides that
    if not edge.any():
        is_filled = torch.arange(sampled.shape[2]) < num_bins[:, None]
        np.testing.assert_array_equal(is_filled.numpy(), oracle.arrays[f"{case}.mask"])
        oracle.matches(f"{case}.out", sampled, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("name", INPUTS)
def test_empty_bins_kept(oracle: Oracle, name: str) -> None:
    sampled, num_bins = official(drops_empty=False)(clips(name))
    assert sampled.shape[2] == 32
    assert (num_bins < 32).all()
    oracle.matches(f"{name}.linear_nodrop.b2.out", sampled, rtol=3e-4, atol=3e-4)


def test_the_gradients(oracle: Oracle) -> None:
    sampler, maps = official(), clips("walk").requires_grad_()
    sampled, _ = sampler(maps)
    (sampled * filled_clip("sgs.gradw", 2, 32, 32, 14, 14)[:, :, : sampled.shape[2]]).sum().backward()
    assert maps.grad is not None
    oracle.matches("walk.linear.b2.grad_x", maps.grad, rtol=1e-3, atol=1e-3)
    for name, parameter in sampler.named_parameters():
        assert parameter.grad is not None
        if name in ("fc.2.bias", "bn.bias"):  # shifts move the mean too: nothing but rounding
            assert parameter.grad.abs().max() < 0.02
        else:
            oracle.matches(f"walk.linear.b2.grad.{name}", parameter.grad, rtol=1e-3, atol=0.5)


@pytest.mark.parametrize("name", INPUTS)
def test_the_default_differs_where_the_released_code_is_wrong(name: str) -> None:
    maps, released = clips(name), official()
    weights = kernel_matrix(distances(released.embed(maps), 32), 32, "linear")
    lost = weights.sum(1) < 1e-3
    assert lost.any(1).all()  # of each clip, the frame with the largest distance
    mended = SimilarityGuidedSampling(num_channels=32, num_bins=32).eval()
    mended.fc, mended.bn = released.fc, released.bn
    assert (mended.assign(maps).weights >= 0.5).all()


def test_the_default_does_not_depend_on_batch_mates_where_the_released_code_does() -> None:
    maps, released = clips("walk"), official()
    assert released(maps[:1])[0].shape != released(maps)[0][:1].shape  # padded; what follows takes it for frames
    mended = SimilarityGuidedSampling(num_channels=32, num_bins=32).eval()
    assignment, alone = mended.assign(maps), mended.assign(maps[:1])
    torch.testing.assert_close(assignment.slots[:1], alone.slots)
    torch.testing.assert_close(assignment.weights[:1], alone.weights)


def test_equal_frames_fill_one_bin_by_default_and_are_lost_as_released() -> None:
    still = clips("iid")[:, :, :1].expand(-1, -1, 32, -1, -1).contiguous()
    weights = kernel_matrix(distances(official().embed(still), 32), 32, "linear")
    assert weights.sum(1).max() < 0.01  # all distances are the largest one, on the last bin's edge
    assert SimilarityGuidedSampling(num_channels=32).eval().assign(still).num_bins.tolist() == [1, 1]
