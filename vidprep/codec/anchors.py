"""Which frames a frame refers to: P to the last anchor displayed before it, B to that and the next one displayed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vidprep.errors import DecodeError

if TYPE_CHECKING:
    from vidprep.codec.frame import Frame

MAX_CONSECUTIVE_B_FRAMES = 64  # codecs allow 16 at most between two anchors; more is a damaged or hostile stream


def check_num_b_frames(num_b_frames: int, index: int) -> None:
    """Raise DecodeError if more B-frames wait for their next anchor, at frame ``index``, than any codec allows."""
    if num_b_frames > MAX_CONSECUTIVE_B_FRAMES:
        raise DecodeError(
            f"num_consecutive_b_frames={num_b_frames} at frame {index}: the limit is {MAX_CONSECUTIVE_B_FRAMES}; "
            "the stream is damaged, transcode it (--codec mpeg4)"
        )


def link_anchors(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames in display order, each linked to its anchors.

    Parameters
    ----------
    frames : iterable of Frame
        In display order. B-frames are held back until the anchor that is displayed after them.

    Raises
    ------
    DecodeError
        If more B-frames follow each other than any codec allows.
    """
    past: Frame | None = None
    waiting: list[Frame] = []
    for frame in frames:
        if frame.picture_type == "B":
            waiting.append(frame)
            check_num_b_frames(len(waiting), frame.index)
            continue
        for between in waiting:
            between.link(past, frame)
            yield between
        waiting.clear()
        frame.link(past, None)
        yield frame
        past = frame
    for between in waiting:
        between.link(past, None)
        yield between
