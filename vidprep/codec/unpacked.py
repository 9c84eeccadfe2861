"""Reading a packed stream: any frames, decoding only the groups of pictures that they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidprep.codec.cropping import Crop, Cropper
from vidprep.codec.decoders import borrowed_decoder
from vidprep.codec.frame import Frame
from vidprep.codec.pictures import picture_letter
from vidprep.codec.single_pass import refuse_fields
from vidprep.codec.table import PacketTable
from vidprep.codec.wanted import Track, Wanted
from vidprep.errors import DecodeError, UsageError

_CURE = "get the video anew, or extract it with --codec mpeg4 --decode-errors keep"


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
        self._data = memoryview(data)
        self._table = PacketTable(facts, len(self._data))
        self._name = str(facts.get("key", "stream"))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._table.picture_types)

    def frames(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        track: Track = "none",
        vectors: bool = True,
        coded: bool = False,
    ) -> Iterator[Frame]:
        """Decode frames ``start`` to ``stop`` in display order: those that one pass over the whole stream gives.

        Parameters
        ----------
        start, stop : int
            Frame indices; ``stop`` is exclusive, None for the end.
        track, vectors, coded
            As in :meth:`Video.frames`.

        Yields
        ------
        Frame
            Equal to that of :meth:`Video.frames` with the same index.

        Raises
        ------
        UsageError
            If there are no such frames.
        DecodeError
            If the stream is damaged; the message names the frame.
        UnsupportedError
            If the codec can't give what is wanted, or vectors are wanted and pictures are interlaced.
        """
        start, stop = self._check_range(start, stop)
        return self.frames_at(range(start, stop), track=track, vectors=vectors, coded=coded)

    def frames_at(
        self, indices: Sequence[int], *, track: Track = "none", vectors: bool = True, coded: bool = False
    ) -> Iterator[Frame]:
        """Decode some frames (indices, increasing) as :meth:`frames` does; groups of pictures between are left out."""
        if not indices or any(a >= b for a, b in pairwise((-1, *indices, len(self)))):
            raise UsageError(f"indices={list(indices)}: must increase from 0 to num_frames={len(self)}, exclusive")
        wanted = Wanted(track, vectors, coded=coded)
        wanted.check(self._table.codec)
        return self._runs(indices, wanted)

    def _runs(self, indices: Sequence[int], wanted: Wanted) -> Iterator[Frame]:
        for run in self._table.runs(indices):
            if wanted.track != "none" or wanted.coded:
                yield from self._followed(run, wanted)
            else:
                yield from self._frames(run, wanted)

    def rgb(
        self, start: int = 0, stop: int | None = None, *, crop: Crop | None = None, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return the pictures of frames [shape=(T, h, w, 3), dtype=uint8], range 0-255.

        Parameters
        ----------
        start, stop : int
            Frame indices; ``stop`` is exclusive, None for the end.
        crop : tuple of int, optional
            x, y, width and height in pixels; only that part is converted.
        out : ndarray, optional
            Array to write into [shape=(T, h, w, 3), dtype=uint8].

        Raises
        ------
        UsageError
            If there are no such frames, the crop reaches beyond the picture, or ``out`` has another shape.
        DecodeError
            If the stream is damaged; the message names the frame.
        """
        start, stop = self._check_range(start, stop)
        cropper = Cropper(crop, self._table.width, self._table.height)
        shape = (stop - start, *cropper.shape)
        if out is not None and (out.shape != shape or out.dtype != np.uint8):
            raise UsageError(f"out.shape={out.shape}, out.dtype={out.dtype}: must be uint8, of shape {shape}")
        for frame in self._frames(range(start, stop), Wanted(vectors=False)):
            if out is None:
                out = np.empty(shape, np.uint8)  # not before a picture has the promised size
            out[frame.index - start] = cropper.rgb(frame)
        assert out is not None
        return out

    def _check_range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise UsageError(f"start={start}, stop={stop}: must be 0 <= start < stop <= num_frames={len(self)}")
        return start, stop

    def _followed(self, indices: Sequence[int], wanted: Wanted) -> Iterator[Frame]:
        """Follow all anchors from the I-frame on; B-frames need the anchor displayed after them."""
        table, chosen = self._table, set(indices)
        around = range(table.gop_start(indices[0]), table.next_anchor(indices[-1]) + 1)
        needed = [i for i in around if table.picture_types[i] != "B" or i in chosen]
        for frame in wanted.follow(self._frames(needed, wanted)):
            if frame.index in chosen:
                yield frame

    def _frames(self, indices: Sequence[int], wanted: Wanted) -> Iterator[Frame]:
        table, converter = self._table, VideoReformatter()
        for index, picture in self._pictures(indices, wanted):
            letters = table.picture_types
            yield Frame(
                picture,
                converter,
                index=index,
                picture_type=letters[index],
                pts_seconds=table.pts_seconds[index],
                gop_index=letters.count("I", 0, index + 1) - 1,
                gop_position=index - table.gop_start(index),
            )

    def _pictures(self, indices: Sequence[int], wanted: Wanted) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the frames' indices and pictures; each of them, in order, or DecodeError."""
        table = self._table
        packets = table.packets_for(indices, vectors=wanted.needs_vectors)
        num_found = 0
        with borrowed_decoder(table, self._data, wanted) as decoder:
            for picture in decoder.decode(table, self._data, packets, wanted, self._name):
                index = indices[num_found]
                if picture.pts is None or picture.pts < index:
                    continue  # decoded for others to refer to
                if picture.pts > index:
                    break
                self._check(picture, index)
                if wanted.needs_vectors:
                    refuse_fields(table.codec, picture, self._name, is_interlaced=table.is_interlaced)
                yield index, picture
                num_found += 1
                if num_found == len(indices):
                    return
            raise DecodeError(f"frame={indices[num_found]} of {self._name}: it can't be decoded; {_CURE}")

    def _check(self, picture: av.VideoFrame, index: int) -> None:
        table = self._table
        found = (picture.width, picture.height, picture_letter(picture))
        promised = (table.width, table.height, table.picture_types[index])
        if picture.is_corrupt or found != promised:
            reason = "it is damaged" if picture.is_corrupt else f"{found} is not the promised {promised}"
            raise DecodeError(f"frame={index} of {self._name}: {reason}; {_CURE}")
