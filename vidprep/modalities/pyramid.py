"""The stored frames at smaller sizes, each scaled by libswscale straight from the decoded picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.codec.scaler import Scaler
from vidprep.modalities import images
from vidprep.modalities.base import Entry, Modality, Settings, is_stored, numbered, stored_shape
from vidprep.modalities.packed import is_packed, stored_frames
from vidprep.reading import readable


def level_size(width: int, height: int, level: int) -> tuple[int, int]:
    """Return width and height in pixels with the short side at ``level``: aspect kept, never upscaled."""
    short = min(width, height)
    if level >= short:
        return width, height
    return max(round(width * level / short), 1), max(round(height * level / short), 1)


def extract(frame: Frame, level: int, scaler: Scaler | None = None) -> NDArray[np.uint8]:
    """Return a frame at one level [shape=(h, w, 3), dtype=uint8], antialiased; a scaler saves setting it up anew."""
    return (scaler or Scaler()).rgb(frame, *level_size(frame.width, frame.height, level))


def encode(picture: NDArray[np.uint8]) -> bytes:
    """Encode a level's picture [shape=(h, w, 3), dtype=uint8] as JPEG 95 4:2:0."""
    return images.encode_jpeg(picture, "420")


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a stored level's picture [shape=(h, w, 3), dtype=uint8]."""
    return images.decode(data)


class Pyramid(Modality):
    """Entries ``rgb112.000000.jpg``, ..., one for each stored frame and level."""

    name = "pyramid"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._scalers = {level: Scaler() for level in settings.levels}
        self._sizes: dict[str, list[int]] = {}

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Yield the levels of a stored frame."""
        if position is None:
            return
        for level, scaler in self._scalers.items():
            picture = extract(frame, level, scaler)
            self._sizes[str(level)] = [picture.shape[1], picture.shape[0]]
            yield f"rgb{level}.{position:06d}.jpg", encode(picture)

    def facts(self) -> dict[str, Any]:
        """Return the format and each level's width and height in pixels."""
        return {"format": "jpeg", "quality": images.QUALITY, "subsampling": "4:2:0", "levels": self._sizes}

    @staticmethod
    @readable("pyramid")
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """Return the largest level [shape=(T, h, w, 3), dtype=uint8]; :func:`decode_level` returns any."""
        if is_packed(entries):
            return decode_level(entries, max(facts["recipe"]["levels"]), facts)
        levels = facts["pyramid"]["levels"]
        if not levels:
            return None
        largest = max(levels, key=int)
        pictures = numbered(entries, f"rgb{largest}")
        width, height = levels[largest]
        stored = stored_shape(facts)
        shape = stored and (stored[0], height, width)
        return images.decode_all(pictures, shape) if is_stored("pyramid", facts, pictures) else None


def decode_level(
    entries: Mapping[str, bytes],
    level: int,
    facts: Mapping[str, Any] | None = None,
    positions: Sequence[int] | None = None,
) -> NDArray[np.uint8] | None:
    """Return one level's pictures [shape=(T, h, w, 3), dtype=uint8]; None if it was not stored.

    A sample in the bitstream layout has any level; its ``facts`` (the json) are needed. Of ``positions``, some of the
    stored frames, increasing, no more is decoded than they need.
    """
    if facts is not None and is_packed(entries):
        scaler = Scaler()
        return np.stack([extract(frame, level, scaler) for frame in stored_frames(entries, facts, positions)])
    if positions is None:
        return images.decode_all(numbered(entries, f"rgb{level}"))
    is_there = f"rgb{level}.000000.jpg" in entries
    return images.decode_all([entries[f"rgb{level}.{i:06d}.jpg"] for i in positions]) if is_there else None
