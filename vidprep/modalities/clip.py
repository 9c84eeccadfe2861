"""Clips of a sample, the same arrays from both layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.cropping import Crop, Cropper
from vidprep.errors import ShardError, UsageError
from vidprep.modalities import images, motion, residual
from vidprep.modalities.base import numbered_names
from vidprep.modalities.packed import CLIP_KINDS, SMALL_KINDS, is_packed, read_packed
from vidprep.reading import readable


def read_clip(
    entries: Mapping[str, bytes],
    facts: Mapping[str, Any],
    positions: Sequence[int],
    modalities: Sequence[str] = ("rgb",),
    *,
    crop: Crop | None = None,
) -> dict[str, NDArray[Any]]:
    """Return some arrays of some stored frames, decoding no more than they need.

    Parameters
    ----------
    entries : mapping
        A sample's files by name, without the key.
    facts : mapping
        The sample's json.
    positions : sequence of int
        Which of the stored frames (positions in ``frame_indices``), increasing: ``range(8, 24)``.
    modalities : sequence of str
        ``"rgb"`` [shape=(T, h, w, 3), dtype=uint8]; ``"motion"`` [shape=(T, h, w, 2), dtype=int16], x and y, pixels;
        ``"accumulated_motion"``, likewise, towards the I-frame; ``"residual"`` [shape=(T, h, w, 3), dtype=int16],
        accumulated; ``"coded_residual"`` [shape=(T, h, w, 1), dtype=int16], of MPEG-4 Part 2;
        ``"residual_magnitude"`` [shape=(T, H/4, W/4, 1), dtype=float32]. A sample in the bitstream layout gives all
        of them exactly; in the decoded layout pictures and residuals are what was stored.
    crop : tuple of int, optional
        x, y, width and height in pixels, of all arrays but the magnitude: it comes whole, for its pixels are sixteen
        of the picture's, and a crop's edges need not lie between them.

    Raises
    ------
    UsageError
        If there is no such modality, frame or part of a picture.
    ShardError
        If the sample lacks what a modality needs.
    DecodeError
        If the stream is damaged.
    """
    if isinstance(modalities, str) or not modalities or not set(modalities) <= set(CLIP_KINDS):
        raise UsageError(f"modalities={modalities!r}: must be a sequence of {', '.join(CLIP_KINDS)}")
    with readable("clip"):
        num_frames = len(facts["frame_indices"])
    if not positions or any(type(i) is not int for i in positions) or not _increase((-1, *positions, num_frames)):
        raise UsageError(f"positions={_short(positions)}: must increase from 0 to num_frames={num_frames}, exclusive")
    with readable("clip"):
        return _read(entries, facts, positions, modalities, crop)


def _increase(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))


def _short(positions: Sequence[int]) -> str:
    return str(positions) if len(positions) < 10 else f"{positions[0]}, ..., {positions[-1]}"


def _read(
    entries: Mapping[str, bytes],
    facts: Mapping[str, Any],
    positions: Sequence[int],
    modalities: Sequence[str],
    crop: Crop | None,
) -> dict[str, NDArray[Any]]:
    if is_packed(entries):
        return read_packed(entries, facts, modalities, positions, crop=crop)
    x, y, width, height = Cropper(crop, facts["width"], facts["height"]).crop
    part, all_of_it = (slice(y, y + height), slice(x, x + width)), (slice(None), slice(None))
    parts = {name: all_of_it if name in SMALL_KINDS else part for name in modalities}
    whole = {name: _READERS[name](entries, facts, positions) for name in modalities}
    return {name: np.stack([field[parts[name]] for field in fields]) for name, fields in whole.items()}


def _read_rgb(
    entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]
) -> list[NDArray[np.uint8]]:
    return [images.decode(data) for data in _stored(entries, "rgb", facts, positions)]


def _read_residual(
    form: str, entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]
) -> list[NDArray[Any]]:
    stored = facts.get("residual", {}).get("form", form)
    if stored != form:
        raise ShardError(f"residual_form={stored}: the sample holds no {form} one; extract with --residual-form {form}")
    return [
        residual.FORMS[form].restore(images.decode(data)) for data in _stored(entries, "residual", facts, positions)
    ]


def _read_motion(entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]) -> NDArray[np.int16]:
    blocks = _blocks(entries, facts)
    indices = facts["frame_indices"]
    return motion.dense([blocks[indices[i]] for i in positions], facts["height"], facts["width"])


def _read_accumulated_motion(
    entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]
) -> NDArray[np.int16]:
    """Follow the pixels from the I-frame before the clip to the anchor after it, which B-frames need."""
    indices = [facts["frame_indices"][i] for i in positions]
    begin = facts["picture_types"].rindex("I", 0, indices[0] + 1)
    last = facts["picture_types"][indices[-1] :]
    end = indices[-1] + len(last) - len(last.lstrip("B")) + 1
    blocks = _blocks(entries, facts)[begin:end]
    letters = facts["picture_types"][begin : begin + len(blocks)]
    fields = motion.accumulated(blocks, letters, facts["height"], facts["width"])
    return fields[[i - begin for i in indices]]


def _blocks(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> list[NDArray[np.void]]:
    if "motion.npz" not in entries:
        raise _missing("motion")
    return motion.decode(entries["motion.npz"])


def _stored(entries: Mapping[str, bytes], kind: str, facts: Mapping[str, Any], positions: Sequence[int]) -> list[bytes]:
    names = numbered_names(entries, kind)
    if len(names) != len(facts["frame_indices"]):
        raise _missing(kind)
    return [entries[names[i]] for i in positions]


def _missing(kind: str) -> ShardError:
    return ShardError(f"modality={kind}: the sample doesn't hold it; extract with --modalities {kind},...")


_READERS: dict[str, Callable[..., Iterable[NDArray[Any]]]] = {
    "rgb": _read_rgb,
    "motion": _read_motion,
    "accumulated_motion": _read_accumulated_motion,
    **{form.kind: partial(_read_residual, name) for name, form in residual.FORMS.items()},
}
