"""ShardDataset: shards to items."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from vidprep.dataset.epochs import Uneven
from vidprep.dataset.items import Item, ItemReader
from vidprep.dataset.kinds import Windows, check_kinds
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.videos import BROKEN, OnError, Ranks, VideoDataset
from vidprep.dataset.views import Step, View, num_views
from vidprep.errors import DecodeError, ShardError, UsageError
from vidprep.sampling import Clips, RandomClip, UniformClips
from vidprep.shards.access import Entries, ShardFolder
from vidprep.shards.index import INDEX_NAME, ShardEntry


class ShardDataset(VideoDataset):
    """Clips of the videos of a split.

    Parameters
    ----------
    root : path or str
        What ``vidprep extract`` wrote, of either layout: a folder, or the ``http://`` or ``https://`` address of one,
        of which each item costs one request for its sample's bytes.
    split : str, optional
        A split such as ``"split1/train"``; all samples without.
    modalities : sequence of str
        Names in :data:`vidprep.dataset.kinds.KINDS`, and levels of the pyramid such as ``"rgb112"``.
    clips : Clips, optional
        Which frames; without, 16 consecutive ones: anywhere if shuffled, else those in the middle.
    transform : sequence of Step
        Which part of the pictures, at which size.
    windows : Windows
        Which parts of the sound.
    shuffle, seed, uneven, ranks, on_error
        See :class:`vidprep.dataset.videos.VideoDataset`; ``uneven`` is ``"pad"`` with shuffle, else ``"keep"``.
    allow_incomplete : bool
        Whether shards serve whose extraction has not come to its end.
    timeout_seconds : float
        How long a server may send nothing.

    Raises
    ------
    UsageError
        If an argument can't be meant.
    ShardError
        If there are no such shards, they lack the split, it is empty, or they are incomplete.
    RemoteError
        If the server can't be reached, or falls silent.
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
        on_error: OnError = "raise",
        allow_incomplete: bool = False,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.folder = ShardFolder(root, timeout_seconds)
        index = self.folder.index
        if not index.is_complete and not allow_incomplete:
            raise ShardError(
                f"{self.folder.source.path(INDEX_NAME)}: the extraction is not at its end, so samples are missing; run"
                " the same vidprep extract command again, or allow it with allow_incomplete=True"
            )
        self.shards = index.shards_of(split)
        if not self.shards:
            filled = ", ".join(name for name in index.dataset["splits"] if index.shards_of(name)) or "none"
            raise ShardError(f"split={split}: holds no sample; splits that do: {filled}; choose one, or extract again")
        self._ends = list(accumulate(shard.num_samples for shard in self.shards))
        self.items_of = ItemReader(
            modalities,
            clips or (RandomClip() if shuffle else UniformClips(1)),
            transform,
            LabelReader.of(index.dataset),
            windows,
        )
        check_kinds(modalities, index.recipe)
        super().__init__(
            num_samples=self._ends[-1],
            num_views=self.items_of.num_views,
            views_per_clip=num_views(self.items_of.transform),
            shuffle=shuffle,
            seed=seed,
            uneven=uneven or ("pad" if shuffle else "keep"),
            ranks=ranks,
            on_error=on_error,
        )

    @property
    def classes(self) -> list[str]:
        """The names of the labels, in order."""
        return list(self.folder.index.dataset["classes"])

    @property
    def identity(self) -> dict[str, Any]:
        """What the samples of an epoch depend on; of shards that hold the same samples it is the same."""
        shards = repr([(shard.name, shard.num_samples, shard.sha256) for shard in self.shards])
        return {"shards_sha256": hashlib.sha256(shards.encode()).hexdigest()} | super().identity

    def read(self, sample: int, view: int, rng: np.random.Generator) -> Item:
        """Return item ``view`` of a sample: see :class:`vidprep.dataset.items.ItemReader`."""
        with self._entries(sample) as (key, entries):
            return self.items_of.read(key, entries, view, rng)

    def read_view(self, sample: int, frames: Sequence[int], seen: View, modalities: Sequence[str] = ("rgb",)) -> Item:
        """Read a sample again: the arrays of chosen frames, seen in a view of one's own.

        What a network found in an item is looked at in the stored pictures, with all their detail: ``sample``,
        ``frames`` and ``seen`` come with the item (the last two as modalities), and
        ``seen.focused(box, width, height)`` is the view of a box in its pixels. Threads may call this.

        Parameters
        ----------
        sample : int
            The item's ``sample``.
        frames : sequence of int
            Which of the stored frames.
        seen : View
            Which part of the pictures, at which size.
        modalities : sequence of str
            As for the dataset; vectors are float32 if a step of the dataset's transform may resize.

        Returns
        -------
        dict
            Arrays [shape=(C, T, seen.height, seen.width)] by name.
        """
        check_kinds(modalities, self.folder.index.recipe)
        if not isinstance(seen, View):
            raise UsageError(f"seen={seen!r}: must be a View, such as View.whole(340, 256), or that of an item")
        if not 0 <= sample < self.num_samples:
            raise UsageError(f"sample={sample}: must be one of num_samples={self.num_samples}, from 0 on")
        with self._entries(sample) as (key, entries):
            return self.items_of.read_view(key, entries, [int(i) for i in frames], seen, modalities)

    def place_of(self, sample: int) -> tuple[ShardEntry, int]:
        """Return the shard of a sample, and its number there."""
        number = bisect_right(self._ends, sample)
        return self.shards[number], sample - (self._ends[number - 1] if number else 0)

    @contextmanager
    def _entries(self, sample: int) -> Iterator[tuple[str, Entries]]:
        """Open a sample; what its reading raises names the tar and the key."""
        shard, number = self.place_of(sample)
        key, entries = self.folder.read(shard, number)
        try:
            yield key, entries
        except BROKEN as error:
            path = self.folder.source.path(shard.name)
            if path in str(error):
                raise
            reason = str(error).removeprefix(f"key={key}: ")
            cure = "; or the shard is damaged: run vidprep verify" if isinstance(error, DecodeError) else ""
            raise type(error)(f"{path}: key={key}: {reason}{cure}") from error
