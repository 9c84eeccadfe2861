"""The arrays of a stored sample that a contact sheet shows, from either layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import UnsupportedError
from vidprep.modalities import images, motion, residual
from vidprep.modalities.clip import read_clip
from vidprep.modalities.packed import is_packed, open_packed
from vidprep.pipelines.inspect_cells import shrink

Blocks = Sequence[NDArray[np.void]]


def vectors_of(entries: Mapping[str, bytes], known: Mapping[str, Any]) -> Blocks | None:
    """Return the block vectors of each frame; None if the sample has none."""
    if is_packed(entries):
        try:
            return [frame.vectors.copy() for frame in open_packed(entries, known).frames()]
        except UnsupportedError:
            return None
    return motion.decode(entries["motion.npz"]) if "motion.npz" in entries else None


def rgb_of(
    entries: Mapping[str, bytes], known: Mapping[str, Any], position: int, cell: tuple[int, int]
) -> NDArray[np.uint8] | None:
    """Return a stored frame's picture, or that of the largest level where the frame itself was not stored."""
    if is_packed(entries):
        return shrink(read_clip(entries, known, [position])["rgb"][0], cell)
    return _stored(entries, _largest(entries), position, cell)


def residual_of(
    entries: Mapping[str, bytes],
    known: Mapping[str, Any],
    position: int,
    cell: tuple[int, int],
    *,
    has_vectors: bool,
) -> NDArray[np.uint8] | None:
    """Return a stored frame's residual as a picture, in the form that was stored."""
    if not is_packed(entries):
        return _stored(entries, "residual", position, cell)
    if not has_vectors:
        return None
    exact = read_clip(entries, known, [position], ("residual",))["residual"][0]
    return shrink(np.clip(exact + residual.OFFSET, 0, 255).astype(np.uint8), cell)


def accumulated(blocks: Blocks, known: Mapping[str, Any], index: int) -> NDArray[np.int16]:
    """Return one frame's accumulated motion [shape=(H, W, 2), dtype=int16], from its own GOP alone."""
    types = known["picture_types"]
    start = types.rindex("I", 0, index + 1)
    end = index + 1
    while end < len(types) and types[end - 1] == "B" and types[end] != "I":
        end += 1  # a B-frame builds on the anchor displayed after it
    part = slice(start, end)
    fields = motion.accumulated(blocks[part], types[part], known["height"], known["width"])
    return np.asarray(fields[index - start])


def _largest(entries: Mapping[str, bytes]) -> str:
    names = {name.partition(".")[0] for name in entries if name.startswith("rgb")}
    return max(names, key=lambda name: int(name[3:] or 1 << 30), default="rgb")


def _stored(entries: Mapping[str, bytes], name: str, position: int, cell: tuple[int, int]) -> NDArray[np.uint8] | None:
    found = (data for entry, data in entries.items() if entry.startswith(f"{name}.{position:06d}."))
    data = next(found, None)
    return None if data is None else shrink(_visible(images.decode(data)), cell)


def _visible(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a picture of any form as RGB; magnitudes as whole levels of grey."""
    if picture.dtype != np.uint8:
        picture = np.minimum(picture // residual.MAGNITUDE_STEPS, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
