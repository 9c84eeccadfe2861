"""How fast vidprep reads, and how much of an extraction is spent outside the libraries that it calls.

Run ``python tests/benchmarks/extract.py [SOURCE]``: SOURCE is a folder of videos, the demo dataset by default.
Figures are frames per CPU second of one thread (children included), medians of 5 in one run, beside their ratio
to plain decoding and the minor page faults a frame.
"""

from __future__ import annotations

import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from common import NUM_RUNS, arguments, decoded, find_videos, long_stream, medians, publish, usage
from reading import reading_table, steps_table

from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import Video
from vidprep.modalities import images, motion, pyramid, spectrogram

SETS = ("rgb,motion,residual", "rgb,motion,residual,spectrogram,pyramid")


class Stopwatch:
    """Adds up the CPU seconds of named pieces of work."""

    def __init__(self) -> None:
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = usage()[0]
        yield
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + usage()[0] - begin


def plain_transcode(path: Path) -> None:
    """Run the recipe's encoding with the plain ffmpeg command."""
    filters = "scale=340:256,setsar=1:1,settb=1/25,setpts=N"
    encoder = ["-c:v", "mpeg4", "-qscale:v", "1", "-g", "12", "-bf", "0", "-sc_threshold", "1000000000"]
    timing = ["-fps_mode", "passthrough", "-enc_time_base", "1:25"]
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-threads", "1", "-i", str(path), "-map", "0:v:0"]
    command += ["-vf", filters, "-filter_threads", "1", *timing, *encoder, "-threads", "1", "-f", "m4v", "pipe:1"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def plain_audio(path: Path, sample_rate_hz: int) -> None:
    """Decode and resample the sound with plain PyAV."""
    with av.open(path) as container:
        resampler = av.AudioResampler(format="s32", layout="mono", rate=sample_rate_hz)
        for frame in container.decode(audio=0):
            resampler.resample(frame)


def library_calls(paths: list[Path]) -> dict[str, float]:
    """Return the CPU seconds of every library call that an extraction needs, each alone on the same frames.

    Results are thrown away at once, as extraction does: kept ones would cost fresh memory.
    """
    watch = Stopwatch()
    converter, scaler, interleaver = VideoReformatter(), VideoReformatter(), VideoReformatter()
    recipe = spectrogram.RECIPES["mel"]
    size = pyramid.level_size(340, 256, 112)
    for path in paths:
        with Video(path) as video, transcode(video, Recipe()) as stream:
            tracked = [(f.vectors.copy(), f.accumulated_residual_uint8()[0]) for f in stream.frames(track="residual")]
            assert not isinstance(stream.source, Path)
            stream.source.seek(0)
            encoded = io.BytesIO(stream.source.read())
            sound = video.audio(recipe.sample_rate_hz)
        with watch("transcode (ffmpeg)"):
            plain_transcode(path)
        with watch("decode (libavcodec)"):
            for _ in decoded(encoded, vectors=True):
                pass
        encoded.seek(0)
        frames = list(decoded(encoded, vectors=True))
        encoded.seek(0)
        with watch("picture (libswscale)"):
            for frame in frames:
                converter.reformat(frame, format="rgb24", threads=1)
        pictures = [frame.to_ndarray(format="rgb24", threads=1) for frame in frames]
        with watch("JPEG of RGB (libjpeg-turbo)"):
            for picture in pictures:
                images.encode_jpeg(picture, "420")
        with watch("JPEG of residuals (libjpeg-turbo)"):
            for _, difference in tracked:
                images.encode_jpeg(difference, "444")
        with np.load(io.BytesIO(motion.encode([motion.to_columns(vectors) for vectors, _ in tracked]))) as arrays:
            columns = [arrays[name].tobytes() for name in arrays]
        with watch("compression of vectors (zlib)"):
            for column in columns:
                zlib.compress(column, motion.ZLIB_LEVEL)
        if sound is not None:
            with watch("audio decoding (libavcodec)"):
                plain_audio(path, recipe.sample_rate_hz)
            with watch("spectrograms (librosa)"):
                spectrogram.extract(sound)
        with watch("resize (libswscale)"):
            for frame in frames:
                planes = scaler.reformat(frame, *size, format="gbrp", interpolation="AREA", threads=1)
                interleaver.reformat(planes, format="rgb24", threads=1)
        small = [pyramid.extract(frame, 112) for frame in Video(encoded, container_format="m4v").frames()]
        with watch("JPEG of the pyramid (libjpeg-turbo)"):
            for picture in small:
                images.encode_jpeg(picture, "420")
    return watch.cpu_seconds


NOT_ALWAYS = (
    "audio decoding (libavcodec)",
    "spectrograms (librosa)",
    "resize (libswscale)",
    "JPEG of the pyramid (libjpeg-turbo)",
)
"""Library calls that `rgb,motion,residual` does without."""


def run_extract(source: Path, folder: Path, modalities: str, workers: int) -> None:
    """Run the command as a user does, into an empty folder."""
    out = folder / "shards"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "vidprep.cli", "extract", "--out", str(out), "--modalities", modalities]
    subprocess.run([*command, "--workers", str(workers), str(source)], check=True, stdout=subprocess.DEVNULL)


def library_costs(paths: list[Path]) -> dict[str, float]:
    """Return the median CPU seconds of each library call."""
    library_calls(paths[:2])
    runs = [library_calls(paths) for _ in range(NUM_RUNS)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def extract_table(source: Path, paths: list[Path], num_frames: int, folder: Path) -> Iterator[str]:
    """Yield the library calls, the command end to end against their sum, and two workers against one."""
    calls = library_costs(paths)
    yield f"\nLibrary calls alone, on the same {num_frames} frames of {len(paths)} videos:\n"
    yield "| call | CPU us / frame |\n|---|--:|"
    for name, seconds in calls.items():
        yield f"| {name} | {1e6 * seconds / num_frames:.0f} |"
    library = {SETS[0]: sum(calls.values()) - sum(calls[name] for name in NOT_ALWAYS), SETS[1]: sum(calls.values())}
    works = {
        (names, workers): partial(run_extract, source, folder, names, workers) for names in SETS for workers in (1, 2)
    }
    costs = medians(works)
    yield "\n`vidprep extract` of these videos, start-up and child processes included:\n"
    yield "| modalities | frames / CPU s | library calls' share | 2 workers against 1, wall time |\n|---|--:|--:|--:|"
    for names in SETS:
        one, two = costs[names, 1], costs[names, 2]
        rate, share = num_frames / one.cpu_seconds, library[names] / one.cpu_seconds
        yield f"| {names.replace(',', ', ')} | {rate:.0f} | {share:.2f} | {one.wall_seconds / two.wall_seconds:.2f} |"


def report(source: Path | None, folder: Path, *, reading_only: bool) -> Iterator[str]:
    """Yield all tables."""
    source, paths = find_videos(source, folder)
    path, num_frames = long_stream(paths, folder)
    yield from reading_table(path, num_frames)
    yield from steps_table(path, num_frames)
    if not reading_only:
        num_frames = sum(sum(1 for _ in decoded(path, vectors=False)) for path in paths)
        yield from extract_table(source, paths, num_frames, folder)


def main() -> None:
    """Print all tables, and write them into the README if that is wanted."""
    parser = arguments(__doc__)
    parser.add_argument("--reading-only", action="store_true", help="leave the extraction out")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = report(chosen.source, Path(folder), reading_only=chosen.reading_only)
        publish(lines, "extract.py", chosen.readme)


if __name__ == "__main__":
    main()
