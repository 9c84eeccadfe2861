"""One sample to one item: which frames, which part of them, as tensors with the labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.views import Step, may_resize, num_views, plan_view
from vidprep.modalities.clip import read_clip
from vidprep.reading import readable
from vidprep.sampling import Clips

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemReader:
    """What is read of each sample.

    Attributes
    ----------
    modalities : tuple of str
        What :func:`vidprep.modalities.clip.read_clip` gives.
    clips : Clips
        Which frames.
    transform : tuple of Step
        Which part of the pictures, at which size.
    """

    modalities: tuple[str, ...]
    clips: Clips
    transform: Sequence[Step]

    @property
    def num_views(self) -> int:
        """Items that a sample makes: views of each clip, clip after clip."""
        return self.clips.num_clips * num_views(self.transform)

    def read(self, key: str, entries: Mapping[str, bytes], view: int, rng: np.random.Generator) -> Item:
        """Return item ``view`` of a sample: its arrays [shape=(C, T, H, W)], label and key."""
        with readable(f"key={key}"):
            facts = json.loads(entries["json"])
            times = [facts["pts_seconds"][i] for i in facts["frame_indices"]]
            clip, number = divmod(view, num_views(self.transform))
            chosen = self.clips.choose(times, clip, rng)
            seen = plan_view(self.transform, facts["width"], facts["height"], number, rng)
            positions = sorted(set(chosen))
            arrays = read_clip(entries, facts, positions, self.modalities, crop=seen.crop)
            item: Item = {"__key__": key, "key": key, "label": facts["labels"][0] if facts["labels"] else -1}
            for kind, array in arrays.items():
                frames = array if positions == chosen else array[np.searchsorted(positions, chosen)]
                item[kind] = to_tensor(kind, frames, seen, resizes=may_resize(self.transform))
            return item
