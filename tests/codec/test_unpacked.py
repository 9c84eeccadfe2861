"""Random access: any frames of a packed stream equal those of one sequential pass, bit for bit."""

import random
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import PACKABLE, REAL, differing, facts_of, ffmpeg, place, tracked_values, unpack, values, write_stream
from reference import busy_frames

from vidprep.codec import decoders
from vidprep.codec.bitstream import BitReader
from vidprep.codec.h264_headers import _payload, _read_sequence
from vidprep.codec.packed import PackedStream, pack
from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, ShardError, UsageError, VidprepError

Opened = tuple[PackedStream, PackedVideo, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """A stream, the reader of it, and all arrays of one sequential pass over the source."""
    folder = tmp_path_factory.mktemp("streams")

    @cache
    def open_stream(name: str) -> Opened:
        video = Video(write_stream(name, folder))
        stream = pack(video)
        return stream, unpack(stream), [tracked_values(frame) for frame in video.frames(track="residual")]

    return open_stream


class TestStreams:
    @pytest.mark.parametrize("name", PACKABLE)
    def test_every_range(self, opened: Callable[[str], Opened], name: str) -> None:
        """All starts and many ends, in random order, so that decoders come from anywhere."""
        _, video, expected = opened(name)
        ranges = [(a, b) for a in range(len(video)) for b in (a + 1, a + 2, a + 5, a + 16) if b <= len(video)]
        random.Random(0).shuffle(ranges)
        for start, stop in ranges:
            got = [tracked_values(frame) for frame in video.frames(start, stop, track="residual")]
            assert differing(got, expected[start:stop]) == [], (start, stop)

    @pytest.mark.parametrize("name", PACKABLE)
    def test_without_tracking(self, opened: Callable[[str], Opened], name: str) -> None:
        _, video, expected = opened(name)
        for start in range(0, len(video), 3):
            got = [values(frame) for frame in video.frames(start, min(start + 4, len(video)))]
            assert differing(got, [frame[: len(got[0])] for frame in expected[start : start + 4]]) == []

    @pytest.mark.parametrize("name", PACKABLE)
    def test_without_vectors(self, opened: Callable[[str], Opened], name: str) -> None:
        _, video, expected = opened(name)
        for start in range(0, len(video), 5):
            frames = list(video.frames(start, None, vectors=False))
            assert [place(frame) for frame in frames] == [frame[:5] for frame in expected[start:]]
            assert [frame.rgb().tobytes() for frame in frames] == [frame[5] for frame in expected[start:]]
            assert not any(len(frame.vectors) for frame in frames)

    @settings(max_examples=150)
    @given(data=st.data())
    def test_any_frames(self, opened: Callable[[str], Opened], data: st.DataObject) -> None:
        """Any selection, near or far apart, tracked or not."""
        _, video, expected = opened(data.draw(st.sampled_from(PACKABLE)))
        indices = sorted(data.draw(st.sets(st.integers(0, len(video) - 1), min_size=1, max_size=8)))
        track = data.draw(st.sampled_from(["none", "motion", "residual"]))
        frames = video.frames_at(indices, track=track)
        read = {
            "none": values,
            "motion": lambda frame: (*values(frame), frame.accumulated_motion().tobytes()),
            "residual": tracked_values,
        }[track]
        got = [read(frame) for frame in frames]
        assert differing(got, [expected[i][: len(got[0])] for i in indices]) == []

    def test_frames_outlive_the_clip(self, opened: Callable[[str], Opened]) -> None:
        """A frame is the reader's to keep, though its decoder has gone on."""
        _, video, expected = opened("mpeg4-b")
        kept = list(video.frames(0, 12))
        list(video.frames(12, 26))
        assert (
            differing([values(frame) for frame in kept], [frame[: len(values(kept[0]))] for frame in expected[:12]])
            == []
        )

    def test_a_reader_that_stops_early(self, opened: Callable[[str], Opened]) -> None:
        _, video, expected = opened("mpeg4-b")
        for track in ("none", "motion"):
            frames = video.frames(3, 20, track=track)  # type: ignore[arg-type]
            next(frames)
            frames.close()
        got = [tracked_values(frame) for frame in video.frames(5, 9, track="residual")]
        assert differing(got, expected[5:9]) == []

    @pytest.mark.parametrize("name", ["mpeg4-b", "mpeg2-b", "h264-b", "mpeg4"])
    def test_only_the_needed_packets_are_decoded(
        self, opened: Callable[[str], Opened], name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream, video, _ = opened(name)
        decoded: list[int] = []
        plain = decoders._packet

        def noted(table: Any, data: memoryview, number: int, *, with_head: bool) -> Any:
            decoded.append(number)
            return plain(table, data, number, with_head=with_head)

        monkeypatch.setattr(decoders, "_packet", noted)
        second = stream.picture_types.index("I", 1)
        list(video.frames(second, second + 1, vectors=False))
        assert [stream.display_indices[i] for i in decoded] == [second]
        decoded.clear()
        list(video.frames(second + 4, second + 5, vectors=False))
        indices = [stream.display_indices[i] for i in decoded]
        assert second == indices[0]
        assert len(indices) <= 7
        if name != "h264-b":
            between = [i for i in indices if stream.picture_types[i or 0] == "B"]
            assert between == ([second + 4] if stream.picture_types[second + 4] == "B" else [])

    def test_far_frames_leave_out_the_groups_between(
        self, opened: Callable[[str], Opened], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream, video, _ = opened("mpeg1-odd")
        assert stream.entry_points == (0, 8, 16, 24)
        assert list(video._table.runs([0, 9, 24, 25])) == [[0, 9], [24, 25]]
        assert list(video._table.runs([1, 16])) == [[1], [16]]

    def test_decoders_are_used_again(self, opened: Callable[[str], Opened]) -> None:
        _, video, _ = opened("mpeg4")
        decoders._idle.clear()
        for _ in range(3):
            list(video.frames(0, 4, vectors=False))
        assert len(decoders._idle) == 1
        list(video.frames(0, 4))
        assert len(decoders._idle) == 2  # one that exports vectors

    def test_idle_decoders_are_few(self, opened: Callable[[str], Opened]) -> None:
        _, video, _ = opened("mpeg4")
        pending = [video.frames(0, 2, vectors=False) for _ in range(decoders._MAX_IDLE + 5)]
        for frames in pending:
            next(frames)
        for frames in pending:
            list(frames)
        assert len(decoders._idle) == decoders._MAX_IDLE


def without_vui(stream: PackedStream) -> PackedStream:
    """Cut the hints about display off each sequence parameter set; zeros keep its length."""
    begin = stream.data.index(b"\0\0\1\x67") + 3
    sps = stream.data[begin : stream.data.index(b"\0\0\1", begin)].rstrip(b"\0")
    reader = BitReader(_payload(sps))
    assert _read_sequence(reader)[1].is_progressive
    assert reader.bits(2) & 1 == 0  # not cropped
    assert reader.bits(1) == 1  # vui_parameters_present_flag
    num_kept = 8 * (len(sps) - sps.count(b"\0\0\3")) - reader._left - 1  # no byte was stuffed before
    short = f"{int.from_bytes(sps, 'big'):0{8 * len(sps)}b}"[:num_kept] + "01"
    short += "0" * (-len(short) % 8)
    bare = int(short, 2).to_bytes(len(short) // 8, "big").ljust(len(sps), b"\0")
    return replace(stream, data=stream.data.replace(sps, bare))


class TestSources:
    @pytest.mark.parametrize("codec", ["mpeg4", "h264"])
    def test_transcoded(self, tmp_path: Path, codec: str) -> None:
        """As extraction hands them over: raw streams without times of their own."""
        with transcode(Video(write_stream("mpeg4-b", tmp_path)), Recipe(codec, "96x80", 8)) as source:
            stream = pack(source)
            expected = [tracked_values(frame) for frame in source.frames(track="residual")]
        assert len(stream.entry_points) == 4
        for start in range(0, len(expected), 3):
            frames = unpack(stream).frames(start, min(start + 5, len(expected)), track="residual")
            assert differing([tracked_values(frame) for frame in frames], expected[start : start + 5]) == []

    def test_h264_that_hides_how_far_it_reorders(self, tmp_path: Path) -> None:
        """Without the bitstream restrictions the decoder guesses, and drops pictures until it has learned."""
        path = tmp_path / "pyramid.mkv"
        options = {"refs": "4", "x264-params": "b-pyramid=normal:scenecut=0:b-adapt=0"}
        write_video(path, busy_frames(40), codec="h264", gop=13, num_b_frames=7, quantiser=20, options=options)
        expected = [values(frame) for frame in Video(path).frames()]
        stream = pack(Video(path))
        bare = without_vui(stream)
        assert bare.data != stream.data
        for start in (0, 3, 13, 14, 17, 25, 31):
            for video in (unpack(stream), unpack(bare)):
                got = [values(frame) for frame in video.frames(start, start + 9)]
                assert differing(got, expected[start : start + 9]) == []

    def test_colours_that_only_the_container_states(self, tmp_path: Path) -> None:
        path, tagged = tmp_path / "plain.mp4", tmp_path / "tagged.mp4"
        write_video(path, busy_frames(6))
        colours = [f"-{name}" for name in ("colorspace", "color_primaries", "color_trc")]
        ffmpeg("-i", path, "-c", "copy", *(word for name in colours for word in (name, "bt709")), tagged)
        plain, expected = (np.stack([f.rgb() for f in Video(p).frames(vectors=False)]) for p in (path, tagged))
        assert not np.array_equal(plain, expected)
        video = unpack(pack(Video(tagged)))
        np.testing.assert_array_equal(video.rgb(), expected)
        np.testing.assert_array_equal(video.rgb(crop=(5, 3, 20, 10)), expected[:, 3:13, 5:25])

    def test_memory_stays_level(self, opened: Callable[[str], Opened]) -> None:
        """Crops are views of pictures that libswscale is lent; all of them are given back."""
        _, video, _ = opened("mpeg4")

        def grown(num_clips: int) -> int:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(num_clips):
                video.rgb(0, 12, crop=(5, 3, 20, 10))
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

        grown(20)
        assert grown(200) < 5_000  # kilobytes; a leak of every picture would be 27,000


class TestThreads:
    def test_many_clips_at_once(self, opened: Callable[[str], Opened]) -> None:
        names = ["mpeg4", "mpeg4-b", "mpeg4-4mv-odd", "mpeg2-b", "h264-b", "mpeg1-odd"]
        rng = random.Random(1)
        clips = []
        for _ in range(240):
            name = rng.choice(names)
            start = rng.randrange(len(opened(name)[1]))
            clips.append((name, start, min(start + rng.randrange(1, 9), len(opened(name)[1]))))

        def read(clip: tuple[str, int, int]) -> list[int]:
            name, start, stop = clip
            _, video, expected = opened(name)
            got = [tracked_values(frame) for frame in video.frames(start, stop, track="residual")]
            pictures = video.rgb(start, stop, crop=(2, 4, 20, 16))
            whole = np.stack([np.frombuffer(frame[5], np.uint8) for frame in got]).reshape(len(got), *shape(name))
            assert np.array_equal(pictures, whole[:, 4:20, 2:22])
            return differing(got, expected[start:stop])

        def shape(name: str) -> tuple[int, int, int]:
            stream = opened(name)[0]
            return stream.height, stream.width, 3

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, clips)) == [[]] * len(clips)


class TestRealClips:
    @pytest.mark.parametrize("name", REAL)
    def test_random_clips(self, shared: Path, name: str) -> None:
        source = Video(shared / "data" / name)
        video = unpack(pack(source))
        expected = [tuple(map(hash, tracked_values(frame))) for frame in source.frames(track="residual")]
        rng = random.Random(name)
        for num_frames in (1, 2, 5, 16):
            start = rng.randrange(max(len(video) - num_frames, 1))
            stop = min(start + num_frames, len(video))
            got = [tuple(map(hash, tracked_values(frame))) for frame in video.frames(start, stop, track="residual")]
            assert differing(got, expected[start:stop]) == [], (start, stop)

    @pytest.mark.parametrize("name", [*REAL[:3], "codecs/vid_mpeg4_part2.mp4"])
    def test_every_group_alone(self, shared: Path, name: str) -> None:
        """Packets without FFmpeg's zero padding come out wrong here, a quarter of them, and differently each time."""
        source = Video(shared / "data" / name)
        stream = pack(source)
        video = unpack(stream)
        sequential = [hash(frame.rgb().tobytes()) for frame in source.frames(vectors=False)]
        starts = [stream.display_indices[i] or 0 for i in stream.entry_points]
        for start, stop in zip(starts, [*starts[1:], len(video)], strict=True):
            pictures = [hash(frame.rgb().tobytes()) for frame in video.frames(start, stop, vectors=False)]
            assert differing(pictures, sequential[start:stop]) == []

    @pytest.mark.parametrize("name", REAL[:3])
    def test_transcoded(self, shared: Path, name: str) -> None:
        with transcode(Video(shared / "data" / name), Recipe()) as source:
            stream = pack(source)
            expected = [tuple(map(hash, tracked_values(frame))) for frame in source.frames(track="residual")]
        video = unpack(stream)
        assert len(stream.entry_points) == -(-len(video) // 12)
        for start in random.Random(2).sample(range(len(video) - 16), 8):
            frames = video.frames(start, start + 16, track="residual")
            assert differing([tuple(map(hash, tracked_values(f))) for f in frames], expected[start : start + 16]) == []


class TestPackets:
    def test_packets_are_padded(self, opened: Callable[[str], Opened]) -> None:
        """FFmpeg reads up to 64 bytes beyond a packet's end, and they must be zero."""
        import ctypes

        stream, video, _ = opened("mpeg4")
        for number in range(len(stream.sizes)):
            packet = decoders._packet(video._table, video._data, number, with_head=False)
            assert bytes(packet) == stream.data[stream.offsets[number] :][: stream.sizes[number]]
            assert ctypes.string_at(packet.buffer_ptr + packet.buffer_size, 64) == bytes(64)

    def test_headers_stand_in_front_of_the_first_packet(self, opened: Callable[[str], Opened]) -> None:
        stream, video, _ = opened("mpeg4-b-closed")
        head = stream.data[: stream.num_header_bytes]
        first, later = (
            bytes(decoders._packet(video._table, video._data, stream.entry_points[i], with_head=True)) for i in (0, 1)
        )
        assert first.count(head) == later.count(head) == 1
        assert later.startswith(head)


CROPS = [(0, 0, 20, 16), (3, 5, 17, 9), (31, 1, 1, 1), (2, 4, 40, 30), (0, 0, 96, 80), (95, 79, 1, 1), (1, 0, 64, 80)]


class TestRgb:
    @pytest.mark.parametrize("crop", CROPS)
    @pytest.mark.parametrize("name", ["mpeg4", "h264-b"])
    def test_crops(self, opened: Callable[[str], Opened], name: str, crop: tuple[int, int, int, int]) -> None:
        _, video, expected = opened(name)
        x, y, width, height = crop
        whole = np.stack([np.frombuffer(frame[5], np.uint8).reshape(80, 96, 3) for frame in expected])
        np.testing.assert_array_equal(video.rgb(crop=crop), whole[:, y : y + height, x : x + width])
        np.testing.assert_array_equal(video.rgb(7, 9, crop=crop), whole[7:9, y : y + height, x : x + width])

    @settings(max_examples=120)
    @given(data=st.data())
    @pytest.mark.parametrize(
        ("name", "width", "height"), [("mpeg4", 96, 80), ("mpeg4-4mv-odd", 97, 81), ("mpeg4-4mv-qpel-b", 50, 46)]
    )
    def test_any_crop(
        self, opened: Callable[[str], Opened], name: str, width: int, height: int, data: st.DataObject
    ) -> None:
        """Of odd and even sizes, at odd and even places, from pictures of odd and even sizes."""
        _, video, expected = opened(name)
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        whole = np.frombuffer(expected[3][5], np.uint8).reshape(height, width, 3)
        np.testing.assert_array_equal(video.rgb(3, 4, crop=(x, y, w, h))[0], whole[y : y + h, x : x + w])

    @pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "yuvj420p"])
    def test_other_pixel_formats(self, tmp_path: Path, pixel_format: str) -> None:
        path = tmp_path / "video.mkv"
        write_video(path, busy_frames(6), codec="h264", quantiser=20, pixel_format=pixel_format)
        whole = np.stack([frame.rgb() for frame in Video(path).frames(vectors=False)])
        video = unpack(pack(Video(path)))
        np.testing.assert_array_equal(video.rgb(), whole)
        np.testing.assert_array_equal(video.rgb(crop=(5, 3, 30, 21)), whole[:, 3:24, 5:35])

    def test_small_crops_are_cut_before_they_are_converted(self, opened: Callable[[str], Opened]) -> None:
        from vidprep.codec.cropping import Cropper

        _, video, _ = opened("mpeg4")
        frame = next(video.frames())
        part = Cropper((3, 5, 17, 9), 96, 80)._part(frame._picture)
        assert part is not None
        assert (part.width, part.height) == (18, 10)
        assert Cropper((3, 5, 17, 9), 96, 80)._is_small
        assert not Cropper(None, 96, 80)._is_small

    def test_into_an_array(self, opened: Callable[[str], Opened]) -> None:
        _, video, _ = opened("mpeg4")
        out = np.empty((4, 8, 10, 3), np.uint8)
        assert video.rgb(2, 6, crop=(1, 2, 10, 8), out=out) is out
        np.testing.assert_array_equal(out, video.rgb(2, 6)[:, 2:10, 1:11])
        with pytest.raises(UsageError, match=r"out\.shape=\(4, 8, 10, 3\).*must be uint8, of shape \(5, 8, 10, 3\)"):
            video.rgb(2, 7, crop=(1, 2, 10, 8), out=out)

    @pytest.mark.parametrize("crop", [(-1, 0, 4, 4), (0, 0, 97, 4), (90, 0, 7, 4), (0, 80, 1, 1), (0, 0, 0, 4)])
    def test_crops_outside(self, opened: Callable[[str], Opened], crop: tuple[int, int, int, int]) -> None:
        with pytest.raises(UsageError, match=r"crop=\(.*must lie within the picture, 96x80"):
            opened("mpeg4")[1].rgb(crop=crop)

    @pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (5, 2), (0, 27), (26, None)])
    def test_frames_outside(self, opened: Callable[[str], Opened], start: int, stop: int | None) -> None:
        video = opened("mpeg4")[1]
        for read in (video.rgb, video.frames):
            with pytest.raises(UsageError, match=r"start=.*must be 0 <= start < stop <= num_frames=26"):
                read(start, stop)  # type: ignore[operator]

    @pytest.mark.parametrize("indices", [[], [3, 3], [4, 2], [-1], [26]])
    def test_indices_outside(self, opened: Callable[[str], Opened], indices: list[int]) -> None:
        with pytest.raises(UsageError, match=r"indices=\[.*must increase from 0 to num_frames=26"):
            opened("mpeg4")[1].frames_at(indices)


def changed(facts: dict[str, Any], column: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    facts = {**facts, "packets": {**facts["packets"]}}
    place = facts if column in ("width", "height", "pts_seconds", "frames") else facts["packets"]
    column = "picture_types" if column == "frames" else column
    place[column] = change(place[column])
    return facts


DAMAGE: list[tuple[str, Callable[[Any], Any], str]] = [
    ("offsets", lambda column: [*column[:-1], 10**9], "the stream has"),
    ("offsets", lambda column: [-5, *column[1:]], "must not be negative"),
    ("offsets", lambda column: column[1:], "must be the same in all columns"),
    ("offsets", lambda column: [0.5, *column[1:]], "must be whole numbers"),
    ("offsets", lambda column: [None, *column[1:]], "must be whole numbers"),
    ("offsets", lambda _: [], "must be the same in all columns"),
    ("offsets", lambda _: None, "the table must be complete"),
    ("sizes", lambda column: [*column[:-1], column[-1] + 1], "the stream has"),
    ("sizes", lambda column: [0, *column[1:]], "must not be negative"),
    ("display_indices", lambda column: [1, *column[1:]], "each frame must be in one packet"),
    ("display_indices", lambda column: [None, *column[1:]], "each frame must be in one packet"),
    ("display_indices", lambda column: ["0", *column[1:]], "the table must be complete"),
    ("entry_points", lambda column: column[1:], "must be I-frames, the first included"),
    ("entry_points", lambda column: [*column, 99], "the table must be complete"),
    ("entry_points", lambda column: [*column[:-1], column[-1] + 1], "must be I-frames, the first included"),
    ("entry_points", lambda _: [], "the table must be complete"),
    ("picture_types", lambda letters: "P" + letters[1:], "frames and packets must have the same"),
    ("frames", lambda letters: letters[:-1], "each frame must be in one packet"),
    ("frames", lambda letters: "P" + letters[1:], "frames and packets must have the same"),
    ("pts_seconds", lambda column: column[1:], "num_times=25"),
    ("num_header_bytes", lambda _: 10**7, "num_header_bytes=10000000"),
    ("num_header_bytes", lambda _: -1, "num_header_bytes=-1"),
    ("codec", lambda _: "hevc", "codec=hevc: must be one of"),
    ("width", lambda _: 10**6, "1 to 16384"),
    ("height", lambda _: 0, "1 to 16384"),
    ("color", lambda _: [1], "the table must be complete"),
]


class TestDamage:
    @pytest.mark.parametrize(("column", "change", "message"), DAMAGE)
    def test_tables(
        self, opened: Callable[[str], Opened], column: str, change: Callable[[Any], Any], message: str
    ) -> None:
        stream = opened("mpeg4")[0]
        with pytest.raises(ShardError, match=rf"{message}.*; the sample is damaged, run vidprep verify"):
            PackedVideo(stream.data, changed(facts_of(stream), column, change))

    def test_no_table(self, opened: Callable[[str], Opened]) -> None:
        with pytest.raises(ShardError, match=r"KeyError 'packets'.*the table must be complete"):
            PackedVideo(opened("mpeg4")[0].data, {})

    def test_a_stream_that_is_cut(self, opened: Callable[[str], Opened]) -> None:
        stream = opened("mpeg4")[0]
        with pytest.raises(ShardError, match="the stream has"):
            PackedVideo(stream.data[:-1], facts_of(stream))

    def test_another_size_than_promised(self, opened: Callable[[str], Opened]) -> None:
        stream = opened("mpeg4")[0]
        video = PackedVideo(stream.data, changed(facts_of(stream), "width", lambda width: width + 16))
        with pytest.raises(DecodeError, match=r"frame=12 of clip: \(96, 80, 'I'\) is not the promised \(112, 80"):
            video.rgb(12, 14)

    def test_frames_that_swapped_their_places(self, opened: Callable[[str], Opened]) -> None:
        """An anchor and a B-frame told apart by nothing but the picture."""
        stream = opened("mpeg4-b")[0]
        facts = facts_of(stream)
        for column in (facts["packets"]["display_indices"],):
            column[1], column[2] = column[2], column[1]
        facts["packets"]["picture_types"] = "IBP" + stream.packet_types[3:]
        with pytest.raises(DecodeError, match=r"frame=1 of clip: .*get the video anew"):
            list(PackedVideo(stream.data, facts).frames())

    @pytest.mark.parametrize("name", ["mpeg4-b", "h264-b", "mpeg2-b"])
    def test_a_packet_that_is_gone(self, opened: Callable[[str], Opened], name: str) -> None:
        """Its bytes are zeros: no picture comes, and the message names the frame that is missing."""
        stream = opened(name)[0]
        number = stream.entry_points[1]
        data = bytearray(stream.data)
        end = stream.offsets[number] + stream.sizes[number]
        data[stream.offsets[number] : end] = bytes(stream.sizes[number])
        frame = stream.display_indices[number]
        with pytest.raises(DecodeError, match=rf"frame={frame} of clip: .*; "):
            PackedVideo(bytes(data), facts_of(stream)).rgb(frame, (frame or 0) + 1)

    @settings(max_examples=60)
    @given(data=st.data())
    def test_any_damage_is_an_error_or_a_picture(self, opened: Callable[[str], Opened], data: st.DataObject) -> None:
        """Never a crash, and the decoders that others get next are none the worse."""
        name = data.draw(st.sampled_from(["mpeg4-b", "h264", "mpeg2-b", "mpeg1-odd"]))
        stream, video, expected = opened(name)
        damaged = bytearray(stream.data)
        for _ in range(data.draw(st.integers(1, 30))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        start = data.draw(st.integers(0, len(video) - 4))
        try:
            pictures = PackedVideo(bytes(damaged), facts_of(stream)).rgb(start, start + 4)
            assert pictures.shape == (4, stream.height, stream.width, 3)
        except VidprepError as error:
            assert "frame=" in str(error)
        got = [frame.rgb().tobytes() for frame in video.frames(start, start + 4)]
        assert differing(got, [frame[5] for frame in expected[start : start + 4]]) == []
