"""Samples in the bitstream layout: the arrays of any frames, read from the stream itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.cropping import Crop, Cropper
from vidprep.codec.frame import Frame
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.video import Track
from vidprep.errors import UsageError

_PREFIX = "video."
_Read = Callable[[Frame, Cropper, NDArray[Any]], None]


def _read_rgb(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    out[...] = cropper.rgb(frame)


def _read_motion(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    cropper.cut(frame.motion, out)


def _read_accumulated_motion(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    cropper.cut(frame.accumulated_motion, out)


def _read_residual(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    cropper.accumulated_residual(frame, out=out)


_KINDS: dict[str, tuple[_Read, int, type[np.generic]]] = {
    "rgb": (_read_rgb, 3, np.uint8),
    "motion": (_read_motion, 2, np.int16),
    "accumulated_motion": (_read_accumulated_motion, 2, np.int16),
    "residual": (_read_residual, 3, np.int16),
}
"""How each kind of array is read from a frame, its channels and its type."""

CLIP_KINDS = tuple(_KINDS)
"""The kinds of arrays that a clip may hold."""


def is_packed(entries: Mapping[str, bytes]) -> bool:
    """Tell whether a sample holds its stream instead of pictures."""
    return any(name.startswith(_PREFIX) for name in entries)


def open_packed(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> PackedVideo:
    """Return a sample's stream; ShardError if its packet table is damaged."""
    return PackedVideo(next(data for name, data in entries.items() if name.startswith(_PREFIX)), facts)


def stored_frames(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> Iterator[Frame]:
    """Decode the frames that the sample stands for; they have no vectors."""
    return open_packed(entries, facts).frames_at(facts["frame_indices"], vectors=False)


def read_packed(
    entries: Mapping[str, bytes],
    facts: Mapping[str, Any],
    kinds: Sequence[str],
    *,
    start: int = 0,
    stop: int | None = None,
    crop: Crop | None = None,
) -> dict[str, NDArray[Any]]:
    """Return arrays of the stored frames ``start`` to ``stop``, as :func:`vidprep.modalities.clip.read_clip` does."""
    indices = facts["frame_indices"][start:stop]
    if not indices:
        raise UsageError(f"start={start}, stop={stop}: no such frames; the sample has {len(facts['frame_indices'])}")
    track: Track = "residual" if "residual" in kinds else "motion" if "accumulated_motion" in kinds else "none"
    video = open_packed(entries, facts)
    cropper = Cropper(crop, facts["width"], facts["height"])
    arrays: dict[str, NDArray[Any]] = {}
    for i, frame in enumerate(video.frames_at(indices, track=track, vectors="motion" in kinds)):
        for kind in kinds:
            read, num_channels, dtype = _KINDS[kind]
            if i == 0:  # the first picture has the promised size, so this much memory is meant
                arrays[kind] = np.empty((len(indices), *cropper.shape[:2], num_channels), dtype)
            read(frame, cropper, arrays[kind][i])
    return arrays
