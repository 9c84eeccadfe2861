"""Similarity-guided sampling: a clip's maps are grouped by how alike they are, and each group becomes one map.

Fayyaz et al., "3D CNNs with Adaptive Temporal Feature Resolutions" (CVPR 2021). The default is the paper's method with
two faults mended: there, a frame on an edge of its bin weighs nothing, and the frame with the largest magnitude always
stands on the last bin's outer edge, so it is lost. Here each frame belongs to exactly one bin, edges included, and
weighs at least ``edge_weight`` in it. ``variant="official"`` is what the released code computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vidprep.models import similarity_guided_official as official

OFFICIAL_KERNELS = ("linear", "linear_normalized", "delta", "delta_normalized")
Kernel = Literal["linear", "kronecker", "linear_normalized", "delta", "delta_normalized"]
Similarity = Literal["magnitude", "angular", "spherical"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which bin each frame went to.

    Attributes
    ----------
    slots : Tensor [shape=(N, T)], int64
        The frame's bin, counted from 0 over its clip's bins that hold a frame.
    num_bins : Tensor [shape=(N,)], int64
        Bins that hold a frame.
    weights : Tensor [shape=(N, T)]
        What the frame weighs in its bin.
    """

    slots: torch.Tensor
    num_bins: torch.Tensor
    weights: torch.Tensor

    def of(self, clips: torch.Tensor) -> Assignment:
        """Return the part of some clips [shape=(M,)]."""
        return Assignment(self.slots[clips], self.num_bins[clips], self.weights[clips])


class SimilarityGuidedSampling(nn.Module):
    """Sample the maps of a clip by their similarity.

    A small network embeds each frame's map; the embedding's magnitude, or some of its angles, or both, are cut into
    bins from 0 to the clip's largest (the paper's eq. 1 to 3, and 9); the frames of a bin become one map (eq. 5 or 6);
    empty bins are left out. So frames that are alike cost as much as one, whatever follows.

    The embedding is normalised over the batch, as in the released code; the paper doesn't say so, but without it the
    magnitudes of a clip lie close together: at the start, 16 frames of a 3DResNet-18 fill 4 to 5 bins instead of 8.

    Parameters
    ----------
    num_channels : int
        Of the maps.
    num_bins : int, tuple of int or None
        Bins of the magnitude; of each angle; or of the magnitude and of each angle. None, for the magnitude: as many
        as the clip, or a whole block, has frames. The attribute may be changed after training, to compute more or
        less.
    block_frames : int, optional
        Frames share a bin only with those of their block of so many neighbours; each block has its own bins, and
        blocks keep their order: for actions that are told apart by what comes first. The paper takes 8 of SlowFast's
        64 fast frames and 2 of its 16 slow ones for Something-Something (its supplement, A). A last block may be
        shorter. Without, a frame may share a bin with any of its clip.
    embedding : int
        Numbers that a frame is embedded in, L in the paper.
    kernel : {"linear", "kronecker"}
        A frame weighs 1 in the middle of its bin and ``edge_weight`` at its edges, and a bin is the sum of its frames;
        or a bin is the mean of its frames (then nothing is learned about the bins: their gradient is 0).
        ``variant="official"``: linear, linear_normalized, delta, delta_normalized.
    similarity : {"magnitude", "angular", "spherical"}
        What is cut into bins. Angles are the first ones of spherical coordinates, each from 0 to pi; the last, which
        goes round, is not used: frames on both sides of its start would not be alike.
    order : {"similarity", "time"}
        Whether bins come in the order of their values, or of their frames' mean times.
    average : bool, optional
        Whether a bin is divided by the sum of its weights. By default only for "kronecker".
    edge_weight : float
        Of the linear kernel, in [0, 1]; the paper's is 0, which loses frames.
    variant : {"default", "official"}
        "official": the released code, for its numbers and checkpoints (``fc.0``, ``fc.2``, ``bn``), faults included:
        see :mod:`vidprep.models.similarity_guided_official`.
    drops_empty : bool
        Official variant: whether empty bins are left out.

    Raises
    ------
    ValueError
        If an argument can't be meant.
    """

    def __init__(
        self,
        *,
        num_channels: int,
        num_bins: int | tuple[int, ...] | None = None,
        block_frames: int | None = None,
        embedding: int = 8,
        kernel: Kernel = "linear",
        similarity: Similarity = "magnitude",
        order: Literal["similarity", "time"] = "similarity",
        average: bool | None = None,
        edge_weight: float = 0.5,
        variant: Literal["default", "official"] = "default",
        drops_empty: bool = True,
    ) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.num_bins, self.kernel, self.similarity, self.order = num_bins, kernel, similarity, order
        self.block_frames = block_frames
        self.average = kernel == "kronecker" if average is None else average
        self.edge_weight, self.variant, self.drops_empty = edge_weight, variant, drops_empty
        _check(self, embedding)
        hidden = num_channels // 2 if variant == "official" else num_channels
        self.fc = nn.Sequential(nn.Linear(num_channels, hidden), nn.ReLU(), nn.Linear(hidden, embedding))
        self.bn = nn.BatchNorm1d(embedding)
        if kernel == "kronecker":  # has no gradient, for which ranks would wait
            self.requires_grad_(False)

    def embed(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the embedding of each frame [shape=(N, T, L)], of the weights' type."""
        if 0 in maps.shape:
            raise ValueError(f"maps={tuple(maps.shape)}: must hold clips of at least one frame; leave empty ones out")
        if maps.shape[1] != self.num_channels:
            raise ValueError(
                f"maps={tuple(maps.shape)}: must have num_channels={self.num_channels}; make the sampling for them"
            )
        with torch.autocast(maps.device.type, enabled=False):  # bins are no sharper than the numbers
            dtype = next((one.dtype for one in self.parameters()), maps.dtype)
            means = maps.mean((3, 4), dtype=dtype)
            embedded: torch.Tensor = self.bn(self.fc(means.transpose(1, 2)).transpose(1, 2))
        return embedded.transpose(1, 2)

    def assign(self, maps: torch.Tensor) -> Assignment:
        """Return which bin each frame of maps [shape=(N, C, T, H, W)] goes to; shapes don't depend on values."""
        embedded, num_frames = self.embed(maps), maps.shape[2]
        block_frames = min(self.block_frames or num_frames, num_frames)
        bins, num_blocks = bins_of(self.num_bins, block_frames), math.ceil(num_frames / block_frames)
        blocks = torch.arange(num_frames, device=maps.device) // block_frames
        values = self._values(embedded, len(bins))
        in_blocks = nn.functional.pad(values, (0, 0, 0, num_blocks * block_frames - num_frames))
        largest = in_blocks.view(-1, num_blocks, block_frames, len(bins)).amax(2)[:, blocks]
        positions = (values / largest.clamp_min(torch.finfo(values.dtype).tiny)).unbind(2)
        index, weights = blocks.expand_as(positions[0]), torch.ones_like(positions[0])
        for num, position in zip(bins, positions, strict=True):
            place = (num * position.detach()).nan_to_num(0).long().clamp(0, num - 1)  # the last edge is in
            index = index * num + place
            if self.kernel == "linear":
                from_centre = (2 * (num * position - place) - 1).abs()  # in halves of a bin: 1 at both edges
                weights = weights * (1 - (1 - self.edge_weight) * from_centre)
        return Assignment(*_slots(index, num_blocks * math.prod(bins), self.order), weights)

    def _values(self, embedded: torch.Tensor, num_values: int) -> torch.Tensor:
        """Return what is cut into bins [shape=(N, T, num_values)], not negative."""
        magnitude: torch.Tensor = torch.linalg.vector_norm(embedded, dim=2, keepdim=True)
        if self.similarity == "magnitude":
            return magnitude
        num_angles = num_values - (self.similarity == "spherical")
        behind = [torch.linalg.vector_norm(embedded[:, :, axis + 1 :], dim=2) for axis in range(num_angles)]
        angles = torch.atan2(torch.stack(behind, 2), embedded[:, :, :num_angles])
        return angles if self.similarity == "angular" else torch.cat([magnitude, angles], 2)

    def aggregate(self, maps: torch.Tensor, assignment: Assignment, num_bins: int) -> torch.Tensor:
        """Return the maps of bins [shape=(N, C, num_bins, H, W)]; those behind a clip's own are 0.

        Parameters
        ----------
        maps : Tensor [shape=(N, C, T, H, W)]
        assignment : Assignment
            What :meth:`assign` returned for them.
        num_bins : int
            At least those of each clip.
        """
        weights, slots = assignment.weights, assignment.slots
        if self.average:
            sums = weights.new_zeros(len(weights), num_bins).scatter_add(1, slots, weights)
            weights = weights / sums.gather(1, slots)
        kernel = weights.new_zeros(len(weights), num_bins, maps.shape[2])
        kernel = kernel.scatter(1, slots[:, None], weights[:, None])
        sampled = kernel.to(maps.dtype)[:, None] @ maps.flatten(3)
        return sampled.view(*sampled.shape[:3], *maps.shape[3:])

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample maps.

        Parameters
        ----------
        maps : Tensor [shape=(N, C, T, H, W)]

        Returns
        -------
        maps : Tensor [shape=(N, C, B', H, W)]
            Of bins; B' is the batch's largest number, and what is behind a clip's own is 0.
        num_bins : Tensor [shape=(N,)], int64
        """
        if self.variant == "official":
            (num_bins,) = bins_of(self.num_bins, maps.shape[2])
            distances = official.distances(self.embed(maps), num_bins)
            weights = official.kernel_matrix(distances, num_bins, self.kernel)
            return official.sample(maps, weights, drops_empty=self.drops_empty)
        assignment = self.assign(maps)
        return self.aggregate(maps, assignment, int(assignment.num_bins.max())), assignment.num_bins


def bins_of(num_bins: int | tuple[int, ...] | None, num_frames: int) -> tuple[int, ...]:
    """Return the number of bins of each value that is cut into bins."""
    bins = num_frames if num_bins is None else num_bins
    return (bins,) if isinstance(bins, int) else bins


def _slots(index: torch.Tensor, num_bins: int, order: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return frames' bins [shape=(N, T)], counted over those that hold one, in the wanted order; and how many do."""
    num_held = torch.zeros(len(index), num_bins, dtype=torch.int64, device=index.device)
    num_held = num_held.scatter_add(1, index, torch.ones_like(index))
    if order == "similarity":
        ranks = (num_held > 0).cumsum(1) - 1
    else:
        times = torch.arange(index.shape[1], device=index.device).expand_as(index)
        mean_times = torch.zeros_like(num_held).scatter_add(1, index, times) / num_held.clamp_min(1)
        mean_times = mean_times.masked_fill(num_held == 0, math.inf)
        ranks = mean_times.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks.gather(1, index), (num_held > 0).sum(1)


def _check(sampler: SimilarityGuidedSampling, embedding: int) -> None:
    """Refuse settings that can't be meant."""
    kernels = OFFICIAL_KERNELS if sampler.variant == "official" else ("linear", "kronecker")
    for name, value, allowed in (
        ("variant", sampler.variant, ("default", "official")),
        ("kernel", sampler.kernel, kernels),
        ("similarity", sampler.similarity, ("magnitude", "angular", "spherical")),
        ("order", sampler.order, ("similarity", "time")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}; choose one")
    if sampler.average and sampler.kernel == "linear" and not sampler.edge_weight:
        raise ValueError("edge_weight=0, average=True: a frame alone on an edge would be divided by 0; choose 0.5")
    if not 0 <= sampler.edge_weight <= 1:
        raise ValueError(
            f"edge_weight={sampler.edge_weight}: must be in [0, 1]; choose 0.5; the paper's is 0, which loses frames"
        )
    block_frames = sampler.block_frames
    if block_frames is not None and not (isinstance(block_frames, int) and block_frames >= 1):
        raise ValueError(
            f"block_frames={block_frames}: must be a positive integer; choose 4 or 8, or None for no blocks"
        )
    bins = bins_of(sampler.num_bins, 1)
    if min(bins) < 1:
        raise ValueError(f"num_bins={sampler.num_bins}: must be positive; give None for as many as frames")
    num_radial = 0 if sampler.similarity == "angular" else 1
    num_angles = len(bins) - num_radial
    if sampler.similarity == "magnitude" and num_angles:
        raise ValueError(f"num_bins={sampler.num_bins}: the magnitude has one number of bins; give an int")
    if sampler.similarity in ("angular", "spherical") and (
        sampler.num_bins is None or not 0 < num_angles <= embedding - 2
    ):
        raise ValueError(
            f"num_bins={sampler.num_bins}: similarity={sampler.similarity!r} wants a tuple with 1 to {embedding - 2}"
            f" angles of embedding={embedding}; give (4, 8) for angular, (2, 4, 4) for spherical"
        )
    if sampler.variant == "official" and (sampler.similarity, sampler.order, sampler.block_frames) != (
        "magnitude",
        "similarity",
        None,
    ):
        raise ValueError(
            "variant='official': has neither angles, an order in time nor blocks; leave similarity, order and"
            " block_frames out"
        )
