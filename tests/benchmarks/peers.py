"""vidprep beside other readers that install from the package index, on one video.

Run ``python tests/benchmarks/peers.py [SOURCE]``: SOURCE is a folder of videos, the demo dataset by default; the others
come with ``pip install '.[peers]'``, and those that are absent are named. Figures are frames per CPU second with one
thread asked for, medians in one run, beside their ratio to plain decoding and the minor page faults a frame.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from common import NUM_RUNS, Work, arguments, find_videos, long_stream, medians, publish
from reading import LIMIT, Reader, plain


def mv_extractor(path: Path) -> None:
    """Read pictures and block vectors with mv-extractor."""
    capture = importlib.import_module("mvextractor.videocap").VideoCap()
    assert capture.open(str(path))
    while capture.read()[0]:
        pass
    capture.release()


def decord(path: Path) -> None:
    """Read pictures with decord."""
    module = importlib.import_module("decord")
    for frame in module.VideoReader(str(path), num_threads=1):
        frame.asnumpy()


def opencv(path: Path) -> None:
    """Read pictures with OpenCV."""
    module = importlib.import_module("cv2")
    module.setNumThreads(1)
    capture = module.VideoCapture(str(path), module.CAP_FFMPEG, [module.CAP_PROP_N_THREADS, 1])
    while capture.read()[0]:
        pass
    capture.release()


def torchcodec(path: Path) -> None:
    """Read pictures with torchcodec."""
    importlib.import_module("torch").set_num_threads(1)
    for _ in importlib.import_module("torchcodec.decoders").VideoDecoder(path, num_ffmpeg_threads=1):
        pass


# What is read, what it takes where it is absent, and the work.
PEERS: tuple[tuple[str, str, Callable[[Path], None]], ...] = (
    ("mv-extractor picture + vectors", "pip install motion-vector-extractor", mv_extractor),
    ("decord picture", "pip install decord", decord),
    ("OpenCV picture", "pip install opencv-python-headless", opencv),
    ("torchcodec picture", "pip install torchcodec, and FFmpeg's shared libraries", torchcodec),
)


def as_mp4(stream: Path, folder: Path) -> Path:
    """Put a bare stream into a container, with times and an index: others need them."""
    path = folder / "long.mp4"
    with av.open(stream) as source, av.open(path, "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.time_base = track, Fraction(1, 25)
            packet.pts = packet.dts = i
            packet.duration = 1
            target.mux(packet)
    return path


def own_works(path: Path) -> dict[str, Work]:
    """Return plain PyAV's and vidprep's ways of reading."""
    read = Reader(path)
    return {
        LIMIT: lambda: plain(path, vectors=False, rgb=False),
        "PyAV picture": lambda: plain(path, vectors=False, rgb=True),
        "PyAV picture + vectors": lambda: plain(path, vectors=True, rgb=True),
        "vidprep picture": read("rgb"),
        "vidprep picture + vectors": read("rgb vectors"),
        "vidprep picture + accumulated motion + accumulated residual": read("rgb accumulated residual", "residual"),
    }


def peer_works(path: Path) -> tuple[dict[str, Work], dict[str, str]]:
    """Return the others' ways of reading, and for those that don't load here what they take."""
    works: dict[str, Work] = {}
    absent: dict[str, str] = {}
    for name, cure, read in PEERS:
        try:
            read(path)
        except (ImportError, RuntimeError):  # torchcodec loads its libraries when it is first used
            absent[name] = cure
        else:
            works[name] = partial(read, path)
    return works, absent


def table(path: Path, num_frames: int) -> Iterator[str]:
    """Yield the table as lines of Markdown."""
    peers, absent = peer_works(path)
    costs = medians(own_works(path) | peers)
    limit = costs[LIMIT].cpu_seconds
    yield f"Reading {num_frames} frames of 340x256, MPEG-4 in mp4, one thread asked for, medians of {NUM_RUNS}:\n"
    yield "| reading | frames / CPU s | ratio to the limit | minor faults / frame |\n|---|--:|--:|--:|"
    for name, cost in costs.items():
        rate, ratio = num_frames / cost.cpu_seconds, limit / cost.cpu_seconds
        yield f"| {name} | {rate:.0f} | {ratio:.2f} | {cost.num_faults / num_frames:.1f} |"
    for name, cure in absent.items():
        yield f"| {name} | absent: {cure} | - | - |"


def main() -> None:
    """Print the table, and write it into the README if that is wanted."""
    chosen = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, paths = find_videos(chosen.source, folder)
        stream, num_frames = long_stream(paths, folder)
        publish(table(as_mp4(stream, folder), num_frames), "peers.py", chosen.readme)


if __name__ == "__main__":
    main()
