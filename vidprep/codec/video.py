"""Reading a video: open, probe, frames in display order, audio. One pass gives everything."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO

import av
from av.container import InputContainer

from vidprep.codec.audio import Audio, cut_audio, decode_audio
from vidprep.codec.container import (
    decoding,
    has_index,
    measure_seconds,
    open_container,
    seek,
    video_stream,
)
from vidprep.codec.damage import Damage
from vidprep.codec.frame import Frame
from vidprep.codec.metadata import VideoMetadata
from vidprep.codec.pictures import Numbering
from vidprep.codec.probe import read_metadata, rotation_of
from vidprep.codec.single_pass import SinglePass
from vidprep.codec.timing import RESOLUTION_SECONDS, HasTime, Stamped, microseconds, with_repaired_times, zip_exactly
from vidprep.codec.wanted import Track, Wanted
from vidprep.errors import DecodeError

SEEK_MARGIN_SECONDS = 1.0  # containers seek by decoding time, which runs ahead of presentation time


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
    num_dropped_frames, num_decode_errors : int
        Frames that were dropped, and damage that was reported, before the stream was made.
    keep_damaged : bool
        Read a damaged video as far as it decodes and count what the decoders report, instead of raising it.

    Raises
    ------
    DecodeError
        If the source can't be opened or holds no video.

    Attributes
    ----------
    motion_exact : bool
        Whether the exported vectors are those of the stream, as far as it has been read. False for interlaced
        pictures; for H.264 whose vectors may mean one of several pictures; for MPEG-4 Part 2 with global motion
        (S-pictures), or with B-frames, for which libavcodec exports zeros, where these can't be parsed.
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
        num_decode_errors: int = 0,
        keep_damaged: bool = False,
    ) -> None:
        self.source: Path | IO[bytes] = Path(source) if isinstance(source, str | os.PathLike) else source
        self.container_format = container_format
        self.frame_times = frame_times
        self._num_dropped_before = self.num_dropped_frames = num_dropped_frames
        self.num_repaired_times = 0
        self.motion_exact = True
        self.keep_damaged = keep_damaged
        self._num_errors_before = num_decode_errors
        self._damage = {part: Damage(self.name, keep=keep_damaged) for part in ("header", "pictures", "sound")}
        with self._damage["header"].listening():
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
    def num_decode_errors(self) -> int:
        """What the decoders reported as far as the video has been read: damaged pictures, damaged and refused packets.

        At least 1 if FFmpeg logged an error; that alone is never raised. :class:`Damage` says what can't be known.
        """
        found = self._damage.values()
        num_reports = self._num_errors_before + sum(damage.num_reports for damage in found)
        return max(num_reports, int(any(damage.is_logged for damage in found)))

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
        track : {"none", "motion", "picture", "residual"}
            Follow each pixel to its GOP's I-frame: for accumulated motion, for the accumulated residual, or for both.
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
            If the stream is damaged (and damage is not counted), or holds no I-frame.
        UnsupportedError
            If vectors are wanted and the codec exports none, or a picture is interlaced; if the picture's size changes;
            if macroblocks are wanted and the codec is not MPEG-4 Part 2, or uses tools of it that are not known here.
        """
        wanted = Wanted(track, vectors, macroblocks, coded)
        wanted.check(self.metadata.codec)
        return wanted.follow(self._frames(wanted, start_seconds, end_seconds))

    def measure_seconds(self, at_most: float = math.inf) -> float:
        """Return the time from the start to the last packet's end, by reading all packets without decoding them.

        Unlike ``metadata.duration_seconds`` it relies on no claim. It stops beyond ``at_most``; it is 0.0 where
        packets carry no timestamps.
        """
        start = self.metadata.start_seconds
        with self._container() as container, decoding(self.name):
            end = measure_seconds(container, video_stream(container, self.name), self.name, start + at_most)
        return max(end - start, 0.0)

    def times(self) -> list[float]:
        """Return the presentation time of each frame in seconds, by decoding all of them."""
        if self.frame_times is not None:
            return list(self.frame_times)
        return [frame.pts_seconds for frame in self.frames(vectors=False)]

    def _frames(self, wanted: Wanted, start: float | None, end: float | None) -> Iterator[Frame]:
        self.num_dropped_frames, self.num_repaired_times = self._num_dropped_before, 0
        self._damage["pictures"] = self._damage["pictures"].again()
        with self._container() as container:
            stream = video_stream(container, self.name)
            reading = SinglePass(stream.codec_context, self._damage["pictures"], wanted)
            numbering, last, num_before = Numbering(), None, 0
            for picture, time in self._timed(self._pictures(container, stream, reading, start)):
                frame = numbering.frame(picture, time)
                if frame is None:
                    num_before += 1
                    continue
                if last is None:
                    self.num_dropped_frames += self.num_before(picture, reading.log.take_times(), start, num_before)
                past_end = end is not None and microseconds(time - self.metadata.start_seconds) >= microseconds(end)
                if past_end and last != "B":
                    break
                last = frame.picture_type
                self.motion_exact &= reading.is_exact(picture)
                yield frame
            if last is None:
                limit, cure = "", "the file is damaged or cut"
                if end is not None:
                    limit, cure = f" before end_seconds={end}", "check start and end, or get the file anew"
                raise DecodeError(f"num_frames=0 in {self.name}: no I-frame could be decoded{limit}; {cure}")

    def num_before(self, first: HasTime, times: Iterable[float], start: float | None, num_pictures: int) -> int:
        """Count the wanted frames before the first one: by the packets, as decoders skip some pictures in silence.

        Parameters
        ----------
        first : picture or packet
            The first I-frame.
        times : iterable of float
            Presentation times of all packets up to it, in seconds.
        start : float or None
            From where frames are wanted, in seconds from the video's start.
        num_pictures : int
            How many pictures the decoder gave before it, where there are no times.
        """
        if first.time is None:
            return num_pictures
        begin = -math.inf if start is None else start + self.metadata.start_seconds - RESOLUTION_SECONDS
        return sum(begin <= time < first.time - RESOLUTION_SECONDS for time in times)

    def _pictures(
        self, container: InputContainer, stream: av.VideoStream, reading: SinglePass, start: float | None
    ) -> Iterator[av.VideoFrame]:
        if start and start > SEEK_MARGIN_SECONDS:  # else a seek could only pass over frames before the first I-frame
            seek(container, start + self.metadata.start_seconds - SEEK_MARGIN_SECONDS)
        with decoding(self.name):
            yield from reading.pictures(container.demux(stream), stream.decode, stream)

    def _timed(self, pictures: Iterator[Stamped]) -> Iterator[tuple[Stamped, float]]:
        if self.frame_times is not None:
            yield from zip_exactly(pictures, self.frame_times, self.name)
            return
        # A packed bitstream swaps the times of neighbours, and a repaired time stays before the next; more costs cache.
        window = max(2 * self._reorder_depth, 1)
        step = 1 / self.metadata.fps if self.metadata.fps else 0.04
        for picture, time, repaired in with_repaired_times(pictures, step, window):
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
                seek(container, start_seconds + self.metadata.start_seconds - SEEK_MARGIN_SECONDS)
            end = None if end_seconds is None else end_seconds + self.metadata.start_seconds
            name = f"the audio of {self.name}"
            damage = self._damage["sound"] = Damage(name, keep=self.keep_damaged)
            with decoding(name):
                samples, first = decode_audio(container, stream, sample_rate_hz, end, damage)
        return cut_audio(samples, first - self.metadata.start_seconds, sample_rate_hz, start_seconds, end_seconds)
