"""One sample to one item: which frames, which part of them, as tensors with the labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidprep.dataset.kinds import Part, Windows, read_kinds, reader_of
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.views import Step, View, may_resize, num_views, plan_view
from vidprep.errors import UsageError
from vidprep.reading import readable
from vidprep.sampling import Clips

Item = dict[str, Any]
_OWN_NAMES = ("key", "label", "view", "has_audio")


def _is_step(step: object) -> bool:
    return not isinstance(step, type) and callable(step) and hasattr(step, "num_views") and hasattr(step, "resizes")


@dataclass(frozen=True, slots=True)
class ItemReader:
    """What is read of each sample.

    Attributes
    ----------
    modalities : sequence of str
        Names in :data:`vidprep.dataset.kinds.KINDS`, and levels of the pyramid such as ``"rgb112"``.
    clips : Clips
        Which frames.
    transform : sequence of Step
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

    modalities: Sequence[str]
    clips: Clips
    transform: Sequence[Step]
    labels: LabelReader
    windows: Windows = Windows()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        names = self.modalities
        if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
            raise UsageError(f'modalities={self.modalities!r}: must be a sequence of names, such as ("rgb", "motion")')
        if isinstance(self.clips, type) or not callable(getattr(self.clips, "choose", None)):
            raise UsageError(f"clips={self.clips!r}: must be a rule that chooses frames, such as RandomClip(16)")
        if not isinstance(self.transform, Sequence) or not all(_is_step(step) for step in self.transform):
            raise UsageError(
                f"transform={self.transform!r}: must be a sequence of steps, such as (ShortSide(256), CenterCrop(224));"
                " other functions go into dataset.map(function)"
            )
        if not isinstance(self.windows, Windows):
            raise UsageError(f"windows={self.windows!r}: must be Windows(seconds), such as Windows(2.0)")
        for name in self.modalities:
            reader_of(name)
        counts = Counter((*_OWN_NAMES, *self.labels.num_targets, *self.modalities))
        for name, count in counts.items():
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
            item: Item = {"__key__": key, "key": key, **self.labels.read(facts)}
            if self.num_views > 1:
                item["view"] = view
            return item | self._arrays(entries, facts, frames, seen, self.modalities)

    def read_view(
        self, key: str, entries: Mapping[str, bytes], frames: Sequence[int], seen: View, modalities: Sequence[str]
    ) -> Item:
        """Return arrays of chosen frames and a chosen view of a sample."""
        with readable(f"key={key}"):
            return self._arrays(entries, json.loads(entries["json"]), frames, seen, modalities)

    def _arrays(
        self,
        entries: Mapping[str, bytes],
        facts: Mapping[str, Any],
        frames: Sequence[int],
        seen: View,
        modalities: Sequence[str],
    ) -> Item:
        resizes = may_resize(self.transform)
        part = Part(entries, facts, frames, seen, resizes, self.clips, self.labels, self.windows)
        return read_kinds(part, modalities)
