"""How fast vidprep reads, and what a frame costs: the first tables of extract.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Literal

import numpy as np
from av.video.reformatter import VideoReformatter
from common import NUM_RUNS, Work, decoded, medians

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.frame import Frame
from vidprep.codec.video import Video

fork = get_context("fork")
HEIGHT, WIDTH = 256, 340
LIMIT = "PyAV decode only (the limit)"
BASELINE = "PyAV RGB + vector array, none of our work"
WANTED = "vidprep RGB + accumulated motion + accumulated residual"
COVIAR_RATIO = 158 / 8064  # CoViAR's loader, accumulated residual, over plain decoding, where it could be installed


def plain(path: Path, *, vectors: bool, rgb: bool) -> None:
    """Decode with plain PyAV, to what is wanted."""
    converter = VideoReformatter()
    for frame in decoded(path, vectors=vectors):
        if rgb:
            converter.reformat(frame, format="rgb24", threads=1)
        if vectors and (side_data := frame.side_data.get("MOTION_VECTORS")) is not None:
            np.frombuffer(memoryview(side_data), BLOCK_DTYPE)


class Reader:
    """Reads a whole stream with vidprep, into arrays of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        field, other = np.empty((2, HEIGHT, WIDTH, 2), np.int16)
        residual = np.empty((HEIGHT, WIDTH, 3), np.int16)
        magnitude = np.empty((HEIGHT // 4, WIDTH // 4), np.float32)
        self.steps: dict[str, Callable[[Frame], object]] = {
            "vectors": lambda frame: frame.vectors,
            "rgb": lambda frame: frame.rgb(),
            "motion": lambda frame: frame.motion(out=field),
            "accumulated": lambda frame: frame.accumulated_motion(out=other),
            "view": lambda frame: frame.accumulated_motion(copy=False),
            "residual": lambda frame: frame.accumulated_residual(out=residual),
            "magnitude": lambda frame: frame.accumulated_residual_magnitude(4, out=magnitude),
        }

    def __call__(self, names: str = "", track: Literal["none", "motion", "residual"] = "none") -> Work:
        """Return the work of reading the named arrays of all frames."""
        steps = [self.steps[name] for name in names.split()]

        def read() -> None:
            for frame in Video(self.path).frames(track=track):
                for step in steps:
                    step(frame)

        return read


def reading_table(path: Path, num_frames: int) -> Iterator[str]:
    """Yield how fast the ways of reading are, as lines of Markdown."""
    read = Reader(path)
    costs = medians(
        {
            LIMIT: lambda: plain(path, vectors=False, rgb=False),
            "PyAV decode + vector array": lambda: plain(path, vectors=True, rgb=False),
            BASELINE: lambda: plain(path, vectors=True, rgb=True),
            "vidprep block vectors": read("vectors"),
            "vidprep dense motion": read("motion"),
            "vidprep accumulated motion": read("accumulated", "motion"),
            WANTED: read("rgb accumulated residual", "residual"),
            "the same, accumulated motion as a view": read("rgb view residual", "residual"),
            "the same, and dense motion": read("rgb motion accumulated residual", "residual"),
            "vidprep residual magnitude at 1/4": read("magnitude", "residual"),
        }
    )
    limit, baseline = costs[LIMIT].cpu_seconds, costs[BASELINE].cpu_seconds
    yield f"Reading {num_frames} frames of {WIDTH}x{HEIGHT} on one thread, medians of {NUM_RUNS}:\n"
    yield "| reading | frames / CPU s | ratio to the limit | ratio to RGB + vectors | minor faults / frame |"
    yield "|---|--:|--:|--:|--:|"
    for name, cost in costs.items():
        rate, faults = num_frames / cost.cpu_seconds, cost.num_faults / num_frames
        ratios = f"{limit / cost.cpu_seconds:.2f} | {baseline / cost.cpu_seconds:.2f}"
        yield f"| {name} | {rate:.0f} | {ratios} | {faults:.1f} |"
    times = limit / costs[WANTED].cpu_seconds / COVIAR_RATIO
    yield (
        f"\nCoViAR's loader, which does not install here, was measured elsewhere, on 846 frames, at "
        f"{COVIAR_RATIO:.3f} of the limit for accumulated residuals alone: RGB with both accumulated arrays is "
        f"{times:.0f} times as fast.\n"
    )
    yield from threads_line(path)


def threads_line(path: Path) -> Iterator[str]:
    """Yield how much two threads gain: decoding and the kernels release the interpreter's lock."""
    works = [Reader(path)("rgb accumulated residual", "residual") for _ in range(2)]

    def in_turn() -> None:
        for work in works:
            work()

    def at_once(start: Callable[..., Thread | BaseProcess]) -> None:
        running = [start(target=work) for work in works]
        for one in running:
            one.start()
        for one in running:
            one.join()

    ways = {"in turn": in_turn, "threads": partial(at_once, Thread), "processes": partial(at_once, fork.Process)}
    walls = {name: cost.wall_seconds for name, cost in medians(ways).items()}
    threads, processes = walls["in turn"] / walls["threads"], walls["in turn"] / walls["processes"]
    yield (
        f"Two videos in two threads of one process are read {threads:.2f} times as fast as one after the other (wall "
        f"time); two processes, which show how much of a second core is free, are {processes:.2f} times as fast."
    )


def steps_table(path: Path, num_frames: int) -> Iterator[str]:
    """Yield what each step adds to a frame's cost, beside what copying the bytes that it must touch costs."""
    read = Reader(path)
    num_pixels = HEIGHT * WIDTH
    num_moved = sum(map(_num_moved_pixels, Video(path).frames())) // num_frames
    steps: dict[str, tuple[Work, int]] = {
        "decode (libavcodec)": (lambda: plain(path, vectors=False, rgb=False), 0),
        "times, numbering, block vectors": (read("vectors"), 0),
        "picture (libswscale)": (read("vectors rgb"), 3 * num_pixels),
        "following pixels and their prediction": (read("rgb", "residual"), 2 * 7 * num_moved),
        "accumulated motion": (read("rgb accumulated", "residual"), 4 * num_pixels),
        "accumulated residual": (read("rgb accumulated residual", "residual"), 6 * num_pixels),
    }
    costs = medians({name: work for name, (work, _) in steps.items()})
    yield "\nWhat each step adds to a frame, and what copying as many bytes as it must write costs at least:\n"
    yield "| step | CPU us / frame | bytes | copied in us |\n|---|--:|--:|--:|"
    before = 0.0
    for name, (_, num_bytes) in steps.items():
        seconds = costs[name].cpu_seconds
        floor = f"{num_bytes} | {1e6 * _copy_seconds(num_bytes):.0f}" if num_bytes else "- | -"
        yield f"| {name} | {1e6 * (seconds - before) / num_frames:.0f} | {floor} |"
        before = seconds
    share = 100 * num_moved / num_pixels
    yield f"\nBlocks that move cover {share:.0f} % of a frame: gathered and put down, 2 x 7 bytes a pixel."


def _num_moved_pixels(frame: Frame) -> int:
    blocks = frame.vectors
    moved = blocks[(blocks["dst_x"] != blocks["src_x"]) | (blocks["dst_y"] != blocks["src_y"])]
    return int((moved["w"].astype(int) * moved["h"]).sum())


def _copy_seconds(num_bytes: int, num_copies: int = 200) -> float:
    source, target = np.ones((2, num_bytes), np.uint8)

    def copy() -> None:
        for _ in range(num_copies):
            target[:] = source

    return medians({"copy": copy})["copy"].cpu_seconds / num_copies
