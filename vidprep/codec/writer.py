"""Writing a video: arrays in, a file of known structure out.

The encoder runs in one thread, with scene-cut detection off and the bit-exact flags set, so that a group of
pictures is as long as asked for and equal input gives equal bytes (for one version of FFmpeg and one family
of processors).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidprep.errors import TranscodeError, UsageError

PTS_TIME_BASE = Fraction(1, 1000)
"""Seconds a unit of `pts`: a millisecond, which every container can store (Matroska nothing finer)."""


def write_video(
    path: str | Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: Fraction | int = 25,
    codec: str = "mpeg4",
    gop: int = 12,
    num_b_frames: int = 0,
    quantiser: int | None = 3,
    pixel_format: str = "yuv420p",
    audio: NDArray[np.float32] | None = None,
    sample_rate_hz: int = 44100,
    audio_codec: str = "mp3",
    options: Mapping[str, str] | None = None,
    pts: Sequence[int] | None = None,
    container_format: str | None = None,
) -> None:
    """Encode RGB frames, and a sound track if there is one, into a new file.

    An error leaves no file behind. AVI stores no timestamps: its B-frames get theirs from the reader, and MP3
    begins late by the encoder's delay (1105 samples), as in all such files.

    Parameters
    ----------
    path
        The file; one that exists is replaced. Its suffix chooses the container: AVI, MP4, MKV and so on.
    frames
        RGB pictures [shape=(H, W, 3)], uint8 in [0, 255], all of one size. At least one; read one by one.
    fps
        Frames a second.
    codec
        FFmpeg's name of the codec or encoder: `mpeg4`, `mpeg2video`, `h264`, `hevc`, `ffv1` and so on.
    gop
        Frames from one I-frame to the next.
    num_b_frames
        B-frames between two anchors. The groups of the MPEG family are open then, and `gop` must be a
        multiple of `num_b_frames + 1` or they end early; H.264's are closed, as are MPEG-4's with
        `options={"flags": "+cgop", "mpv_flags": "+strict_gop"}`.
    quantiser
        Quantiser of all frames on the codec's own scale (1 to 31 for MPEG-4, 1 to 51 for H.264); None
        leaves the choice to the encoder.
    pixel_format
        FFmpeg's name of the encoded pixel format.
    audio
        Mono samples [shape=(N,)], float32 in [-1, 1], that begin with the first frame.
    sample_rate_hz
        Samples a second of `audio`.
    audio_codec
        FFmpeg's name of the sound's codec.
    options
        Further options of the video encoder; they win over those chosen here.
    pts
        A timestamp for each frame in milliseconds, increasing, for a variable rate; None means `fps`.
    container_format
        FFmpeg's name of the container, for a path whose suffix doesn't tell.

    Raises
    ------
    UsageError
        An argument can't be meant.
    TranscodeError
        The encoder refuses the combination of arguments, or the file can't be finished.
    OSError
        The file can't be created.
    """
    _check(pts=pts, gop=gop, num_b_frames=num_b_frames, quantiser=quantiser, pixel_format=pixel_format)
    encoder = _encoder_name(codec)
    first, pictures = _first_frame(frames)
    time_base = Fraction(1) / fps if pts is None else PTS_TIME_BASE
    encoder_options = {**_encoder_options(encoder, num_b_frames, quantiser), **(options or {})}
    with _new_container(Path(path), container_format) as container:
        video = _add_video(container, encoder, Fraction(fps), first.shape, encoder_options)
        context = video.codec_context
        context.pix_fmt, context.time_base, context.gop_size = pixel_format, time_base, gop
        sound = None if audio is None else _Sound(container, audio, sample_rate_hz, audio_codec)
        for frame, stamp in _stamped(pictures, pts):
            container.mux(video.encode(_picture(frame, first.shape, pixel_format, stamp, time_base)))
            if sound is not None:
                sound.write_until(float((stamp + 1) * time_base))
        container.mux(video.encode())
        if sound is not None:
            sound.finish()


class _Sound:
    """A mono track that is written piece by piece, so that the file is interleaved and no packet waits."""

    def __init__(
        self, container: OutputContainer, samples: NDArray[np.float32], sample_rate_hz: int, codec: str
    ) -> None:
        if samples.ndim != 1:
            raise UsageError(f"audio.shape={samples.shape}: the sound is mono, (N,); average its channels")
        self._container = container
        self._samples = samples.astype(np.float32, copy=False)
        self._sample_rate_hz = sample_rate_hz
        self._position = 0
        self._delay: int | None = None
        stream = _add_stream(container, codec, sample_rate_hz, {})
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.codec_context.layout = "mono"

    def write_until(self, end_seconds: float | None) -> None:
        """Write what comes before a time; None: all that is left."""
        stop = None if end_seconds is None else round(end_seconds * self._sample_rate_hz)
        piece = self._samples[self._position : stop]
        if piece.size:
            frame = av.AudioFrame.from_ndarray(piece[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._sample_rate_hz, self._position
            frame.time_base = Fraction(1, self._sample_rate_hz)
            self._position += piece.size
            self._encode(frame)

    def finish(self) -> None:
        """Write the rest of the samples and what the encoder still holds."""
        self.write_until(None)
        self._encode(None)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        for packet in self._stream.encode(frame):
            assert packet.pts is not None
            if self._delay is None:
                # AVI can't say that the sound begins before zero: the muxer would move the picture instead,
                # by a fraction of a frame, and fill the gap with an empty one.
                self._delay = max(0, -packet.pts) if self._container.format.name == "avi" else 0
            packet.pts = packet.dts = packet.pts + self._delay
            self._container.mux(packet)


_QP_ENCODERS = ("libx264", "libx265")


def _encoder_options(encoder: str, num_b_frames: int, quantiser: int | None) -> dict[str, str]:
    """Fix the structure: no scene cuts, always as many B-frames as asked for, one quantiser."""
    options = {"bf": str(num_b_frames)}
    if encoder == "libx264":
        options |= {"sc_threshold": "0", "b_strategy": "0"}
    elif encoder == "libx265":
        options |= {"x265-params": "scenecut=0:b-adapt=0:pools=none:frame-threads=1:log-level=error"}
    elif encoder.startswith(("mpeg", "msmpeg", "h263", "flv")):
        options |= {"sc_threshold": "1000000000"}
    if quantiser is not None and encoder in _QP_ENCODERS:
        return options | {"qp": str(quantiser)}
    if quantiser is not None:
        # The flag `qscale` would need a quality on each frame, which PyAV can't set.
        options |= {"qmin": str(quantiser), "qmax": str(quantiser)}
    if quantiser is not None and encoder.startswith("libvpx"):
        options |= {"crf": str(quantiser)}
    return options


def _encoder_name(codec: str) -> str:
    try:
        return av.codec.Codec(codec, "w").name
    except UnknownCodecError:
        raise UsageError(f"codec={codec!r}: FFmpeg has no encoder of this name; take mpeg4 or h264") from None


def _first_frame(
    frames: Iterable[NDArray[np.uint8]],
) -> tuple[NDArray[np.uint8], Iterator[NDArray[np.uint8]]]:
    """Look at the first frame, which gives the size, without losing it."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise UsageError("num_frames=0: a video has at least one frame; pass one or more")
    return first, chain([first], rest)


def _check(*, pts: Sequence[int] | None, gop: int, num_b_frames: int, quantiser: int | None, pixel_format: str) -> None:
    for name, value, least in (
        ("gop", gop, 1),
        ("num_b_frames", num_b_frames, 0),
        ("quantiser", quantiser, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{name}={value}: the least is {least}; raise it")
    for before, after in pairwise(pts or ()):
        if after <= before:
            raise UsageError(f"pts={before}, {after}, ...: timestamps increase; sort and spread them")
    try:
        av.VideoFormat(pixel_format)
    except ValueError:
        rule = "FFmpeg has no pixel format of this name; take yuv420p"
        raise UsageError(f"pixel_format={pixel_format!r}: {rule}") from None


def _stamped(frames: Iterable[NDArray[np.uint8]], pts: Sequence[int] | None) -> Iterator[tuple[NDArray[np.uint8], int]]:
    num_frames = 0
    for num_frames, frame in enumerate(frames, start=1):
        if pts is not None and num_frames > len(pts):
            break
        yield frame, num_frames - 1 if pts is None else pts[num_frames - 1]
    if pts is not None and num_frames != len(pts):
        raise UsageError(f"len(pts)={len(pts)}: there is not one timestamp for each frame; pass one for each")


def _picture(
    frame: NDArray[np.uint8], shape: tuple[int, ...], pixel_format: str, stamp: int, time_base: Fraction
) -> av.VideoFrame:
    if frame.dtype != np.uint8 or frame.shape != shape or frame.ndim != 3 or frame.shape[2] != 3:
        raise UsageError(
            f"frame.shape={frame.shape}, frame.dtype={frame.dtype}: frames are RGB, uint8, (H, W, 3) and all "
            f"of one size (the first is {shape}); convert or resize them"
        )
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture = rgb.reformat(format=pixel_format, threads=1)
    picture.pts, picture.time_base = stamp, time_base
    return picture


@contextmanager
def _new_container(path: Path, container_format: str | None) -> Iterator[OutputContainer]:
    """Open the file for writing; whatever goes wrong, remove it."""
    path.open("wb").close()  # the system's own error if it can't be created, before anything is removed
    try:
        with _open(path, container_format) as container:
            yield container
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, av.FFmpegError):
            cure = "check the options, the frames' size and rate, and the space left"
            raise TranscodeError(f"path={path}: FFmpeg can't write it ({error}); {cure}") from error
        raise


def _open(path: Path, container_format: str | None) -> OutputContainer:
    try:
        return av.open(str(path), "w", format=container_format, options={"fflags": "+bitexact"})
    except ValueError as error:
        if isinstance(error, av.FFmpegError):
            raise
        rule = "FFmpeg knows no container of this suffix or name; take .avi, .mp4 or .mkv"
        raise UsageError(f"path={path}, container_format={container_format!r}: {rule}") from error


def _add_stream(
    container: OutputContainer, codec: str, rate: Fraction | int, options: dict[str, str]
) -> VideoStream | AudioStream:
    try:
        stream = container.add_stream(codec, rate=rate, options=options)
    except ValueError as error:
        rule = f"a {container.format.name} file can't hold it ({error}); take .mkv or another codec"
        raise UsageError(f"codec={codec!r}: {rule}") from error
    assert isinstance(stream, VideoStream | AudioStream)
    stream.codec_context.thread_count = 1  # the encoder's bytes depend on the number of threads
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _add_video(
    container: OutputContainer, encoder: str, fps: Fraction, shape: tuple[int, ...], options: dict[str, str]
) -> VideoStream:
    stream = _add_stream(container, encoder, fps, options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = shape[:2]
    known = stream.codec_context.supported_options
    unknown = options.keys() - {option.name for option in (*known.generic, *known.private)}
    if unknown:  # FFmpeg would ignore it in silence
        raise UsageError(f"options={sorted(unknown)}: {encoder} has no such options; check their names")
    return stream
