"""Streams of other codecs and structures than the recipe's: what is exact, what is approximate, what is refused.

The README's table of codecs says what is tested here. Exactness is shown by content: with a coarse quantiser most
blocks carry no residual, so that they equal what their vector points at, if it is right.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numpy.typing import NDArray
from reference import (
    Decoded,
    accumulated_motion,
    accumulated_residuals,
    busy_frames,
    decode,
    moving_texture,
    psnr,
    source_maps,
    texture,
)

from vidprep.codec.h264 import _units
from vidprep.codec.h264_headers import ParameterSets
from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import Video
from vidprep.codec.wanted import VECTOR_CODECS
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError

SIZE = (176, 144)  # H.263 knows five sizes
VELOCITY = (3, -2)
NUM_FRAMES, GOP = 26, 12
CLOSED = {"flags": "+cgop", "mpv_flags": "+strict_gop"}
FIELDS = {"flags": "+ildct+ilme"}


def x264(parameters: str, quantiser: int = 40, **settings: Any) -> dict[str, Any]:
    """Without the filter that changes what a vector points at."""
    options = {"x264-params": f"no-deblock=1:{parameters}"}
    return {"codec": "h264", "quantiser": quantiser, "options": options, **settings}


def encoders() -> str:
    command = [ffmpeg_path(), "-hide_banner", "-encoders"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write(path: Path, frames: list[NDArray[np.uint8]], settings: dict[str, Any]) -> Path:
    write_video(path, frames, **{"gop": GOP, "quantiser": 20, **settings})
    return path


def moving(num_frames: int = NUM_FRAMES) -> list[NDArray[np.uint8]]:
    return moving_texture(num_frames, *SIZE, VELOCITY)


def grey_psnr(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    """Without colour, which most formats store at half the resolution."""
    return psnr(*((picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8) for picture in (one, two)))


# What each block is predicted from


@dataclass
class Shares:
    """How many blocks equal what they point at, and how many equal what the opposite vector points at."""

    equal: list[bool] = field(default_factory=list)
    opposite: list[bool] = field(default_factory=list)

    @property
    def share(self) -> float:
        return float(np.mean(self.equal))


def prediction_shares(frames: list[Decoded]) -> dict[str, Shares]:
    """By picture type and direction ("P past", "B past", "B future", "B both"): blocks with vectors in whole pixels."""
    anchors = [i for i, frame in enumerate(frames) if frame.picture_type != "B"]
    shares: dict[str, Shares] = {}
    for i, frame in enumerate(frames):
        past, future = [a for a in anchors if a < i][-1:], [a for a in anchors if a > i][:1]
        lumas = {-1: frames[past[0]].luma if past else None, 1: frames[future[0]].luma if future else None}
        place = [(row["dst_x"], row["dst_y"], row["w"], row["h"]) for row in frame.blocks]
        order = sorted(range(len(place)), key=lambda j: [int(value) for value in place[j]])
        for _, group in groupby(order, key=lambda j: [int(value) for value in place[j]]):
            rows = [frame.blocks[j] for j in group]
            kind = {-1: "past", 1: "future"}[int(rows[0]["source"])] if len(rows) == 1 else "both"
            for sign in (1, -1):
                predictions = [_predicted(lumas[int(row["source"])], row, sign) for row in rows]
                if any(prediction is None for prediction in predictions):
                    continue
                mean = (np.sum(predictions, axis=0, dtype=int) + len(rows) - 1) // len(rows)
                entry = shares.setdefault(f"{frame.picture_type} {kind}", Shares())
                answer = entry.equal if sign == 1 else entry.opposite
                answer.append(np.array_equal(_cut(frame.luma, rows[0], 0, 0), mean))
    return shares


def _predicted(luma: NDArray[np.uint8] | None, row: Any, sign: int) -> NDArray[np.uint8] | None:
    scale, x, y = int(row["motion_scale"]), sign * int(row["motion_x"]), sign * int(row["motion_y"])
    if luma is None or x % scale or y % scale or not (x or y):
        return None
    block = _cut(luma, row, x // scale, y // scale)
    return block if block.shape == (row["h"], row["w"]) else None


def _cut(luma: NDArray[np.uint8], row: Any, x: int, y: int) -> NDArray[np.uint8]:
    left, top = int(row["dst_x"]) - int(row["w"]) // 2 + x, int(row["dst_y"]) - int(row["h"]) // 2 + y
    if left < 0 or top < 0:
        return luma[:0, :0]
    return luma[top : top + int(row["h"]), left : left + int(row["w"])]


# Exact

EXACT: dict[str, dict[str, Any]] = {
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg1-b.mkv": {"codec": "mpeg1video", "num_b_frames": 2},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg2-b.ts": {"codec": "mpeg2video", "num_b_frames": 2},
    "mpeg2-b-closed.mkv": {"codec": "mpeg2video", "num_b_frames": 2, "options": CLOSED},
    "h263.3gp": {"codec": "h263"},
    "h263-overlapped.avi": {"codec": "h263", "options": {"obmc": "1"}},
    "h263p.avi": {"codec": "h263p", "options": {"umv": "1", "aiv": "1"}},
    "h263p-4mv.avi": {"codec": "h263p", "options": {"flags": "+mv4", "mbd": "rd"}},
    "flv1.flv": {"codec": "flv"},
    "msmpeg4v2.avi": {"codec": "msmpeg4v2"},
    "msmpeg4v3.avi": {"codec": "msmpeg4"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4-4mv.mp4": {"codec": "mpeg4", "options": {"flags": "+mv4", "mbd": "rd"}},
    "mpeg4-quarter-pel.mkv": {"codec": "mpeg4", "options": {"flags": "+qpel"}},
    "h264.mp4": x264("ref=1"),
    "h264-slices.ts": x264("ref=1:slices=3"),
    "h264-b.mp4": x264("ref=1:b-pyramid=none:weightb=0", num_b_frames=2),
    "h264-b-temporal.mkv": x264("ref=1:b-pyramid=none:weightb=0:direct=temporal", num_b_frames=2),
    "h264-b-open.ts": x264("ref=1:b-pyramid=none:weightb=0:open-gop=1", num_b_frames=2),
    "h264-b-16.mp4": x264("ref=1:b-pyramid=none:weightb=0", num_b_frames=16, gop=25),
}


@pytest.fixture(scope="module", params=EXACT)
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Decoded]]:
    path = write(tmp_path_factory.mktemp("exact") / request.param, moving(), EXACT[request.param])
    return path, decode(path)


class TestExact:
    def test_blocks_equal_what_they_point_at(self, exact: tuple[Path, list[Decoded]]) -> None:
        path, frames = exact
        shares = prediction_shares(frames)
        has_b_frames = "-b" in path.stem
        assert shares.keys() >= ({"P past", "B past", "B future", "B both"} if has_b_frames else {"P past"})
        for name, entry in shares.items():
            if path.stem == "h264-b-16" and name == "P past":
                continue  # too far apart: all of them are coded anew
            assert len(entry.equal) > 5
            # A filter in the loop, an overlap or a residual changes some blocks; a wrong vector would all of them.
            assert entry.share > (0.9 if "h264" in path.stem and name in ("B past", "B future") else 0.25), name
            assert np.mean(entry.opposite) < 0.02, name

    def test_it_is_said_so(self, exact: tuple[Path, list[Decoded]]) -> None:
        video = Video(exact[0])
        assert "".join(frame.picture_type for frame in video.frames()) == "".join(f.picture_type for f in exact[1])
        assert video.motion_exact
        assert (video.num_dropped_frames, video.num_repaired_times) == (0, 0)

    def test_accumulated_arrays(self, exact: tuple[Path, list[Decoded]]) -> None:
        path, decoded = exact
        letters = [frame.picture_type for frame in decoded]
        maps = source_maps(letters, [frame.blocks for frame in decoded], *SIZE[::-1])
        residuals = accumulated_residuals(letters, [frame.rgb for frame in decoded], maps)
        motions = accumulated_motion(maps)
        for frame, motion, residual in zip(Video(path).frames(track="residual"), motions, residuals, strict=True):
            assert np.array_equal(frame.accumulated_motion(), motion), frame
            assert np.array_equal(frame.accumulated_residual(), residual), frame

    def test_pixels_are_followed_to_the_i_frame(self, exact: tuple[Path, list[Decoded]]) -> None:
        """The known motion; B-frames at an open GOP's end belong to it, though an I-frame is decoded before them."""
        for frame in Video(exact[0]).frames(track="motion"):
            if frame.index >= 2 * GOP or "16" in exact[0].stem:
                continue  # MPEG-1 and 2 code the last frame anew, and so are anchors that are far apart
            middle = frame.accumulated_motion()[24:-48, 60:-24]
            assert np.median(middle, axis=(0, 1)) == pytest.approx([step * frame.gop_position for step in VELOCITY])

    def test_display_order_and_times(self, exact: tuple[Path, list[Decoded]]) -> None:
        frames = list(Video(exact[0]).frames())
        assert np.diff([frame.pts_seconds for frame in frames]) == pytest.approx(1 / 25, abs=0.0011)
        for frame, picture in zip(frames, moving(), strict=True):
            assert grey_psnr(frame.rgb(), picture) > 20


# Approximate

PYRAMIDS = {
    "normal": x264("ref=1:b-pyramid=normal:weightb=0", num_b_frames=3),
    "strict": x264("ref=1:b-pyramid=strict:weightb=0", num_b_frames=3),
    "normal-open": x264("ref=1:b-pyramid=normal:weightb=0:open-gop=1", num_b_frames=7, gop=24),
}


class TestApproximate:
    @pytest.mark.parametrize("name", PYRAMIDS)
    def test_pyramids_of_b_frames(self, tmp_path: Path, name: str) -> None:
        """Frames, order and times are right; vectors of B-frames may mean another B-frame, and it is said so."""
        path = write(tmp_path / "a.mp4", moving(40), PYRAMIDS[name])
        share = prediction_shares(decode(path))["B past"].share
        assert share < 0.8
        video = Video(path)
        frames = list(video.frames(track="motion"))
        assert not video.motion_exact
        assert "".join(frame.picture_type for frame in frames).count("B") >= 20
        assert [frame.pts_seconds for frame in frames] == pytest.approx([i / 25 for i in range(40)])
        for frame, picture in zip(video.frames(vectors=False), moving(40), strict=True):
            assert grey_psnr(frame.rgb(), picture) > 20

    def test_several_references(self, tmp_path: Path) -> None:
        """Two textures in turn: each P is predicted from the picture before the last."""
        pair = [texture(*SIZE[::-1], seed=5), texture(*SIZE[::-1], seed=6)]
        for references, exact in ((1, True), (3, False)):
            pictures = [np.roll(pair[i % 2], 2 * (i // 2), axis=1) for i in range(12)]
            path = write(tmp_path / f"{references}.mp4", pictures, x264(f"ref={references}:weightp=0"))
            share = prediction_shares(decode(path)).get("P past", Shares([False])).share
            video = Video(path)
            list(video.frames())
            assert video.motion_exact == exact
            if not exact:
                assert share < 0.1

    def test_global_motion(self, tmp_path: Path) -> None:
        """One averaged vector stands for the warp of a macroblock."""
        if "libxvid" not in encoders():
            pytest.skip("this ffmpeg has no libxvid, which encodes global motion")
        command = [ffmpeg_path(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=s=176x144:d=1:r=25"]
        command += ["-vf", "rotate=t/3", "-c:v", "libxvid", "-gmc", "1", "-q:v", "2", str(tmp_path / "a.avi")]
        subprocess.run(command, check=True)
        with av.open(str(tmp_path / "a.avi")) as container:
            assert PictureType.S in {frame.pict_type for frame in container.decode(video=0)}
        video = Video(tmp_path / "a.avi")
        assert set("".join(frame.picture_type for frame in video.frames())) == set("IP")
        assert not video.motion_exact


# Refused


def interlaced(num_frames: int = 12) -> list[NDArray[np.uint8]]:
    """Each frame's odd lines are half a frame later."""
    halves = moving_texture(2 * num_frames, *SIZE, VELOCITY)
    frames = [picture.copy() for picture in halves[::2]]
    for frame, later in zip(frames, halves[1::2], strict=True):
        frame[1::2] = later[1::2]
    return frames


def field_pictures(path: Path) -> None:
    """MPEG-2 whose fields are pictures of their own: an intra-only stream of fields, with its headers changed.

    ISO 13818-2: 6.2.2.1 (vertical size), 6.2.2.3 (progressive_sequence), 6.2.3 and 6.2.3.1 (a picture's number,
    structure and progressive_frame).
    """
    width, height = SIZE
    fields = [frame[start::2] for frame in interlaced(4) for start in (0, 1)]
    write_video(path, fields, codec="mpeg2video", gop=1, container_format="mpeg2video")
    stream = bytearray(path.read_bytes())
    pictures = 0
    for place in (match.start() for match in re.finditer(rb"\x00\x00\x01", bytes(stream))):
        code, extension = stream[place + 3], stream[place + 4] >> 4
        if code == 0xB3:
            stream[place + 4 : place + 7] = (width << 12 | height).to_bytes(3, "big")
        elif code == 0xB5 and extension == 1:
            stream[place + 5] &= ~0x08
        elif code == 0x00:
            stream[place + 4 : place + 6] = (pictures // 2 << 6 | stream[place + 5] & 0x3F).to_bytes(2, "big")
            pictures += 1
        elif code == 0xB5 and extension == 8:
            stream[place + 6] = stream[place + 6] & ~0x03 | (1 + (pictures - 1) % 2)
            stream[place + 7] &= ~0xC0  # top_field_first, frame_pred_frame_dct
            stream[place + 8] &= ~0x80
    # One group of pictures and one sequence header, at the start.
    first = stream.index(b"\0\0\1\0")
    rest = re.sub(rb"(?s)\x00\x00\x01\xb3.*?(?=\x00\x00\x01\x00)", b"", bytes(stream[first:]))
    path.write_bytes(bytes(stream[:first]) + rest)


INTERLACED: dict[str, Callable[[Path], object]] = {
    "mpeg4.avi": partial(write, frames=interlaced(), settings={"codec": "mpeg4", "options": FIELDS}),
    "mpeg2.mkv": partial(write, frames=interlaced(), settings={"codec": "mpeg2video", "options": FIELDS}),
    "mpeg2-b.ts": partial(
        write, frames=interlaced(), settings={"codec": "mpeg2video", "options": FIELDS, "num_b_frames": 2}
    ),
    "mpeg2-fields.m2v": field_pictures,
    "h264.mp4": partial(write, frames=interlaced(), settings=x264("ref=1:tff=1")),
    "h264.ts": partial(write, frames=interlaced(), settings=x264("ref=1:bff=1", num_b_frames=2)),
}


@pytest.fixture(scope="module", params=INTERLACED)
def fields(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("fields") / request.param
    INTERLACED[request.param](path)
    return path


class TestInterlaced:
    def test_vectors_are_refused(self, fields: Path) -> None:
        for options in ({}, {"track": "motion"}, {"track": "residual"}):
            rule = (
                r"interlaced=true at pts_seconds=.*: vectors of fields can't be told .*transcode it \(--codec mpeg4\)"
            )
            with pytest.raises(UnsupportedError, match=rule):
                list(Video(fields).frames(**options))  # type: ignore[arg-type]

    def test_pictures_are_not(self, fields: Path) -> None:
        video = Video(fields)
        frames = list(video.frames(vectors=False))
        assert len(frames) == (4 if "fields" in fields.stem else 12)
        assert not video.motion_exact
        for frame, picture in zip(frames, interlaced(len(frames)), strict=True):
            assert grey_psnr(frame.rgb(), picture) > 20

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_the_recipe_encodes_progressive_frames(self, fields: Path, codec: str) -> None:
        with transcode(Video(fields), Recipe(codec, "native")) as video:
            assert not isinstance(video.source, Path)
            video.source.seek(0)
            data = video.source.read()
            frames = list(video.frames(track="residual"))
            assert video.motion_exact
        assert len(frames) == (4 if "fields" in fields.stem else 12)
        with av.open(
            _stored(fields.parent / f"coded.{codec}", data), format={"mpeg4": "m4v"}.get(codec, codec)
        ) as coded:
            assert not any(picture.interlaced_frame for picture in coded.decode(video=0))

    def test_what_is_refused_would_be_wrong(self, fields: Path) -> None:
        """Blocks of field vectors hold other lines than those they are said to hold."""
        shares = prediction_shares(_field_blocks(decode(fields), fields.stem))
        if "fields" in fields.stem:
            assert not shares  # all of it is intra-coded
            return
        assert shares["P past"].share < 0.3  # some move like frames

    def test_fields_within_progressive_frames(self, tmp_path: Path) -> None:
        """MPEG-2 may mark a frame as progressive and still predict its fields (ISO 13818-2, 6.3.10)."""
        path = tmp_path / "a.m2v"
        settings = {"codec": "mpeg2video", "options": FIELDS, "container_format": "mpeg2video"}
        stream = bytearray(write(path, interlaced(), settings).read_bytes())
        for place in (match.start() for match in re.finditer(rb"\x00\x00\x01\xb5", bytes(stream))):
            if stream[place + 4] >> 4 == 8:
                stream[place + 8] |= 0x80  # progressive_frame
        path.write_bytes(stream)
        with av.open(str(path)) as container:
            assert not any(picture.interlaced_frame for picture in container.decode(video=0))
        with pytest.raises(UnsupportedError, match=r"interlaced=true at pts_seconds="):
            list(Video(path).frames())

    def test_frames_marked_for_the_screen_alone_are_exact(self, tmp_path: Path) -> None:
        """H.264 of progressive frames that may be shown as fields."""
        path = write(tmp_path / "a.mp4", moving(), x264("ref=1:fake-interlaced=1:weightp=0"))
        video = Video(path)
        assert len(list(video.frames())) == NUM_FRAMES
        assert video.motion_exact
        assert prediction_shares(decode(path))["P past"].share > 0.9


def _field_blocks(frames: list[Decoded], codec: str) -> list[Decoded]:
    """Of MPEG, the blocks with a vector for each field; H.264 doesn't tell them apart."""
    if "h264" not in codec:
        for frame in frames:
            if len(frame.blocks):
                frame.blocks = frame.blocks[frame.blocks["h"] == 8]
    return frames


def _stored(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


MODERN: dict[str, dict[str, Any]] = {
    "hevc": {"codec": "hevc"},
    "hevc-b": {"codec": "hevc", "num_b_frames": 2},
    "hevc-10-bit": {"codec": "hevc", "pixel_format": "yuv420p10le"},
    "hevc-444": {"codec": "hevc", "pixel_format": "yuv444p"},
    "vp9": {"codec": "libvpx-vp9"},
    "vp9-444": {"codec": "libvpx-vp9", "pixel_format": "yuv444p"},
    "av1": {"codec": "libsvtav1", "quantiser": None},
    "av1-10-bit": {"codec": "libsvtav1", "quantiser": None, "pixel_format": "yuv420p10le"},
}


class TestWithoutVectors:
    @pytest.fixture(scope="class", params=MODERN)
    @classmethod
    def modern(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        settings = MODERN[request.param]
        if settings["codec"] not in av.codecs_available and settings["codec"] != "hevc":
            pytest.skip(f"this PyAV has no {settings['codec']}")
        return write(tmp_path_factory.mktemp("modern") / f"{request.param}.mkv", moving(14), settings)

    def test_vectors_are_refused(self, modern: Path) -> None:
        video = Video(modern)
        assert video.metadata.codec == modern.stem.partition("-")[0]
        assert video.metadata.codec not in VECTOR_CODECS
        for options in ({}, {"track": "motion"}, {"track": "residual"}):
            with pytest.raises(
                UnsupportedError, match=r"codec=\w+: .*no motion vectors.*transcode it \(--codec mpeg4\)"
            ):
                video.frames(**options)  # type: ignore[arg-type]

    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_transcoding_works(self, modern: Path, codec: str) -> None:
        plain = decode(modern)
        with transcode(Video(modern), Recipe(codec, "native")) as video:
            frames = list(video.frames(track="residual"))
            assert video.motion_exact
            assert (video.num_dropped_frames, video.metadata.pixel_format) == (0, "yuv420p")
        assert "".join(frame.picture_type for frame in frames) == "IPPPPPPPPPPPIP"
        assert [frame.pts_seconds for frame in frames] == pytest.approx([frame.time for frame in plain])
        for frame, picture in zip(frames, plain, strict=True):
            assert grey_psnr(frame.rgb(), picture.rgb) > 30


# Cut streams and open GOPs

CUT: dict[str, dict[str, Any]] = {
    "mpeg4.mkv": {"codec": "mpeg4"},
    "mpeg4-b.mkv": {"codec": "mpeg4", "num_b_frames": 2},
    "mpeg4-b.avi": {"codec": "mpeg4", "num_b_frames": 2},
    "mpeg1-b.mkv": {"codec": "mpeg1video", "num_b_frames": 2},
    "mpeg2.mkv": {"codec": "mpeg2video"},
    "mpeg2-b.ts": {"codec": "mpeg2video", "num_b_frames": 2},
    "mpeg2-b.mpg": {"codec": "mpeg2video", "num_b_frames": 2},
    "mpeg2-b-closed.mkv": {"codec": "mpeg2video", "num_b_frames": 2, "options": CLOSED},
    "h263.3gp": {"codec": "h263"},
    "flv1.flv": {"codec": "flv"},
    "h264.mp4": x264("ref=1"),
    "h264-b.ts": x264("ref=1:b-pyramid=none", num_b_frames=2),
    "h264-b-open.mp4": x264("ref=1:b-pyramid=none:open-gop=1", num_b_frames=2),
    "h264-b-open.ts": x264("ref=1:b-pyramid=none:open-gop=1", num_b_frames=2),
    "h264-pyramid-open.mp4": x264("ref=1:b-pyramid=normal:open-gop=1", num_b_frames=3),
}
NUM_CUT_FRAMES = 34


def cut(source: Path, target: Path, first: int, end: int | None = None) -> None:
    """Keep some of the packets, in decoding order."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for packet in packets[first:end]:
            packet.stream = stream
            new.mux(packet)


def types_in_decoding_order(path: Path) -> str:
    """By ffmpeg's times: a picture displayed before one that is decoded earlier is a B."""
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    letters = {frame.pts: frame.picture_type for frame in _with_pts(path)}
    return "".join(letters[time] for time in times)


@dataclass
class _Picture:
    pts: int | None
    picture_type: str


def _with_pts(path: Path) -> Iterator[_Picture]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield _Picture(frame.pts, "?IPBP"[frame.pict_type])


def both_ways(path: Path) -> list[tuple[list[float], str, int]]:
    """Times, the first frame's type and the number of dropped frames, as the stream is and through each encoder."""
    answers = []
    video = Video(path)
    frames = list(video.frames(vectors=False))
    answers.append(([frame.pts_seconds for frame in frames], frames[0].picture_type, video.num_dropped_frames))
    for codec in ("mpeg4", "h264"):
        with transcode(Video(path), Recipe(codec, "native")) as coded:
            frames = list(coded.frames())
            answers.append(([frame.pts_seconds for frame in frames], frames[0].picture_type, coded.num_dropped_frames))
    return answers


def num_hidden(path: Path) -> int:
    """Frames that an edit list hides: an MP4 can't show what comes before its first packet's time."""
    with av.open(str(path)) as container:
        return sum(packet.is_discard for packet in container.demux(video=0) if packet.size)


class TestCut:
    @pytest.fixture(scope="class", params=CUT)
    @classmethod
    def whole(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
        path = write(tmp_path_factory.mktemp("whole") / request.param, moving(NUM_CUT_FRAMES), CUT[request.param])
        types = types_in_decoding_order(path)
        assert types.count("I") >= 3
        return path, types

    @pytest.mark.parametrize("first", [1, 3, "next I"])
    def test_frames_before_the_first_i_frame_are_dropped_and_counted(
        self, whole: tuple[Path, str], tmp_path: Path, first: int | str
    ) -> None:
        """Also those that a decoder keeps to itself, and in both modes alike."""
        source, types = whole
        next_i = types.index("I", 1)
        start = next_i if isinstance(first, str) else first
        path = tmp_path / source.name
        cut(source, path, start)
        num_leading = len(types[next_i + 1 :]) - len(types[next_i + 1 :].lstrip("B"))  # displayed before the I-frame
        if "closed" in source.stem or source.stem == "h264-b":
            assert num_leading == 0
        elif "-b" in source.stem or "pyramid" in source.stem:
            assert num_leading >= 2
        num_dropped = next_i - start + num_leading
        expected = [frame.pts_seconds for frame in Video(source).frames(vectors=False)][next_i + num_leading :]
        assert len(expected) == NUM_CUT_FRAMES - start - num_dropped
        ways = both_ways(path)
        for times, letter, count in ways:
            assert letter == "I"
            assert np.diff(times) == pytest.approx(np.diff(expected), abs=0.0015)
            assert times == pytest.approx(ways[0][0])
            assert count == num_dropped - num_hidden(path)

    def test_what_is_left_is_as_exact_as_before(self, whole: tuple[Path, str], tmp_path: Path) -> None:
        source, types = whole
        whole_video = Video(source)
        before = {psnr_key(frame.rgb()): frame.accumulated_motion() for frame in whole_video.frames(track="motion")}
        for start in (3, types.index("I", 1)):
            path = tmp_path / f"{start}{source.suffix}"
            cut(source, path, start)
            video = Video(path)
            frames = 0
            for frame in video.frames(track="motion"):
                assert np.array_equal(frame.accumulated_motion(), before[psnr_key(frame.rgb())]), frame
                frames += 1
            assert frames > 15
            assert video.motion_exact == whole_video.motion_exact

    def test_no_i_frame_at_all(self, whole: tuple[Path, str], tmp_path: Path) -> None:
        source, types = whole
        path = tmp_path / source.name
        cut(source, path, 2, types.index("I", 1))
        for read in (lambda: list(Video(path).frames()), lambda: transcode(Video(path), Recipe())):
            with pytest.raises(DecodeError, match=r"num_frames=0 in|num_video_streams=0 in|Invalid data found"):
                read()

    def test_segments_count_their_own_frames_alone(self, tmp_path: Path) -> None:
        """Of 8 frames before the first I-frame, those from the segment's start on; none where it begins later."""
        write(tmp_path / "a.mkv", moving(NUM_CUT_FRAMES), {"codec": "mpeg2video"})
        cut(tmp_path / "a.mkv", tmp_path / "cut.mkv", 4)
        for start, expected in ((0.0, 8), (0.12, 5), (0.4, 0), (0.6, 0)):
            video = Video(tmp_path / "cut.mkv")
            list(video.frames(start_seconds=start))
            with transcode(Video(tmp_path / "cut.mkv"), Recipe(), start_seconds=start) as coded:
                assert coded.num_dropped_frames == video.num_dropped_frames == expected

    def test_raw_streams(self, tmp_path: Path) -> None:
        """Without a container: the same frames; MPEG-2's two B-frames that libavcodec skips are counted."""
        for codec, form, expected in (("mpeg4", "m4v", 0), ("mpeg2video", "mpeg2video", 2)):
            source = tmp_path / f"whole.{form}"
            more = {"num_b_frames": 2} if codec == "mpeg2video" else {}
            write(source, moving(NUM_CUT_FRAMES), {"codec": codec, "container_format": form, **more})
            with av.open(str(source)) as container:
                packets = [packet for packet in container.demux(video=0) if packet.size]
            keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
            data = source.read_bytes()
            head = data[: data.index(b"\0\0\1\xb6")] if codec == "mpeg4" else b""
            (tmp_path / f"cut.{form}").write_bytes(head + b"".join(bytes(packet) for packet in packets[keys[1] :]))
            answers = both_ways(tmp_path / f"cut.{form}")
            assert {len(times) for times, _, _ in answers} == {len(packets) - keys[1] - expected}
            assert {count for _, _, count in answers} == {expected}


def psnr_key(picture: NDArray[np.uint8]) -> bytes:
    """Equal pictures have equal keys, and of a moving texture no others."""
    return picture.tobytes()


# The recipe's own H.264


class TestRecipe:
    @pytest.mark.parametrize("size", ["native", "short:96"])
    def test_h264_has_one_reference_and_no_b_frames(self, tmp_path: Path, size: str) -> None:
        """Read from the produced stream itself."""
        source = write(tmp_path / "a.mp4", moving(), x264("ref=4:b-pyramid=normal", num_b_frames=3))
        with transcode(Video(source), Recipe("h264", size)) as video:
            assert not isinstance(video.source, Path)
            video.source.seek(0)
            data = video.source.read()
            assert "".join(frame.picture_type for frame in video.frames()) == "IPPPPPPPPPPPIPPPPPPPPPPPIP"
            assert video.motion_exact
        sets, pieces = ParameterSets(), []
        for unit in _units(data, 0):
            if unit[0] & 31 in (7, 8):
                sets.add(unit)
            elif unit[0] & 31 in (1, 5):
                pieces.append(sets.slice_of(unit))
        assert len(pieces) == NUM_FRAMES
        assert {piece.num_references_kept for piece in pieces} == {1}
        assert {piece.kind for piece in pieces} == {"I", "P"}
        assert all(piece.is_reference and piece.has_default_references and not piece.has_fields for piece in pieces)


@pytest.mark.parametrize(("codec", "num_b_frames"), [("mpeg1video", 0), ("mpeg2video", 0), ("mpeg2video", 2)])
@pytest.mark.parametrize("num_ends", [0, 1, 3])
def test_the_last_anchor_has_its_vectors(tmp_path: Path, codec: str, num_b_frames: int, num_ends: int) -> None:
    """libavcodec gives it out without, when it is asked for it at the end, or by a lone end of the sequence."""
    path = tmp_path / "v.mkv"
    write_video(path, busy_frames(15), codec=codec, num_b_frames=num_b_frames, gop=6)
    whole = next(frame for frame in Video(path).frames() if frame.index == 14)
    assert whole.picture_type == "P"
    raw = tmp_path / "v.m2v"
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    raw.write_bytes(b"".join(packets) + b"\0\0\1\xb7" * num_ends)
    video = Video(raw, container_format="mpegvideo")
    last = list(video.frames())[-1]
    assert len(last.vectors) > 10
    assert np.array_equal(last.vectors, whole.vectors)
    assert video.motion_exact
