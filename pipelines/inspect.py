"""``vidprep inspect``: a video or a shard as a contact sheet and as facts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vidprep.codec.metadata import VideoMetadata
from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import VECTOR_CODECS, Video
from vidprep.errors import DecodeError, TranscodeError, UnsupportedError, UsageError
from vidprep.modalities import spectrogram
from vidprep.pipelines.inspect_cells import cell_size, shrink, shrink_field
from vidprep.pipelines.inspect_draw import Panel, Shot, Sound, draw_sheet
from vidprep.pipelines.inspect_shards import inspect_shards
from vidprep.pipelines.inspect_survey import Facts, Survey, aligned, choose_frames, exactness
from vidprep.shards.files import whole_file
from vidprep.shards.index import INDEX_NAME

MAX_FRAMES = 32  # columns; more make no sheet that fits a screen
CELL = 224  # pixels, the longer side
_PIECE_SECONDS = 60.0  # sound is read in pieces, so that an hour of it needs no more memory than a minute
_PIECE_COLUMNS = 512  # kept of a piece; a sheet is hardly wider


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes
    ----------
    facts : str
        Lines of ``name: value``.
    image : path
        The contact sheet, a PNG.
    """

    facts: str
    image: Path


def inspect_source(source: Path, out: Path | None = None, *, num_frames: int = 6, key: str | None = None) -> Inspection:
    """Draw a contact sheet of a video, a shard or a folder of shards, and collect the facts.

    Parameters
    ----------
    source : path
        A video, a shard (``.tar``) or a folder that ``vidprep extract`` wrote.
    out : path, optional
        The PNG; ``<source's name>-sheet.png`` in the current folder by default. It is written whole or not at all.
    num_frames : int
        Columns of the sheet, 1 to 32, evenly over the video.
    key : str, optional
        Key or path of one sample; by default the first few of a shard are drawn.

    Raises
    ------
    VidprepError
        If the source can't be read, has no such sample, or the PNG can't be written.
    """
    source = Path(source)
    image = Path(f"{source.resolve().stem}-sheet.png") if out is None else Path(out)
    _check(image, num_frames)
    if source.is_dir() or source.suffix == ".tar":
        if source.is_dir() and not (source / INDEX_NAME).exists():
            rule = f"the folder has no {INDEX_NAME}, so vidprep extract did not write it"
            raise UsageError(f"source={source}: {rule}; give a video, a shard (.tar) or a folder of shards")
        facts, panels = inspect_shards(source, num_frames, key)
    elif key is not None:
        raise UsageError(f"key={key}: {source} is a video, only shards have keys; leave it out")
    else:
        facts, panel = _inspect_video(source, num_frames)
        panels = [panel]
    _write(image, panels)
    return Inspection(aligned(facts), image)


def _check(image: Path, num_frames: int) -> None:
    if not 1 <= num_frames <= MAX_FRAMES:
        raise UsageError(f"num_frames={num_frames}: must be between 1 and {MAX_FRAMES}; change it")
    if image.suffix.lower() != ".png":
        raise UsageError(f"out={image}: the sheet is a PNG; give it a name that ends in .png")
    if not image.parent.is_dir() or image.is_dir():
        raise UsageError(f"out={image}: must be a file in a folder that exists; make the folder, or choose another")


def _write(image: Path, panels: list[Panel]) -> None:
    sheet = draw_sheet(panels)
    try:
        with whole_file(image) as file:
            sheet.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"out={image}: {error.strerror or error}; choose a place that can be written") from error


def _inspect_video(path: Path, num_frames: int) -> tuple[Facts, Panel]:
    with Video(path) as source, _stream(source) as (stream, how):
        known = source.metadata
        survey, times = _survey(stream)
        shots, cell = _shots(stream, choose_frames(survey.picture_types, num_frames), known.start_seconds)
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / (known.fps or 25)
        start = times[0] - known.start_seconds
        end = start + times[-1] - times[0] + step
        sounds, audio = _sounds(source, start, end)
        facts = {
            "video": str(path),
            **_container_facts(known),
            "fps": f"{1 / step:.2f} ({known.fps:.2f} by the container)",
            "frames": f"{len(times)}, counted by decoding",
            "duration": f"{end - start:.2f} s ({_seconds(known.duration_seconds)} by the container)",
            "audio": audio,
            "read": how,
            "motion exact": exactness(stream.motion_exact),
            "dropped frames": str(stream.num_dropped_frames),
            "repaired times": str(stream.num_repaired_times),
            **survey.facts(),
        }
    notes = f"{known.width}x{known.height}, {1 / step:.2f} fps, {known.codec}, {how.partition(' to ')[0]}"
    return facts, Panel(str(path), notes, cell, shots, start, end, sounds)


def _container_facts(known: VideoMetadata) -> Facts:
    return {
        "container": known.container,
        "codec": known.codec,
        "pixel format": known.pixel_format,
        "size": f"{known.width}x{known.height} pixels",
        "pixel aspect": f"{known.sample_aspect_ratio:.4g}",
        "rotation": f"{known.rotation_degrees} degrees",
    }


@contextmanager
def _stream(source: Video) -> Iterator[tuple[Video, str]]:
    """Yield what the vectors are read from: the file if it has them and stands upright, else a transcoded copy."""
    reason = _obstacle(source)
    if reason is None:
        yield source, "as it is"
        return
    recipe = Recipe()
    try:
        stream = transcode(source, recipe)
    except OSError as error:
        raise TranscodeError(f"{tempfile.gettempdir()}: {error.strerror}; free some space, or set TMPDIR") from error
    with stream:
        yield stream, f"transcoded to {recipe.codec} {recipe.size}, GOP {recipe.gop}, because {reason}"


def _obstacle(source: Video) -> str | None:
    known = source.metadata
    if known.codec not in VECTOR_CODECS:
        return f"{known.codec} has no motion vectors that can be read"
    if known.rotation_degrees:
        return "it is stored rotated"
    try:
        next(source.frames())
    except UnsupportedError:
        return "it is interlaced, or its size changes"
    return None


def _survey(stream: Video) -> tuple[Survey, list[float]]:
    survey, times = Survey(stream.metadata.width, stream.metadata.height), []
    for frame in stream.frames():
        survey.add(frame.picture_type, frame.vectors)
        times.append(frame.pts_seconds)
    return survey, times


def _shots(stream: Video, wanted: list[int], start_seconds: float) -> tuple[list[Shot], tuple[int, int]]:
    """Decode again, with each pixel followed, and keep the wanted frames at the size of a cell."""
    shots: list[Shot] = []
    cell = cell_size(stream.metadata.width, stream.metadata.height, CELL)
    for frame in stream.frames(track="residual"):
        if frame.index != wanted[len(shots)]:
            continue
        seconds = frame.pts_seconds - start_seconds
        shots.append(
            Shot(
                caption=f"{frame.index}   {frame.picture_type}   {seconds:.2f} s",
                seconds=seconds,
                rgb=shrink(frame.rgb(), cell),
                motion=shrink_field(frame.accumulated_motion(), cell),
                residual=shrink(frame.accumulated_residual_uint8()[0], cell),
            )
        )
        if len(shots) == len(wanted):
            break
    return shots, cell


def _sounds(source: Video, start: float, end: float) -> tuple[list[Sound], str]:
    """Return the spectrogram in pieces, and what is to be said of the sound; damage to it is no reason to stop."""
    if not source.metadata.has_audio:
        return [], "none"
    num_pieces = max(math.ceil((end - start) / _PIECE_SECONDS), 1)
    edges = np.linspace(start, end, num_pieces + 1).tolist()
    try:
        found = [_sound(source, *piece) for piece in pairwise(edges)]
    except DecodeError as error:
        return [], f"can't be read: {error}"
    sounds = [sound for sound in found if sound is not None]
    return sounds, f"from {sounds[0].start_seconds:.2f} s on" if sounds else "none during the picture"


def _sound(source: Video, start: float, end: float) -> Sound | None:
    recipe = spectrogram.RECIPES["mel"]
    audio = source.audio(recipe.sample_rate_hz, start_seconds=start, end_seconds=end)
    if audio is None:
        return None
    decibels = spectrogram.extract(audio)
    stride = max(decibels.shape[1] // _PIECE_COLUMNS, 1)
    seconds = len(audio.samples) / recipe.sample_rate_hz
    return Sound(audio.start_seconds, audio.start_seconds + seconds, decibels[:, ::stride])


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
