"""Reading a video: open, probe, frames in display order, audio. One pass gives everything."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import tee
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal

import av
from av.container import InputContainer
from av.video.frame import PictureType

from vidprep.codec.anchors import link_anchors
from vidprep.codec.audio import Audio, cut_audio, decode_audio
from vidprep.codec.coded import check_codec
from vidprep.codec.container import (
    decoding,
    has_index,
    measure_seconds,
    open_container,
    seek,
    video_stream,
)
from vidprep.codec.frame import Frame, exported_vectors
from vidprep.codec.macroblocks import MacroblockParser, can_parse
from vidprep.codec.metadata import VideoMetadata
from vidprep.codec.motion import track_frames
from vidprep.codec.pictures import Numbering, annotate, check_annotation, decode, set_up
from vidprep.codec.probe import read_metadata, rotation_of
from vidprep.codec.timing import microseconds, repair_times, zip_exactly
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec.pictures import Packet

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
        self._has_lost_vectors = False
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

    @property
    def motion_exact(self) -> bool:
        """Whether the exported vectors are those of the stream, as far as it has been read.

        False for H.264 with several reference frames, whose vectors don't say which one they mean, for interlaced
        pictures, whose vectors may be those of one field, and for MPEG-4 Part 2 with global motion (S-pictures), or
        with B-frames, for which libavcodec exports zeros, where these can't be parsed. H.264 streams that don't refer
        to each of their P-pictures are not recognised.
        """
        return self.metadata.motion_exact and not self._has_lost_vectors

    def _loses_vectors(self, picture: av.VideoFrame, vectors: bool, macroblocks: bool) -> bool:
        """Tell whether a picture's vectors are not the stream's; with ``vectors`` unset, none are looked at."""
        if picture.interlaced_frame or self.metadata.codec != "mpeg4":
            return picture.interlaced_frame
        if not vectors:
            return picture.pict_type == PictureType.S or (picture.pict_type == PictureType.B and not self._can_parse)
        # libavcodec exports none for an anchor that it has to be asked for at the end, as streams with B-frames have.
        left_out = self._reorder_depth > 0 and picture.pict_type == PictureType.P and exported_vectors(picture) is None
        if left_out or picture.pict_type == PictureType.B:
            return not check_annotation(picture, strict=macroblocks)
        return picture.pict_type == PictureType.S

    def frames(
        self,
        *,
        track: Track = "none",
        vectors: bool = True,
        macroblocks: bool = False,
        coded: bool = False,
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
        macroblocks : bool
            Parse the bitstream of MPEG-4 Part 2 for ``Frame.vop`` and ``Frame.macroblocks``.
        coded : bool
            Parse it, and keep each frame's references for ``Frame.coded_residual``. Pictures are decoded with the
            standard's arithmetic then; libavcodec's usual one is off by one level in rare places.
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
            If vectors are wanted and the codec exports none, or the picture's size changes; if macroblocks are wanted
            and the codec is not MPEG-4 Part 2, or uses tools of it that are not known here.
        """
        if coded:
            check_codec(self.metadata.codec)
        vectors = vectors or track != "none"
        if vectors and self.metadata.codec not in VECTOR_CODECS:
            raise UnsupportedError(
                f"codec={self.metadata.codec}: its decoder exports no motion vectors (those of "
                f"{', '.join(sorted(VECTOR_CODECS))} do); transcode it (--codec mpeg4)"
            )
        if macroblocks and self.metadata.codec != "mpeg4":
            raise UnsupportedError(
                f"codec={self.metadata.codec}: only MPEG-4 Part 2 is parsed; transcode it (--codec mpeg4)"
            )
        frames = self._frames(vectors, macroblocks or coded, coded, start_seconds, end_seconds)
        frames = link_anchors(frames) if coded else frames
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

    def _frames(
        self, vectors: bool, macroblocks: bool, exact: bool, start: float | None, end: float | None
    ) -> Iterator[Frame]:
        self.num_dropped_frames, self.num_repaired_times = self._num_dropped_before, 0
        with self._container() as container:
            numbering = Numbering()
            last = None
            for picture, time in self._timed(self._pictures(container, vectors, macroblocks, exact, start)):
                frame = numbering.frame(picture, time)
                if frame is None:
                    self.num_dropped_frames += 1
                    continue
                past_end = end is not None and microseconds(time - self.metadata.start_seconds) >= microseconds(end)
                if past_end and last != "B":
                    break
                last = frame.picture_type
                self._has_lost_vectors |= self._loses_vectors(picture, vectors, macroblocks)
                yield frame
            if last is None:
                limit, cure = "", "the file is damaged or cut"
                if end is not None:
                    limit, cure = f" before end_seconds={end}", "check start and end, or get the file anew"
                raise DecodeError(f"num_frames=0 in {self.name}: no I-frame could be decoded{limit}; {cure}")

    def _pictures(
        self, container: InputContainer, vectors: bool, macroblocks: bool, exact: bool, start: float | None
    ) -> Iterator[av.VideoFrame]:
        stream = video_stream(container, self.name)
        set_up(stream.codec_context, vectors=vectors, exact=exact)
        if start:
            seek(container, start + self.metadata.start_seconds - _SEEK_MARGIN_SECONDS)
        packets: Iterator[Packet] = container.demux(stream)
        if macroblocks or (vectors and self._can_parse):
            packets = annotate(packets, stream, MacroblockParser(self._extradata, self._codec_tag), strict=macroblocks)
        with decoding(self.name):
            yield from decode(packets, stream.decode, self.name)

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
            self._extradata = stream.codec_context.extradata or b""
            self._codec_tag = stream.codec_context.codec_tag
            self.has_index = has_index(container)
            rotation = 0 if self.frame_times is not None else rotation_of(container, stream, self.name)
            metadata = read_metadata(container, stream, rotation)
        # libavcodec loses vectors of MPEG-4 Part 2 with B-frames; from the bitstream they can be had.
        self._can_parse = metadata.codec == "mpeg4" and self._reorder_depth > 0 and can_parse(self._extradata)
        return metadata

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
