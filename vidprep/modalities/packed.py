"""Samples in the bitstream layout: the arrays of any frames, read from the stream itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.cropping import Crop, Cropper
from vidprep.codec.frame import Frame
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.wanted import Wanted, union

MAGNITUDE_SCALE = 4
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


def _read_coded_residual(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    cropper.cut(frame.coded_residual, out[..., 0])


def _read_residual_magnitude(frame: Frame, cropper: Cropper, out: NDArray[Any]) -> None:
    frame.accumulated_residual_magnitude(MAGNITUDE_SCALE, out=out[..., 0])


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of array is read from a frame, its channels and type, and what frames must carry for it."""

    read: _Read
    num_channels: int
    dtype: type[np.generic]
    wanted: Wanted
    scale: int = 1


_KINDS = {
    "rgb": _Kind(_read_rgb, 3, np.uint8, Wanted(vectors=False)),
    "motion": _Kind(_read_motion, 2, np.int16, Wanted()),
    "accumulated_motion": _Kind(_read_accumulated_motion, 2, np.int16, Wanted("motion")),
    "residual": _Kind(_read_residual, 3, np.int16, Wanted("picture")),
    "coded_residual": _Kind(_read_coded_residual, 1, np.int16, Wanted(vectors=False, coded=True)),
    "residual_magnitude": _Kind(_read_residual_magnitude, 1, np.float32, Wanted("picture"), MAGNITUDE_SCALE),
}

CLIP_KINDS = tuple(_KINDS)
"""The kinds of arrays that a clip may hold."""
SMALL_KINDS = tuple(name for name, kind in _KINDS.items() if kind.scale > 1)
"""Those whose pixels are larger than the picture's, so that they come whole."""


def is_packed(entries: Mapping[str, bytes]) -> bool:
    """Tell whether a sample holds its stream instead of pictures."""
    return any(name.startswith(_PREFIX) for name in entries)


def open_packed(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> PackedVideo:
    """Return a sample's stream; ShardError if its packet table is damaged."""
    return PackedVideo(next(data for name, data in entries.items() if name.startswith(_PREFIX)), facts)


def stored_frames(
    entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int] | None = None
) -> Iterator[Frame]:
    """Decode the frames that the sample stands for, or some of them; they have no vectors."""
    return open_packed(entries, facts).frames_at(_indices(facts, positions), vectors=False)


def _indices(facts: Mapping[str, Any], positions: Sequence[int] | None) -> list[int]:
    stored: list[int] = facts["frame_indices"]
    return stored if positions is None else [stored[i] for i in positions]


def read_packed(
    entries: Mapping[str, bytes],
    facts: Mapping[str, Any],
    kinds: Sequence[str],
    positions: Sequence[int] | None = None,
    *,
    crop: Crop | None = None,
) -> dict[str, NDArray[Any]]:
    """Return arrays of some stored frames, or of all, as :func:`vidprep.modalities.clip.read_clip` does."""
    indices = _indices(facts, positions)
    video = open_packed(entries, facts)
    arrays: dict[str, NDArray[Any]] = {}
    # The coded residual's arithmetic is the standard's, which may be off by a level from that of the other arrays.
    for chosen in ([kind for kind in kinds if _KINDS[kind].wanted.coded is coded] for coded in (False, True)):
        if chosen:
            cropper = Cropper(crop, facts["width"], facts["height"])
            arrays |= _read_pass(video, indices, chosen, cropper, (facts["height"], facts["width"]))
    return {kind: arrays[kind] for kind in kinds}


def _read_pass(
    video: PackedVideo, indices: Sequence[int], kinds: Sequence[str], cropper: Cropper, size: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    each = [_KINDS[kind] for kind in kinds]
    track = union(kind.wanted.track for kind in each)
    vectors, coded = any(kind.wanted.vectors for kind in each), any(kind.wanted.coded for kind in each)
    arrays: list[NDArray[Any]] = []
    for i, frame in enumerate(video.frames_at(indices, track=track, vectors=vectors, coded=coded)):
        if i == 0:  # the first picture has the promised size, so this much memory is meant
            for kind in each:
                height, width = cropper.shape[:2] if kind.scale == 1 else (-(-side // kind.scale) for side in size)
                arrays.append(np.empty((len(indices), height, width, kind.num_channels), kind.dtype))
        for kind, array in zip(each, arrays, strict=True):
            kind.read(frame, cropper, array[i])
    return dict(zip(kinds, arrays, strict=True))
