"""``vidprep evaluate``: what a trained model knows of the videos of a split, and what it costs."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vidprep.dataset import ShardDataset
from vidprep.pipelines.evaluate_metrics import average_precisions, confusion_matrix, mean_class_accuracy, top_k
from vidprep.pipelines.flops import count_flops
from vidprep.pipelines.recipes import Recipe
from vidprep.pipelines.train import to_device

NUM_COUNTED = 4  # batches over which the cost of data-dependent paths is averaged


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came out. Scores are means of the views' probabilities [shape=(videos, classes)]."""

    keys: list[str]
    scores: np.ndarray
    labels: np.ndarray
    classes: list[str]
    gmacs_per_view: float
    num_views: int
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Return the numbers of the report."""
        return {
            "num_videos": len(self.keys),
            "num_views": self.num_views,
            **self._accuracy(),
            "gmacs_per_view": self.gmacs_per_view,
            "gmacs_per_video": self.gmacs_per_view * self.num_views,
            "videos_per_second": len(self.keys) / self.seconds,
        }

    def _accuracy(self) -> dict[str, Any]:
        if self.labels.ndim == 2:
            return {"map": float(np.nanmean(average_precisions(self.scores, self.labels)))}
        confusions = confusion_matrix(self.scores, self.labels)
        return {
            "top1": top_k(self.scores, self.labels, 1),
            "top5": top_k(self.scores, self.labels, 5),
            "mean_class_accuracy": mean_class_accuracy(confusions),
            "confusions": confusions.tolist(),
        }


def evaluate(
    model: nn.Module,
    recipe: Recipe,
    shards: Path,
    split: str | None,
    *,
    device: str = "cpu",
    num_workers: int = 0,
    batch_size: int | None = None,
) -> Evaluation:
    """Run a model over all views of a split's videos."""
    dataset = ShardDataset(shards, split, recipe.modalities, clips=recipe.test_clips, transform=recipe.test_transform)
    model = model.to(device).eval()
    scores: dict[str, list[np.ndarray]] = defaultdict(list)
    labels: dict[str, Any] = {}
    macs: list[float] = []
    seconds = 0.0
    for number, batch in enumerate(dataset.loader(batch_size or recipe.batch_size, num_workers)):
        moved = to_device(batch, device)
        if number < NUM_COUNTED:
            macs.append(count_flops(model, moved)[""].macs)
        start = time.perf_counter()
        with torch.inference_mode():
            logits = model(moved).float()
            found = logits.sigmoid() if batch["label"].dim() == 2 else logits.softmax(1)
            probabilities = found.double().cpu().numpy()
        seconds += time.perf_counter() - start
        for key, row, label in zip(batch["key"], probabilities, batch["label"].numpy(), strict=True):
            scores[key].append(row)
            labels[key] = label
    keys = list(scores)
    return Evaluation(
        keys=keys,
        scores=np.stack([np.mean(scores[key], 0) for key in keys]),
        labels=np.stack([labels[key] for key in keys]),
        classes=dataset.classes,
        gmacs_per_view=float(np.mean(macs)) / 1e9,
        num_views=dataset.num_views,
        seconds=seconds,
    )
