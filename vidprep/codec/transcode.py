"""Anything becomes MPEG-4 Part 2 (or H.264) with the field's standard preparation, through the ffmpeg command.

The recipe is CoViAR's (340x256, qscale 1, GOP 12, no B-frames) with its fault repaired: scene cuts no longer
shorten a group of pictures in silence. Decoder and encoder run on one thread, because the encoder's bytes
depend on their number; parallelism is over videos.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import ffmpeg
import imageio_ffmpeg

from vidprep.codec.container import CONTAINERS
from vidprep.codec.timing import repair_times
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, TranscodeError, UnsupportedError, UsageError

_FORMATS = {"mpeg4": "m4v", "h264": "h264"}
_ENCODERS: dict[str, dict[str, object]] = {
    "mpeg4": {"c:v": "mpeg4", "qscale:v": 1, "sc_threshold": 1000000000},
    "h264": {
        "c:v": "libx264",
        "preset": "medium",
        "crf": 18,
        "refs": 1,
        "x264-params": "scenecut=0:weightp=0:b-pyramid=none:open-gop=0",
    },
}
DEFAULT_SIZE, DEFAULT_GOP = "340x256", 12
_PIXEL_FORMAT = "yuv420p"
_NO_SPACE = "No space left on device"
_NO_MEMORY = ("Cannot allocate memory", "Resource temporarily unavailable")
_SEEK_MARGIN_SECONDS = 1.0  # containers seek by decoding time, which runs ahead of presentation time
_TICKS = 1_000_000  # a second; times are compared and kept in whole microseconds
_SOURCE = "source"  # stands for the path, since ffmpeg-python takes no name that is not valid UTF-8
_Bounds = tuple[int | None, int | None]  # first and end in ticks


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a video is encoded before it is read.

    Attributes
    ----------
    codec : {"mpeg4", "h264"}
    size : str
        ``"WIDTHxHEIGHT"``, ``"short:N"`` (short side N, aspect kept, never upscaled) or ``"native"``.
    gop : int
        Frames from one I-frame to the next.
    """

    codec: str = "mpeg4"
    size: str = DEFAULT_SIZE
    gop: int = DEFAULT_GOP

    def __post_init__(self) -> None:
        if self.codec not in _ENCODERS:
            raise UsageError(f"codec={self.codec}: must be one of {', '.join(_ENCODERS)}")
        if not 1 <= self.gop <= 600:
            raise UsageError(f"gop={self.gop}: must be between 1 and 600 frames")
        output_size(self.size, 640, 480)

    def output_size(self, video: Video) -> tuple[int, int]:
        """Return the encoded width and height in pixels for one video, after rotation and square pixels."""
        facts = video.metadata
        width, height = max(round(facts.width * facts.sample_aspect_ratio), 1), facts.height
        if facts.rotation_degrees % 180:
            width, height = height, width
        return output_size(self.size, width, height)


def output_size(size: str, width: int, height: int) -> tuple[int, int]:
    """Apply ``WIDTHxHEIGHT``, ``short:N`` or ``native`` to a picture's size in pixels; UsageError if it is none."""
    kind, _, number = size.partition(":")
    if size == "native":
        return width, height
    if kind == "short" and number.isdecimal() and 16 <= int(number) <= 4096:
        short = min(int(number), width, height)
        scale = short / min(width, height)
        return max(2 * round(width * scale / 2), 2), max(2 * round(height * scale / 2), 2)
    sides = size.split("x")
    if len(sides) == 2 and all(side.isdecimal() and 16 <= int(side) <= 4096 for side in sides):
        return int(sides[0]), int(sides[1])
    raise UsageError(f"size={size}: must be WIDTHxHEIGHT or short:N (16 to 4096 pixels), or native")


def ffmpeg_path() -> str:
    """Return the ffmpeg command: ``VIDPREP_FFMPEG``, or the one bundled with the installation, or one on PATH.

    Raises
    ------
    TranscodeError
        If there is none.
    """
    override = os.environ.get("VIDPREP_FFMPEG")
    if override:
        found = shutil.which(override)
        if found is None:
            raise TranscodeError(f"VIDPREP_FFMPEG={override}: no such command; set it to an ffmpeg binary, or unset it")
        return found
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise TranscodeError("ffmpeg=none: no binary is bundled or on PATH; set VIDPREP_FFMPEG to one") from error


@cache
def ffmpeg_version() -> str:
    """Return the version that the ffmpeg command states; the encoder's bytes depend on it."""
    result = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=False)
    words = result.stdout.split()
    if result.returncode or words[:2] != ["ffmpeg", "version"]:
        raise TranscodeError(
            f"ffmpeg={ffmpeg_path()}: it does not run ({result.stderr.strip()[:200]}); set VIDPREP_FFMPEG"
        )
    return words[2]


def transcode(
    video: Video,
    recipe: Recipe,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    folder: Path | None = None,
) -> Video:
    """Encode a video, or a part of it, by the recipe and open the result.

    Parameters
    ----------
    video : Video
        A file.
    recipe : Recipe
    start_seconds, end_seconds : float, optional
        Keep the frames with ``start <= time < end``, relative to the video's start.
    folder : path, optional
        Where the unnamed buffer lies while it is read; it vanishes with the process.

    Returns
    -------
    Video
        The encoded stream, with the presentation times (seconds) that the source's own decoding gave. Closing it
        frees the buffer.

    Raises
    ------
    DecodeError
        If ffmpeg finds the source damaged.
    OSError
        If the folder's disk is full.
    """
    width, height = recipe.output_size(video)
    _check(video, recipe, width, height)
    with (
        ExitStack() as until_open,
        _scratch(folder) as kept,
        _scratch(folder) as messages,
    ):
        stream = until_open.enter_context(tempfile.TemporaryFile(dir=folder))
        bounds = _bounds(video, start_seconds, end_seconds)
        command = _command(video, recipe, (width, height), kept.fileno(), bounds)
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=messages, pass_fds=(kept.fileno(),), check=False
        )
        if result.returncode:
            raise _error(video.name, result.returncode, _read(messages))
        frame_times = _parse_times(_read(kept), video.metadata.fps)
        if not frame_times:
            next(video.frames(vectors=False, start_seconds=start_seconds, end_seconds=end_seconds))  # or says why not
            raise DecodeError(f"num_frames=0 of {video.name}: no frame lies in the wanted time; check start and end")
        encoded = Video(
            stream,
            container_format=_FORMATS[recipe.codec],
            frame_times=frame_times,
            num_dropped_frames=_num_dropped(video, start_seconds),
        )
        until_open.pop_all()  # from here on the returned Video closes it
    return encoded


def _scratch(folder: Path | None) -> IO[bytes]:
    """Return a small unnamed file, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("vidprep"), "w+b")
    return tempfile.TemporaryFile(dir=folder)


def _check(video: Video, recipe: Recipe, width: int, height: int) -> None:
    if not isinstance(video.source, Path):
        raise UnsupportedError(f"source={video.name}: ffmpeg reads files only; write the stream to one")
    if recipe.codec == "h264" and (width % 2 or height % 2):
        raise UnsupportedError(
            f"size={width}x{height}: H.264 takes even sizes only; choose one (--size 340x256), or --codec mpeg4"
        )


def _command(video: Video, recipe: Recipe, size: tuple[int, int], pipe: int, bounds: _Bounds) -> list[str]:
    start, end = bounds
    source: dict[str, object] = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS, "threads": 1}
    if video.metadata.codec == "mjpeg":
        source["err_detect"] = "crccheck+explode"  # hides damage otherwise; H.264 would refuse harmless cuts
    source["reinit_filter"] = 0  # a picture of another size is scaled like the rest; frames keep their numbers
    if start is not None and video.has_index:  # ffmpeg seeks from the container's start
        seconds = start / _TICKS - video.metadata.container_start_seconds - _SEEK_MARGIN_SECONDS
        if seconds > _SEEK_MARGIN_SECONDS:  # a seek to before an AVI's first key frame ends up anywhere
            source |= {"noaccurate_seek": None, "ss": f"{seconds:.6f}"}
    pictures = ffmpeg.input(_SOURCE, **source).video.filter("settb", f"1/{_TICKS}")
    if end is not None:  # ends the reading; with a margin, since times may be out of order
        pictures = pictures.filter("trim", end_pts=end + round(_SEEK_MARGIN_SECONDS * _TICKS))
    # A stream cut before its first I-frame decodes to grey until one comes: frames are taken from there on, and
    # only then by time (ffmpeg's own cut comes first, and would wait for the first I-frame after it). The frames
    # are numbered anew for the encoder, which takes neither equal nor falling timestamps; their own times are
    # printed before that, as ffmpeg's decoder repaired them.
    since_i_frame = "st(0,ld(0)+eq(pict_type,I));gt(ld(0),0)"
    graph = (
        pictures.filter("metadata", mode="add", key="kept", value=1)
        .filter("select", f"{since_i_frame}*gte(pts,{start})" if start is not None else since_i_frame)
        .filter("select", f"lt(pts,{end})" if end is not None else "1")
        .filter("metadata", mode="print", file=f"pipe:{pipe}")
        .filter("scale", size[0], size[1], out_color_matrix="bt601", out_range="tv")
        .filter("setsar", "1/1")
        .filter("settb", "1/25")
        .filter("setpts", "N")
    )
    arguments = {
        **_ENCODERS[recipe.codec],
        "g": recipe.gop,
        "keyint_min": recipe.gop,
        "bf": 0,
        "pix_fmt": _PIXEL_FORMAT,
        "fps_mode": "passthrough",
        "enc_time_base": "1:25",
        "threads": 1,
        "flags": "+bitexact",
        "fflags": "+bitexact",
        "format": _FORMATS[recipe.codec],
    }
    flags = ("-xerror", "-copyts", "-filter_threads", "1", "-nostdin", "-hide_banner", "-loglevel", "error")
    command = graph.output("pipe:1", **arguments).global_args(*flags).compile(cmd=ffmpeg_path())
    return [f"file:{video.source}" if part == _SOURCE else str(part) for part in command]


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _bounds(video: Video, start: float | None, end: float | None) -> _Bounds:
    origin = video.metadata.start_seconds
    return (
        None if start is None else round((start + origin) * _TICKS),
        None if end is None else round((end + origin) * _TICKS),
    )


def _num_dropped(video: Video, start: float | None) -> int:
    """Count the wanted frames before the first I-frame, those too that a decoder keeps to itself."""
    try:
        next(video.frames(vectors=False, start_seconds=start))
    except DecodeError:  # damaged in a way that ffmpeg passes over
        return 0
    return video.num_dropped_frames


def _parse_pts(printed: str) -> list[int | None]:
    fields = (line.partition("pts:")[2].split()[0] for line in printed.splitlines() if line.startswith("frame:"))
    return [None if field == "NOPTS" else int(field) for field in fields]


def _parse_times(printed: str, fps: float) -> list[float]:
    times = (None if pts is None else pts / _TICKS for pts in _parse_pts(printed))
    return [time for time, _ in repair_times(times, 1 / fps if fps else 0.04, window=1)]


def _error(name: str, status: int, messages: str) -> Exception:
    if _NO_SPACE in messages or status == -signal.SIGXFSZ:
        return OSError(errno.ENOSPC, _NO_SPACE, name)
    if any(words in messages for words in _NO_MEMORY):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), name)
    lines = [line for line in messages.splitlines() if line.strip()]
    reason = re.sub(r" @ 0x[0-9a-f]+", "", lines[0]) if lines else "no message"  # the same words in every run
    if status < 0:
        return TranscodeError(f"ffmpeg was ended by signal {-status} on {name}: {reason}; is there enough memory?")
    return DecodeError(f"{name}: ffmpeg gave up ({reason}); the file is damaged, get it anew or remove it")
