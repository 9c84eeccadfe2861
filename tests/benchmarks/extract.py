"""How fast vidprep reads, and how much of an extraction is spent outside the libraries that it calls.

Run ``python tests/benchmarks/extract.py [SOURCE]``: SOURCE is a folder of videos, the demo dataset by default.
Figures are frames per CPU second of one thread (children included), medians of 5 in one run, beside their ratio
to plain decoding and the minor page faults a frame.
"""

from __future__ import annotations

import argparse
import io
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import Video
from vidprep.manifest import find_rows
from vidprep.modalities import images, motion, pyramid, spectrogram
from vidprep.pipelines.demo_clip import DemoSettings
from vidprep.pipelines.demo_data import write_demo_data

Name = TypeVar("Name")
NUM_RUNS = 5
LENGTHS = DemoSettings(num_groups=6, num_frames=186)  # 48 clips, as long as those of UCF101 are on average
MIN_FRAMES = 800
SETS = ("rgb,motion,residual", "rgb,motion,residual,spectrogram,pyramid")


@dataclass(frozen=True)
class Cost:
    """CPU seconds, wall seconds and minor page faults of some work, children included."""

    cpu_seconds: float
    wall_seconds: float
    num_faults: float


def measure(work: Callable[[], object]) -> Cost:
    """Run once and say what it cost."""
    before, begin = _usage(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - begin, _usage()
    return Cost(after[0] - before[0], wall, after[1] - before[1])


def _usage() -> tuple[float, int]:
    kinds = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(k.ru_utime + k.ru_stime for k in kinds), sum(k.ru_minflt for k in kinds)


def medians(works: dict[Name, Callable[[], object]]) -> dict[Name, Cost]:
    """Measure each work NUM_RUNS times in turn, after one warm-up, and return the medians."""
    for work in works.values():
        work()
    costs: dict[Name, list[Cost]] = {name: [] for name in works}
    for _ in range(NUM_RUNS):
        for name, work in works.items():
            costs[name].append(measure(work))
    return {
        name: Cost(
            statistics.median(cost.cpu_seconds for cost in runs),
            statistics.median(cost.wall_seconds for cost in runs),
            statistics.median(cost.num_faults for cost in runs),
        )
        for name, runs in costs.items()
    }


def long_stream(paths: list[Path], folder: Path) -> tuple[Path, int]:
    """Encode videos by the recipe, one behind the other, until there are MIN_FRAMES."""
    target, num_frames = folder / "long.m4v", 0
    with target.open("wb") as file:
        for path in paths:
            with Video(path) as video, transcode(video, Recipe()) as stream:
                assert stream.frame_times is not None
                num_frames += len(stream.frame_times)
                assert not isinstance(stream.source, Path)
                stream.source.seek(0)
                shutil.copyfileobj(stream.source, file)
            if num_frames >= MIN_FRAMES:
                break
    return target, num_frames


def decoded(source: Path | io.BytesIO, *, vectors: bool) -> Iterator[av.VideoFrame]:
    """Decode with plain PyAV on one thread: the limit."""
    if not isinstance(source, Path):
        source.seek(0)
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "SLICE"
        if vectors:
            stream.codec_context.flags2 |= av.codec.context.Flags2.export_mvs
        yield from container.decode(stream)


def readers(path: Path) -> dict[str, Callable[[], object]]:
    """Return the ways of reading that are compared; each goes over the whole stream."""
    field = np.empty((256, 340, 2), np.int16)
    other = np.empty_like(field)
    difference = np.empty((256, 340, 3), np.int16)

    def plain(vectors: bool) -> None:
        for frame in decoded(path, vectors=vectors):
            if vectors:
                side_data = frame.side_data.get("MOTION_VECTORS")
                if side_data is not None:
                    np.frombuffer(memoryview(side_data), BLOCK_DTYPE)

    def pictures() -> None:
        converter = VideoReformatter()
        for frame in decoded(path, vectors=True):
            converter.reformat(frame, format="rgb24", threads=1)
            frame.side_data.get("MOTION_VECTORS")

    def blocks() -> None:
        for frame in Video(path).frames():
            frame.vectors  # noqa: B018

    def dense() -> None:
        for frame in Video(path).frames():
            frame.motion(out=field)

    def accumulated() -> None:
        for frame in Video(path).frames(track="motion"):
            frame.accumulated_motion(out=field)

    def everything() -> None:
        for frame in Video(path).frames(track="residual"):
            frame.rgb()
            frame.motion(out=field)
            frame.accumulated_motion(out=other)
            frame.accumulated_residual(out=difference)

    return {
        "PyAV decode only (the limit)": lambda: plain(False),
        "PyAV decode + vector array": lambda: plain(True),
        "PyAV RGB + vectors, none of our work": pictures,
        "vidprep block vectors": blocks,
        "vidprep dense motion": dense,
        "vidprep accumulated motion": accumulated,
        "vidprep RGB + motion + accumulated motion + accumulated residual": everything,
    }


class Stopwatch:
    """Adds up the CPU seconds of named pieces of work."""

    def __init__(self) -> None:
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = _usage()[0]
        yield
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + _usage()[0] - begin


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
        frames = list(decoded(encoded, vectors=True))
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


MARKS = ("<!-- tests/benchmarks/extract.py -->", "<!-- end -->")
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


def reading_table(path: Path, num_frames: int) -> Iterator[str]:
    """Yield how fast the ways of reading are, as lines of Markdown."""
    costs = medians(readers(path))
    limit = next(iter(costs.values())).cpu_seconds
    yield f"Reading {num_frames} frames of 340x256 on one thread, medians of {NUM_RUNS}:\n"
    yield "| reading | frames / CPU s | ratio to the limit | minor faults / frame |\n|---|--:|--:|--:|"
    for name, cost in costs.items():
        rate, ratio = num_frames / cost.cpu_seconds, limit / cost.cpu_seconds
        yield f"| {name} | {rate:.0f} | {ratio:.2f} | {cost.num_faults / num_frames:.1f} |"


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
    if source is None:
        source = folder / "demo"
        for _ in write_demo_data(source, LENGTHS):
            pass
    paths = [source / row.path for row in find_rows(source).rows]
    yield from reading_table(*long_stream(paths, folder))
    if not reading_only:
        num_frames = sum(sum(1 for _ in decoded(path, vectors=False)) for path in paths)
        yield from extract_table(source, paths, num_frames, folder)


def update(readme: Path, lines: list[str]) -> None:
    """Put the tables between the README's marks."""
    before, _, rest = readme.read_text().partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise SystemExit(f"{readme}: the marks {MARKS[0]} and {MARKS[1]} are missing")
    text = "\n".join(lines)
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def main() -> None:
    """Print all tables, and write them into the README if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="a folder of videos; the demo dataset by default")
    parser.add_argument("--reading-only", action="store_true", help="leave the extraction out")
    parser.add_argument("--readme", type=Path, help="write the tables into this file, between its marks")
    arguments = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for line in report(arguments.source, Path(folder), reading_only=arguments.reading_only):
            print(line, flush=True)
            lines.append(line)
    if arguments.readme is not None:
        update(arguments.readme, lines)


if __name__ == "__main__":
    main()
