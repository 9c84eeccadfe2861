"""Batches: clips next to each other, in memory that both processes see, and differences resized as bytes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from vidprep.dataset.arrays import stack, to_tensor
from vidprep.dataset.views import View

RNG = np.random.default_rng


def clips(dtype: torch.dtype, num_clips: int = 3) -> list[torch.Tensor]:
    """Clips as items hold them: channels first, stored last."""
    numbers = RNG(0).integers(0, 256, (num_clips, 4, 6, 5, 3))
    return [torch.from_numpy(each).to(dtype).permute(3, 0, 1, 2) for each in numbers]


class Batches(Dataset[Any]):
    """One batch, and whether it was made in memory that another process sees."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.clips = clips(dtype)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> tuple[torch.Tensor, bool]:
        batch = stack(self.clips)
        return batch, batch.is_shared()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_stack_keeps_the_channels_last(dtype: torch.dtype, num_workers: int) -> None:
    ((batch, is_shared),) = DataLoader(Batches(dtype), batch_size=None, num_workers=num_workers)
    assert is_shared is (num_workers > 0)
    assert (batch.dtype, batch.shape) == (dtype, (3, 3, 4, 6, 5))
    assert torch.equal(batch, torch.stack(clips(dtype)))
    assert batch.permute(0, 2, 3, 4, 1).is_contiguous()


def test_stack_of_other_arrays() -> None:
    rows = [torch.full((2, 3), float(i)) for i in range(4)]
    assert torch.equal(stack(rows), torch.stack(rows))


@pytest.mark.parametrize(("height", "width"), [(20, 24), (40, 48), (27, 61), (7, 5), (80, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_differences_are_resized_within_two_levels(height: int, width: int, channels: int) -> None:
    """Bytes above and below zero are resized apart, each within a level; floats say what comes out unrounded."""
    residual = RNG(1).integers(-255, 256, (2, 40, 48, channels)).astype(np.int16)
    residual[0, :20] = np.abs(residual[0, :20])  # one sign alone is rounded once
    shown = to_tensor("residual", residual, View(0, 0, 48, 40, width, height), resizes=True)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(residual).permute(0, 3, 1, 2).float(), (height, width), mode="bilinear", antialias=True
    ).permute(1, 0, 2, 3)
    assert shown.dtype == torch.int16
    error = (shown - exact).abs()
    assert error.max() < 2
    assert error.mean() < 0.5
    assert error[:, 0, : height // 4].max() <= 1


def test_extremes_and_nothing_stay() -> None:
    for value in (-255, -1, 0, 1, 255):
        residual = np.full((1, 40, 48, 3), value, np.int16)
        shown = to_tensor("residual", residual, View(0, 0, 48, 40, 24, 20), resizes=True)
        assert (shown == value).all()
