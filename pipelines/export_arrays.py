"""Modalities as arrays of a store: some stored frames of one sample at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import ShardError, UsageError
from vidprep.features import ArrayKind
from vidprep.modalities.clip import read_clip
from vidprep.modalities.packed import CLIP_KINDS
from vidprep.modalities.pyramid import decode_level
from vidprep.modalities.spectrogram import Spectrogram
from vidprep.modalities.stored import level_of

Arrays = dict[str, NDArray[Any]]
_DTYPES = {"rgb": "uint8", "residual_magnitude": "float32"}  # of what clips hold; the others are int16
_SPECTROGRAM = "spectrogram"


class Source(Protocol):
    """What a store is filled with."""

    @property
    def kinds(self) -> dict[str, ArrayKind]:
        """The arrays that it gives."""

    def read(self, entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]) -> Arrays:
        """Return the arrays of some stored frames of a sample."""

    def read_whole(self, entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> Arrays:
        """Return the arrays that belong to the sample as a whole."""


def check_names(names: Sequence[str]) -> None:
    """Refuse what can't be exported."""
    known = [*CLIP_KINDS, _SPECTROGRAM]
    for name in names:
        if name not in known and level_of(name) is None:
            raise UsageError(f"modality={name}: must be one of {', '.join(known)}, or a level such as rgb112")


class Modalities:
    """Arrays as they stand in the samples, or as the stream gives them.

    Parameters
    ----------
    names : sequence of str
        What clips may hold, ``spectrogram``, and levels such as ``rgb112``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._clip_names = [name for name in names if name in CLIP_KINDS]
        self._levels = {name: level for name in names if (level := level_of(name))}
        self._with_sound = _SPECTROGRAM in names
        self._names = names

    @property
    def kinds(self) -> dict[str, ArrayKind]:
        """The arrays that it gives."""
        return {name: self._kind(name) for name in self._names}

    def _kind(self, name: str) -> ArrayKind:
        if name == _SPECTROGRAM:
            return ArrayKind("float32", ("bins", "columns"))
        return ArrayKind("uint8" if name in self._levels else _DTYPES.get(name, "int16"))

    def read(self, entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]) -> Arrays:
        """Return the arrays of some stored frames of a sample."""
        arrays = read_clip(entries, facts, positions, self._clip_names) if self._clip_names else {}
        for name, level in self._levels.items():
            pictures = decode_level(entries, level, facts, positions)
            if pictures is None:
                raise ShardError(f"modality={name}: the sample doesn't hold it; extract with --levels {level}")
            arrays[name] = pictures
        return arrays

    def read_whole(self, entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> Arrays:
        """Return the spectrogram, if there is one: a video without sound has none."""
        found = Spectrogram.decode(entries, facts) if self._with_sound else None
        return {} if found is None else {_SPECTROGRAM: np.ascontiguousarray(found)}
