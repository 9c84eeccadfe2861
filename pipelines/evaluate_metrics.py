"""How good scores are: top-k accuracy, mean class accuracy, mean average precision, confusions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


def top_k(scores: Scores, labels: Labels, k: int) -> float:
    """Return the share of rows [shape=(N, classes)] whose label [shape=(N,)] is among the k best."""
    rank = (scores > np.take_along_axis(scores, labels[:, np.newaxis], 1)).sum(1)
    return float((rank < k).mean())


def confusion_matrix(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Return how often a class (row) was taken for another (column) [shape=(classes, classes)]."""
    num_classes = scores.shape[1]
    places = labels * num_classes + scores.argmax(1)
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_class_accuracy(confusions: NDArray[np.int64]) -> float:
    """Return the mean accuracy of the classes that have samples."""
    counts = confusions.sum(1)
    return float((confusions.diagonal()[counts > 0] / counts[counts > 0]).mean())


def average_precisions(scores: Scores, targets: NDArray[np.uint8]) -> Scores:
    """Return the average precision of each class [shape=(classes,)]; NaN where a class has no positive.

    Parameters
    ----------
    scores, targets : array [shape=(N, classes)]
        Larger is more certain; 1 where a label holds.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(targets, order, 0).astype(np.float64)
    precision = hits.cumsum(0) / np.arange(1, len(hits) + 1)[:, np.newaxis]
    num_positives = hits.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray((precision * hits).sum(0) / np.where(num_positives, num_positives, np.nan))
