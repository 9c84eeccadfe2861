"""Slow, obvious oracles that follow DESIGN.md word by word, and content whose motion is known.

Nothing here uses vidprep, so that it can't be wrong in the same way.
"""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

PAST, FUTURE = -1, 1
LETTERS = {1: "I", 2: "P", 3: "B", 4: "P"}

Blocks = NDArray[np.void]
Picture = NDArray[np.uint8]
SourceMap = NDArray[np.int64]  # (H, W, 2): for each pixel x, y in the I-frame


@dataclass
class Decoded:
    """A frame as PyAV gives it."""

    picture_type: str
    time: float | None
    rgb: Picture
    luma: Picture
    blocks: Blocks


def decode(path: Path | str) -> list[Decoded]:
    """Decode all frames with plain PyAV.

    MPEG-1 and 2 get their last anchor twice: libavcodec gives it out without vectors when it is asked at the end.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        context.flags2 |= av.codec.context.Flags2.export_mvs
        frames, anchor = [], b""
        for packet in container.demux(stream):
            if context.name in ("mpeg1video", "mpeg2video"):
                data = bytes(packet)
                place = data.find(b"\0\0\1\0")
                if packet.size and data[place + 5] >> 3 & 7 < 3:
                    anchor = data
                if not packet.size:
                    again = av.Packet(len(anchor))
                    again.update(anchor)
                    again.time_base = stream.time_base
                    frames += [_decoded(frame) for frame in stream.decode(again)]
            frames += [_decoded(frame) for frame in packet.decode()]
        return frames[:-1] if anchor else frames


def _decoded(frame: av.VideoFrame) -> Decoded:
    vectors = frame.side_data.get("MOTION_VECTORS")
    blocks = np.empty(0, np.int32) if vectors is None else vectors.to_ndarray().copy()
    plane = frame.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    rgb = frame.reformat(format="rgb24", threads=1).to_ndarray()
    time = None if frame.pts is None else frame.time
    return Decoded(LETTERS[frame.pict_type], time, rgb, luma.copy(), blocks)


def rgb_by_command(
    ffmpeg: str, path: Path | str, width: int, height: int, *, chroma_siting: str = "left"
) -> NDArray[np.uint8]:
    """Cut all frames with the ffmpeg command [shape=(T, H, W, 3)].

    PyAV converts bilinearly, and libswscale honours the siting that the decoder states: left for MPEG-2, MPEG-4 and
    H.264, centre for MPEG-1 and where nothing is known. The command's own defaults are bicubic and centre. Both
    matter only where libswscale has no direct conversion: for odd heights and more than 8 bits.
    """
    convert = f"scale=flags=bilinear:in_chroma_loc={chroma_siting},format=rgb24"
    command = [ffmpeg, "-loglevel", "error", "-nostdin", "-noautorotate", "-threads", "1", "-i", str(path)]
    command += ["-map", "0:v:0", "-vf", convert, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


# Motion, pixel by pixel


def dense_motion(blocks: Blocks, height: int, width: int, direction: int = PAST) -> NDArray[np.int16]:
    """Destination minus source of the last block with a vector at each pixel whose source is in the frame."""
    field = np.zeros((height, width, 2), np.int16)
    for block in blocks[_directions(blocks) == direction]:
        vx, vy = _vector(block)
        for x, y in _pixels(block, height, width):
            if (vx, vy) != (0, 0) and 0 <= x - vx < width and 0 <= y - vy < height:
                field[y, x] = vx, vy
    return field


def trace_frame_in_blocks(blocks: Blocks, past: SourceMap, future: SourceMap | None) -> SourceMap:
    """Do what :func:`trace_frame` does, a block at a time, for real clips."""
    height, width = past.shape[:2]
    result, has_past = past.copy(), np.zeros((height, width), bool)
    for block in blocks[_directions(blocks) == PAST]:
        y, x = _grid(block, height, width)
        has_past[y, x] = True
    for direction, reference in ((FUTURE, future), (PAST, past)):
        for block in blocks[_directions(blocks) == direction] if reference is not None else ():
            vx, vy = _vector(block)
            y, x = _grid(block, height, width)
            wanted = (x - vx >= 0) & (x - vx < width) & (y - vy >= 0) & (y - vy < height)
            wanted &= has_past[y, x] if direction == PAST else ~has_past[y, x]
            if direction == FUTURE or (vx, vy) != (0, 0):
                result[y[wanted], x[wanted]] = reference[y[wanted] - vy, x[wanted] - vx]
    return result


def source_maps(
    picture_types: Sequence[str],
    blocks: Sequence[Blocks],
    height: int,
    width: int,
    trace: Callable[[Blocks, SourceMap, SourceMap | None], SourceMap] = trace_frame_in_blocks,
) -> list[SourceMap]:
    """Follow each pixel of each frame, in display order, to its GOP's I-frame."""
    maps: dict[int, SourceMap] = {}
    anchors = [i for i, letter in enumerate(picture_types) if letter != "B"]
    for i in anchors:
        intra = picture_types[i] == "I"
        maps[i] = identity(height, width) if intra else trace(blocks[i], maps[_before(anchors, i)], None)
    for i in (i for i, letter in enumerate(picture_types) if letter == "B"):
        following = next((a for a in anchors if a > i), None)
        same_gop = following is not None and picture_types[following] != "I"
        maps[i] = trace(blocks[i], maps[_before(anchors, i)], maps[following] if same_gop else None)
    return [maps[i] for i in range(len(picture_types))]


def trace_frame(blocks: Blocks, past: SourceMap, future: SourceMap | None) -> SourceMap:
    """Give each pixel the source of the pixel that its block's vector points at."""
    height, width = past.shape[:2]
    covering: dict[tuple[int, int], list[Blocks]] = {}
    for block in blocks:
        for position in _pixels(block, height, width):
            covering.setdefault(position, []).append(block)
    result = past.copy()
    for (x, y), over in covering.items():
        result[y, x] = _trace_pixel(x, y, over, past, future)
    return result


def _trace_pixel(x: int, y: int, over: list[Blocks], past: SourceMap, future: SourceMap | None) -> NDArray[np.int64]:
    height, width = past.shape[:2]
    from_past = [_vector(block) for block in over if block["source"] < 0]
    from_future = [_vector(block) for block in over if block["source"] > 0]
    if from_past:  # zero vectors keep the value
        reference, vectors = past, [v for v in from_past if v != (0, 0)]
    elif future is not None:  # zero vectors too are taken from the future anchor
        reference, vectors = future, from_future
    else:
        return past[y, x]
    sources = [(x - vx, y - vy) for vx, vy in vectors]
    inside = [(sx, sy) for sx, sy in sources if 0 <= sx < width and 0 <= sy < height]
    if not inside:
        return past[y, x]
    sx, sy = inside[-1]
    return reference[sy, sx]


def accumulated_motion(maps: Iterable[SourceMap]) -> list[NDArray[np.int16]]:
    """``p - source[p]`` of each frame."""
    return [(identity(*source.shape[:2]) - source).astype(np.int16) for source in maps]


def accumulated_residuals(
    picture_types: Sequence[str], pictures: Sequence[Picture], maps: Sequence[SourceMap]
) -> list[NDArray[np.int16]]:
    """``rgb[t][p] - rgb[I][source[p]]`` of each frame; I is the last one displayed at or before it."""
    residuals = []
    for letter, picture, source in zip(picture_types, pictures, maps, strict=True):
        if letter == "I":
            intra = picture
        residuals.append(picture.astype(np.int16) - intra[source[..., 1], source[..., 0]])
    return residuals


def residual_magnitude(residual: NDArray[np.int16], scale: int) -> NDArray[np.float64]:
    """The norm over RGB, averaged over squares of ``scale`` pixels; squares that an edge cuts over what is left."""
    norm = np.sqrt((residual.astype(float) ** 2).sum(axis=-1))
    height, width = norm.shape
    squares = [[norm[y : y + scale, x : x + scale] for x in range(0, width, scale)] for y in range(0, height, scale)]
    return np.array([[square.mean() for square in line] for line in squares])


def identity(height: int, width: int) -> SourceMap:
    """Each pixel's own place [shape=(H, W, 2)], x and y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], axis=-1)


def warp(picture: Picture, motion: NDArray[np.int16]) -> Picture:
    """Take each pixel from where ``motion`` (position minus source) says that it came from."""
    source = identity(*picture.shape[:2]) - motion
    return picture[source[..., 1], source[..., 0]]


def _before(anchors: list[int], i: int) -> int:
    return max(a for a in anchors if a < i)


def _directions(blocks: Blocks) -> NDArray[np.int32]:
    return blocks["source"] if len(blocks) else np.empty(0, np.int32)


def _vector(block: Blocks) -> tuple[int, int]:
    return int(block["dst_x"]) - int(block["src_x"]), int(block["dst_y"]) - int(block["src_y"])


def _pixels(block: Blocks, height: int, width: int) -> Iterator[tuple[int, int]]:
    left, top = int(block["dst_x"]) - int(block["w"]) // 2, int(block["dst_y"]) - int(block["h"]) // 2
    for y in range(top, top + int(block["h"])):
        for x in range(left, left + int(block["w"])):
            if 0 <= x < width and 0 <= y < height:
                yield x, y


def _grid(block: Blocks, height: int, width: int) -> NDArray[np.int64]:
    left, top = int(block["dst_x"]) - int(block["w"]) // 2, int(block["dst_y"]) - int(block["h"]) // 2
    y, x = np.mgrid[top : top + int(block["h"]), left : left + int(block["w"])]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.stack([y[inside], x[inside]])


# Bits


class BitWriter:
    """Writes what BitReader reads."""

    def __init__(self) -> None:
        self.digits = ""

    def bits(self, value: int, count: int) -> None:
        self.digits += f"{value:0{count}b}" if count else ""

    def unsigned(self, value: int) -> None:
        code = f"{value + 1:b}"
        self.digits += "0" * (len(code) - 1) + code

    def signed(self, value: int) -> None:
        self.unsigned(2 * value - 1 if value > 0 else -2 * value)

    def data(self) -> bytes:
        digits = self.digits + "1"  # rbsp_trailing_bits
        digits += "0" * (-len(digits) % 8)
        return int(digits, 2).to_bytes(len(digits) // 8, "big")


# Content


def texture(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth random texture [shape=(H, W, 3)]: detailed enough that a motion search finds one answer."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height + 6, width + 6, 3))
    smooth = sum(noise[dy : dy + height, dx : dx + width] for dy in range(6) for dx in range(6)) / 6
    return np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)


def moving_texture(
    num_frames: int, width: int = 96, height: int = 80, velocity: tuple[int, int] = (3, -2), seed: int = 0
) -> list[Picture]:
    """One texture, all of which moves by ``velocity`` pixels (x, y) a frame."""
    vx, vy = velocity
    span_x, span_y = abs(vx) * num_frames, abs(vy) * num_frames
    scene = texture(height + span_y, width + span_x, seed)
    left, top = (span_x if vx > 0 else 0), (span_y if vy > 0 else 0)
    return [np.ascontiguousarray(scene[top - vy * i :, left - vx * i :][:height, :width]) for i in range(num_frames)]


def busy_frames(num_frames: int, width: int = 96, height: int = 80, seed: int = 0) -> list[Picture]:
    """Textures that pass each other and now and then give way to a new one: all kinds of blocks come to be."""
    ground = moving_texture(num_frames, width, height, (-2, 1), seed)
    objects = moving_texture(num_frames, width // 2, height // 2, (1, 1), seed + 1)
    others = moving_texture(num_frames, width, height, (1, 3), seed + 2)
    for i in range(num_frames):
        x, y = 5 * i % (width // 2), 3 * i % (height // 2)
        ground[i][y : y + height // 2, x : x + width // 2] = objects[i]
        if i % 9 > 6:
            ground[i][: height // 3] = others[i][: height // 3]
    return ground


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal arrays."""
    error = float(np.mean((a.astype(float) - b) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


@dataclass(frozen=True)
class Stream:
    """How a test stream is encoded: arguments of ``write_video``, and what its name promises."""

    suffix: str
    options: dict[str, object]
    width: int = 96
    height: int = 80
    has_b_frames: bool = False

    def write(self, write_video: Callable[..., None], folder: Path, name: str) -> Path:
        """Encode 26 busy frames."""
        path = folder / f"{name}{self.suffix}"
        write_video(path, busy_frames(26, self.width, self.height), **self.options)
        return path


STREAMS = {
    "mpeg4": Stream(".avi", {"gop": 12}),
    "mpeg4-b": Stream(".avi", {"gop": 12, "num_b_frames": 2}, has_b_frames=True),
    "mpeg4-b-closed": Stream(
        ".mp4",
        {"gop": 9, "num_b_frames": 2, "options": {"flags": "+cgop", "mpv_flags": "+strict_gop"}},
        has_b_frames=True,
    ),
    "mpeg4-4mv-odd": Stream(".avi", {"gop": 12, "options": {"flags": "+mv4", "mbd": "rd"}}, 97, 81),
    "mpeg4-4mv-qpel-b": Stream(
        ".mkv", {"gop": 10, "num_b_frames": 1, "options": {"flags": "+mv4+qpel"}}, 50, 46, has_b_frames=True
    ),
    "mpeg2-b": Stream(".mpg", {"codec": "mpeg2video", "gop": 12, "num_b_frames": 2}, has_b_frames=True),
    "mpeg1-odd": Stream(".mkv", {"codec": "mpeg1video", "gop": 8}, 73, 57),
    "flv1": Stream(".flv", {"codec": "flv1", "gop": 12}),
    "h264": Stream(".mp4", {"codec": "h264", "gop": 12, "quantiser": 20, "options": {"refs": "1"}}),
    "h264-b": Stream(
        ".mkv", {"codec": "h264", "gop": 12, "num_b_frames": 2, "options": {"refs": "1"}}, has_b_frames=True
    ),
}
"""All kinds of block vectors: 16x16 to 4x4, past, future and both, half and quarter pixels, over the edge."""
