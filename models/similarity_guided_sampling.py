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

Kernel = Literal["linear", "kronecker", "linear_normalized", "delta", "delta_normalized"]
Similarity = Literal["magnitude", "angular", "spherical"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which bin each frame went to.

    Attributes
    ----------
    slots : Tensor [shape=(N, T)], int64
        The frame's bin, counted from 0 over its clip's bins that hold a frame.
    weights : Tensor [shape=(N, T)]
        What the frame weighs in it.
    num_bins : Tensor [shape=(N,)], int64
        Bins that hold a frame.
    """

    slots: torch.Tensor
    weights: torch.Tensor
    num_bins: torch.Tensor

    def of(self, clips: torch.Tensor) -> Assignment:
        """Return the part of some clips [shape=(M,)]."""
        return Assignment(self.slots[clips], self.weights[clips], self.num_bins[clips])


class SimilarityGuidedSampling(nn.Module):
    """Sample the maps of a clip by their similarity.

    A small network embeds each frame's map; the embedding's magnitude, or some of its angles, or both, are cut into
    bins from 0 to the clip's largest (the paper's eq. 1 to 3, and 9); the frames of a bin become one map (eq. 5 or 6);
    empty bins are left out. So alike frames cost as much as one, whatever follows.

    Parameters
    ----------
    num_channels : int
        Of the maps.
    num_bins : int, tuple of int or None
        Bins of the magnitude; of each angle; or of the magnitude and of each angle. None, for the magnitude: as many
        as the clip has frames. The attribute may be changed after training, to compute more or less.
    embedding : int
        Numbers that a frame is embedded in, L in the paper.
    kernel : {"linear", "kronecker"}
        A frame weighs 1 in the middle of its bin and ``edge_weight`` at its edges, and a bin is the sum of its frames;
        or a bin is the mean of its frames (then nothing is learned about the bins: the gradient is 0).
        ``variant="official"``: linear, linear_normalized, delta, delta_normalized.
    similarity : {"magnitude", "angular", "spherical"}
        What is cut into bins. Angles are the first ones of spherical coordinates, from 0 to pi each; the last, which
        goes round, is not used, since frames on both sides of its start would not be alike.
    order : {"similarity", "time"}
        Whether bins come in the order of their values, or of their frames' mean times.
    average : bool, optional
        Whether a bin is divided by the sum of its weights. By default only for "kronecker".
    edge_weight : float
        Of the linear kernel; 0 is the paper's, which loses frames.
    variant : {"default", "official"}
        "official": the released code, for its numbers and checkpoints (``fc.0``, ``fc.2``, ``bn``): half as many
        hidden channels; the distance to the clip's mean takes the magnitude's place; faults included.
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
        embedding: int = 8,
        kernel: Kernel = "linear",
        similarity: Similarity = "magnitude",
        order: Literal["similarity", "time"] = "similarity",
        average: bool | None = None,
        edge_weight: float = 0.5,
        variant: Literal["default", "official"] = "default",
        drops_empty: bool = True,
        center: bool = False, norm: bool = True, floor: float = 0.0,
    ) -> None:
        super().__init__()
        self.center, self.floor = center, floor
        self.num_bins, self.kernel, self.similarity, self.order = num_bins, kernel, similarity, order
        self.average = kernel == "kronecker" if average is None else average
        self.edge_weight, self.variant, self.drops_empty = edge_weight, variant, drops_empty
        hidden = num_channels // 2 if variant == "official" else num_channels
        self.fc = nn.Sequential(nn.Linear(num_channels, hidden), nn.ReLU(), nn.Linear(hidden, embedding))
        self.bn = nn.BatchNorm1d(embedding) if norm else nn.Identity()

    def embed(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the embedding of each frame [shape=(N, T, L)], float32 at least."""
        with torch.autocast(maps.device.type, enabled=False):  # bins are as narrow as the numbers are exact
            means = maps.to(torch.promote_types(maps.dtype, torch.float32)).mean((3, 4))
            embedded: torch.Tensor = self.bn(self.fc(means.transpose(1, 2)).transpose(1, 2))
        return embedded.transpose(1, 2)

    def assign(self, maps: torch.Tensor) -> Assignment:
        """Return which bin each frame of maps [shape=(N, C, T, H, W)] goes to; shapes don't depend on values."""
        values = self._values(self.embed(maps))
        bins = self._bins(maps.shape[2])
        largest = values.detach().amax(1, keepdim=True) if False else values.amax(1, keepdim=True)
        positions = values / largest.clamp_min(max(self.floor, torch.finfo(values.dtype).tiny)) * torch.tensor(bins, device=values.device)
        places = [one.detach().long().clamp(0, num - 1) for one, num in zip(positions.unbind(2), bins, strict=True)]
        weights = torch.ones_like(positions[:, :, 0])
        if self.kernel == "linear":
            offsets = 2 * (positions - torch.stack(places, 2)) - 1  # from -1 at one edge to 1 at the other
            weights = (1 - (1 - self.edge_weight) * offsets.abs()).prod(2)
        index = places[0]
        for num, place in zip(bins[1:], places[1:], strict=True):
            index = index * num + place
        slots, num_bins = self._slots(index, math.prod(bins))
        return Assignment(slots, weights, num_bins)

    def _bins(self, num_frames: int) -> tuple[int, ...]:
        bins = num_frames if self.num_bins is None else self.num_bins
        return (bins,) if isinstance(bins, int) else bins

    def _values(self, embedded: torch.Tensor) -> torch.Tensor:
        """Return what is cut into bins [shape=(N, T, K)], not negative."""
        if self.center:
            embedded = embedded - embedded.mean(1, keepdim=True)
        magnitude = torch.linalg.vector_norm(embedded, dim=2, keepdim=True)
        if self.similarity == "magnitude":
            return magnitude
        num_angles = len(self._bins(0)) - (self.similarity == "spherical")
        rest = embedded.square().flip(2).cumsum(2).flip(2)[:, :, 1 : num_angles + 1].sqrt()
        angles = torch.atan2(rest, embedded[:, :, :num_angles])
        return angles if self.similarity == "angular" else torch.cat([magnitude, angles], 2)

    def _slots(self, index: torch.Tensor, num_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames' bins, counted over those that hold a frame in the wanted order; and how many do."""
        num_frames = index.shape[1]
        held = torch.zeros(len(index), num_bins, dtype=torch.int64, device=index.device)
        held.scatter_add_(1, index, torch.ones_like(index))
        if self.order == "similarity":
            ranks = (held > 0).cumsum(1) - 1
        else:
            times = torch.arange(num_frames, device=index.device).expand_as(index)
            mean_times = torch.zeros_like(held).scatter_add_(1, index, times) / held  # nan, which sorts last, if empty
            ranks = mean_times.argsort(dim=1, stable=True).argsort(dim=1)
        return ranks.gather(1, index), (held > 0).sum(1)

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
        weights = assignment.weights
        if self.average:
            sums = weights.new_zeros(len(weights), num_bins).scatter_add(1, assignment.slots, weights)
            weights = weights / sums.gather(1, assignment.slots)
        kernel = weights.new_zeros(len(weights), num_bins, maps.shape[2])
        kernel = kernel.scatter(1, assignment.slots[:, None, :], weights[:, None, :])
        return torch.einsum("nbt,ncthw->ncbhw", kernel.to(maps.dtype), maps)

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
            num_bins = self._bins(maps.shape[2])[0]
            distances = official.distances(self.embed(maps), num_bins)
            weights = official.kernel_matrix(distances, num_bins, self.kernel)
            return official.sample(maps, weights, drops_empty=self.drops_empty)
        assignment = self.assign(maps)
        return self.aggregate(maps, assignment, int(assignment.num_bins.max())), assignment.num_bins
