"""ShardDataset: shards to items."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from vidprep.dataset.epochs import Uneven
from vidprep.dataset.items import Item, ItemReader
from vidprep.dataset.kinds import Windows, check_kinds
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.loader import Loader
from vidprep.dataset.videos import Ranks, VideoDataset
from vidprep.dataset.views import Step
from vidprep.sampling import Clips, RandomClip
from vidprep.shards.access import ShardFolder


class ShardDataset(VideoDataset):
    """Clips of the videos of a split.

    Parameters
    ----------
    root : path
        What ``vidprep extract`` wrote, of either layout.
    split : str, optional
        A split such as ``"split1/train"``; all samples without.
    modalities : sequence of str
        Names in :data:`vidprep.dataset.kinds.KINDS`, and levels of the pyramid such as ``"rgb112"``.
    clips : Clips
        Which frames.
    transform : sequence of Step
        Which part of the pictures, at which size.
    windows : Windows
        Which parts of the sound.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        modalities: Sequence[str] = ("rgb",),
        *,
        clips: Clips | None = None,
        transform: Sequence[Step] = (),
        windows: Windows = Windows(),  # noqa: B008 - frozen
        shuffle: bool = False,
        seed: int = 0,
        uneven: Uneven | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder = ShardFolder(Path(root))
        self.shards = self.folder.index.shards_of(split)
        self._ends = list(accumulate(shard.num_samples for shard in self.shards))
        self.items_of = ItemReader(
            tuple(modalities),
            clips or RandomClip(),
            tuple(transform),
            LabelReader.of(self.folder.index.dataset),
            windows,
        )
        check_kinds(modalities, self.folder.index.recipe)
        super().__init__(
            num_samples=self._ends[-1] if self._ends else 0,
            num_views=self.items_of.num_views,
            shuffle=shuffle,
            seed=seed,
            uneven=uneven or ("pad" if shuffle else "keep"),
            ranks=ranks,
        )

    def loader(self, batch_size: int, num_workers: int = 0, **options: Any) -> Loader:
        """Return batches of this dataset: see :class:`vidprep.dataset.loader.Loader`."""
        return Loader(self, batch_size, num_workers, **options)

    def read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        """Return item ``view`` of a sample: see :class:`vidprep.dataset.items.ItemReader`."""
        shard = bisect_right(self._ends, sample)
        first = self._ends[shard - 1] if shard else 0
        key, entries = self.folder.read(self.shards[shard], sample - first)
        return self.items_of.read(key, entries, view, rng)
