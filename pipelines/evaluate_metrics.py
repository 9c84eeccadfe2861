"""How good scores are: top-k accuracy, mean class accuracy, mean average precision, confusions.

Scores are [shape=(videos, classes)], larger for more certain. Labels are indices [shape=(videos,)]; targets are
[shape=(videos, classes)], 1 where a label holds. All of them are of videos that have a label.

Ties: of equal scores of a video the class with the smaller index comes first, so that a network that says the same of
all classes is right by chance alone. Videos with equal scores of a class share one threshold, so that their order
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[Any]
"""Integers."""


def top_k(scores: Scores, labels: Labels, k: int) -> float:
    """Return the share of videos whose label is among the k best classes."""
    return float(_is_among(scores, k)[np.arange(len(labels)), labels].mean())


def hits_at_k(scores: Scores, targets: Labels, k: int) -> float:
    """Return how many of the k best classes hold, on average over videos that may have several labels.

    It is what PyVideoResearch calls the top-k accuracy of Charades, and may exceed 1.
    """
    return float((_is_among(scores, k) & (targets > 0)).sum(1).mean())


def confusion_matrix(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Return how often a class (row) was taken for another (column) [shape=(classes, classes)]."""
    num_classes = scores.shape[1]
    places = labels.astype(np.int64) * num_classes + scores.argmax(1)
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_accuracies(confusions: NDArray[np.int64]) -> Scores:
    """Return the accuracy of each class [shape=(classes,)]; NaN where a class has no video."""
    counts = confusions.sum(1)
    return np.asarray(confusions.diagonal() / np.where(counts, counts, np.nan))


def average_precisions(scores: Scores, targets: Labels) -> Scores:
    """Return the average precision of each class [shape=(classes,)]; NaN where a class has no positive.

    The precision at each threshold, weighted by how much the recall grows there; nothing is interpolated.
    """
    columns = zip(scores.T, targets.T, strict=True)
    return np.array([_average_precision(column, hits) for column, hits in columns], np.float64)


def mean(values: Scores) -> float | None:
    """Return the mean of what is known; None if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def accuracy(scores: Scores, labels: Labels) -> dict[str, Any]:
    """Return all measures that labels, or targets, allow; those that they don't are None. Nothing is NaN.

    Videos without any label (-1, or a row of zeros) are left out. So does the official measure of Charades
    (``charades_map``), which gives their rows the lowest scores.
    """
    is_single = labels.ndim == 1
    is_labelled = labels >= 0 if is_single else labels.any(1)
    scores, labels = scores[is_labelled], labels[is_labelled]
    found: dict[str, Any] = {"num_labelled": len(labels), **dict.fromkeys(MEASURES)}
    if not len(labels):
        return found
    targets = np.eye(scores.shape[1], dtype=np.uint8)[labels] if is_single else labels
    precisions = average_precisions(scores, targets)
    found |= {"map": mean(precisions), "average_precisions": _listed(precisions)}
    if not is_single:
        return found | {"hits_at_1": hits_at_k(scores, targets, 1), "hits_at_5": hits_at_k(scores, targets, 5)}
    confusions = confusion_matrix(scores, labels)
    accuracies = class_accuracies(confusions)
    return found | {
        "top1": top_k(scores, labels, 1),
        "top5": top_k(scores, labels, 5),
        "mean_class_accuracy": mean(accuracies),
        "class_accuracies": _listed(accuracies),
        "confusions": confusions.tolist(),
    }


MEASURES = (
    *("top1", "top5", "mean_class_accuracy", "map", "hits_at_1", "hits_at_5"),
    *("class_accuracies", "average_precisions", "confusions"),
)
"""Names of what :func:`accuracy` returns; numbers first, then lists over the classes."""


def _is_among(scores: Scores, k: int) -> NDArray[np.bool_]:
    """Return whether a class is among a video's k best [shape=(videos, classes)]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    is_among = np.zeros(scores.shape, bool)
    np.put_along_axis(is_among, best, True, 1)
    return is_among


def _average_precision(scores: Scores, hits: Labels) -> float:
    if not hits.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    is_last = np.append(descending[1:] != descending[:-1], True)  # of those that share a threshold
    num_hits = hits[order].astype(np.int64).cumsum()[is_last]
    precisions = num_hits / (is_last.nonzero()[0] + 1)
    return float((np.diff(num_hits, prepend=0) * precisions).sum() / num_hits[-1])


def _listed(values: Scores) -> Sequence[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
