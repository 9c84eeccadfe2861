"""What the benchmarks share: measuring, the stream that they read, and the tables' place in the README."""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av

from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import Video
from vidprep.manifest import find_rows
from vidprep.pipelines.demo_clip import DemoSettings
from vidprep.pipelines.demo_data import write_demo_data

Name = TypeVar("Name")
Work = Callable[[], object]
NUM_RUNS = 5
NUM_FRAMES = 846  # of the stream that is read: as long as the one that other loaders were measured on
LENGTHS = DemoSettings(num_groups=6, num_frames=186)  # 48 clips, as long as those of UCF101 are on average
END_MARK = "<!-- end -->"


@dataclass(frozen=True)
class Cost:
    """CPU seconds, wall seconds and minor page faults of some work, children included."""

    cpu_seconds: float
    wall_seconds: float
    num_faults: float


def measure(work: Work) -> Cost:
    """Run once and say what it cost."""
    before, begin = usage(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - begin, usage()
    return Cost(after[0] - before[0], wall, after[1] - before[1])


def usage() -> tuple[float, int]:
    """Return the CPU seconds and minor faults up to now, children included."""
    kinds = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(k.ru_utime + k.ru_stime for k in kinds), sum(k.ru_minflt for k in kinds)


def medians(works: dict[Name, Work]) -> dict[Name, Cost]:
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


def find_videos(source: Path | None, folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder of videos, the demo dataset where none is given, and the videos' paths."""
    if source is None:
        source = folder / "demo"
        for _ in write_demo_data(source, LENGTHS):
            pass
    return source, [source / row.path for row in find_rows(source).rows]


def long_stream(paths: list[Path], folder: Path) -> tuple[Path, int]:
    """Encode videos by the recipe, one behind the other, and cut them after NUM_FRAMES; return path and length."""
    whole, target, num_encoded = folder / "whole.m4v", folder / "long.m4v", 0
    with whole.open("wb") as file:
        for path in paths:
            with Video(path) as video, transcode(video, Recipe()) as stream:
                assert stream.frame_times is not None
                num_encoded += len(stream.frame_times)
                assert not isinstance(stream.source, Path)
                stream.source.seek(0)
                shutil.copyfileobj(stream.source, file)
            if num_encoded >= NUM_FRAMES:
                break
    with target.open("wb") as file, av.open(whole) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size][:NUM_FRAMES]
        file.writelines(packets)  # no B-frames: one packet is one frame
    return target, len(packets)


def decoded(source: object, *, vectors: bool) -> Iterator[av.VideoFrame]:
    """Decode a file or stream with plain PyAV on one thread: the limit."""
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "SLICE"
        if vectors:
            stream.codec_context.flags2 |= av.codec.context.Flags2.export_mvs
        yield from container.decode(stream)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path, nargs="?", help="a folder of videos; the demo dataset by default")
    parser.add_argument("--readme", type=Path, help="write the tables into this file, between its marks")
    return parser


def publish(lines: Iterable[str], script: str, readme: Path | None) -> None:
    """Print lines as they come, and write them into the README, if one is given, between the script's marks."""
    kept = []
    for line in lines:
        print(line, flush=True)
        kept.append(line)
    if readme is None:
        return
    mark = f"<!-- tests/benchmarks/{script} -->"
    before, found, rest = readme.read_text(encoding="utf-8").partition(mark)
    _, found_end, after = rest.partition(END_MARK)
    if not (found and found_end):
        raise SystemExit(f"{readme}: the marks {mark} and {END_MARK} are missing")
    readme.write_text("\n".join([before + mark, *kept, END_MARK + after]), encoding="utf-8")
