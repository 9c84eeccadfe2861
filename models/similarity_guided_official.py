"""What the released code of similarity-guided sampling computes, faults included: for its numbers and checkpoints.

The frame with the largest distance stands on the outer edge of the last bin and weighs nothing (about 1e-7), as do
frames on inner edges; whether that bin then counts is up to rounding. A clip of equal frames divides by zero but for
the small number that is added to differences. The distance to the clip's mean takes the magnitude's place, so frames
before and after the middle of a movement look alike. Clips are padded to the longest of their batch, and what follows
doesn't know, so batch mates matter. :class:`vidprep.models.SimilarityGuidedSampling` has none of this by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_TINY = 1e-7  # added to the linear kernel
_TINY_DIFFERENCE = 1e-6  # added to each coordinate of a difference

Kernel = Callable[[torch.Tensor], torch.Tensor]


def distances(embedded: torch.Tensor, num_bins: int) -> torch.Tensor:
    """Return frames' distances to their clip's mean [shape=(N, T)], scaled so that the largest is ``2 * num_bins``.

    Parameters
    ----------
    embedded : Tensor [shape=(N, T, L)]
    """
    differences = embedded.mean(1, keepdim=True) - embedded + _TINY_DIFFERENCE
    lengths = differences.square().sum(2).sqrt()
    return lengths * (2 * num_bins / lengths.max(1, keepdim=True).values)


def kernel_matrix(distances: torch.Tensor, num_bins: int, kernel: str) -> torch.Tensor:
    """Return how much each frame weighs in each bin [shape=(N, num_bins, T)]."""
    centres = 2 * torch.arange(1, num_bins + 1, device=distances.device, dtype=distances.dtype) - 1
    width = distances.detach().amax(1) / (2 * num_bins)  # 1 but for rounding, which decides about the last bin
    weights = KERNELS[kernel.removesuffix("_normalized")](
        distances[:, None, :], (centres * width[:, None])[:, :, None], width[:, None, None]
    )
    if kernel.endswith("_normalized"):
        weights = weights / (weights > 0).sum(2, keepdim=True).clamp_min(1)
    return weights


class _Linear(torch.autograd.Function):
    """The linear kernel; its gradient is 1 on one side of the centre, -1 on the other, and the centres get none."""

    @staticmethod
    def forward(ctx: Any, distances: torch.Tensor, centres: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
        weights = (1 + _TINY - (distances - centres).abs()).clamp_min(0)
        ctx.save_for_backward(distances > centres, weights > 0)  # the edge, where the weight is tiny, is in
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        is_above, is_inside = ctx.saved_tensors
        slopes = torch.where(is_above, -1.0, 1.0) * is_inside
        return (grads[0] * slopes).sum(1, keepdim=True), None, None


def _linear(distances: torch.Tensor, centres: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    weights: torch.Tensor = _Linear.apply(distances, centres, width)
    return weights


def _delta(distances: torch.Tensor, centres: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    return ((distances - centres).abs() <= width).to(distances.dtype)


KERNELS = {"linear": _linear, "delta": _delta}


def sample(maps: torch.Tensor, weights: torch.Tensor, *, drops_empty: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maps of bins, those that aren't empty first, padded to the batch's most, and their numbers.

    Parameters
    ----------
    maps : Tensor [shape=(N, C, T, H, W)]
    weights : Tensor [shape=(N, B, T)]
    drops_empty : bool
        Whether empty bins are left out; the numbers are of non-empty ones either way.
    """
    is_filled = weights.detach().sum(2) > 0
    num_bins = is_filled.sum(1)
    if drops_empty:
        first = (~is_filled).to(torch.uint8).argsort(stable=True)[:, : int(num_bins.max())]
        weights = weights.gather(1, first[:, :, None].expand(-1, -1, weights.shape[2]))
    return torch.einsum("nbt,ncthw->ncbhw", weights.to(maps.dtype), maps), num_bins
