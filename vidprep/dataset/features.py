"""FeatureDataset: a store of arrays to items."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.epochs import Uneven
from vidprep.dataset.items import Item
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.videos import OnError, Ranks, VideoDataset
from vidprep.dataset.views import View
from vidprep.errors import UsageError
from vidprep.features import CHANNELS_LAST, FeatureStore, StoredArray
from vidprep.sampling import Clips, RandomClip, UniformClips
from vidprep.shards.index import load_index

OF_FRAMES = ("times", "frames", "frame_labels", "clip_label")
"""What an item may hold beside the arrays of a store, as items of shards do."""


class FeatureDataset(VideoDataset):
    """Clips of the arrays that ``vidprep export`` made of the videos of a split.

    An item holds ``key``, the labels and the arrays: pictures and fields [shape=(C, T, H, W)] as
    :class:`vidprep.dataset.ShardDataset` gives them without a transform, all others as they are stored
    [shape=(T, ...)].

    Parameters
    ----------
    store : path or FeatureStore
    split : str, optional
        A split such as ``"split1/train"``; all videos without.
    names : sequence of str, optional
        Which arrays, all that have frames without; also ``"times"``, ``"frames"``, ``"frame_labels"`` and
        ``"clip_label"``.
    clips : Clips, optional
        Which of the stored frames, by their times; 16 consecutive ones without, as for shards.
    shards : path, optional
        The shards that it must have been made of, as they are now.
    shuffle, seed, uneven, ranks, on_error
        See :class:`vidprep.dataset.videos.VideoDataset`.

    Raises
    ------
    FeatureError
        If the file is no store, was made of other shards, or has no such split.
    UsageError
        If it has no such arrays.
    """

    def __init__(
        self,
        store: FeatureStore | str | Path,
        split: str | None = None,
        names: Sequence[str] | None = None,
        *,
        clips: Clips | None = None,
        shards: str | Path | None = None,
        shuffle: bool = False,
        seed: int = 0,
        uneven: Uneven | None = None,
        ranks: Ranks | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.store = store if isinstance(store, FeatureStore) else FeatureStore(store)
        if shards is not None:
            self.store.expect({"shards": load_index(Path(shards)).identity})
        self.names = _chosen(self.store, names)
        self.keys = self.store.keys_of(split)
        self.clips = clips or (RandomClip() if shuffle else UniformClips(1))
        self.labels = LabelReader.of(self.store.dataset)
        super().__init__(
            num_samples=len(self.keys),
            num_views=self.clips.num_clips,
            shuffle=shuffle,
            seed=seed,
            uneven=uneven or ("pad" if shuffle else "keep"),
            ranks=ranks,
            on_error=on_error,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What the samples of an epoch depend on."""
        recipe = json.dumps([self.keys, self.store.recipe], sort_keys=True)
        return {"store_sha256": hashlib.sha256(recipe.encode()).hexdigest()} | super().identity

    def read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        """Return clip ``view`` of a video."""
        key = self.keys[sample]
        video = self.store[key]
        chosen = self.clips.choose(video.times.tolist(), view, rng)
        item: Item = {"__key__": key, "key": key, **self.labels.read({"key": key, **video.facts})}
        if self.num_views > 1:
            item["view"] = view
        for name in self.names:
            if name in OF_FRAMES:
                item[name] = self._of_frames(name, {"key": key, **video.facts}, chosen)
            else:
                item[name] = _tensor(name, video[name], chosen, self.store.kinds[name].axes == CHANNELS_LAST)
        return item

    def _of_frames(self, name: str, facts: Mapping[str, Any], chosen: list[int]) -> torch.Tensor:
        if name == "frames":
            return torch.tensor(chosen)
        times = [round(facts["pts_seconds"][i] - facts["video_start_seconds"], 6) for i in chosen]
        if name == "times":
            return torch.tensor(times, dtype=torch.float64)
        labels = torch.from_numpy(self.labels.at(facts, times))
        return labels if name == "frame_labels" else labels.amax(dim=0)


def _chosen(store: FeatureStore, names: Sequence[str] | None) -> tuple[str, ...]:
    known = [name for name, kind in store.kinds.items() if kind.is_by_frame]
    chosen = tuple(known if names is None else names)
    if isinstance(names, str) or not chosen or not set(chosen) <= {*known, *OF_FRAMES}:
        raise UsageError(
            f"names={names!r}: must be a sequence of {', '.join(known) or 'none'}, which have frames, or of"
            f" {', '.join(OF_FRAMES)}"
        )
    return chosen


def _tensor(name: str, array: StoredArray, chosen: list[int], is_channels_last: bool) -> torch.Tensor:
    frames = array[chosen]
    if not is_channels_last:
        return torch.from_numpy(frames)
    return to_tensor(name, frames, View.whole(frames.shape[2], frames.shape[1]), resizes=False)
