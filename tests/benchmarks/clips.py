"""Where the time of a clip goes in the bitstream layout, in one process; a part of the loader's benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import medians
from streams import NUM_FRAMES, Video, decode_jpeg

from vidprep.codec.packed import pack
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.video import Video as VideoFile
from vidprep.modalities.clip import read_clip
from vidprep.shards.files import sha256_of

SIDE = 224
NUM_CLIPS = 60
MAX_BYTES = 0.3

Clip = tuple[Video, int, tuple[int, int, int, int]]
Read = Callable[[Clip], object]


def draw_clips(videos: list[Video]) -> list[Clip]:
    """Draw random clips and crops, the same in every run."""
    rng = random.Random(0)
    clips = []
    for _ in range(NUM_CLIPS):
        video = rng.choice(videos)
        start, _, _, x, y = video.draw(SIDE, rng)
        clips.append((video, start, (x, y, SIDE, SIDE)))
    return clips


def decode(**options: Any) -> Read:
    """Return what decodes a clip's frames and does nothing with them."""

    def read(clip: Clip) -> None:
        video, start, _ = clip
        for _ in PackedVideo(video.stream, video.facts).frames(start, start + NUM_FRAMES, **options):
            pass

    return read


def read(*modalities: str) -> Read:
    """Return what reads a clip as a loader does."""

    def read_one(clip: Clip) -> object:
        video, start, crop = clip
        return read_clip(
            {"video.m4v": video.stream}, video.facts, range(start, start + NUM_FRAMES), modalities, crop=crop
        )

    return read_one


def decode_jpegs(clip: Clip) -> None:
    """Decode a clip's pictures and do nothing with them."""
    video, start, _ = clip
    for picture in video.pictures[start : start + NUM_FRAMES]:
        decode_jpeg(picture)


STEPS: dict[str, Read] = {
    "JPEG: decode 16 pictures": decode_jpegs,
    "stream: decode 16 pictures and those before them": decode(vectors=False),
    "the same, convert, crop: RGB": read("rgb"),
    "stream: decode with vectors": decode(),
    "the same, follow the I-frame's picture": decode(track="picture"),
    "the same, convert, crop, subtract: RGB + accumulated residual": read("rgb", "residual"),
}


def report(videos: list[Video]) -> Iterator[str]:
    """Yield the table, the bytes, and how fast streams are packed as they are, beside hashing the files."""
    clips = draw_clips(videos)
    costs = medians({name: _all(one, clips) for name, one in STEPS.items()})
    yield ""
    yield f"| step, {NUM_FRAMES}x{SIDE}x{SIDE}, one process | CPU ms / clip |\n|---|--:|"
    for name, cost in costs.items():
        yield f"| {name} | {1e3 * cost.cpu_seconds / len(clips):.2f} |"
    num_jpeg = sum(len(picture) for video in videos for picture in video.pictures)
    share = sum(len(video.stream) for video in videos) / num_jpeg
    yield ""
    yield f"The streams take {share:.2f} of the bytes of RGB as JPEG 95 4:2:0 (target: at most {MAX_BYTES})."
    yield from packing([Path(video.mp4) for video in videos])


def _all(read_one: Read, clips: list[Clip]) -> Callable[[], None]:
    def run() -> None:
        for clip in clips:
            read_one(clip)

    return run


def packing(paths: list[Path]) -> Iterator[str]:
    """Yield how fast streams are packed as they are, beside reading and hashing the files."""
    num_bytes = sum(path.stat().st_size for path in paths)

    def pack_all() -> None:
        for path in paths:
            with VideoFile(path) as video:
                pack(video)

    costs = medians({"pack": pack_all, "hash": lambda: [sha256_of(path) for path in paths]})
    rates = {name: num_bytes / 1e6 / cost.wall_seconds for name, cost in costs.items()}
    each = 1e3 * costs["pack"].wall_seconds / len(paths)
    size = f"{len(paths)} encoded videos, {num_bytes / 1e6:.1f} MB in MP4"
    yield f"`--codec copy` packs the {size}, with {rates['pack']:.0f} MB/s ({each:.1f} ms a video);"
    yield f"reading and hashing the files, which extraction does too, goes with {rates['hash']:.0f} MB/s."
