"""Makes small videos with every kind of fault, and some without, for the tests of extraction."""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.writer import write_video

Pictures = NDArray[np.uint8]
NUM_FRAMES = 14
SIZE, ODD_SIZE = (80, 64), (65, 49)
ALL = range(NUM_FRAMES)
IRREGULAR = (0, 40, 60, 100, 220, 240, 400, 410, 450, 600, 640, 660, 900, 940)
VOP = b"\x00\x00\x01\xb6"


def pictures(num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE, seed: int = 0) -> Pictures:
    """Frames [shape=(T, H, W, 3)] that differ from each other and from themselves turned or mirrored."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, (width + 4 * num_frames) // 8, 3), np.uint8)
    wide = Image.fromarray(noise).resize((width + 4 * num_frames, height), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(wide)[:, 4 * i : 4 * i + width] for i in range(num_frames)])


def make(
    path: Path, num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE, seed: int = 0, **settings: Any
) -> None:
    """Write `pictures` with `write_video`."""
    write_video(path, pictures(num_frames, size, seed), **settings)


def ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg command."""
    command = [ffmpeg_path(), "-nostdin", "-y", "-loglevel", "error", "-fflags", "+bitexact", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def hum(num_seconds: float = 0.56, sample_rate_hz: int = 44100) -> NDArray[np.float32]:
    """A sound track."""
    time = np.arange(int(num_seconds * sample_rate_hz)) / sample_rate_hz
    return np.asarray(0.3 * np.sin(2 * np.pi * 440 * time), dtype=np.float32)


# Makers: each writes one file at a path.


def write_bytes(path: Path, *, data: bytes) -> None:
    path.write_bytes(data)


def cut(path: Path, *, share: float = 0.6, fast_start: bool = False, **settings: Any) -> None:
    """A file that ends too early; with `fast_start` its table of contents stands at its beginning."""
    make(path, **settings)
    if fast_start:
        whole = path.with_name(f".whole{path.suffix}")
        path.rename(whole)
        ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", path)
        whole.unlink()
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def flip(path: Path, *, seed: int, **settings: Any) -> None:
    """A file with three flipped bits in its middle."""
    make(path, **settings)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(int(0.3 * len(data)), int(0.8 * len(data)), 3):
        data[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def lose_frame(path: Path) -> None:
    """A transport stream (H.264) without one of its frames: only a gap in the packets' numbers tells."""
    make(path, codec="h264")
    data = path.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    # ISO 13818-1, section 2.4.3: the flag of a packet that begins a frame, and the number of the stream
    begins = [i for i, packet in enumerate(packets) if packet[1] == 0x41 and packet[2] == 0]
    assert len(begins) == NUM_FRAMES
    path.write_bytes(b"".join(packets[: begins[6]] + packets[begins[7] :]))


def audio_only(path: Path, *, cover: bool = False) -> None:
    """A sound track without video, or with a cover picture."""
    tone = ("-f", "lavfi", "-i", "sine=duration=0.5")
    if not cover:
        ffmpeg(*tone, "-c:a", "aac", path)
        return
    picture = path.with_name(".cover.jpg")
    Image.fromarray(pictures(1)[0]).save(picture)
    ffmpeg(*tone, "-i", picture, "-c:a", "aac", "-c:v", "copy", "-disposition:v", "attached_pic", path)
    picture.unlink()


def without_i_frames(path: Path, *, only_first: bool) -> None:
    """A raw MPEG-4 stream (GOP 6) that lacks its first I-frame, or all of them."""
    make(path, gop=6, container_format="m4v")
    head, *vops = path.read_bytes().split(VOP)
    kept = [vop for i, vop in enumerate(vops) if vop[0] >> 6 or (only_first and i)]
    path.write_bytes(head + b"".join(VOP + vop for vop in kept))


def cut_in_front(path: Path) -> None:
    """A transport stream (H.264, GOP 5) that begins within a GOP."""
    make(path, codec="h264", gop=5)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 4 // 188 * 188 :])


def rotate(path: Path, *, degrees: int) -> None:
    """A video that a player turns counter-clockwise."""
    straight = path.with_name(f".straight{path.suffix}")
    make(straight)
    ffmpeg("-display_rotation", str(degrees), "-i", straight, "-c", "copy", path)
    straight.unlink()


def retime(path: Path, *, ticks: Sequence[int], **settings: Any) -> None:
    """A video whose packets have the given timestamps, in units of 40 ms, in the order of decoding."""
    source = path.with_name(f".source{path.suffix}")
    make(source, **settings)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        step = 1 / (25 * old.streams.video[0].time_base)  # type: ignore[operator]
        for i, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            packet.pts, packet.dts = int(ticks[i] * step), int((i - len(ticks)) * step)
            packet.stream = stream
            new.mux(packet)
    source.unlink()


def claim_frames(path: Path, *, count: int) -> None:
    """An AVI whose headers claim another number of frames."""
    make(path)
    data = bytearray(path.read_bytes())
    main, stream = data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32
    for place in (main, stream):
        assert int.from_bytes(data[place : place + 4], "little") == NUM_FRAMES
        data[place : place + 4] = count.to_bytes(4, "little")
    path.write_bytes(data)


def claim_samples(path: Path, *, count: int) -> None:
    """An MP4 whose table of times covers another number of frames."""
    make(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"stts") + 12
    assert int.from_bytes(data[place : place + 4], "big") == NUM_FRAMES
    data[place : place + 4] = count.to_bytes(4, "big")
    path.write_bytes(data)


def link(path: Path, *, target: str) -> None:
    path.symlink_to(target)


@dataclass(frozen=True)
class Bad:
    """A faulty or odd file and what becomes of it: part of the reason why it fails, or which pictures it shows."""

    maker: Callable[..., None]
    mpeg4: str | Sequence[int] = ALL
    copy: str | Sequence[int] | None = None  # None: as mpeg4
    milliseconds: Sequence[int] | None = tuple(range(0, 40 * NUM_FRAMES, 40))  # None: anything that increases

    def expected(self, codec: str) -> str | Sequence[int]:
        return self.mpeg4 if codec == "mpeg4" or self.copy is None else self.copy


DAMAGED = "damaged"
UNKNOWN = "no video of a known kind"
SWAPPED = (0, 1, 3, 2, 4, 6, 5, 7, 8, 10, 9, 11, 12, 13)
EQUAL = (0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 8, 9)

BAD = {
    "zero.mp4": Bad(partial(write_bytes, data=b""), "size_bytes=0"),
    "text.mp4": Bad(partial(write_bytes, data=b"This is no video.\n" * 100), UNKNOWN),
    "noise.avi": Bad(partial(write_bytes, data=np.random.default_rng(0).bytes(5000)), UNKNOWN),
    "zeros.mkv": Bad(partial(write_bytes, data=bytes(5000)), UNKNOWN),
    # Truncated
    "cut.mp4": Bad(cut, UNKNOWN),  # its table of contents stands at the end
    "cut_table_first.mp4": Bad(partial(cut, fast_start=True), DAMAGED),
    "cut.avi": Bad(cut, DAMAGED),
    "cut_b_frames.avi": Bad(partial(cut, num_b_frames=2), DAMAGED),
    "cut.mkv": Bad(cut, "its header promises"),
    "cut_h264.mkv": Bad(partial(cut, codec="h264"), "its header promises"),
    "cut.m4v": Bad(partial(cut, container_format="m4v"), DAMAGED),
    "lost_frame.ts": Bad(lose_frame, DAMAGED),
    # No picture, or none to begin with
    "audio.mp4": Bad(audio_only, "num_video_streams=0"),
    "cover.mp4": Bad(partial(audio_only, cover=True), "num_video_streams=0"),
    "no_i_frame.m4v": Bad(partial(without_i_frames, only_first=False), "no I-frame"),
    "late_i_frame.m4v": Bad(partial(without_i_frames, only_first=True), range(6, 14), milliseconds=None),
    "cut_in_front.ts": Bad(cut_in_front, range(5, 14), milliseconds=None),
    "one_frame.avi": Bad(partial(make, num_frames=1), (0,), milliseconds=(0,)),
    "one_frame.mp4": Bad(partial(make, num_frames=1, codec="h264", num_b_frames=2), (0,), milliseconds=(0,)),
    # Formats
    "odd_size.avi": Bad(partial(make, size=ODD_SIZE)),
    "odd_size.mkv": Bad(partial(make, size=ODD_SIZE, num_b_frames=2, gop=9)),
    "odd_size_444.mp4": Bad(partial(make, size=ODD_SIZE, codec="h264", pixel_format="yuv444p")),
    "444.mp4": Bad(partial(make, codec="h264", pixel_format="yuv444p")),
    "10_bit.mp4": Bad(partial(make, codec="h264", pixel_format="yuv420p10le", num_b_frames=2)),
    "422_10_bit.mkv": Bad(partial(make, codec="h264", pixel_format="yuv422p10le")),
    "lossless.mkv": Bad(partial(make, codec="ffv1", quantiser=None, gop=1, pixel_format="yuv420p"), copy="codec=ffv1"),
    "raw.y4m": Bad(
        partial(make, codec="rawvideo", quantiser=None, gop=1, container_format="yuv4mpegpipe"), copy="codec=rawvideo"
    ),
    "rotated_90.mp4": Bad(partial(rotate, degrees=90), copy="rotation_degrees=90"),
    "rotated_180.mov": Bad(partial(rotate, degrees=180), copy="rotation_degrees=-180"),
    "rotated_270.mp4": Bad(partial(rotate, degrees=270), copy="rotation_degrees=-90"),
    # Times
    "variable.mp4": Bad(partial(make, pts=IRREGULAR), milliseconds=IRREGULAR),
    "variable.mkv": Bad(partial(make, pts=IRREGULAR, codec="h264", num_b_frames=2), milliseconds=IRREGULAR),
    "swapped.mkv": Bad(partial(retime, ticks=SWAPPED), milliseconds=None),
    "swapped.mp4": Bad(partial(retime, ticks=SWAPPED, codec="h264"), milliseconds=None),
    "swapped.ts": Bad(partial(retime, ticks=SWAPPED, codec="h264"), milliseconds=None),
    "equal.mkv": Bad(partial(retime, ticks=EQUAL), milliseconds=None),
    "missing.avi": Bad(partial(make, num_b_frames=2, gop=9), milliseconds=range(40, 600, 40)),  # AVI stores none
    "missing.h264": Bad(partial(make, codec="h264", num_b_frames=2)),
    "missing.m4v": Bad(partial(make, container_format="m4v")),
    "b_frames_h264.avi": Bad(partial(make, codec="h264", num_b_frames=2), milliseconds=None),
    # Wrong claims
    "claims_0.avi": Bad(partial(claim_frames, count=0)),
    "claims_3.avi": Bad(partial(claim_frames, count=3)),
    "claims_100000.avi": Bad(partial(claim_frames, count=100_000)),
    "claims_3.mp4": Bad(partial(claim_samples, count=3), milliseconds=None),
    "claims_3000.mp4": Bad(partial(claim_samples, count=3000)),
    # Links
    "broken_link.mp4": Bad(partial(link, target="nowhere.mp4"), "nowhere.mp4: No such file or directory"),
    "loop.mp4": Bad(partial(link, target="loop.mp4"), "Too many levels of symbolic links"),
    "pipe.mp4": Bad(os.mkfifo, "not a regular file"),
    "device.mp4": Bad(partial(link, target="/dev/zero"), "not a regular file"),
}
