"""Reading a video: open, probe, frames in display order, audio. One pass gives everything."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import tee
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import av
from av.container import InputContainer
from av.video.frame import PictureType

from vidprep.codec.audio import Audio, cut_audio, decode_audio
from vidprep.codec.container import (
    decoding,
    has_index,
    measure_seconds,
    open_container,
    seek,
    video_stream,
)
from vidprep.codec.frame import Frame
from vidprep.codec.metadata import VideoMetadata
from vidprep.codec.motion import track_frames
from vidprep.codec.packets import PacketLog
from vidprep.codec.pictures import Numbering, decode, set_up
from vidprep.codec.probe import read_metadata, rotation_of
from vidprep.codec.timing import RESOLUTION_SECONDS, microseconds, repair_times, zip_exactly
from vidprep.errors import DecodeError, UnsupportedError

VECTOR_CODECS = frozenset({"mpeg4", "h264", "mpeg1video", "mpeg2video", "h263", "flv1", "msmpeg4v2", "msmpeg4v3"})
"""Codecs whose decoders export motion vectors."""

_SEEK_MARGIN_SECONDS = 1.0  # containers seek by decoding time, which runs ahead of presentation time
Track = Literal["none", "motion", "residual"]


class Video:
    """A video file, or a seekable binary stream that holds one.

    Parameters
    ----------
    source : path or binary file
        A local file. Playlists, scripts and network addresses are refused.
    container_format : str, optional
        FFmpeg's name of the demuxer, where it is known; guessing it takes longer than opening.
    frame_times : sequence of float, optional
        Presentation times in seconds, where the stream itself carries none; their number must be the number
        of frames.
    num_dropped_frames : int
        Frames that were dropped before the stream was made.

    Raises
    ------
    DecodeError
        If the source can't be opened or holds no video.

    Attributes
    ----------
    motion_exact : bool
        Whether the exported vectors are those of the stream, as far as it has been read. False for interlaced
        pictures; for H.264 whose vectors may mean one of several pictures; for MPEG-4 Part 2 with B-frames, for which
        libavcodec exports zeros, or with global motion (S-pictures).
    num_dropped_frames : int
        Frames displayed before the first I-frame, whether the decoder gave them or kept them to itself.
    num_repaired_times : int
        Frames whose time was missing or did not increase.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        container_format: str | None = None,
        frame_times: Sequence[float] | None = None,
        num_dropped_frames: int = 0,
    ) -> None:
        self.source: Path | IO[bytes] = Path(source) if isinstance(source, str | os.PathLike) else source
        self.container_format = container_format
        self.frame_times = frame_times
        self._num_dropped_before = self.num_dropped_frames = num_dropped_frames
        self.num_repaired_times = 0
        self.motion_exact = True
        self.metadata = self._probe()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close a stream that was handed in; files are open only while they are read."""
        if not isinstance(self.source, Path):
            self.source.close()

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.source) if isinstance(self.source, Path) else "stream"

    def frames(
        self,
        *,
        track: Track = "none",
        vectors: bool = True,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Iterator[Frame]:
        """Decode once, in display order, holding a few frames at a time.

        Parameters
        ----------
        track : {"none", "motion", "residual"}
            Follow each pixel to its GOP's I-frame, for accumulated motion, or for accumulated residual too.
        vectors : bool
            Have the decoder export its block vectors.
        start_seconds, end_seconds : float, optional
            Time relative to the first frame. Decoding begins at the I-frame at or before the start, and frames
            from there on are yielded, so that all of them can be tracked; it ends with the last
            frame before ``end_seconds``, or with the anchor that this frame needs if it is a B-frame.

        Yields
        ------
        Frame
            Frames displayed before the first I-frame are dropped and counted in ``num_dropped_frames``.

        Raises
        ------
        DecodeError
            If the stream is damaged, or holds no I-frame.
        UnsupportedError
            If vectors are wanted and the codec exports none, or a picture is interlaced; or if the picture's size
            changes.
        """
        vectors = vectors or track != "none"
        if vectors and self.metadata.codec not in VECTOR_CODECS:
            raise UnsupportedError(
                f"codec={self.metadata.codec}: its decoder exports no motion vectors (those of "
                f"{', '.join(sorted(VECTOR_CODECS))} do); transcode it (--codec mpeg4)"
            )
        frames = self._frames(vectors, start_seconds, end_seconds)
        return frames if track == "none" else track_frames(frames, with_picture=track == "residual")

    def measure_seconds(self, at_most: float = math.inf) -> float:
        """Return the time from the start to the last packet's end, by reading all packets without decoding them.

        Unlike ``metadata.duration_seconds`` it relies on no claim. It stops beyond ``at_most``; it is 0.0 where
        packets carry no timestamps.
        """
        start = self.metadata.start_seconds
        with self._container() as container, decoding(self.name):
            end = measure_seconds(container, video_stream(container, self.name), start + at_most)
        return max(end - start, 0.0)

    def times(self) -> list[float]:
        """Return the presentation time of each frame in seconds, by decoding all of them."""
        if self.frame_times is not None:
            return list(self.frame_times)
        return [frame.pts_seconds for frame in self.frames(vectors=False)]

    def _frames(self, vectors: bool, start: float | None, end: float | None) -> Iterator[Frame]:
        self.num_dropped_frames, self.num_repaired_times = self._num_dropped_before, 0
        with self._container() as container:
            stream = video_stream(container, self.name)
            numbering, log = Numbering(), PacketLog(stream.codec_context)
            last, num_before = None, 0
            for picture, time in self._timed(self._pictures(container, stream, log, vectors, start)):
                frame = numbering.frame(picture, time)
                if frame is None:
                    num_before += 1
                    continue
                if last is None:
                    self.num_dropped_frames += self._num_before(picture, log, start, num_before)
                past_end = end is not None and microseconds(time - self.metadata.start_seconds) >= microseconds(end)
                if past_end and last != "B":
                    break
                last = frame.picture_type
                self._check(frame, picture, log, vectors)
                yield frame
            if last is None:
                limit, cure = "", "the file is damaged or cut"
                if end is not None:
                    limit, cure = f" before end_seconds={end}", "check start and end, or get the file anew"
                raise DecodeError(f"num_frames=0 in {self.name}: no I-frame could be decoded{limit}; {cure}")

    def _check(self, frame: Frame, picture: av.VideoFrame, log: PacketLog, vectors: bool) -> None:
        codec = self.metadata.codec
        # H.264's decoder tells how a picture should be shown; for the others that is how it was coded, ...
        is_interlaced = log.has_fields if codec == "h264" else picture.interlaced_frame
        if codec == "mpeg2video" and vectors:  # ... but for fields within progressive frames: half a macroblock each
            is_interlaced |= bool((frame.vectors["h"] != frame.vectors["w"]).any())
        if vectors and is_interlaced:
            raise UnsupportedError(
                f"interlaced=true at pts_seconds={picture.time} in {self.name}: vectors of fields can't be told from "
                "those of frames; transcode it (--codec mpeg4), or leave out motion and residual"
            )
        of_mpeg4 = codec == "mpeg4" and picture.pict_type in (PictureType.B, PictureType.S)
        self.motion_exact &= log.motion_exact and not (of_mpeg4 or is_interlaced)

    def _num_before(self, first: av.VideoFrame, log: PacketLog, start: float | None, num_pictures: int) -> int:
        """Count the wanted frames before the first: by the packets, since decoders skip some pictures in silence."""
        times = log.take_times()
        if first.pts is None:
            return num_pictures
        begin = -math.inf if start is None else start + self.metadata.start_seconds - RESOLUTION_SECONDS
        return sum(begin <= time < first.time - RESOLUTION_SECONDS for time in times)

    def _pictures(
        self, container: InputContainer, stream: av.VideoStream, log: PacketLog, vectors: bool, start: float | None
    ) -> Iterator[av.VideoFrame]:
        set_up(stream.codec_context, vectors=vectors)
        if start and start > _SEEK_MARGIN_SECONDS:  # else a seek could only pass over frames before the first I-frame
            seek(container, start + self.metadata.start_seconds - _SEEK_MARGIN_SECONDS)
        with decoding(self.name):
            yield from decode(log.watch(container.demux(stream)), stream.decode, self.name)

    def _timed(self, pictures: Iterator[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, float]]:
        if self.frame_times is not None:
            yield from zip_exactly(pictures, self.frame_times, self.name)
            return
        pictures, ahead = tee(pictures)
        # A packed bitstream swaps the times of neighbours, and a repaired time stays before the next; more costs cache.
        window = max(2 * self._reorder_depth, 1)
        step = 1 / self.metadata.fps if self.metadata.fps else 0.04
        raw = (None if picture.pts is None else picture.time for picture in ahead)
        for picture, (time, repaired) in zip(pictures, repair_times(raw, step, window), strict=False):
            self.num_repaired_times += repaired
            yield picture, time

    def _probe(self) -> VideoMetadata:
        with self._container() as container:
            stream = video_stream(container, self.name)
            self._reorder_depth = stream.codec_context.reorder_depth
            self.has_index = has_index(container)
            rotation = 0 if self.frame_times is not None else rotation_of(container, stream, self.name)
            return read_metadata(container, stream, rotation)

    def _container(self) -> AbstractContextManager[InputContainer]:
        return open_container(self.source, self.name, self.container_format)

    def audio(
        self, sample_rate_hz: int, *, start_seconds: float | None = None, end_seconds: float | None = None
    ) -> Audio | None:
        """Decode the first audio stream, mixed to mono and resampled; None if there is none.

        Parameters
        ----------
        sample_rate_hz : int
            Wanted rate.
        start_seconds, end_seconds : float, optional
            Time relative to the video's start; cut to the nearest sample.

        Returns
        -------
        Audio or None
            ``start_seconds`` of it is relative to the video's start as well.

        Raises
        ------
        DecodeError
            If the stream is damaged.
        """
        if not self.metadata.has_audio:
            return None
        with self._container() as container:
            stream = next(audio for audio in container.streams.audio if audio.codec_context is not None)
            if start_seconds:
                seek(container, start_seconds + self.metadata.start_seconds - _SEEK_MARGIN_SECONDS)
            end = None if end_seconds is None else end_seconds + self.metadata.start_seconds
            with decoding(f"the audio of {self.name}"):
                samples, first = decode_audio(container, stream, sample_rate_hz, end)
        return cut_audio(samples, first - self.metadata.start_seconds, sample_rate_hz, start_seconds, end_seconds)
