"""Macroblocks: vectors against libavcodec's export, patterns and B-vectors against the pictures that they predict."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from mpeg4_streams import STREAMS, Stream, predicted
from numpy.typing import NDArray
from reference import Decoded, busy_frames, decode
from test_mpeg4 import packets_of

from vidprep.codec.frame import Frame, exported_vectors
from vidprep.codec.mpeg4 import has_vol, read_vol
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError

REAL = {
    "UCF101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": 164,
    "UCF101/BaseballPitch/v_BaseballPitch_g01_c01.avi": 107,
    "UCF101/Basketball/v_Basketball_g01_c01.avi": 141,
    "codecs/example.avi": 131,
    "codecs/testsrc2_mpeg4.avi": 30,
    "codecs/vid_mpeg4_part2.mp4": 337,
}


@pytest.fixture(scope="module", params=STREAMS)
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return STREAMS[request.param].write(tmp_path_factory.mktemp("streams"), request.param)


def parsed(path: Path, num_frames: int | None = None) -> list[Frame]:
    return list(islice(Video(path).frames(macroblocks=True), num_frames))


def wrong_vectors(frames: list[Frame]) -> list[tuple[Frame, NDArray[np.void]]]:
    """P-frames whose parsed vectors are not those that libavcodec exports, with the latter where they differ."""
    wrong = []
    for frame in frames:
        exported = exported_vectors(frame._picture)
        if frame.picture_type == "P" and exported is not None:
            assert frame.coded is not None
            vectors = frame.coded.vectors
            assert len(vectors) == len(exported)
            if not np.array_equal(vectors, exported):
                wrong.append((frame, exported[vectors != exported]))
    return wrong


class TestPVectors:
    def test_generated(self, stream: Path) -> None:
        """libavcodec forgets the last of four vectors in front of a video packet that begins with four."""
        frames = parsed(stream)
        wrong = wrong_vectors(frames)
        assert bool(wrong) == ("4mv-packets" in stream.name)
        for frame, blocks in wrong:
            macroblocks = frame.macroblocks
            assert macroblocks is not None
            assert not blocks["motion_x"].any()
            assert not blocks["motion_y"].any()
            for block in blocks:
                row, column = block["dst_y"] // 16, block["dst_x"] // 16
                assert (block["dst_x"] % 16, block["dst_y"] % 16) == (12, 12)
                assert macroblocks[row, column + 1]["first"]
                assert macroblocks[row, column + 1]["split"]

    @pytest.mark.parametrize("name", REAL)
    def test_real(self, shared: Path, name: str) -> None:
        frames = parsed(shared / "data" / name)
        assert len(frames) == REAL[name]
        assert not wrong_vectors(frames)

    def test_phones(self, shared: Path) -> None:
        paths = sorted((shared / "data" / "EgoGestAR").glob("*/*.mp4"))
        phones = [path for path in paths if b"mp4v" in path.read_bytes()]
        assert len(phones) > 50
        for path in phones[::8]:
            assert not wrong_vectors(parsed(path))

    def test_long_vectors_occur(self, tmp_path: Path) -> None:
        for name in ("fast", "b2-fast"):
            frames = parsed(STREAMS[name].write(tmp_path, name))
            fcodes = [max(frame.vop.past_fcode, frame.vop.future_fcode) for frame in frames if frame.vop is not None]
            lengths = [abs(frame.vectors["motion_x"]).max() for frame in frames if len(frame.vectors)]
            assert max(fcodes) > 1
            assert max(lengths) > 40

    def test_all_modes_occur(self, tmp_path: Path) -> None:
        counts = dict.fromkeys(("intra", "skipped", "four", "first"), 0)
        for name in ("4mv-packets", "b2-still"):
            for frame in parsed(STREAMS[name].write(tmp_path, name)):
                for field in counts:
                    counts[field] += 0 if frame.macroblocks is None else int(frame.macroblocks[field].sum())
        assert min(counts.values()) > 20, counts


def check_uncoded_blocks(frames: list[Frame], plain: list[Decoded], letters: str) -> dict[str, int]:
    """Compare each luma block without coefficients with its prediction; return how many of each kind there were."""
    counts = dict.fromkeys(("past", "future", "both", "direct", "split", "skipped"), 0)
    anchors = [i for i, frame in enumerate(frames) if frame.picture_type != "B"]
    for i, frame in enumerate(frames):
        if frame.macroblocks is None or frame.picture_type not in letters:
            continue
        past = plain[max(a for a in anchors if a < i)].luma
        future = plain[min((a for a in anchors if a > i), default=i)].luma
        assert frame.coded is not None
        step = 2 if frame.coded.vol.quarter_sample else 1
        for row, column in np.ndindex(*frame.macroblocks.shape):
            mb = frame.macroblocks[row, column]
            for block in range(4):
                if mb["intra"] or int(mb["cbp"]) >> (5 - block) & 1:
                    continue
                y, x = 16 * row + 8 * (block >> 1), 16 * column + 8 * (block & 1)
                expected = prediction(mb, block, (past, future), x, y, step, frame.vop.rounding_type)
                if expected is None or not fits(plain[i].luma, x, y):
                    continue
                assert np.array_equal(plain[i].luma[y : y + 8, x : x + 8], expected), (frame, row, column, mb)
                kind = "both" if mb["past"] and mb["future"] else "past" if mb["past"] else "future"
                counts["direct" if mb["direct"] else "skipped" if mb["skipped"] else kind] += 1
                counts["split"] += int(mb["split"])
    return counts


def fits(luma: NDArray[np.uint8], x: int, y: int) -> bool:
    return y + 8 <= luma.shape[0] and x + 8 <= luma.shape[1]


def prediction(
    mb: np.void, block: int, references: tuple[NDArray[np.uint8], ...], x: int, y: int, step: int, rounding: int
) -> NDArray[np.int64] | None:
    """Predict a block; None where that takes hidden pixels, or quarter pixels."""
    sides = []
    for side, reference in zip(("past", "future"), references, strict=True):
        if not mb[side]:
            continue
        motion = int(mb[f"{side}_x"][block]), int(mb[f"{side}_y"][block])
        if any(value % step for value in motion) or (step == 2 and any(value % 4 for value in motion)):
            return None
        mx, my = (value // step for value in motion)
        height, width = reference.shape
        is_inside = 0 <= x + mx // 2 < width - 8 and 0 <= y + my // 2 < height - 8
        if not is_inside and (height % 16 or width % 16):
            return None
        sides.append(predicted(reference, x, y, (mx, my), 8, rounding))
    return sides[0] if len(sides) == 1 else (sides[0] + sides[1] + 1) >> 1


class TestPictures:
    def test_generated(self, stream: Path) -> None:
        """Every block that the pattern leaves out is the prediction from its vectors, pixel by pixel."""
        frames, plain = parsed(stream), decode(stream)
        assert [frame.picture_type for frame in frames] == [frame.picture_type for frame in plain]
        counts = check_uncoded_blocks(frames, plain, "PB")
        assert sum(counts.values()) > 20 or "noisy" in stream.name
        has_b_frames = any(frame.picture_type == "B" for frame in frames)
        assert bool(counts["direct"]) == has_b_frames or stream.stem in {"noisy-b1", "one-column"}

    def test_all_kinds_occur(self, tmp_path: Path) -> None:
        """So that the test above proves each of them."""
        total = np.zeros(6, int)
        for name in ("b2", "b3-rd", "b2-still", "xvid-b2", "4mv-packets-b2"):
            path = STREAMS[name].write(tmp_path, name)
            total += list(check_uncoded_blocks(parsed(path), decode(path), "B").values())
        assert (total > 20).all(), total

    def test_packed_xvid(self, shared: Path) -> None:
        path = shared / "data" / "UCF101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi"
        frames, plain = parsed(path, 31), decode(path)[:31]  # up to an anchor
        counts = check_uncoded_blocks(frames, plain, "B")
        assert min(counts[kind] for kind in ("past", "future", "both", "direct", "skipped")) > 100, counts


def exported_quantisers(path: Path) -> list[NDArray[np.int64]]:
    """Each macroblock's quantiser as libavcodec exports it, in display order; none for what it keeps to the end."""
    tables = []
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        context.options = {"export_side_data": "venc_params"}
        for picture in container.decode(video=0):
            found = picture.side_data.get("VIDEO_ENC_PARAMS")
            blocks = [] if found is None else [found.block_params(i) for i in range(found.nb_blocks)]
            tables.append(np.array([(found.qp + block.delta_qp) // 2 for block in blocks], np.int64))  # twice as many
    return tables


def test_quantisers(stream: Path) -> None:
    num_compared, values = 0, set[int]()
    for frame, expected in zip(parsed(stream), exported_quantisers(stream), strict=True):
        if frame.macroblocks is not None and len(expected):
            assert np.array_equal(frame.macroblocks["quantiser"].ravel(), expected), frame
            num_compared += 1
            values |= set(expected.tolist())
    assert num_compared >= 15
    assert len(values) > 3 or "variable" not in stream.name


def test_b_blocks_are_those_of_libavcodec(stream: Path) -> None:
    """It exports their places and directions, though with zero vectors."""
    for frame in parsed(stream):
        exported = exported_vectors(frame._picture)
        if frame.picture_type == "B" and exported is not None:
            for name in ("source", "w", "h", "dst_x", "dst_y", "motion_scale"):
                assert np.array_equal(frame.vectors[name], exported[name])
            assert not exported["motion_x"].any()


def as_raw(path: Path, folder: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """Write a stream's packets, changed, into a raw file; the first has the headers."""
    extradata, packets = packets_of(path)
    packets[0] = packets[0] if has_vol(packets[0]) else extradata + packets[0]
    raw = folder / "raw.m4v"
    raw.write_bytes(b"".join(change(i, packet) for i, packet in enumerate(packets)))
    return raw


class TestVideo:
    def test_last_anchor_has_vectors(self, tmp_path: Path) -> None:
        """libavcodec exports none for the picture that it keeps until the stream's end."""
        video = Video(STREAMS["b1"].write(tmp_path, "a"))
        last = list(video.frames())[-1]
        assert last.picture_type == "P"
        assert exported_vectors(last._picture) is None
        assert (abs(last.vectors["motion_x"]) > 0).any()
        assert video.motion_exact

    def test_nothing_is_parsed_unasked(self, tmp_path: Path) -> None:
        for name, options in (("plain", {}), ("b2", {"vectors": False})):
            for frame in Video(STREAMS[name].write(tmp_path, name, 6)).frames(**options):
                assert frame.coded is frame.vop is frame.macroblocks is None

    def test_what_a_frame_knows(self, tmp_path: Path) -> None:
        for frame in Video(STREAMS["b2"].write(tmp_path, "a")).frames(vectors=False, macroblocks=True):
            assert frame.vop is not None
            assert frame.vop.picture_type == frame.picture_type
            assert (frame.macroblocks is None) == (frame.picture_type == "I")

    def test_a_stream_that_denies_its_b_frames(self, tmp_path: Path) -> None:
        """Its pictures come out of order, and their vectors are known to be lost; asked for, they are parsed."""

        def deny(i: int, packet: bytes) -> bytes:
            place = packet.find(b"\0\0\1\x20") + 7
            return packet if i else packet[:place] + bytes([packet[place] | 0x80]) + packet[place + 1 :]

        path = as_raw(STREAMS["b2"].write(tmp_path, "a"), tmp_path, deny)
        extradata, _ = packets_of(path)
        assert read_vol(extradata).low_delay
        video = Video(path)
        between = [frame for frame in video.frames() if frame.picture_type == "B"]
        assert between
        assert not any(frame.vectors["motion_x"].any() for frame in between)
        assert not video.motion_exact

    def test_a_vop_that_cannot_be_parsed(self, tmp_path: Path) -> None:
        """Its B-frames keep libavcodec's zeros, and the stream says so; those before it are right."""

        def add_junk(i: int, packet: bytes) -> bytes:
            """The first XviDs didn't end their VOPs properly, so that libavcodec doesn't mind."""
            start = packet.find(b"\0\0\1\xb6")
            return packet + b"\x17" if i == 9 else packet[:start] + b"\0\0\1\xb2XviD0001" * (i == 0) + packet[start:]

        junk = as_raw(STREAMS["b1"].write(tmp_path, "a"), tmp_path, add_junk)
        video = Video(junk)
        assert video.motion_exact
        moves = [frame.vectors["motion_x"].any() for frame in video.frames() if frame.picture_type == "B"]
        assert moves[:3] == [True] * 3
        assert moves.count(False) == 1
        assert not video.motion_exact
        with pytest.raises(DecodeError, match=r"position=\d+ of \d+ bits.*--codec mpeg4"):
            for frame in Video(junk).frames(macroblocks=True):
                assert frame.macroblocks is None or frame.macroblocks.size

    def test_macroblocks_are_refused(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mkv", busy_frames(3), codec="mpeg2video")
        with pytest.raises(UnsupportedError, match=r"codec=mpeg2video.*--codec mpeg4"):
            next(Video(tmp_path / "a.mkv").frames(macroblocks=True))
        path = Stream({"data_partitioning": "1"}).write(tmp_path, "b")
        with pytest.raises(UnsupportedError, match=r"data partitioning.*--codec mpeg4"):
            next(Video(path).frames(macroblocks=True))

    def test_from_the_middle(self, tmp_path: Path) -> None:
        """After a seek the vectors are those of a whole reading."""
        path = STREAMS["b2"].write(tmp_path, "a", 80)
        whole = {round(frame.pts_seconds, 3): frame for frame in Video(path).frames()}
        part = list(Video(path).frames(start_seconds=2.5))
        assert 3 < len(part) < 60
        for frame in part:
            assert np.array_equal(frame.vectors, whole[round(frame.pts_seconds, 3)].vectors), frame
