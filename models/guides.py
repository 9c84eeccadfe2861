"""What guides a zoom: where a clip changes, as its residuals, its vectors or its pictures say."""

from __future__ import annotations

import torch
from torch.nn import functional


def guide_maps(values: torch.Tensor, size: tuple[int, int] | None = (64, 86)) -> torch.Tensor:
    """Code a modality as a guide: norms over channels, each frame over its own largest, resized (section 3.2.2).

    Parameters
    ----------
    values : torch.Tensor
        Residuals, motion vectors, RGB, or magnitudes of residuals [shape=(N, C, T, H, W)], of any real type.
    size : (int, int), optional
        Height and width of the maps; without, they stay as large as they are.

    Returns
    -------
    torch.Tensor
        Maps in 0 to 1 [shape=(N, T, *size)], float32 (float64 of float64). A frame of zeros, such as the residual of
        an I-frame, stays zeros.
    """
    values = values.movedim(1, -1).contiguous()  # much the faster; batches of a ShardDataset have it so
    norms = torch.linalg.vector_norm(values if values.dtype == torch.float64 else values.float(), dim=-1)
    largest = norms.amax((2, 3), keepdim=True)
    maps: torch.Tensor = norms / torch.where(largest > 0, largest, 1)
    if size is not None and size != tuple(maps.shape[2:]):
        maps = functional.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)
    return maps


def busiest_place(maps: torch.Tensor, extent: float) -> torch.Tensor:
    """Return where a guide has most, x and y in the frame's [-1, 1] [shape=(N, 2)]; the middle if it has nothing.

    Parameters
    ----------
    maps : torch.Tensor
        What :func:`guide_maps` gives [shape=(N, T, h, w)].
    extent : float
        How large an area is looked at, in short sides: maps are weighed by a pyramid of that width.
    """
    height, width = maps.shape[2:]
    side = max(round(extent * min(height, width) / 4) * 2 + 1, 1)  # odd; twice half as wide makes the pyramid
    sums = maps.mean(1, keepdim=True)
    for _ in range(2):
        sums = functional.avg_pool2d(sums, side, stride=1, padding=side // 2)
    largest, place = sums.flatten(1).max(1)
    found = torch.stack(((place % width * 2 + 1) / width - 1, (place // width * 2 + 1) / height - 1), 1)
    return torch.where(largest[:, None] > 0, found, 0).to(maps.dtype)
