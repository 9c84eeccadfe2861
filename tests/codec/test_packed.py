"""Packing: frames, types and times as reading the source gives them, without decoding it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from packing import PACKABLE, REAL, ffmpeg, unpack, values, without_place, write_stream
from reference import busy_frames

from vidprep.codec.headers import HeaderReader
from vidprep.codec.mpeg4 import read_vol
from vidprep.codec.packed import PackedStream, pack
from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, UnsupportedError

VOP = b"\x00\x00\x01\xb6"
VOL = b"\x00\x00\x01\x20"


@pytest.fixture(scope="module")
def path_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, known = tmp_path_factory.mktemp("streams"), {}

    def path(name: str) -> Path:
        known[name] = known.get(name) or write_stream(name, folder)
        return known[name]

    return path


def check_against_source(source: Video, stream: PackedStream, *, invents: bool = False) -> None:
    frames = list(source.frames(vectors=False))
    assert stream.picture_types == "".join(frame.picture_type for frame in frames)
    assert list(stream.pts_seconds) == [frame.pts_seconds for frame in frames]
    assert (stream.width, stream.height) == (frames[0].width, frames[0].height)
    assert stream.num_dropped_frames == source.num_dropped_frames
    assert stream.num_repaired_times == source.num_repaired_times or invents
    assert stream.motion_exact == source.motion_exact


def check_plays(source: Video, stream: PackedStream) -> None:
    """The bytes alone, for a tool that knows nothing of the table."""
    with av.open(io.BytesIO(stream.data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        played = [f.reformat(format="rgb24", threads=1).to_ndarray() for f in container.decode(video=0)]
    frames = list(source.frames(vectors=False))
    assert len(played) == len(frames)
    for picture, frame in zip(played, frames, strict=True):
        np.testing.assert_array_equal(picture, frame.rgb())


def check_table(stream: PackedStream) -> None:
    """Packets lie side by side behind the headers, and each frame is in one of them."""
    ends = [offset + size for offset, size in zip(stream.offsets, stream.sizes, strict=True)]
    assert list(stream.offsets[1:]) == ends[:-1]
    assert ends[-1] == len(stream.data)
    assert stream.offsets[0] in (0, stream.num_header_bytes)
    held = [index for index in stream.display_indices if index is not None]
    assert sorted(held) == list(range(len(stream.picture_types)))
    for letter, index in zip(stream.packet_types, stream.display_indices, strict=True):
        assert letter == ("N" if index is None else stream.picture_types[index])
    assert stream.entry_points[0] == stream.display_indices[0] == 0
    assert all(stream.packet_types[i] == "I" for i in stream.entry_points)


class TestStreams:
    @pytest.mark.parametrize("name", PACKABLE)
    def test_frames_are_those_of_the_source(self, path_of: Callable[[str], Path], name: str) -> None:
        video = Video(path_of(name))
        stream = pack(video)
        check_against_source(video, stream)
        check_table(stream)
        check_plays(video, stream)

    @pytest.mark.parametrize("name", PACKABLE)
    def test_packing_leaves_the_counts_of_reading(self, path_of: Callable[[str], Path], name: str) -> None:
        read, packed = Video(path_of(name)), Video(path_of(name))
        list(read.frames(vectors=False))
        pack(packed)
        assert packed.num_dropped_frames == read.num_dropped_frames
        assert packed.num_repaired_times == read.num_repaired_times

    @pytest.mark.parametrize("name", PACKABLE)
    def test_every_intra_frame_is_an_entry_point(self, path_of: Callable[[str], Path], name: str) -> None:
        stream = pack(Video(path_of(name)))
        assert len(stream.entry_points) == stream.picture_types.count("I")

    @pytest.mark.parametrize(("codec", "size"), [("mpeg4", "96x80"), ("h264", "96x80"), ("mpeg4", "97x81")])
    def test_transcoded_streams_stay_as_they_are(self, path_of: Callable[[str], Path], codec: str, size: str) -> None:
        with transcode(Video(path_of("mpeg4-b")), Recipe(codec=codec, size=size)) as video:
            assert not isinstance(video.source, Path)
            stream = pack(video)
            video.source.seek(0)
            assert stream.data == video.source.read()
            check_against_source(video, stream)
            check_plays(video, stream)

    def test_entry_names_and_facts(self, path_of: Callable[[str], Path]) -> None:
        names = {name: pack(Video(path_of(name))).entry for name in ("mpeg4", "h264", "mpeg1-odd", "mpeg2-b")}
        assert names == {"mpeg4": "video.m4v", "h264": "video.h264", "mpeg1-odd": "video.m1v", "mpeg2-b": "video.m2v"}
        facts = pack(Video(path_of("mpeg4-b"))).facts()
        assert facts["codec"] == "mpeg4"
        assert facts["picture_types"].startswith("IPBBP")
        assert facts["display_indices"][:5] == [0, 3, 1, 2, 6]
        assert (facts["width"], facts["height"]) == (96, 80)

    def test_h263(self, tmp_path: Path) -> None:
        path = tmp_path / "h263.avi"
        write_video(path, busy_frames(26, 176, 144), codec="h263", gop=10)
        video = Video(path)
        stream = pack(video)
        assert stream.entry == "video.h263"
        assert stream.entry_points == (0, 10, 20)
        check_against_source(video, stream)
        check_table(stream)
        sequential = list(map(values, video.frames()))
        assert [values(frame) for frame in unpack(stream).frames(12, 25)] == sequential[12:25]

    def test_h263_of_a_size_of_its_own(self, tmp_path: Path) -> None:
        """The extended header, PLUSPTYPE."""
        path = tmp_path / "h263p.avi"
        write_video(path, busy_frames(14, 96, 80), codec="h263p", gop=6)
        video = Video(path)
        stream = pack(video)
        check_against_source(video, stream)
        assert len(stream.entry_points) == 3

    def test_pictures_that_are_not_coded(self, tmp_path: Path, path_of: Callable[[str], Path]) -> None:
        """An empty VOP, as encoders write for a dropped frame: a packet without a picture, and no frame."""
        with transcode(Video(path_of("mpeg4")), Recipe(size="96x80")) as video:
            data = pack(video).data
        second = data.index(VOP, data.index(VOP) + 4)
        assert data[second + 4] >> 6 == 1
        path = tmp_path / "empty.m4v"
        path.write_bytes(data[:second] + _vop_not_coded(data) + data[second:])
        video = Video(path)
        stream = pack(video)
        assert "N" in stream.packet_types
        assert stream.display_indices[stream.packet_types.index("N")] is None
        assert stream.picture_types == "".join(f.picture_type for f in video.frames(vectors=False))
        check_table(stream)
        sequential = list(map(values, video.frames()))
        assert [values(frame) for frame in unpack(stream).frames()] == sequential


def _vop_not_coded(data: bytes) -> bytes:
    """A P-VOP of vop_coded=0 at time 0, for the time base of this stream."""
    num_bits = read_vol(data).tick_bits
    bits = "01" + "0" + "1" + "0" * num_bits + "1" + "0"
    bits += "0" + "1" * (-(len(bits) + 1) % 8)
    return VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def wanted_frames(path: Path, start: float | None, end: float | None) -> list[tuple[Any, ...]]:
    """Sequential frames from the last entry point at or before the start, to where reading the segment ends."""
    video = Video(path)
    frames = list(video.frames(start_seconds=start, end_seconds=end))
    origin = video.metadata.start_seconds
    begin = 0
    for i, frame in enumerate(frames):
        if frame.picture_type == "I" and round(1e6 * (frame.pts_seconds - origin)) <= round(1e6 * (start or 0)):
            begin = i
    return without_place(frames[begin:])


class TestSegments:
    @pytest.mark.parametrize("window", [(0.0, 0.2), (0.3, 0.52), (None, 0.5), (0.48, None), (0.56, 0.6), (0.97, 1.0)])
    @pytest.mark.parametrize("name", PACKABLE)
    def test_a_segment_holds_the_frames_that_reading_it_gives(
        self, path_of: Callable[[str], Path], name: str, window: tuple[float | None, float | None]
    ) -> None:
        start, end = window
        stream = pack(Video(path_of(name)), start_seconds=start, end_seconds=end)
        expected = wanted_frames(path_of(name), start, end)
        check_table(stream)
        assert stream.pts_seconds == tuple(frame[1] for frame in expected)
        assert without_place(unpack(stream).frames()) == expected

    def test_a_segment_of_nothing(self, path_of: Callable[[str], Path]) -> None:
        with pytest.raises(DecodeError, match=r"num_frames=0 .*end_seconds=0\.0; check start"):
            pack(Video(path_of("mpeg4")), end_seconds=0.0)

    def test_a_segment_is_smaller(self, path_of: Callable[[str], Path]) -> None:
        whole, part = (pack(Video(path_of("mpeg4")), start_seconds=start) for start in (None, 0.6))
        assert len(part.data) < 0.7 * len(whole.data)
        assert part.data.startswith(whole.data[: whole.num_header_bytes])


class TestDamagedStarts:
    """What comes before the first I-frame in display order is left out and counted, as in reading."""

    @staticmethod
    def cut(stream: PackedStream, first: int, path: Path) -> Video:
        """The headers, and the packets from number ``first`` on."""
        path.write_bytes(stream.data[: stream.num_header_bytes] + stream.data[stream.offsets[first] :])
        return Video(path)

    @pytest.mark.parametrize("name", ["mpeg4", "mpeg4-b", "mpeg2-b", "mpeg1-odd"])
    @pytest.mark.parametrize("first", [1, 2, 3, 5])
    def test_no_i_frame_at_the_start(
        self, path_of: Callable[[str], Path], tmp_path: Path, name: str, first: int
    ) -> None:
        whole = pack(Video(path_of(name)))
        video = self.cut(whole, first, tmp_path / whole.entry)
        stream = pack(video)
        # MPEG-4's decoder shows the grey picture, too, that it invents as the first P-frame's reference, at its time.
        check_against_source(video, stream, invents=name == "mpeg4-b")
        check_table(stream)
        frames = without_place(video.frames())
        assert without_place(unpack(stream).frames()) == frames
        assert len(frames) < len(whole.pts_seconds)

    @pytest.mark.parametrize("name", ["mpeg4", "mpeg4-b", "mpeg2-b", "h264"])
    @pytest.mark.parametrize("start", [0.2, 0.5])
    def test_frames_that_an_edit_list_hides(
        self, path_of: Callable[[str], Path], tmp_path: Path, name: str, start: float
    ) -> None:
        """A clip that was trimmed without encoding: the frames before it are there for others to refer to."""
        whole, path = tmp_path / "whole.mp4", tmp_path / "trimmed.mp4"
        ffmpeg("-fflags", "+genpts", "-i", path_of(name), "-c", "copy", whole)
        ffmpeg("-ss", start, "-i", whole, "-c", "copy", path)
        with av.open(str(path)) as container:
            hidden = sum(packet.is_discard for packet in container.demux(video=0) if packet.size)
        video = Video(path)
        stream = pack(video)
        check_against_source(video, stream)
        assert without_place(unpack(stream).frames()) == without_place(video.frames())
        assert hidden > 0
        with av.open(str(path)) as container:
            assert len(list(container.decode(video=0))) == len(stream.pts_seconds) + stream.num_dropped_frames

    def test_b_frames_out_of_their_anchors_time(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        """Without a P-frame, the B-frames behind it are not between their anchors: the decoder skips them."""
        whole = pack(Video(path_of("mpeg4-b")))
        lost = whole.packet_types.index("P", whole.packet_types.index("B"))
        kept = [i for i in range(len(whole.sizes)) if i != lost]
        (tmp_path / "v.m4v").write_bytes(
            whole.data[: whole.offsets[0]]
            + b"".join(whole.data[whole.offsets[i] : whole.offsets[i] + whole.sizes[i]] for i in kept)
        )
        video = Video(tmp_path / "v.m4v")
        stream = pack(video)
        frames = without_place(video.frames())
        assert without_place(unpack(stream).frames()) == frames
        assert len(frames) < len(whole.pts_seconds) - 1

    @pytest.mark.parametrize("name", ["mpeg4-b", "mpeg2-b"])
    def test_an_open_group_at_the_start(self, path_of: Callable[[str], Path], tmp_path: Path, name: str) -> None:
        """The first packets are an I-frame and B-frames that would need the group before."""
        whole = pack(Video(path_of(name)))
        video = self.cut(whole, whole.entry_points[1], tmp_path / whole.entry)
        stream = pack(video)
        assert whole.packet_types[whole.entry_points[1] :].startswith("IB")
        assert stream.packet_types.startswith("IP")
        check_against_source(video, stream)
        assert without_place(unpack(stream).frames()) == without_place(video.frames())

    def test_no_i_frame_at_all(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        whole = pack(Video(path_of("mpeg4")))
        end = whole.offsets[whole.entry_points[1]]
        path = tmp_path / "cut.m4v"
        path.write_bytes(whole.data[: whole.num_header_bytes] + whole.data[whole.offsets[1] : end])
        with pytest.raises(DecodeError, match=r"num_frames=0 .*no I-frame found; check start"):
            pack(Video(path))

    def test_a_packet_that_is_cut(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        path = tmp_path / "cut.avi"
        data = path_of("mpeg4").read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(DecodeError, match="damaged or cut"):
            pack(Video(path))


class TestRefusals:
    def test_no_raw_form(self, path_of: Callable[[str], Path]) -> None:
        with pytest.raises(UnsupportedError, match=r"codec=flv1: has no raw form .*--codec mpeg4"):
            pack(Video(path_of("flv1")))

    def test_h264_without_times(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        path = tmp_path / "b.h264"
        path.write_bytes(pack(Video(path_of("h264-b"))).data)
        with pytest.raises(UnsupportedError, match=r"display order of H\.264 is unknown; put the video"):
            pack(Video(path))

    def test_h264_that_does_not_begin_with_an_instantaneous_refresh(self, tmp_path: Path) -> None:
        """Open groups: an I-frame that later frames refer across is no entry point."""
        path = tmp_path / "open.mkv"
        options = {"refs": "3", "x264-params": "open-gop=1:bframes=2:scenecut=0"}
        write_video(path, busy_frames(40), codec="h264", gop=12, num_b_frames=2, quantiser=20, options=options)
        stream = pack(Video(path))
        assert stream.picture_types.count("I") > len(stream.entry_points) == 1
        sequential = list(map(values, Video(path).frames()))
        assert [values(frame) for frame in unpack(stream).frames(14, 30)] == sequential[14:30]
        cut = tmp_path / "cut.mkv"
        ffmpeg("-i", path, "-c", "copy", "-bsf:v", "noise=drop=lt(n\\,1)", cut)
        with pytest.raises((UnsupportedError, DecodeError)):
            pack(Video(cut))

    def test_fields(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        whole = pack(Video(path_of("mpeg2-b")))
        data = bytearray(whole.data)
        place = data.index(b"\x00\x00\x01\xb5\x8f") + 6  # picture coding extension
        assert data[place] & 3 == 3
        data[place] ^= 2
        reader = HeaderReader("mpeg2video", b"")
        with pytest.raises(UnsupportedError, match="picture_structure=field"):
            reader.read(bytes(data[: whole.sizes[0]]))

    def test_two_pictures_in_one_packet(self, path_of: Callable[[str], Path]) -> None:
        whole = pack(Video(path_of("mpeg4")))
        with pytest.raises(UnsupportedError, match=r"num_pictures=2 in one packet: .*transcode"):
            HeaderReader("mpeg4", b"").read(whole.data[: whole.offsets[2]])

    def test_parameter_sets_that_change(self, path_of: Callable[[str], Path]) -> None:
        one, two = (pack(Video(path_of(name))) for name in ("mpeg4", "mpeg4-4mv-odd"))
        reader = HeaderReader("mpeg4", b"")
        reader.read(one.data[: one.offsets[1]])
        reader.read(one.data[: one.offsets[1]])
        with pytest.raises(UnsupportedError, match=r"parameter_set=20.*it changes within the stream"):
            reader.read(two.data[: two.offsets[1]])

    def test_no_parameter_sets(self, path_of: Callable[[str], Path]) -> None:
        whole = pack(Video(path_of("mpeg4")))
        data = whole.data[whole.offsets[1] : whole.offsets[2]]
        with pytest.raises(UnsupportedError, match="num_parameter_sets=0"):
            HeaderReader("mpeg4", b"").read(data)
        assert HeaderReader("mpeg4", whole.data[: whole.num_header_bytes]).read(data).letter == "P"

    def test_an_encoder_that_only_the_container_names(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        """The tag XVID makes FFmpeg take XviD's inverse transform; the raw stream would decode otherwise."""
        raw, path = tmp_path / "plain.m4v", tmp_path / "xvid.avi"
        raw.write_bytes(pack(Video(path_of("mpeg4"))).data)
        assert b"Lavc" not in raw.read_bytes()
        ffmpeg("-f", "m4v", "-i", raw, "-c", "copy", "-tag:v", "XVID", path)
        with pytest.raises(UnsupportedError, match=r"codec_tag=XVID in .*only the container names the encoder"):
            pack(Video(path))

    def test_b_frames_that_the_header_denies(self, path_of: Callable[[str], Path], tmp_path: Path) -> None:
        data = bytearray(pack(Video(path_of("mpeg4-b"))).data)
        bits = int.from_bytes(data[data.index(VOL) + 4 :][:8], "big")
        # random_accessible 1, type 8, identifier 1 (with version 4 and priority 3), aspect 4, control 1, chroma 2
        place = 1 + 8 + 1 + (7 if bits >> 54 & 1 else 0) + 4 + 1 + 2
        assert bits >> (64 - place + 2) & 1  # vol_control_parameters
        data[data.index(VOL) + 4 + place // 8] |= 0x80 >> place % 8
        path = tmp_path / "low_delay.m4v"
        path.write_bytes(data)
        with pytest.raises(UnsupportedError, match="low_delay=True with B-frames"):
            pack(Video(path))

    def test_interlaced_b_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "fields.avi"
        options = {"flags": "+ildct+ilme"}
        write_video(path, busy_frames(14, 96, 96), num_b_frames=1, options=options)
        with pytest.raises(UnsupportedError, match="is_interlaced=True"):
            pack(Video(path))
        write_video(path, busy_frames(14, 96, 96), options=options)
        assert not pack(Video(path)).motion_exact

    @pytest.mark.parametrize(
        ("codec", "data"), [("mpeg4", VOL + b"\x00" * 4 + VOP), ("h264", b"\0\0\1\x67\x42\0\0\1\x65")]
    )
    def test_headers_that_are_cut(self, codec: str, data: bytes) -> None:
        with pytest.raises(DecodeError, match="cut; get the file anew"):
            HeaderReader(codec, b"").read(data)


class TestRealClips:
    @pytest.mark.parametrize("name", REAL)
    def test_frames_are_those_of_the_source(self, shared: Path, name: str) -> None:
        video = Video(shared / "data" / name)
        stream = pack(video)
        check_against_source(video, stream)
        check_table(stream)
        check_plays(video, stream)

    def test_no_mark_of_a_packed_bitstream_is_left(self, shared: Path) -> None:
        stream = pack(Video(shared / "data" / REAL[0]))
        assert b"DivX503b1393\0" in stream.data
        assert b"DivX503b1393p" not in stream.data
        assert len(decode_bytes(stream.data)) == len(stream.pts_seconds) == 164

    @pytest.mark.parametrize("window", [(1.0, 1.5), (2.1, 2.9), (3.0, None)])
    @pytest.mark.parametrize("name", [REAL[2], "codecs/h264_sample.mp4", "codecs/vid_mpeg4_part2.mp4"])
    def test_segments(self, shared: Path, name: str, window: tuple[float, float | None]) -> None:
        start, end = window
        stream = pack(Video(shared / "data" / name), start_seconds=start, end_seconds=end)
        expected = [frame[:2] for frame in wanted_frames(shared / "data" / name, start, end)]
        # H.264 begins at the refresh before; frames() begins at the same one.
        assert list(zip(stream.picture_types, stream.pts_seconds, strict=True)) == expected

    def test_corrupt_on_purpose(self, shared: Path) -> None:
        with pytest.raises(DecodeError):
            pack(Video(shared / "data" / "codecs" / "corrupted.mp4"))


def decode_bytes(data: bytes) -> list[Any]:
    with av.open(io.BytesIO(data)) as container:
        return list(container.decode(video=0))
