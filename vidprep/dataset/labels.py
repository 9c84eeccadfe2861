"""Labels of a sample, as a model's loss takes them, checked against the dataset's classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidprep.codec.timing import microseconds
from vidprep.errors import ShardError

NO_LABEL = -1
_CURE = "mend the manifest and extract again, or run vidprep verify"


@dataclass(frozen=True, slots=True)
class LabelReader:
    """What the samples' labels count in.

    Attributes
    ----------
    num_classes : int
        Labels run from 0 to ``num_classes``, exclusive.
    num_targets : mapping
        Likewise for further labels by name: EPIC-KITCHENS' verb and noun.
    is_multi_label : bool
        Whether a video may have any number of labels.
    """

    num_classes: int
    num_targets: Mapping[str, int] = field(default_factory=dict)
    is_multi_label: bool = False

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> LabelReader:
        """Return what an index says of its dataset: ``classes``, ``targets``, ``multi_label``."""
        targets = {name: len(classes) for name, classes in dataset.get("targets", {}).items()}
        return cls(len(dataset["classes"]), targets, dataset.get("multi_label", False))

    def read(self, facts: Mapping[str, Any]) -> dict[str, int | torch.Tensor]:
        """Return ``label`` and the further labels of a sample.

        ``label`` is an index, -1 without one; of a multi-label dataset it is [shape=(num_classes,), dtype=uint8], 1
        for each label. A further label that a sample lacks is -1.

        Raises
        ------
        ShardError
            If a label is not of the dataset, or there are several where one is meant.
        """
        key, labels = facts["key"], facts["labels"]
        _check(key, "label", labels, self.num_classes)
        if len(labels) > 1 and not self.is_multi_label:
            raise ShardError(f"key={key}: labels={labels}: this dataset has one label a sample; {_CURE}")
        found: dict[str, int | torch.Tensor] = {"label": labels[0] if labels else NO_LABEL}
        if self.is_multi_label:
            found["label"] = torch.from_numpy(self._hot(labels))
        targets = facts.get("targets", {})
        for name, num_classes in self.num_targets.items():
            found[name] = targets.get(name, NO_LABEL)
            _check(key, name, [targets[name]] if name in targets else [], num_classes)
        return found

    def at(self, facts: Mapping[str, Any], times: Sequence[float]) -> NDArray[np.uint8]:
        """Return which classes are shown when [shape=(len(times), num_classes), dtype=uint8].

        A time shows the actions that began before it and end after it: start < t < end, as in the loaders for Charades.

        Parameters
        ----------
        facts : mapping
            The sample's json; its ``actions`` are label, start and end in seconds of the video.
        times : sequence of float
            Seconds from the video's start.

        Raises
        ------
        ShardError
            If the sample has labels and no times for them, or a label is not of the dataset.
        """
        key, actions = facts["key"], facts.get("actions", [])
        _check(key, "label", (label for label, _, _ in actions), self.num_classes)
        if facts["labels"] and not actions:
            raise ShardError(
                f"key={key}: labels={facts['labels']} without times: labels of frames need the manifest's actions;"
                " leave frame_labels and clip_label out, or extract with a manifest that has them"
            )
        shown = np.zeros((len(times), self.num_classes), np.uint8)
        ticks = np.array([microseconds(time) for time in times])
        for label, start, end in actions:
            shown[(microseconds(start) < ticks) & (ticks < microseconds(end)), label] = 1
        return shown

    def _hot(self, labels: Sequence[int]) -> NDArray[np.uint8]:
        hot = np.zeros(self.num_classes, np.uint8)
        hot[list(labels)] = 1
        return hot


def _check(key: str, name: str, labels: Iterable[int], num_classes: int) -> None:
    for label in labels:
        if type(label) is not int or not 0 <= label < num_classes:
            raise ShardError(f"key={key}: {name}={label}: must be 0 to num_classes={num_classes}, exclusive; {_CURE}")
