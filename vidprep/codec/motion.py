"""From block vectors to displacements: every pixel followed to the I-frame of its GOP.

The chain goes from anchor to anchor (I and P), never from frame to frame in display order. For an anchor
``source[p] = previous_source[p - v(p)]``; pixels with a zero vector, without a vector or whose source is
outside the frame keep their value. A B-frame starts from its past anchor: a past vector composes with it; a
block with only a future vector composes with the future anchor if that is in the same GOP.
On streams without B-frames this is the accumulation of CoViAR's loader (Wu et al., CVPR 2018, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.anchors import check_num_b_frames
from vidprep.codec.blocks import as_pairs
from vidprep.codec.frame import Frame
from vidprep.errors import UnsupportedError

PAST, FUTURE = -1, 1
AnyFrame = TypeVar("AnyFrame", "Frame", "_Vectors")


class Track:
    """Where each pixel of one frame came from: displacements to the I-frame, and the I-picture warped along.

    Parameters
    ----------
    height, width : int
        Size of the frame in pixels.
    with_field, with_picture : bool
        Carry displacements, and the I-picture, as residuals need it; what is not carried has no rows.
    """

    def __init__(self, height: int, width: int, *, with_field: bool = True, with_picture: bool) -> None:
        self.field: NDArray[np.int16] = np.zeros((height if with_field else 0, width, 2), np.int16)
        self.pairs = as_pairs(self.field, *self.field.shape[:2])
        self.picture: NDArray[np.uint8] = np.zeros((height if with_picture else 0, 3 * width), np.uint8)
        self._moved: NDArray[np.int32] = np.empty(self.pairs.size, np.int32)
        self._moved_picture: NDArray[np.uint8] = np.empty(self.picture.size, np.uint8)

    def start(self, frame: Frame | _Vectors) -> None:
        """Begin a GOP: no displacement; the prediction is the I-frame's own picture."""
        self.pairs[...] = 0
        if self.picture.shape[0]:
            assert isinstance(frame, Frame)
            self.picture[...] = frame.rgb_rows()[:, : self.picture.shape[1]]

    def copy_from(self, other: Track) -> None:
        """Take over another frame's displacements and prediction."""
        self.pairs[...] = other.pairs
        self.picture[...] = other.picture

    def follow(self, blocks: NDArray[np.void]) -> None:
        """Go from the past anchor, which the track holds, to the next one by this one's vectors, in place."""
        self._move(blocks, PAST, self)

    def follow_both(self, blocks: NDArray[np.void], past: Track, future: Track | None) -> None:
        """Fill from both anchors and one B-frame's vectors; ``future`` is None across a GOP's end."""
        self.copy_from(past)
        if future is not None:
            self._move(blocks, FUTURE, future)
            from vidprep.codec import _kernels

            _kernels.restore_blocks(blocks, PAST, past.pairs, past.picture, self.pairs, self.picture)
        self._move(blocks, PAST, past)

    def _move(self, blocks: NDArray[np.void], source: int, reference: Track) -> None:
        # All is read before anything is written, so that the reference may be the track itself.
        from vidprep.codec import _kernels

        of_reference = reference.pairs, reference.picture
        num_pixels = _kernels.gather_blocks(blocks, source, *of_reference, self._moved, self._moved_picture)
        if num_pixels > max(self._moved.size, self._moved_picture.size // 3):  # blocks of no encoder: they overlap
            self._moved = np.empty(num_pixels if self.pairs.size else 0, np.int32)
            self._moved_picture = np.empty(3 * num_pixels if self.picture.size else 0, np.uint8)
            _kernels.gather_blocks(blocks, source, *of_reference, self._moved, self._moved_picture)
        _kernels.scatter_blocks(blocks, source, self._moved, self._moved_picture, self.pairs, self.picture)

    def motion(self, out: NDArray[np.int16] | None = None, *, copy: bool = True) -> NDArray[np.int16]:
        """Return the displacements [shape=(H, W, 2), dtype=int16]: x, y, position minus source, pixels."""
        if not self.pairs.size:
            raise UnsupportedError(
                'track="picture" carries no displacements: accumulated motion needs track="motion", or "residual"'
            )
        if out is not None:
            as_pairs(out, *self.pairs.shape)[...] = self.pairs
            return out
        if copy:
            return self.field.copy()
        view = self.field.view()
        view.flags.writeable = False
        return view


def track_frames(frames: Iterable[AnyFrame], *, with_field: bool = True, with_picture: bool) -> Iterator[AnyFrame]:
    """Yield the frames in display order, each followed to the I-frame of its GOP.

    Parameters
    ----------
    frames : iterable of Frame
        In display order, beginning with an I-frame.
    with_field : bool
        Follow displacements, for accumulated motion.
    with_picture : bool
        Warp the I-picture along, for accumulated residuals.

    Yields
    ------
    Frame
        With ``track`` set; its arrays are valid until the next frame is asked for.

    Raises
    ------
    DecodeError
        If more B-frames follow each other than any codec allows.
    """

    def new(frame: AnyFrame) -> Track:
        return Track(frame.height, frame.width, with_field=with_field, with_picture=with_picture)

    past = future = between = None
    waiting: list[AnyFrame] = []  # B-frames need the anchor that is displayed after them
    for frame in frames:
        if frame.picture_type == "B":
            waiting.append(frame)
            check_num_b_frames(len(waiting), frame.index)
            continue
        past = past or new(frame)
        if waiting:
            future, between = future or new(frame), between or new(frame)
            if frame.picture_type != "I":
                future.copy_from(past)
                future.follow(frame.vectors)
            yield from _between(waiting, between, past, None if frame.picture_type == "I" else future)
            past, future = future, past
            waiting.clear()
        elif frame.picture_type != "I":
            past.follow(frame.vectors)
        if frame.picture_type == "I":
            past.start(frame)
        yield from _lend(frame, past)
    if past is not None and waiting:
        yield from _between(waiting, between or new(waiting[0]), past, None)


def accumulate_vectors(blocks: Sequence[NDArray[np.void]], picture_types: str, out: NDArray[np.int16]) -> None:
    """Rebuild accumulated motion from stored vectors.

    Parameters
    ----------
    blocks : sequence of ndarray [shape=(N,), dtype=BLOCK_DTYPE]
        One for each frame in display order, beginning with an I-frame.
    picture_types : str
        One letter a frame.
    out : ndarray [shape=(T, H, W, 2), dtype=int16]
        Where the fields are written: x, y, pixels.
    """
    height, width = out.shape[1:3]
    pairs = enumerate(zip(picture_types, blocks, strict=True))
    frames = (_Vectors(i, picture_type, vectors, height, width) for i, (picture_type, vectors) in pairs)
    for frame in track_frames(frames, with_picture=False):
        assert frame.track is not None
        frame.track.motion(out[frame.index])


@dataclass(slots=True)
class _Vectors:
    """A frame without its picture: all that displacements need."""

    index: int
    picture_type: str
    vectors: NDArray[np.void]
    height: int
    width: int
    track: Track | None = None


def _between(waiting: list[AnyFrame], track: Track, past: Track, future: Track | None) -> Iterator[AnyFrame]:
    for frame in waiting:
        track.follow_both(frame.vectors, past, future)
        yield from _lend(frame, track)


def _lend(frame: AnyFrame, track: Track) -> Iterator[AnyFrame]:
    frame.track = track
    yield frame
    frame.track = None  # the next frames overwrite it
