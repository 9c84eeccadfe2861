"""Reading a packed stream: any frames, decoding only the groups of pictures that they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.codec.video import Track

Crop = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class PackedVideo:
    """A packed stream, read at random; may be shared by threads.

    Parameters
    ----------
    data : bytes-like
        What :func:`vidprep.codec.packed.pack` made.
    facts : mapping
        The sample's json: ``packets``, ``picture_types``, ``pts_seconds``, ``width``, ``height``.

    Raises
    ------
    ShardError
        If the packet table and the stream contradict each other.
    """

    def __init__(self, data: bytes | memoryview, facts: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of frames."""
        raise NotImplementedError

    def frames(
        self, start: int = 0, stop: int | None = None, *, track: Track = "none", vectors: bool = True
    ) -> Iterator[Frame]:
        """Decode frames ``start`` to ``stop`` in display order: those that one pass over the whole stream gives.

        Parameters
        ----------
        start, stop : int
            Frame indices; ``stop`` is exclusive, None for the end.
        track, vectors
            As in :meth:`Video.frames`.

        Raises
        ------
        UsageError
            If there are no such frames.
        DecodeError
            If the stream is damaged; the message names the frame.
        """
        raise NotImplementedError

    def rgb(
        self, start: int = 0, stop: int | None = None, *, crop: Crop | None = None, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return the pictures of frames [shape=(T, h, w, 3), dtype=uint8], cut to ``crop``."""
        raise NotImplementedError
