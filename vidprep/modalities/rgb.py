"""Decoded pictures, as JPEG 95 4:2:0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.modalities import images
from vidprep.modalities.base import Entry, Modality, is_stored, numbered, stored_shape
from vidprep.modalities.packed import is_packed, read_packed
from vidprep.reading import readable


def extract(frame: Frame) -> NDArray[np.uint8]:
    """Return a frame's picture [shape=(H, W, 3), dtype=uint8]."""
    return frame.rgb()


def encode(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture [shape=(H, W, 3), dtype=uint8] as JPEG 95 4:2:0."""
    return images.encode_jpeg(picture, "420")


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a stored picture [shape=(H, W, 3), dtype=uint8]."""
    return images.decode(data)


class Rgb(Modality):
    """Entries ``rgb.000000.jpg``, ..., one for each stored frame."""

    name = "rgb"

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Yield the picture of a stored frame."""
        if position is not None:
            yield f"rgb.{position:06d}.jpg", encode(extract(frame))

    def facts(self) -> dict[str, Any]:
        """Return the picture format."""
        return {"format": "jpeg", "quality": images.QUALITY, "subsampling": "4:2:0"}

    @staticmethod
    @readable("rgb")
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """Return the stored pictures [shape=(T, H, W, 3), dtype=uint8]."""
        if is_packed(entries):
            return read_packed(entries, facts, ["rgb"])["rgb"]
        pictures = numbered(entries, "rgb")
        return images.decode_all(pictures, stored_shape(facts)) if is_stored("rgb", facts, pictures) else None
