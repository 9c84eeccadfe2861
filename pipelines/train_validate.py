"""How good a model is between two epochs: the recipe's test views of a split, over all ranks."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidprep.dataset import ShardDataset
from vidprep.pipelines.evaluate_metrics import average_precisions, top_k
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train_loss import check_labels, to_device
from vidprep.pipelines.train_ranks import Ranks


class Validation:
    """Measures models on a split.

    Parameters
    ----------
    recipe : Recipe
        For its modalities, test views and batch size.
    shards : path
    split : str
    num_workers : int
    """

    def __init__(self, recipe: Recipe, shards: Path, split: str, num_workers: int) -> None:
        self._dataset = ShardDataset(
            shards, split, recipe.modalities, clips=recipe.test_clips, transform=recipe.test_transform
        )
        # A generator of its own: to validate must not draw from the random numbers of the training.
        self._loader = self._dataset.loader(recipe.batch_size, num_workers, generator=torch.Generator())

    def score(self, model: nn.Module, ranks: Ranks, autocast: torch.autocast) -> tuple[str, float]:
        """Return ``top1``, or ``map`` of a multi-label dataset: of the mean probabilities of each video's views."""
        own: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}
        model.eval()
        self._dataset.set_epoch(0)
        for batch in self._loader:
            check_labels(batch)
            with torch.inference_mode(), autocast:
                logits = model(to_device(batch, ranks.device)).double()
            probabilities = logits.sigmoid() if batch["label"].dim() == 2 else logits.softmax(1)
            for key, row, label in zip(batch["key"], probabilities.cpu().numpy(), batch["label"].numpy(), strict=True):
                own[key] = (own[key][0] + row if key in own else row, label)
        found = list(chain.from_iterable(videos.values() for videos in ranks.gather(own)))
        scores, labels = (np.stack(column) for column in zip(*found, strict=True))
        if labels.ndim == 2:
            return "map", float(np.nanmean(average_precisions(scores, labels)))
        return "top1", top_k(scores, labels, 1)
