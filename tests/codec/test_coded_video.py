"""``Video.frames(coded=True)``: what it gives, what it refuses, and what it finds in real clips."""

import csv
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from mpeg4_streams import with_height
from numpy.typing import NDArray
from reference import busy_frames, decode, texture
from reference_coded import coded_blocks, level_errors, of_blocks, whole_blocks

from vidprep.codec.coded import plane_lines
from vidprep.codec.frame import Frame
from vidprep.codec.mpeg4_builds import Builds
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError


def coded_frames(path: Path, **options: object) -> list[Frame]:
    return list(Video(path).frames(coded=True, **options))  # type: ignore[arg-type]


def encode_by_command(source: Path, target: Path, *options: str) -> None:
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-i", str(source), "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-qscale:v", "5", "-g", "12", *options, str(target)], check=True)


def check_frames(frames: list[Frame]) -> dict[str, float]:
    """Check luma and chroma of all frames; return the share of predicted blocks that are zero, by letter."""
    zeros: dict[str, list[float]] = {}
    for frame in frames:
        macroblocks, luma, chroma = frame.macroblocks, frame.coded_residual(), frame.coded_residual_chroma()
        if macroblocks is None:
            continue
        for plane, residual in enumerate((luma, *chroma)):
            blocks = whole_blocks(residual)
            place = np.s_[: blocks.shape[0], : blocks.shape[1]]
            is_uncoded = ~coded_blocks(macroblocks, plane)[place] & of_blocks(macroblocks["intra"] == 0, plane)[place]
            assert not blocks[is_uncoded].any()
        zeros.setdefault(frame.picture_type, []).append(1 - whole_blocks(luma).any((2, 3)).mean())
    return {letter: float(np.mean(shares)) for letter, shares in zeros.items()}


def check_sum(frames: list[Frame], pictures: list[NDArray[np.uint8]]) -> None:
    """Compare with luma that plain PyAV has decoded."""
    for frame, luma in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.prediction() + frame.coded_residual(), luma)


def check_levels(frames: list[Frame], has_matrix: bool = False) -> int:
    """Check that coded blocks of luma are made of levels; return how many there were."""
    num_blocks = 0
    for frame in frames:
        macroblocks = frame.macroblocks
        if macroblocks is None:
            continue
        blocks = whole_blocks(frame.coded_residual())
        place = np.s_[: blocks.shape[0], : blocks.shape[1]]
        luma = whole_blocks(plane_lines(frame._picture, 0, frame.height)[:, : frame.width])
        chosen = coded_blocks(macroblocks, 0)[place] & of_blocks(macroblocks["intra"] == 0, 0)[place]
        chosen &= ~((luma == 0) | (luma == 255)).any((2, 3))
        quantiser = of_blocks(macroblocks["quantiser"].astype(np.int64), 0)[place][chosen]
        errors = level_errors(blocks[chosen], quantiser, has_matrix)
        assert (errors[quantiser > 1] <= 1).all()
        num_blocks += int(chosen.sum())
    return num_blocks


class TestFrames:
    def test_still_video(self, tmp_path: Path) -> None:
        """Once the picture stands, nothing is coded; I-frames are their picture less 128."""
        path = tmp_path / "a.mp4"
        write_video(path, [texture(80, 96)] * 20, gop=10, quantiser=4)
        for frame, plain in zip(coded_frames(path), decode(path), strict=True):
            residual = frame.coded_residual()
            if frame.picture_type == "I":
                np.testing.assert_array_equal(residual + 128, plain.luma)
                assert (frame.prediction() == 128).all()
                np.testing.assert_array_equal(frame.coded_residual_chroma() + 128, chroma_of(frame))
            elif frame.gop_position > 4:
                assert not residual.any()
                assert not frame.coded_residual_chroma().any()

    def test_shapes(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(5, 97, 81))
        frame = coded_frames(path)[1]
        assert (frame.coded_residual().shape, frame.coded_residual().dtype) == ((81, 97), np.int16)
        assert (frame.coded_residual_chroma().shape, frame.coded_residual_chroma().dtype) == ((2, 41, 49), np.int16)
        assert (frame.prediction().shape, frame.prediction().dtype) == ((81, 97), np.uint8)

    def test_out(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(5, 64, 48))
        frame = coded_frames(path)[2]
        luma, chroma = np.full((48, 64), 999, np.int16), np.full((2, 24, 32), 999, np.int16)
        assert frame.coded_residual(out=luma) is luma
        assert frame.coded_residual_chroma(out=chroma) is chroma
        np.testing.assert_array_equal(luma, frame.coded_residual())
        np.testing.assert_array_equal(chroma, frame.coded_residual_chroma())
        for wrong in (luma.T, luma[:, ::2], luma.astype(np.int32), np.empty((48, 65), np.int16)):
            with pytest.raises(UnsupportedError, match=r"out\.shape=.*must be C-contiguous.*int16"):
                frame.coded_residual(out=wrong)

    def test_all_may_be_kept(self, tmp_path: Path) -> None:
        """Unlike tracked frames, which lend their arrays, each keeps its references."""
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(20), num_b_frames=2)
        at_once = [frame.coded_residual() for frame in Video(path).frames(coded=True)]
        kept = list(reversed([frame.coded_residual() for frame in reversed(coded_frames(path))]))
        assert all(np.array_equal(a, b) for a, b in zip(at_once, kept, strict=True))

    def test_together_with_a_track(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(20), num_b_frames=2)
        alone = [frame.coded_residual() for frame in Video(path).frames(coded=True)]
        tracked = [frame.accumulated_residual() for frame in Video(path).frames(track="residual")]
        for i, frame in enumerate(Video(path).frames(track="residual", coded=True)):
            np.testing.assert_array_equal(frame.coded_residual(), alone[i])
            np.testing.assert_array_equal(frame.accumulated_residual(), tracked[i])

    @pytest.mark.parametrize("vectors", [False, True])
    def test_windows(self, tmp_path: Path, vectors: bool) -> None:
        """A window's frames are those of the whole, from an I-frame on."""
        path = tmp_path / "a.mp4"
        write_video(path, busy_frames(80, 64, 48), num_b_frames=2, gop=12)
        whole = {f.pts_seconds: f.coded_residual() for f in Video(path).frames(coded=True)}
        for start, end in ((None, 0.5), (2.0, None), (1.9, 2.4)):
            found = coded_frames(path, vectors=vectors, start_seconds=start, end_seconds=end)
            assert 10 < len(found) < 80
            for frame in found:
                np.testing.assert_array_equal(frame.coded_residual(), whole[frame.pts_seconds])

    def test_hidden_rows(self, tmp_path: Path) -> None:
        """What lies behind the view of a picture is what a decoder shows that is told of a greater height."""
        path, grown = tmp_path / "a.m4v", tmp_path / "b.m4v"
        write_video(path, busy_frames(12, 90, 70))
        grown.write_bytes(with_height(path.read_bytes(), 80))
        for frame, plain in zip(coded_frames(path), decode(grown), strict=True):
            assert frame.height == 70
            np.testing.assert_array_equal(plane_lines(frame._picture, 0, 80)[:, :90], plain.luma)


def chroma_of(frame: Frame) -> NDArray[np.uint8]:
    height, width = (frame.height + 1) // 2, (frame.width + 1) // 2
    return np.stack([plane_lines(frame._picture, plane, height)[:, :width] for plane in (1, 2)])


class TestArithmetic:
    def test_black_next_to_white(self, tmp_path: Path) -> None:
        """libavcodec's usual interpolation of 8x8 blocks is off by one next to black; here it must not be."""
        path = tmp_path / "a.mkv"
        write_luma(path, [black_and_white(t) for t in range(14)], {"flags": "+mv4", "mbd": "rd"})
        frames = coded_frames(path)
        check_frames(frames)
        check_sum(frames, decode_exactly(path))
        macroblocks = [frame.macroblocks for frame in frames if frame.macroblocks is not None]
        assert sum(int(each["four"].sum()) for each in macroblocks) > 100

    def test_pictures_are_otherwise_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(14), num_b_frames=1, options={"flags": "+mv4"})
        for frame, plain in zip(coded_frames(path), Video(path).frames(), strict=True):
            np.testing.assert_array_equal(frame.rgb(), plain.rgb())


def black_and_white(t: int) -> NDArray[np.uint8]:
    """8x8 tiles with full contrast; every second picture lies half-way between two places, another way in each tile."""
    scene = np.clip(1.7 * texture(160, 192, 1)[..., 0].astype(float) - 220, 0, 255)
    steps = [(0, 0), (1, 0), (0, 1), (1, 1), (-1, 0), (0, -1)]
    picture = np.empty((144, 176))
    for i, y in enumerate(range(0, 144, 8)):
        for k, x in enumerate(range(0, 176, 8)):
            dx, dy = steps[(7 * (22 * i + k) + i) % 6]
            here, there = (scene[4 + y + b : 12 + y + b, 4 + x + a : 12 + x + a] for a, b in ((0, 0), (dx, dy)))
            picture[y : y + 8, x : x + 8] = (here + there) / 2 if t % 2 else here
    return picture.astype(np.uint8)


def write_luma(path: Path, pictures: list[NDArray[np.uint8]], options: dict[str, str]) -> None:
    """Encode luma as it is: converted from RGB it would keep clear of 0."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qmin": "2", "qmax": "2", **options})
        stream.height, stream.width = pictures[0].shape
        stream.codec_context.thread_count = 1
        for i, luma in enumerate(pictures):
            grey = np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, grey]), "yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode_exactly(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.flags |= av.codec.context.Flags.bitexact
        return [plane_lines(f, 0, f.height)[:, : f.width].copy() for f in container.decode(video=0)]


XVID = ("-c:v", "libxvid")
ADAPTIVE = ("-c:v", "mpeg4", "-flags", "+mv4", "-mpv_flags", "+qp_rd", "-mbd", "rd", "-lumi_mask", "0.3")
ENCODERS = {
    "xvid": (*XVID, "-flags", "+mv4"),
    "xvid-b": (*XVID, "-bf", "2"),
    "xvid-qpel": (*XVID, "-flags", "+qpel+mv4"),
    "xvid-qpel-b": (*XVID, "-flags", "+qpel+mv4", "-bf", "2"),
    "xvid-matrices-b": (*XVID, "-mpeg_quant", "1", "-bf", "2"),
    "adaptive": ADAPTIVE,
    "adaptive-b": (*ADAPTIVE, "-bf", "2"),
}


class TestEncoders:
    @pytest.mark.parametrize("name", ENCODERS)
    def test_other_encoders(self, tmp_path: Path, name: str) -> None:
        source, path = tmp_path / "a.mkv", tmp_path / "b.avi"
        write_video(source, busy_frames(26, 144, 96), codec="ffv1")
        encode_by_command(source, path, *ENCODERS[name])
        frames = coded_frames(path)
        assert ("B" in {frame.picture_type for frame in frames}) == name.endswith("-b")
        assert all(share > 0.05 for share in check_frames(frames).values())
        check_sum(frames, decode_exactly(path))
        assert check_levels(frames, "matrices" in name) > 500
        quantisers = np.unique([f.macroblocks["quantiser"] for f in frames if f.macroblocks is not None])
        assert (len(quantisers) > 3) == name.startswith("adaptive")


def bare_layer(match: re.Match[bytes]) -> bytes:
    """Take the type and control parameters out of libxvid's video object layer, and keep its length."""
    bits = "".join(f"{byte:08b}" for byte in match[0])
    assert bits[1:9] == "00000001"  # type
    assert bits[9:14] == "01111"  # no version, extended aspect ratio
    assert bits[30] == "1"  # control parameters: chroma format, low delay, no buffer model
    assert bits[34] == "0"
    bits = bits[:8] + "0" + bits[9:30] + "0" + bits[35:]
    stuffing = len(bits) - len(bits.rstrip("1"))
    bits = bits[: len(bits) - stuffing - 1]
    padded = bits + "0" + "1" * (7 - len(bits) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8).ljust(len(match[0]), b"\0")


class TestOldEncoders:
    """libavcodec decodes what old encoders did wrong as they did."""

    @pytest.mark.parametrize("tag", ["XVID", "DIVX", "FMP4"])
    @pytest.mark.parametrize("size", [(97, 81), (50, 46), (96, 80)])
    def test_references_end_at_the_size(self, tmp_path: Path, tag: str, size: tuple[int, int]) -> None:
        """A stream tagged XVID that doesn't say who made it is taken for the first XviD's."""
        source, path = tmp_path / "a.mkv", tmp_path / "b.avi"
        write_video(source, busy_frames(26, *size), codec="ffv1")
        encode_by_command(source, path, "-c:v", "mpeg4", "-flags", "+mv4+bitexact", "-mbd", "rd", "-tag:v", tag)
        frames = coded_frames(path)
        assert frames[0].coded is not None
        assert frames[0].coded.builds.ends_at_size == (tag == "XVID")
        assert check_frames(frames)["P"] > 0.05
        assert check_levels(frames) > 100

    @pytest.mark.parametrize(("quantiser", "error"), [("6", AssertionError), ("31", UnsupportedError)])
    def test_wrong_end_matters(self, tmp_path: Path, quantiser: str, error: type[Exception]) -> None:
        """The self-check finds it where blocks are not coded, the levels where they are."""
        source, path = tmp_path / "a.mkv", tmp_path / "b.avi"
        write_video(source, busy_frames(26, 97, 81), codec="ffv1")
        options = ("-c:v", "mpeg4", "-qscale:v", quantiser, "-flags", "+bitexact", "-tag:v", "XVID")
        encode_by_command(source, path, *options)
        frames = coded_frames(path)
        assert check_levels(frames) > 100
        for frame in frames:
            assert frame.coded is not None
            frame.coded.builds = Builds()
        with pytest.raises(error):
            check_levels(frames)

    def test_nameless_divx(self, tmp_path: Path) -> None:
        """DivX 4 is known by its tag, and by a layer that states little."""
        source, path = tmp_path / "a.mkv", tmp_path / "b.avi"
        write_video(source, busy_frames(26, 50, 46), codec="ffv1")
        encode_by_command(source, path, *XVID, "-qscale:v", "8", "-flags", "+mv4", "-tag:v", "DIVX")
        data = path.read_bytes().replace(b"XviD", b"None")
        path.write_bytes(re.sub(rb"(?<=\x00\x00\x01\x20).*?(?=\x00\x00\x01)", bare_layer, data, flags=re.DOTALL))
        frames = coded_frames(path)
        assert frames[0].coded is not None
        assert frames[0].coded.builds.has_bare_layer
        assert frames[0].coded.builds.ends_at_size
        assert check_frames(frames)["P"] > 0.05
        assert check_levels(frames) > 100
        for frame in frames:
            assert frame.coded is not None
            frame.coded.builds = Builds()
        with pytest.raises((AssertionError, UnsupportedError)):
            check_levels(frames)

    @pytest.mark.parametrize(
        ("builds", "is_old"),
        [
            (Builds(), False),
            (Builds("FMP4"), False),
            (Builds("xvid"), True),
            (Builds("DIVX"), False),
            (Builds("divx", has_bare_layer=True), True),
            (Builds("FMP4", has_bare_layer=True), False),
            (Builds("DIVX", has_bare_layer=True, lavc_build=4753), False),
            (Builds("XVID", lavc_build=4753), False),
            (Builds("XVID", xvid_build=50), False),
            (Builds(xvid_build=12), True),
            (Builds(xvid_build=13), False),
            (Builds(divx_version=412, divx_build=0), True),
            (Builds(divx_version=503, divx_build=1393), False),
            (Builds(lavc_build=4669), True),
            (Builds(lavc_build=4670), False),
        ],
    )
    def test_whose_references_end_at_the_size(self, builds: Builds, is_old: bool) -> None:
        assert builds.ends_at_size == is_old

    @pytest.mark.parametrize(
        ("builds", "has_luma", "has_chroma"),
        [
            (Builds(), True, True),
            (Builds(lavc_build=4652), False, False),
            (Builds(lavc_build=4653), True, True),
            (Builds(divx_version=500, divx_build=413), True, False),
            (Builds(divx_version=503, divx_build=1814), True, True),
            (Builds(xvid_build=1), True, False),
            (Builds("XVID"), True, False),
        ],
    )
    def test_old_quarter_samples(self, tmp_path: Path, builds: Builds, has_luma: bool, has_chroma: bool) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(4, 64, 48), options={"flags": "+qpel"})
        frame = coded_frames(path)[2]
        assert frame.coded is not None
        frame.coded.builds = builds
        for plane_of, has_it in ((frame.coded_residual, has_luma), (frame.coded_residual_chroma, has_chroma)):
            if has_it:
                plane_of()
                continue
            with pytest.raises(UnsupportedError, match=r"_build=.*quarter.*transcode"):
                plane_of()


class TestRefusals:
    @pytest.mark.parametrize(
        ("codec", "suffix", "reason"),
        [("h264", ".mp4", "loop filter"), ("hevc", ".mp4", "loop filter"), ("mpeg2video", ".mpg", "not computed"),
         ("flv1", ".flv", "not computed"), ("mjpeg", ".avi", "not computed")],
    )  # fmt: skip
    def test_other_codecs(self, tmp_path: Path, codec: str, suffix: str, reason: str) -> None:
        path = tmp_path / f"a{suffix}"
        write_video(
            path, busy_frames(3, 64, 48), codec=codec, pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p"
        )
        with pytest.raises(UnsupportedError, match=rf"codec={codec}: .*MPEG-4 Part 2.*{reason}.*--codec mpeg4"):
            Video(path).frames(coded=True)

    @pytest.mark.parametrize(
        ("options", "tool"),
        [
            ((*XVID, "-gmc", "1"), "global motion"),
            (("-c:v", "mpeg4", "-flags", "+ildct+ilme"), "interlacing"),
            (("-c:v", "mpeg4", "-data_partitioning", "1"), "data partitioning"),
        ],
    )
    def test_tools(self, tmp_path: Path, options: tuple[str, ...], tool: str) -> None:
        source, path = tmp_path / "a.mkv", tmp_path / "b.avi"
        write_video(source, busy_frames(5, 64, 48), codec="ffv1")
        encode_by_command(source, path, *options)
        with pytest.raises(UnsupportedError, match=rf"{tool}.*transcode"):
            coded_frames(path)

    def test_frames_without_references(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(4, 64, 48))
        for options in ({}, {"macroblocks": True}):
            frame = list(Video(path).frames(**options))[2]  # type: ignore[arg-type]
            for read in (frame.coded_residual, frame.coded_residual_chroma, frame.prediction):
                with pytest.raises(UnsupportedError, match=r"index=2: .*frames\(coded=True\)"):
                    read()

    @pytest.mark.parametrize("direction", ["past", "future"])
    def test_missing_anchor(self, tmp_path: Path, direction: str) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(13), num_b_frames=2)
        frames = coded_frames(path)
        frames[4].link(*((None, frames[6]) if direction == "past" else (frames[3], None)))
        with pytest.raises(UnsupportedError, match=rf"{direction}_anchor=None at pts_seconds="):
            frames[4].coded_residual()

    def test_other_size_than_stated(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mkv"
        write_video(path, busy_frames(4, 64, 48))
        frame = coded_frames(path)[2]
        assert frame.coded is not None
        frame.coded.vol = replace(frame.coded.vol, height=80)
        with pytest.raises(UnsupportedError, match=r"size=64x48: must be .*64x80"):
            frame.coded_residual()

    def test_damage(self, tmp_path: Path) -> None:
        """Bits flipped in the middle: refused by decoder or parser, or at the latest by the self-check."""
        path = tmp_path / "a.m4v"
        write_video(path, busy_frames(8), gop=8)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
        path.write_bytes(data)
        with pytest.raises(DecodeError):
            for frame in Video(path).frames(coded=True):
                frame.coded_residual()


class TestRealClips:
    def test_packed_xvid(self, shared: Path) -> None:
        path = shared / "data" / "UCF101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g01_c01.avi"
        frames = coded_frames(path)
        assert "".join(frame.picture_type for frame in frames).count("B") == 108
        shares = check_frames(frames)
        assert 0.6 < shares["P"] < 0.7
        assert 0.95 < shares["B"] < 0.99
        check_sum(frames, [plain.luma for plain in decode(path)])
        assert check_levels(frames) > 10_000

    @pytest.mark.parametrize("name", ["BaseballPitch", "Basketball"])
    def test_xvid(self, shared: Path, name: str) -> None:
        path = shared / "data" / "UCF101" / name / f"v_{name}_g01_c01.avi"
        frames = coded_frames(path)
        assert check_frames(frames)["P"] > 0.6
        check_sum(frames, [plain.luma for plain in decode(path)])
        assert check_levels(frames) > 10_000

    @pytest.mark.parametrize("name", ["example.avi", "vid_mpeg4_part2.mp4", "testsrc2_mpeg4.avi"])
    def test_others(self, shared: Path, name: str) -> None:
        frames = coded_frames(shared / "data" / "codecs" / name, end_seconds=2.0)
        assert check_frames(frames)["P"] > 0.4
        assert check_levels(frames) > 500

    def test_phones(self, shared: Path) -> None:
        """EgoGestAR: those of MPEG-4 Part 2."""
        folder = shared / "data" / "EgoGestAR"
        with (folder / "manifest.csv").open() as file:
            paths = [folder / row["path"] for row in csv.DictReader(file) if row["codec"] == "mpeg4"][::6]
        assert len(paths) > 2
        for path in paths:
            frames = coded_frames(path, end_seconds=1.0)
            assert check_frames(frames)["P"] > 0.1
            assert check_levels(frames) > 1000
