"""The kinds of arrays that an item may hold: one table, and for each how it is read and what shards must hold for it.

All arrays of an item belong to the same frames and the same view. A kind that is smaller than the pictures (a level of
the pyramid, the magnitude of residuals) is cut where the view is, to whole pixels of its own. Magnitudes are brought to
a quarter of the view's size, and a level to the size that it has of a picture as large as the view: its short side is
the level's, or the view's if that is shorter.

Both layouts give the same arrays: vectors, labels, times and sound are equal; magnitudes are stored in steps of 1/64.
Pictures of the decoded layout were JPEG 95. In whole clips, crops and flips of 100 real and generated videos, 340x256,
they were off, on average over a clip, by up to 2.2 levels of 0 to 255 (RGB, 4:2:0), 1.8 (residuals, 4:4:4) and 3.7
(levels), and at single values by up to 47, 27 and 67; the tests allow 3, 2.5 and 5, and 64, 40 and 96. It is measured,
not proved: coloured noise is further off. Residuals are compared to the exact ones clipped to -128...127, which PNG
keeps exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.views import View
from vidprep.errors import ShardError, UsageError
from vidprep.modalities.clip import read_clip
from vidprep.modalities.packed import MAGNITUDE_SCALE, SMALL_KINDS
from vidprep.modalities.pyramid import decode_level, level_size
from vidprep.modalities.residual import FORMS
from vidprep.modalities.stored import check_stored, level_of
from vidprep.modalities.windows import TBN_SECONDS, check_seconds, read_windows
from vidprep.sampling import Clips, Segments

Whole = Callable[[Fraction], int]
Tensors = dict[str, torch.Tensor | bool | View]


@dataclass(frozen=True, slots=True)
class Windows:
    """Which parts of the sound an item holds.

    Attributes
    ----------
    seconds : float
        Length of a window: 1.279 s are the temporal binding network's.
    around : {"clip", "frames"}, optional
        One window around the middle of the clip, or one around each frame. By itself the latter for
        :class:`~vidprep.sampling.Segments`, whose frames lie apart, else the former.
    """

    seconds: float = TBN_SECONDS
    around: Literal["clip", "frames"] | None = None

    def __post_init__(self) -> None:
        check_seconds(self.seconds)
        if self.around not in ("clip", "frames", None):
            raise UsageError(f"around={self.around}: must be clip or frames, or left out")

    def middles(self, times: Sequence[float], clips: Clips) -> list[float]:
        """Return the windows' middles for frames of some times that a rule chose."""
        around = self.around or ("frames" if isinstance(clips, Segments) else "clip")
        return list(times) if around == "frames" else [(min(times) + max(times)) / 2]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a sample an item holds.

    Attributes
    ----------
    entries, facts : mapping
        The sample's files, and its json.
    frames : sequence of int
        Which of the stored frames, in the clip's order.
    view : View
        Which part of the pictures, at which size.
    resizes : bool
        Whether any view of the transform is resized: vectors are float32 then.
    clips : Clips
        The rule that chose the frames.
    labels : LabelReader
    windows : Windows
    """

    entries: Mapping[str, bytes]
    facts: Mapping[str, Any]
    frames: Sequence[int]
    view: View
    resizes: bool
    clips: Clips
    labels: LabelReader
    windows: Windows

    @property
    def positions(self) -> list[int]:
        """The frames in the video's order, each once: what must be decoded."""
        return sorted(set(self.frames))

    @property
    def times(self) -> list[float]:
        """When the frames are shown, in seconds from the video's start."""
        pts, stored = self.facts["pts_seconds"], self.facts["frame_indices"]
        return [round(pts[stored[i]] - self.facts["video_start_seconds"], 6) for i in self.frames]

    def tensor(self, kind: str, array: NDArray[Any], view: View) -> torch.Tensor:
        """Return the array of :attr:`positions` as the clip's tensor [shape=(C, T, H, W)]."""
        positions = self.positions
        clip = array if positions == self.frames else array[np.searchsorted(positions, self.frames)]
        return to_tensor(kind, clip, view, resizes=self.resizes)

    def small(
        self, kind: str, array: NDArray[Any], scale: Fraction, whole: Whole, size: tuple[int, int]
    ) -> torch.Tensor:
        """Cut the view out of pictures at a smaller scale, whose sides are the ``whole`` of the scaled ones."""
        x, y, width, height = self.view.crop
        box_width, box_height = (max(whole(side * scale), 1) for side in (width, height))
        left = min(math.floor(x * scale + Fraction(1, 2)), array.shape[2] - box_width)
        top = min(math.floor(y * scale + Fraction(1, 2)), array.shape[1] - box_height)
        part = View(left, top, box_width, box_height, *size, self.view.is_flipped)
        return self.tensor(kind, array[:, top : top + box_height, left : left + box_width], part)


def _read_clip(part: Part, names: Sequence[str]) -> Tensors:
    """In one pass: all that frames of the stream carry."""
    arrays = read_clip(part.entries, part.facts, part.positions, names, crop=part.view.crop)
    quarter = Fraction(1, MAGNITUDE_SCALE)
    size = math.ceil(part.view.width * quarter), math.ceil(part.view.height * quarter)
    return {
        kind: part.small(kind, array, quarter, math.ceil, size)
        if kind in SMALL_KINDS
        else part.tensor(kind, array, part.view)
        for kind, array in arrays.items()
    }


def _read_levels(part: Part, names: Sequence[str]) -> Tensors:
    found: Tensors = {}
    for name in names:
        level = level_of(name)
        assert level is not None
        array = decode_level(part.entries, level, part.facts, part.positions)
        if array is None:
            raise ShardError(f"modality={name}: the sample doesn't hold it; extract with --levels {level}")
        short = min(part.facts["width"], part.facts["height"])
        size = level_size(part.view.width, part.view.height, level)  # whatever the size of what is stored
        found[name] = part.small(name, array, Fraction(min(level, short), short), round, size)
    return found


def _read_sound(part: Part, names: Sequence[str]) -> Tensors:
    middles = part.windows.middles(part.times, part.clips)
    windows = read_windows(part.entries, part.facts, middles, part.windows.seconds)
    return {"spectrogram": torch.from_numpy(windows), "has_audio": "spectrogram.npy" in part.entries}


def _read_frame_labels(part: Part, names: Sequence[str]) -> Tensors:
    labels = part.labels.at(part.facts, part.times)
    found = {"frame_labels": labels, "clip_label": labels.max(axis=0)}
    return {name: torch.from_numpy(found[name]) for name in names}


def _read_times(part: Part, names: Sequence[str]) -> Tensors:
    return {"times": torch.tensor(part.times, dtype=torch.float64)}


def _read_frames(part: Part, names: Sequence[str]) -> Tensors:
    return {"frames": torch.tensor(part.frames)}


def _read_seen(part: Part, names: Sequence[str]) -> Tensors:
    return {"seen": part.view}


Read = Callable[[Part, Sequence[str]], Tensors]

KINDS: dict[str, Read] = {
    "rgb": _read_clip,
    "motion": _read_clip,
    "accumulated_motion": _read_clip,
    **{form.kind: _read_clip for form in FORMS.values()},
    "spectrogram": _read_sound,
    "frame_labels": _read_frame_labels,
    "clip_label": _read_frame_labels,
    "times": _read_times,
    "frames": _read_frames,
    "seen": _read_seen,
}
"""How each is read, together with others that are read alike."""


def reader_of(name: str) -> Read:
    """Return what reads a kind; UsageError if there is no such kind."""
    if level_of(name) is not None:
        return _read_levels
    if name not in KINDS:
        raise UsageError(f"modalities={name}: must be among {', '.join(KINDS)}, or a level such as rgb112")
    return KINDS[name]


def check_kinds(names: Sequence[str], recipe: Mapping[str, Any]) -> None:
    """Refuse names that are none, and kinds that shards of a recipe can't hold; UsageError and ShardError."""
    for name in names:
        reader_of(name)
    check_stored(names, recipe)


def read_kinds(part: Part, names: Sequence[str]) -> Tensors:
    """Return arrays of a part by name: pictures [shape=(C, T, H, W)], the rest as the README's table says."""
    reads = {name: reader_of(name) for name in names}
    found: Tensors = {}
    for read in dict.fromkeys(reads.values()):
        found |= read(part, [name for name in names if reads[name] is read])
    return found
