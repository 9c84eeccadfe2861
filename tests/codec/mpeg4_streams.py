"""MPEG-4 Part 2 streams of all kinds of macroblocks, and a slow prediction of their pictures."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference import Decoded, Picture, busy_frames, decode, moving_texture

from vidprep.codec.bitstream import BitReader
from vidprep.codec.mpeg4 import _read_vol_start, _read_vol_time, marked, start_codes
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video

Frames = Callable[[int, int, int], list[Picture]]


def soft(picture: NDArray[np.uint8]) -> Picture:
    """Make a picture four times as large and blur it, so that a motion search finds its way."""
    large = np.kron(picture, np.ones((4, 4, 1))).astype(np.float64)
    for axis in (0, 1):
        large = sum(np.roll(large, shift, axis) for shift in range(-2, 3)) / 5
    return large.astype(np.uint8)


def fast_frames(num_frames: int, width: int, height: int) -> list[Picture]:
    """Motion that takes longer vectors than the shortest range has."""
    return [soft(picture) for picture in moving_texture(num_frames, width // 4, height // 4, (5, -4))]


def zooming_frames(num_frames: int, width: int, height: int) -> list[Picture]:
    """Motion that differs within macroblocks."""
    scene = soft(moving_texture(1, width // 4, height // 4)[0])
    y, x = np.mgrid[:height, :width]
    scales = [1 + 0.02 * i for i in range(num_frames)]
    return [
        scene[((y - height / 2) / scale + height / 2).astype(int), ((x - width / 2) / scale + width / 2).astype(int)]
        for scale in scales
    ]


def noisy_frames(num_frames: int, width: int, height: int) -> list[Picture]:
    """Coefficients too large for the tables."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-90, 90, (num_frames, height, width, 3))
    return [
        np.clip(a + b, 0, 255).astype(np.uint8)
        for a, b in zip(busy_frames(num_frames, width, height), noise, strict=True)
    ]


def still_frames(num_frames: int, width: int, height: int) -> list[Picture]:
    """A moving corner of a still picture: most macroblocks are skipped."""
    frames = [moving_texture(1, width, height)[0].copy() for _ in range(num_frames)]
    for i, corner in enumerate(moving_texture(num_frames, width // 3, height // 3, (2, 1), seed=1)):
        frames[i][: height // 3, : width // 3] = corner
    return frames


@dataclass(frozen=True)
class Stream:
    """How a stream is encoded."""

    options: dict[str, str] = field(default_factory=dict)
    encoder: str = "mpeg4"
    num_b_frames: int = 0
    quantiser: int = 4
    width: int = 112
    height: int = 80
    frames: Frames = busy_frames
    suffix: str = ".avi"
    writer: str = "library"  # or the ffmpeg command, which takes more options and has more encoders

    def write(self, folder: Path, name: str, num_frames: int = 20) -> Path:
        path = folder / f"{name}{self.suffix}"
        frames = self.frames(num_frames, self.width, self.height)
        arguments: dict[str, Any] = {"num_b_frames": self.num_b_frames, "quantiser": self.quantiser, "gop": 12}
        if self.writer == "library":
            write_video(path, frames, options=self.options, **arguments)
            return path
        lossless = folder / f"{name}.raw.mkv"
        write_video(lossless, frames, codec="ffv1", quantiser=None)
        flags = [part for key, value in self.options.items() for part in (f"-{key}", value)]
        flags += [
            "-qmin",
            "1",
            "-sc_threshold",
            "1000000000",
            "-bf",
            str(self.num_b_frames),
            "-g",
            "12",
            "-qscale:v",
            str(self.quantiser),
        ]
        command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", "-y", "-i", str(lossless), "-c:v", self.encoder]
        subprocess.run([*command, *flags, str(path)], check=True, capture_output=True)
        return path


STREAMS = {
    "plain": Stream(),
    "b1": Stream(num_b_frames=1),
    "b2": Stream(num_b_frames=2, suffix=".mp4"),
    "b3-rd": Stream({"mbd": "rd", "flags": "+mv4"}, num_b_frames=3, suffix=".mkv"),
    "b2-still": Stream(num_b_frames=2, quantiser=12, frames=still_frames),
    "b2-fast": Stream({"mbd": "rd"}, num_b_frames=2, width=176, height=144, frames=fast_frames),
    "b2-packets": Stream({"ps": "100", "mbd": "bits"}, num_b_frames=2),
    "b2-packets-still": Stream({"ps": "40", "flags": "+mv4"}, num_b_frames=2, quantiser=6, frames=still_frames),
    "b1-odd": Stream({"flags": "+mv4"}, num_b_frames=1, width=97, height=61),
    "b2-variable": Stream({"qmin": "2", "qmax": "31", "mbd": "rd", "mpv_flags": "+qp_rd"}, num_b_frames=2),
    "4mv": Stream({"flags": "+mv4", "mbd": "rd"}),
    "4mv-packets": Stream({"flags": "+mv4", "mbd": "rd", "ps": "150"}),
    "4mv-packets-b2": Stream(
        {"flags": "+mv4", "mbd": "rd", "ps": "10"},
        num_b_frames=2,
        quantiser=24,
        width=176,
        height=144,
        frames=zooming_frames,
    ),
    "qpel": Stream({"flags": "+qpel"}),
    "qpel-4mv-b2": Stream({"flags": "+qpel+mv4", "mbd": "rd"}, num_b_frames=2),
    "fast": Stream(width=176, height=144, frames=fast_frames),
    "noisy": Stream(quantiser=1, frames=noisy_frames),
    "noisy-b1": Stream({"flags": "+aic"}, num_b_frames=1, quantiser=1, frames=noisy_frames),
    "coarse": Stream(quantiser=31),
    "mpeg-quant": Stream({"mpeg_quant": "1"}, num_b_frames=1),
    "custom-matrices": Stream(
        {"mpeg_quant": "1", "intra_matrix": "8" + ",20" * 63, "inter_matrix": "16" + ",24" * 63}, writer="command"
    ),
    "ac-prediction": Stream({"flags": "+aic", "mbd": "rd"}, quantiser=2),
    "one-column": Stream({"flags": "+mv4", "mbd": "rd"}, num_b_frames=1, width=16, height=96),
    "one-row": Stream(num_b_frames=1, width=96, height=16),
    "xvid": Stream(encoder="libxvid", writer="command", suffix=".avi"),
    "xvid-b2": Stream(encoder="libxvid", writer="command", num_b_frames=2),
    "xvid-b2-4mv": Stream({"flags": "+mv4", "mbd": "rd"}, encoder="libxvid", writer="command", num_b_frames=2),
    "xvid-b2-qpel-4mv": Stream(
        {"flags": "+qpel+mv4", "mbd": "rd"}, encoder="libxvid", writer="command", num_b_frames=2, suffix=".mkv"
    ),
}


def predicted(
    reference: Picture, x: int, y: int, motion: tuple[int, int], size: int, rounding: int
) -> NDArray[np.int64]:
    """Interpolate a block of luma at half pixels (section 7.6.2); beyond its edges the reference goes on."""
    (mx, my), (height, width) = motion, reference.shape
    rows = np.clip(np.arange(y + (my >> 1), y + (my >> 1) + size + 1), 0, height - 1)
    columns = np.clip(np.arange(x + (mx >> 1), x + (mx >> 1) + size + 1), 0, width - 1)
    area = reference[np.ix_(rows, columns)].astype(np.int64)
    a, b, c, d = area[:-1, :-1], area[:-1, 1:], area[1:, :-1], area[1:, 1:]
    if mx & 1 and my & 1:
        return (a + b + c + d + 2 - rounding) >> 2
    return (a + (b if mx & 1 else c if my & 1 else a) + 1 - rounding) >> 1 if mx & 1 or my & 1 else a


def decode_exactly(path: Path) -> list[Decoded]:
    """Decode with plain PyAV, but with the parsed vectors of MPEG-4's B-frames: libavcodec exports zeros for them.

    That the parsed ones are right is shown in test_macroblocks.py.
    """
    decoded = decode(path)
    for plain, frame in zip(decoded, Video(path).frames(), strict=True):
        if frame.coded is not None:
            plain.blocks = frame.vectors
    return decoded


def with_height(data: bytes, height: int) -> bytes:
    """Return the same bytes with another height in each video object layer; a decoder then shows more rows."""
    patched = bytearray(data)
    for code, place in start_codes(data):
        if 0x20 <= code < 0x30:
            reader = BitReader(data[place:])
            _read_vol_start(reader)
            _read_vol_time(reader)
            marked(reader, 13), marked(reader, 13)
            end = place + (reader.position + 7) // 8  # the field reaches back over 13 bits at most two bytes
            shift = 8 * (end - place) - reader.position
            window = int.from_bytes(patched[end - 3 : end])
            patched[end - 3 : end] = (window & ~(0x1FFF << shift) | height << shift).to_bytes(3)
    return bytes(patched)
