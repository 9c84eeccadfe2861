"""How fast training gets its clips: vidprep's loader beside what training scripts write with other packages.

Run ``python tests/benchmarks/loader.py [SOURCE]``: SOURCE is a folder of videos, the demo dataset by default. All read
the same videos in the recipe's encoding (340x256, GOP 12), end to end: a random clip of a random video, which is
opened for it, cut, scaled, put into batches of 8 by worker processes and handed to the process that trains. One
worker has one core, two workers have two. Ratios are medians over turns in which all take part.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product
from pathlib import Path

import clips
import streams
import torch
from common import arguments, find_videos, publish
from streams import BATCH_SIZE, NUM_FRAMES, Batches, Video

from vidprep.codec.video import Video as VideoFile
from vidprep.pipelines.extract import Options, extract

SIDES, CORES = (112, 224), (1, 2)
SHARD_BYTES = 1 << 26  # webdataset gives each worker whole shards
SCALING = 1.8
NUM_TURNS, SECONDS, MAX_VIDEOS = 3, 1.0, 24
NUM_WARM = 2  # batches of each worker, which it may have made ahead
MEMORY_AFTER = (1_000, 10_000)  # clips

RGB, BOTH = "vidprep bitstream, RGB", "vidprep bitstream, RGB + accumulated residual"
DECORD, TORCHCODEC, WEBDATASET = "decord, MP4 files", "torchcodec, MP4 files", "webdataset, JPEG in tars"
JPEG, SMALL_JPEG = "JPEG in memory", "JPEG in memory, decoded at half size"
TARGETS = {RGB: {DECORD: 2.0, TORCHCODEC: 2.0, WEBDATASET: 5.0, JPEG: 1.5}, BOTH: {DECORD: 1.0, TORCHCODEC: 1.0}}

Case = tuple[str, int, int]  # loader, the crop's side, cores
Start = Callable[[int, int], Batches]  # of the crop's side and the number of workers


@dataclass(frozen=True, slots=True)
class Rate:
    """Clips a second, and CPU seconds a clip of all processes."""

    clips_per_second: float
    cpu_seconds: float


def is_long(path: Path) -> bool:
    """Tell whether a video has enough frames, counted by decoding."""
    with VideoFile(path) as video:
        return sum(1 for _ in islice(video.frames(vectors=False), NUM_FRAMES)) == NUM_FRAMES


def prepare(source: Path, paths: list[Path], folder: Path) -> tuple[Path, Path, list[Video]]:
    """Extract some videos in both layouts; return both and the videos as others read them."""
    chosen = folder / "chosen"
    for path in paths:
        link = chosen / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    for layout, modalities in (("bitstream", ("rgb", "residual")), ("decoded", ("rgb",))):
        extract(chosen, folder / layout, Options(modalities=modalities, layout=layout, shard_bytes=SHARD_BYTES))
    (folder / "mp4").mkdir()
    bitstream, decoded = folder / "bitstream", folder / "decoded"
    return bitstream, decoded, streams.find(bitstream, decoded, folder / "mp4")


def loaders(bitstream: Path, decoded: Path, videos: list[Video]) -> dict[str, Start]:
    """Return all that are compared, by name."""
    found: dict[str, Start] = {
        RGB: partial(streams.vidprep, bitstream, ("rgb",)),
        BOTH: partial(streams.vidprep, bitstream, ("rgb", "residual")),
        "vidprep decoded layout, RGB": partial(streams.vidprep, decoded, ("rgb",)),
        DECORD: partial(streams.each, streams.read_decord, videos),
        TORCHCODEC: partial(streams.each, streams.read_torchcodec, videos),
        WEBDATASET: partial(streams.webdataset, decoded, is_chosen=False),
        "the same, the clip's frames alone decoded, by libjpeg-turbo": partial(
            streams.webdataset, decoded, is_chosen=True
        ),
        JPEG: partial(streams.each, streams.read_jpegs, videos),
        SMALL_JPEG: partial(streams.each, partial(streams.read_jpegs, is_small=True), videos),
    }
    return found


def split(found: dict[str, Start]) -> tuple[dict[str, Start], list[str]]:
    """Return the loaders that work here, and the names of those whose package is absent."""
    works = {}
    for name, start in found.items():
        try:
            next(start(112, 0))
            works[name] = start
        except (ImportError, RuntimeError, OSError):  # torchcodec loads its libraries when it is first used
            if name.startswith("vidprep"):
                raise
    return works, [name for name in found if name not in works]


@contextmanager
def cores(number: int) -> Iterator[None]:
    """Give this process, and those that it starts, some cores."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def run(start: Start, side: int, num_workers: int) -> Rate:
    """Start a loader, let it warm up, and measure whole rounds of its workers for some seconds."""
    with cores(num_workers):
        batches = start(side, num_workers)
        for _ in range(NUM_WARM * num_workers):
            next(batches)
        cpu, begin, num_batches = cpu_seconds(), time.perf_counter(), 0
        while (seconds := time.perf_counter() - begin) < SECONDS:
            for _ in range(num_workers):
                next(batches)
            num_batches += num_workers
        num_clips = num_batches * BATCH_SIZE
        return Rate(num_clips / seconds, (cpu_seconds() - cpu) / num_clips)


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children up to now."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def measure(works: dict[str, Start]) -> dict[Case, list[Rate]]:
    """Return what each loader reached in each turn."""
    rates: dict[Case, list[Rate]] = {}
    for _ in range(NUM_TURNS):
        for name, side, num_cores in product(works, SIDES, CORES):
            rates.setdefault((name, side, num_cores), []).append(run(works[name], side, num_cores))
    return rates


def median(rates: list[Rate], name: str) -> float:
    """Return the median of an attribute."""
    return statistics.median(getattr(rate, name) for rate in rates)


def ratio(name: str, ones: list[Rate], others: list[Rate]) -> float:
    """Return the median over the turns of how many times as large an attribute is."""
    return statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(ones, others, strict=True))


def table(rates: dict[Case, list[Rate]], names: list[str], side: int) -> Iterator[str]:
    """Yield the table of one size of clips; others' CPU time over vidprep's stands beside the target."""
    columns = ["clips / s", "on 2 cores", "scaling", "CPU ms / clip", "over RGB's", "over RGB + residual's"]
    yield f"| {NUM_FRAMES}x{side}x{side} | {' | '.join(columns)} |\n|---|--:|--:|--:|--:|--:|--:|"
    for name in names:
        one, two = (rates[name, side, num_cores] for num_cores in CORES)
        numbers = [f"{median(each, 'clips_per_second'):.0f}" for each in (one, two)]
        numbers += [f"{ratio('clips_per_second', two, one):.2f}", f"{1e3 * median(one, 'cpu_seconds'):.1f}"]
        for ours in (RGB, BOTH):
            target = TARGETS[ours].get(name)
            slower = f"{ratio('cpu_seconds', one, rates[ours, side, 1]):.2f}"
            numbers.append(f"{slower} ({target})" if target else slower)
        yield f"| {' | '.join([name, *numbers])} |"


def memory(start: Start) -> Iterator[tuple[int, int]]:
    """Yield the bytes of memory that are a worker's own, and after how many clips."""
    batches = start(SIDES[0], 1)
    next(batches)  # starts the worker
    (worker,) = multiprocessing.active_children()
    num_clips = BATCH_SIZE
    for goal in MEMORY_AFTER:
        while num_clips < goal:
            next(batches)
            num_clips += BATCH_SIZE
        status = Path(f"/proc/{worker.pid}/status").read_text()
        yield 1024 * int(status.partition("RssAnon:")[2].split()[0]), goal


def report(works: dict[str, Start], absent: list[str], num_videos: int) -> Iterator[str]:
    """Yield the tables."""
    rates = measure(works)
    yield f"Random clips of {num_videos} videos, batches of {BATCH_SIZE}, one worker on one core and two on two;"
    yield f"medians of {NUM_TURNS} turns. The last columns say how many times the CPU time of vidprep's bitstream"
    yield f"layout a clip takes, and the target; that of the scaling is {SCALING}."
    for side in SIDES:
        yield ""
        yield from table(rates, list(works), side)
    for name in absent:
        yield f"| {name} | not installed here | | | | | |"
    after = [f"{num_bytes / 1e6:.1f} MB after {goal}" for num_bytes, goal in memory(works[RGB])]
    yield ""
    yield f"A worker's own memory: {', '.join(after)} clips."


def main() -> None:
    """Print the tables, and write them into the README if that is wanted."""
    chosen = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, paths = find_videos(chosen.source, folder)
        paths = [path for path in paths if is_long(path)]
        bitstream, decoded, videos = prepare(source, paths[:: -(-len(paths) // MAX_VIDEOS)], folder)
        works, absent = split(loaders(bitstream, decoded, videos))
        publish(chain(report(works, absent, len(videos)), clips.report(videos)), "loader.py", chosen.readme)


if __name__ == "__main__":
    main()
