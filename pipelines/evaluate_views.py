"""Views of a video: how many there are, and how their scores become those of the video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidprep.dataset import CenterCrop, FiveCrops, TenCrops, ThreeCrops, UniformClips
from vidprep.dataset.views import Step
from vidprep.errors import TrainError, UsageError
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train_loss import check_logits

CROPS: dict[int, Callable[[int], Step]] = {1: CenterCrop, 3: ThreeCrops, 5: FiveCrops, 10: TenCrops}


def with_views(recipe: Recipe, views: str) -> Recipe:
    """Return a recipe with another number of test views.

    Parameters
    ----------
    recipe : Recipe
    views : str
        Clips and crops of each, such as ``10x3``; or ``10``, which leaves the crops as they are.

    Raises
    ------
    UsageError
        If they can't be meant, or the recipe's test views are of another kind.
    """
    clips, has_crops, crops = views.partition("x")
    if not _is_count(clips) or (has_crops and not (_is_count(crops) and int(crops) in CROPS)):
        raise UsageError(
            f"views={views}: must be clips, or clips x crops of {', '.join(map(str, CROPS))}; give 10 or 10x3, for"
            " example"
        )
    if not isinstance(recipe.test_clips, UniformClips):
        kind = type(recipe.test_clips).__name__
        raise UsageError(f"views={views}: the recipe tests on {kind}, and only UniformClips can change; leave it out")
    recipe = replace(recipe, test_clips=replace(recipe.test_clips, count=int(clips)))
    return replace(recipe, test_transform=_with_crops(recipe.test_transform, int(crops))) if has_crops else recipe


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0


def _with_crops(transform: Any, num_crops: int) -> tuple[Step, ...]:
    places = [place for place, step in enumerate(transform) if type(step) in CROPS.values()]
    if len(places) != 1:
        names = ", ".join(type(step).__name__ for step in transform)
        raise UsageError(
            f"views=...x{num_crops}: no crop of the recipe's test views can change ({names}); leave it out"
        )
    changed = list(transform)
    changed[places[0]] = CROPS[num_crops](changed[places[0]].size)
    return tuple(changed)


class VideoScores:
    """Scores of videos, from the logits of their views, whatever the batches that these come in.

    Parameters
    ----------
    num_videos, num_classes, num_views : int
    kind : {"mean", "max"}
        The mean of the views' probabilities, which is usual; or the most of their logits, that of Charades.

    Attributes
    ----------
    keys : list of str
    labels : array [shape=(num_videos,), int64, or shape=(num_videos, num_classes), uint8]
    """

    def __init__(self, num_videos: int, num_classes: int, num_views: int, kind: str) -> None:
        self._join, first = {"mean": (np.add, 0.0), "max": (np.maximum, -np.inf)}[kind]
        self._sums = np.full((num_videos, num_classes), first)
        self._counts = np.zeros(num_videos, np.int64)
        self._num_views, self._kind = num_views, kind
        self.keys = [""] * num_videos
        self.labels: NDArray[Any] = np.empty(0)

    def add(self, batch: Mapping[str, Any], logits: torch.Tensor) -> None:
        """Add the views of a batch.

        Raises
        ------
        UsageError
            If logits are not [shape=(N, num_classes)].
        TrainError
            If one of them is no finite number.
        """
        check_logits(logits, len(batch["key"]), self._sums.shape[1])
        if not logits.isfinite().all():
            key = batch["key"][int((~logits.isfinite()).any(1).nonzero()[0])]
            raise TrainError(
                f"key={key}: the model's logits are no finite numbers; evaluate without --amp, or train anew with a"
                " lower learning rate"
            )
        videos, logits = batch["sample"].numpy(), logits.double()
        if self._kind == "mean":
            logits = logits.sigmoid() if batch["label"].dim() == 2 else logits.softmax(1)
        self._join.at(self._sums, videos, logits.cpu().numpy())
        np.add.at(self._counts, videos, 1)
        self._note(videos, batch["key"], batch["label"].numpy())

    def _note(self, videos: NDArray[np.int64], keys: list[str], labels: NDArray[Any]) -> None:
        if not self.labels.size:
            self.labels = np.zeros((len(self.keys), *labels.shape[1:]), labels.dtype)
        self.labels[videos] = labels
        for video, key in zip(videos, keys, strict=True):
            self.keys[video] = key

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores of all videos [shape=(num_videos, num_classes)], all of whose views must have come."""
        assert (self._counts == self._num_views).all()
        return self.found[0]

    @property
    def found(self) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Scores and labels of the videos whose views have come: all views of each, by now."""
        has_come = self._counts > 0
        assert (self._counts[has_come] == self._num_views).all()
        scores = self._sums[has_come]
        labels = self.labels[has_come] if self.labels.size else self.labels
        return (scores / self._num_views if self._kind == "mean" else scores), labels
