"""What a batch costs: its labels, its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vidprep.errors import UsageError

_MAX_NAMED = 3


def loss_of(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean loss: cross-entropy, or, of multi-label datasets, the binary one.

    Parameters
    ----------
    logits : torch.Tensor [shape=(N, classes)]
    labels : torch.Tensor [shape=(N,), int64, or shape=(N, classes), of 0 and 1]
    label_smoothing : float
        The share of the target that goes to all classes alike (Szegedy et al., CVPR 2016, section 7); each class of
        the binary loss has two: holds, and holds not.
    """
    if labels.dim() == 2:
        targets = labels.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(logits, targets)
    return nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def check_labels(batch: Mapping[str, Any]) -> None:
    """UsageError if a sample of a batch has no label where one is meant: it would count for nothing, in silence."""
    if batch["label"].dim() == 1 and bool((batch["label"] < 0).any()):
        keys = [key for key, label in zip(batch["key"], batch["label"].tolist(), strict=True) if label < 0]
        raise UsageError(
            f"label=-1: {', '.join(keys[:_MAX_NAMED])}: a video without a label can't be learned from; choose a split"
            " whose videos all have one"
        )


def check_logits(logits: Any, num_clips: int, num_classes: int) -> None:
    """UsageError if a model returns anything but logits [shape=(num_clips, num_classes)]."""
    wanted = (num_clips, num_classes)
    if not isinstance(logits, torch.Tensor) or logits.shape != wanted:
        shape = tuple(getattr(logits, "shape", (type(logits).__name__,)))
        raise UsageError(f"logits={shape}: the recipe's model must return {wanted}, clips x classes; mend the recipe")


def to_device(batch: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    """Bring a batch's tensors to a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
