"""How fast random clips are read from the bitstream layout, beside JPEGs in memory and the readers that others use.

Run ``python tests/benchmarks/loader.py [SOURCE]``: SOURCE is a folder of videos, the demo dataset by default. Each
video is encoded by the recipe (340x256, GOP 12). Figures are of one process: CPU time over the same random clips of 16
frames, cropped to 224x224, all readers in turn; ratios are medians over the turns.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from common import arguments, find_videos, medians, publish
from numpy.typing import NDArray

from vidprep.codec.packed import pack
from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.video import Video
from vidprep.modalities import images
from vidprep.modalities.clip import read_clip
from vidprep.shards.files import sha256_of
from vidprep.shards.sample import SampleWriter

NUM_FRAMES, SIDE = 16, 224
NUM_CLIPS, NUM_TURNS, MAX_VIDEOS = 120, 5, 24
JPEG = "JPEG in memory, RGB"
MAX_BYTES = 0.3

Clip = tuple["Source", int, tuple[int, int, int, int]]
Reader = Callable[[Clip], object]


@dataclass
class Source:
    """One encoded video, in all the forms that are read."""

    entries: dict[str, bytes]
    facts: dict[str, Any]
    jpegs: list[bytes]
    mp4: Path
    opened: dict[str, Any] = field(default_factory=dict)


def encode(path: Path, folder: Path) -> Source | None:
    """Encode a video by the recipe; None if it is shorter than a clip."""
    with Video(path) as video, transcode(video, Recipe()) as encoded:
        stream = pack(encoded)
        jpegs = [images.encode_jpeg(frame.rgb(), "420") for frame in encoded.frames(vectors=False)]
    if len(jpegs) < NUM_FRAMES:
        return None
    facts = {
        "packets": stream.facts(),
        "picture_types": stream.picture_types,
        "pts_seconds": list(stream.pts_seconds),
        "frame_indices": list(range(len(jpegs))),
        "width": stream.width,
        "height": stream.height,
    }
    mp4 = folder / f"{len(list(folder.iterdir()))}.mp4"
    remux(stream.data, mp4)
    return Source({stream.entry: stream.data}, facts, jpegs, mp4)


def remux(data: bytes, path: Path) -> None:
    """Put a raw stream into an MP4 file, 25 frames a second."""
    command = [ffmpeg_path(), "-loglevel", "error", "-fflags", "+genpts", "-r", "25", "-f", "m4v", "-i", "pipe:0"]
    subprocess.run([*command, "-c", "copy", str(path)], input=data, check=True)


def draw_clips(sources: list[Source]) -> list[Clip]:
    """Draw random clips and crops, the same in every run."""
    rng = random.Random(0)
    clips = []
    for _ in range(NUM_CLIPS):
        source = rng.choice(sources)
        start = rng.randrange(len(source.jpegs) - NUM_FRAMES + 1)
        x, y = rng.randrange(source.facts["width"] - SIDE + 1), rng.randrange(source.facts["height"] - SIDE + 1)
        clips.append((source, start, (x, y, SIDE, SIDE)))
    return clips


def read_jpegs(clip: Clip) -> NDArray[np.uint8]:
    """Decode the clip's JPEGs alone and cut them."""
    source, start, (x, y, width, height) = clip
    pictures = (
        simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
        for data in source.jpegs[start : start + NUM_FRAMES]
    )
    return np.stack([picture[y : y + height, x : x + width] for picture in pictures])


def opened(source: Source) -> PackedVideo:
    """Return the reader of the bitstream layout, opened once."""
    return once(source, "vidprep", lambda: PackedVideo(next(iter(source.entries.values())), source.facts))


def read_rgb(clip: Clip) -> NDArray[np.uint8]:
    """Read RGB alone from the bitstream layout."""
    source, start, crop = clip
    return opened(source).rgb(start, start + NUM_FRAMES, crop=crop)


def read_stream(*modalities: str) -> Reader:
    """Return a reader of the bitstream layout, as a loader calls it: a new sample's json and bytes in, arrays out."""

    def read(clip: Clip) -> dict[str, NDArray[Any]]:
        source, start, crop = clip
        return read_clip(source.entries, source.facts, range(start, start + NUM_FRAMES), modalities, crop=crop)

    return read


def once(source: Source, name: str, opener: Callable[[], Any]) -> Any:
    """Open a video with another reader when it is first asked for."""
    if name not in source.opened:
        source.opened[name] = opener()
    return source.opened[name]


def read_decord(clip: Clip) -> NDArray[np.uint8]:
    """Read with decord, opened once."""
    import decord

    source, start, (x, y, width, height) = clip
    reader = once(source, "decord", lambda: decord.VideoReader(str(source.mp4), num_threads=1))
    frames = reader.get_batch(range(start, start + NUM_FRAMES)).asnumpy()
    return np.ascontiguousarray(frames[:, y : y + height, x : x + width])


def read_torchcodec(clip: Clip) -> object:
    """Read with torchcodec, opened once."""
    from torchcodec.decoders import VideoDecoder

    source, start, (x, y, width, height) = clip
    path = str(source.mp4)
    reader = once(source, "torchcodec", lambda: VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1))
    frames = reader.get_frames_in_range(start, start + NUM_FRAMES).data
    return frames[:, y : y + height, x : x + width].contiguous()


def others(clip: Clip) -> tuple[dict[str, Reader], list[str]]:
    """Return the readers of others that work here, and the names of those that don't."""
    torch.set_num_threads(1)  # else its idle threads burn time
    found: dict[str, Reader] = {}
    absent = []
    for name, read in {"decord, RGB": read_decord, "torchcodec, RGB": read_torchcodec}.items():
        try:
            read(clip)
            found[name] = read
        except (ImportError, RuntimeError, OSError):
            absent.append(name)
    return found, absent


def webdataset_reader(sources: list[Source], folder: Path) -> Reader:
    """Return a plain webdataset pipeline over the decoded layout: whole samples, one clip of each."""
    import webdataset

    shard = folder / "decoded.tar"
    with shard.open("wb") as file:
        for i, source in enumerate(sources):
            sample = SampleWriter(file, f"{i:06}")
            for k, data in enumerate(source.jpegs):
                sample.add(f"rgb.{k:06d}.jpg", data)
        file.write(bytes(1024))

    def samples() -> Iterator[dict[str, Any]]:
        while True:
            yield from webdataset.WebDataset([str(shard)], shardshuffle=False).decode("rgb8")

    stream = samples()

    def read(clip: Clip) -> NDArray[np.uint8]:
        _, _, (x, y, width, height) = clip
        sample = next(stream)
        frames = [sample[name] for name in sorted(sample) if name.endswith(".jpg")][:NUM_FRAMES]
        return np.stack([frame[y : y + height, x : x + width] for frame in frames])

    return read


def steps() -> dict[str, Reader]:
    """Return parts of the work, each of which holds the one before it."""

    def run(**options: Any) -> Reader:
        def read(clip: Clip) -> None:
            for _ in opened(clip[0]).frames(clip[1], clip[1] + NUM_FRAMES, **options):
                pass

        return read

    return {
        "decode": run(vectors=False),
        "decode with vectors": run(),
        "decode with vectors, follow pixels": run(track="motion"),
        "decode with vectors, follow pixels and picture": run(track="residual"),
        "all that, convert, crop, subtract": read_stream("rgb", "residual"),
    }


def measure(readers: dict[str, Reader], clips: list[Clip]) -> dict[str, list[float]]:
    """Return CPU seconds a clip of each reader in each turn."""
    costs: dict[str, list[float]] = {name: [] for name in readers}
    for read in readers.values():
        read(clips[0])
    for _ in range(NUM_TURNS):
        for name, read in readers.items():
            some = clips[: 1 + NUM_CLIPS // 20] if name.startswith("webdataset") else clips
            begin = time.process_time()
            for clip in some:
                read(clip)
            costs[name].append((time.process_time() - begin) / len(some))
    return costs


def ratio(costs: dict[str, list[float]], other: str, ours: str) -> float:
    """Return how many times as fast ours is: the median over the turns."""
    return statistics.median(a / b for a, b in zip(costs[other], costs[ours], strict=True))


def report(sources: list[Source], folder: Path) -> Iterator[str]:
    """Yield the tables."""
    num_stream = sum(len(data) for source in sources for data in source.entries.values())
    share = num_stream / sum(len(data) for source in sources for data in source.jpegs)
    rgb, both = "vidprep bitstream, RGB", "vidprep bitstream, RGB + accumulated residual"
    clips = draw_clips(sources)
    found, absent = others(clips[0])
    readers = {
        rgb: read_rgb,
        "the same, a new sample for each clip": read_stream("rgb"),
        both: read_stream("rgb", "residual"),
        JPEG: read_jpegs,
        **found,
    }
    readers["webdataset, whole decoded samples"] = webdataset_reader(sources, folder)
    costs = measure({**readers, **steps()}, clips)
    targets = {JPEG: 1.5, "decord, RGB": 2.0, "torchcodec, RGB": 2.0, "webdataset, whole decoded samples": 5.0}
    num_frames = sum(len(source.jpegs) for source in sources)
    yield f"{len(sources)} videos, {num_frames} frames. The stream takes {share:.2f} of the bytes of RGB as JPEG 95"
    yield f"4:2:0 alone (target: at most {MAX_BYTES})."
    yield ""
    yield f"| clips of {NUM_FRAMES} frames, {SIDE}x{SIDE} | clips/CPU-s | vidprep RGB is faster by | target |"
    yield "|---|---|---|---|"
    for name in readers:
        times = f"{ratio(costs, name, rgb):.2f}" if name != rgb else "1"
        target = targets.get(name, "")
        yield f"| {name} | {1 / statistics.median(costs[name]):.0f} | {times} | {target} |"
    for name in absent:
        yield f"| {name} | not installed here | | |"
    yield ""
    yield f"RGB and residual together are {ratio(costs, JPEG, both):.2f} times as fast as JPEG RGB alone (target: 1)."
    yield ""
    yield "| step | ms a clip |"
    yield "|---|---|"
    for name in steps():
        yield f"| {name} | {1e3 * statistics.median(costs[name]):.2f} |"


def packing(paths: list[Path]) -> Iterator[str]:
    """Yield how fast streams are packed as they are, beside reading and hashing the files."""
    num_bytes = sum(path.stat().st_size for path in paths)

    def pack_all() -> None:
        for path in paths:
            with Video(path) as video:
                pack(video)

    costs = medians({"pack": pack_all, "hash": lambda: [sha256_of(path) for path in paths]})
    rates = {name: num_bytes / 1e6 / cost.wall_seconds for name, cost in costs.items()}
    each = 1e3 * costs["pack"].wall_seconds / len(paths)
    yield ""
    size = f"{len(paths)} encoded videos, {num_bytes / 1e6:.1f} MB in MP4"
    yield f"`--codec copy` packs the {size}, with {rates['pack']:.0f} MB/s ({each:.1f} ms a video);"
    yield f"reading and hashing the files, which extraction does too, goes with {rates['hash']:.0f} MB/s."


def main() -> None:
    """Print the tables, and write them into the README if that is wanted."""
    chosen = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, paths = find_videos(chosen.source, folder)
        paths = paths[:: -(-len(paths) // MAX_VIDEOS)]
        (folder / "mp4").mkdir()
        sources = [source for path in paths if (source := encode(path, folder / "mp4")) is not None]
        lines = chain(report(sources, folder), packing([source.mp4 for source in sources]))
        publish(lines, "loader.py", chosen.readme)


if __name__ == "__main__":
    main()
