"""The smallest of video datasets: items that say which they are. What all datasets share is tested on it."""

from typing import Any

import numpy as np
import torch

from vidprep.dataset.videos import VideoDataset
from vidprep.errors import ShardError


class Numbers(VideoDataset):
    """Items with their sample, view and a number of their random generator; some samples are broken."""

    def __init__(self, num_samples: int = 10, num_views: int = 1, broken: tuple[int, ...] = (), **more: Any) -> None:
        options: dict[str, Any] = {"shuffle": True, "seed": 0, "uneven": "pad", "ranks": (0, 1)}
        super().__init__(num_samples=num_samples, num_views=num_views, **options | more)
        self.broken = broken

    def read(self, sample: int, view: int, rng: np.random.Generator) -> dict[str, Any]:
        if sample in self.broken:
            raise ShardError(f"tar{sample // 2}: damaged")  # two samples in each tar
        drawn = torch.from_numpy(rng.random((3, 2, 2, 2)))
        return {"__key__": str(sample), "key": str(sample), "sample": sample, "view": view, "rgb": drawn}


def keys(batches: Any) -> list[list[str]]:
    return [batch["key"] for batch in batches]


def flat(batches: Any) -> list[str]:
    return [key for batch in batches for key in batch["key"]]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two batches are equal bit for bit, memory order included."""
    assert one.keys() == other.keys()
    return all(
        torch.equal(value, other[name]) and value.stride() == other[name].stride()
        if isinstance(value, torch.Tensor)
        else value == other[name]
        for name, value in one.items()
    )
