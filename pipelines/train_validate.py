"""How good a model is between two epochs: the recipe's test views of a split, over all ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from vidprep.dataset import ShardDataset
from vidprep.errors import UsageError
from vidprep.pipelines.evaluate_metrics import accuracy
from vidprep.pipelines.evaluate_views import VideoScores
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train_loss import to_device
from vidprep.pipelines.train_ranks import Ranks


class Validation:
    """Measures models on a split.

    Parameters
    ----------
    recipe : Recipe
        For its modalities, test views, ``video_score`` and batch size.
    shards : path
    split : str
    num_workers : int
    """

    def __init__(self, recipe: Recipe, shards: Path, split: str, num_workers: int) -> None:
        self._split, self._video_score = split, recipe.video_score
        self._dataset = ShardDataset(
            shards, split, recipe.modalities, clips=recipe.test_clips, transform=recipe.test_transform
        )
        # A generator of its own: to validate must not draw from the random numbers of the training.
        self._loader = self._dataset.loader(recipe.batch_size, num_workers, generator=torch.Generator())

    def score(self, model: nn.Module, ranks: Ranks, autocast: torch.autocast) -> tuple[str, float]:
        """Return ``top1``, or ``map`` of a multi-label dataset, as an evaluation has it.

        Raises
        ------
        UsageError
            If no video of the split has a label.
        """
        dataset = self._dataset
        videos = VideoScores(dataset.num_samples, len(dataset.classes), dataset.num_views, self._video_score)
        model.eval()
        dataset.set_epoch(0)
        for batch in self._loader:
            with torch.inference_mode(), autocast:
                logits = model(to_device(batch, ranks.device))
            videos.add(batch, logits)
        found = [part for part in ranks.gather(videos.found) if len(part[0])]
        measures = accuracy(*(np.concatenate(column) for column in zip(*found, strict=True)))
        name = "map" if dataset.items_of.labels.is_multi_label else "top1"
        if measures[name] is None:
            raise UsageError(f"validate={self._split}: none of its videos has a label; choose a split that has some")
        return name, measures[name]
