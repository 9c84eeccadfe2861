"""One sample to one item: which frames, which part of them, as tensors with the labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidprep.dataset.kinds import Part, Windows, kind_of, read_kinds
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.views import Step, may_resize, num_views, plan_view
from vidprep.errors import UsageError
from vidprep.reading import readable
from vidprep.sampling import Clips

Item = dict[str, Any]
_OWN_NAMES = ("key", "label", "view", "has_audio")


@dataclass(frozen=True, slots=True)
class ItemReader:
    """What is read of each sample.

    Attributes
    ----------
    modalities : tuple of str
        Names in :data:`vidprep.dataset.kinds.KINDS`, and levels of the pyramid such as ``"rgb112"``.
    clips : Clips
        Which frames.
    transform : tuple of Step
        Which part of the pictures, at which size.
    labels : LabelReader
        What labels count in.
    windows : Windows
        Which parts of the sound.

    Raises
    ------
    UsageError
        If there is no such modality, or a name stands for two things.
    """

    modalities: tuple[str, ...]
    clips: Clips
    transform: Sequence[Step]
    labels: LabelReader
    windows: Windows = Windows()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for name in self.modalities:
            kind_of(name)
        names = Counter((*_OWN_NAMES, *self.labels.num_targets, *self.modalities))
        for name, count in names.items():
            if count > 1:
                raise UsageError(
                    f"modalities={','.join(self.modalities)}: {name} must stand for one thing in an item, beside"
                    f" {', '.join((*_OWN_NAMES, *self.labels.num_targets))}; leave one out, or rename the target"
                )

    @property
    def num_views(self) -> int:
        """Items that a sample makes: views of each clip, clip after clip."""
        return self.clips.num_clips * num_views(self.transform)

    def read(self, key: str, entries: Mapping[str, bytes], view: int, rng: np.random.Generator) -> Item:
        """Return item ``view`` of a sample: its key, labels and arrays; ``view`` where there are several.

        Raises
        ------
        ShardError, DecodeError
            If the sample lacks what is wanted, or is damaged.
        """
        with readable(f"key={key}"):
            facts = json.loads(entries["json"])
            times = [facts["pts_seconds"][i] for i in facts["frame_indices"]]
            clip, number = divmod(view, num_views(self.transform))
            frames = self.clips.choose(times, clip, rng)
            seen = plan_view(self.transform, facts["width"], facts["height"], number, rng)
            resizes = may_resize(self.transform)
            part = Part(entries, facts, frames, seen, resizes, self.clips, self.labels, self.windows)
            item: Item = {"__key__": key, "key": key, **self.labels.read(facts)}
            if self.num_views > 1:
                item["view"] = view
            return item | read_kinds(part, self.modalities)
