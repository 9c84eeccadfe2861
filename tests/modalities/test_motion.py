"""Block vectors: what is rebuilt from motion.npz is what the decoding pass computed, bit for bit."""

import io
import math
import tracemalloc
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modalities.conftest import STREAMS
from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.video import Video
from vidprep.errors import ShardError, UnsupportedError
from vidprep.modalities import motion
from vidprep.modalities.base import Settings, Span
from vidprep.pipelines.extract_job import Job
from vidprep.pipelines.extract_video import extract_video
from vidprep.sampling import Selection
from vidprep.shards.files import to_json
from vidprep.shards.plan import PlanRow
from vidprep.shards.reader import Sample, read_samples

FIELDS = list(BLOCK_DTYPE.names or ())
Arrays = dict[str, NDArray[Any]]


def decoding_pass(path: Path) -> tuple[str, list[NDArray[np.void]], Arrays]:
    """Picture types, vectors, and the fields as the decoding pass computes them."""
    types, vectors = "", []
    fields: dict[str, list[NDArray[np.int16]]] = {"dense": [], "accumulated": []}
    for frame in Video(path).frames(track="motion"):
        types += frame.picture_type
        vectors.append(frame.vectors.copy())
        fields["dense"].append(frame.motion().copy())
        fields["accumulated"].append(frame.accumulated_motion().copy())
    return types, vectors, {name: np.stack(arrays) for name, arrays in fields.items()}


def npz_of(path: Path) -> bytes:
    modality = motion.Motion(Settings())
    video = Video(path)
    for frame in video.frames():
        assert list(modality.add(frame, None)) == []  # stored or not, a frame's vectors are kept
    [(name, data)] = modality.finish(video, Span())
    assert name == "motion.npz"
    return data


def extract_copy(path: Path, tmp_path: Path, frames: str, row: dict[str, Any] | None = None) -> Sample:
    """Extract motion from the stream as it is, into one sample, as ``vidprep extract --codec copy`` does."""
    full = {"path": path.name, "labels": [], "start_seconds": None, "end_seconds": None, "splits": []} | (row or {})
    job = Job(path.parent, tmp_path, (), None, ("motion",), Settings(), Selection.parse(frames))
    extracted = extract_video(job, PlanRow("key", "all", full, 0))
    assert extracted.status is not None
    [spooled] = tmp_path.glob("*.tar")
    with spooled.open("ab") as file:
        file.write(bytes(1024))
    [sample] = read_samples(spooled)
    assert sample.num_bytes == extracted.status.num_bytes
    return sample


@pytest.mark.parametrize("name", STREAMS)
def test_vectors_and_fields_round_trip(stream: Callable[[str], Path], name: str) -> None:
    types, vectors, fields = decoding_pass(stream(name))
    height, width = fields["dense"].shape[1:3]
    blocks = motion.decode(npz_of(stream(name)))
    assert len(blocks) == len(types) == 20
    for stored, own in zip(blocks, vectors, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(stored[field], own[field])
    np.testing.assert_array_equal(motion.dense(blocks, height, width), fields["dense"])
    np.testing.assert_array_equal(motion.accumulated(blocks, types, height, width), fields["accumulated"])
    assert fields["accumulated"].any()
    assert ("B" in types) == ("num_b_frames" in STREAMS[name])


def test_the_streams_hold_what_the_round_trip_is_about(stream: Callable[[str], Path]) -> None:
    def blocks(name: str) -> NDArray[np.void]:
        return np.concatenate(motion.decode(npz_of(stream(name))))

    assert set(blocks("p.avi")["source"]) == {-1}
    assert set(blocks("b.avi")["source"]) == {-1, 1}
    assert set(blocks("four_mv.avi")["w"]) >= {8, 16}
    assert set(blocks("h264.mp4")["motion_scale"]) == {4}
    assert np.any(blocks("qpel.avi")["motion_x"] % blocks("qpel.avi")["motion_scale"])
    assert blocks("p.avi")["motion_x"].min() < 0 < blocks("p.avi")["motion_x"].max()


@pytest.mark.parametrize("name", ["p.avi", "b.avi", "closed.mp4", "h264_b.mp4", "odd.avi"])
@pytest.mark.parametrize("frames", ["all", "uniform:1", "uniform:3", "stride:7", "fps:4"])
def test_a_stream_read_in_part_gives_the_same_fields(
    stream: Callable[[str], Path], tmp_path: Path, name: str, frames: str
) -> None:
    types, _, fields = decoding_pass(stream(name))
    sample = extract_copy(stream(name), tmp_path, frames)
    facts = sample.facts
    stored, height, width = facts["frame_indices"], facts["height"], facts["width"]
    assert stored == Selection.parse(frames).indices(Video(stream(name)).times())
    assert types.startswith(facts["picture_types"])
    blocks = motion.decode(sample.entries["motion.npz"])
    rebuilt = motion.accumulated(blocks, facts["picture_types"], height, width)
    np.testing.assert_array_equal(rebuilt[stored], fields["accumulated"][stored])
    np.testing.assert_array_equal(motion.Motion.decode(sample.entries, facts), fields["dense"][stored])
    if frames == "uniform:1":
        assert facts["num_frames"] < 20


@pytest.mark.parametrize("name", ["p.avi", "b.avi", "closed.mp4", "h264_b.mp4"])
@pytest.mark.parametrize(("start", "end"), [(None, 0.3), (0.3, 0.5), (0.5, None)])
def test_a_segment_gives_the_same_fields(
    stream: Callable[[str], Path], tmp_path: Path, name: str, start: float | None, end: float | None
) -> None:
    video = Video(stream(name))
    times = [time - video.metadata.start_seconds for time in video.times()]
    wanted = [i for i, time in enumerate(times) if (start or 0) <= time < (end or 9)]
    fields = decoding_pass(stream(name))[2]
    sample = extract_copy(stream(name), tmp_path, "all", {"start_seconds": start, "end_seconds": end})
    facts = sample.facts
    blocks = motion.decode(sample.entries["motion.npz"])
    rebuilt = motion.accumulated(blocks, facts["picture_types"], facts["height"], facts["width"])
    stored = facts["frame_indices"]
    assert facts["picture_types"].startswith("I")
    np.testing.assert_array_equal(rebuilt[stored], fields["accumulated"][wanted])
    np.testing.assert_array_equal(motion.Motion.decode(sample.entries, facts), fields["dense"][wanted])


@pytest.mark.parametrize("name", ["ApplyEyeMakeup", "BaseballPitch", "Basketball"])
def test_real_clips_read_in_part_give_the_same_fields(shared: Path, tmp_path: Path, name: str) -> None:
    """Original UCF101 clips; one of them is a packed bitstream with B-frames."""
    path = shared / "data" / "UCF101" / name / f"v_{name}_g01_c01.avi"
    sample = extract_copy(path, tmp_path, "uniform:4")
    facts = sample.facts
    blocks = motion.decode(sample.entries["motion.npz"])
    rebuilt = motion.accumulated(blocks, facts["picture_types"], facts["height"], facts["width"])
    stored = facts["frame_indices"]
    for frame in Video(path).frames(track="motion"):
        if frame.index in stored:
            np.testing.assert_array_equal(rebuilt[frame.index], frame.accumulated_motion())
    assert len(stored) == 4
    assert rebuilt[stored].any()


def test_a_frame_without_vectors_is_an_empty_part(stream: Callable[[str], Path]) -> None:
    blocks = motion.decode(npz_of(stream("p.avi")))
    assert [len(part) > 0 for part in blocks] == [k % 6 > 0 for k in range(20)]
    intra_only = motion.decode(motion.encode([motion.to_columns(np.empty(0, BLOCK_DTYPE))] * 3))
    assert [len(part) for part in intra_only] == [0, 0, 0]
    assert not motion.accumulated(intra_only, "III", 16, 16).any()


def test_plain_numpy_reads_it(stream: Callable[[str], Path]) -> None:
    vectors = decoding_pass(stream("b.avi"))[1]
    with np.load(io.BytesIO(npz_of(stream("b.avi"))), allow_pickle=False) as arrays:
        assert arrays["num_blocks"].tolist() == [len(part) for part in vectors]
        whole = np.concatenate(vectors)
        assert set(arrays.files) == {"num_blocks", *motion.COLUMNS}
        for name in motion.COLUMNS:
            np.testing.assert_array_equal(arrays[name], whole[name])
        for axis in "xy":  # what the docstring promises a reader who has numpy only
            shift = np.trunc(arrays[f"motion_{axis}"] / arrays["motion_scale"]).astype(int)
            np.testing.assert_array_equal(arrays[f"dst_{axis}"] + shift, whole[f"src_{axis}"])


def test_its_bytes_hold_no_clock(stream: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = npz_of(stream("b.avi"))
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert npz_of(stream("b.avi")) == before
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert all(info.compress_type == zipfile.ZIP_DEFLATED for info in archive.infolist())


def test_it_is_smaller_than_what_the_decoder_exports(stream: Callable[[str], Path]) -> None:
    exported = sum(part.nbytes for part in decoding_pass(stream("b.avi"))[1])
    assert len(npz_of(stream("b.avi"))) < exported / 4


BLOCK = st.tuples(
    st.sampled_from([-1, 1]),
    st.sampled_from([8, 16]),
    st.integers(0, 4000),
    st.integers(0, 4000),
    st.integers(-4096, 4096),
    st.integers(-4096, 4096),
    st.sampled_from([1, 2, 4]),
)


def as_blocks(rows: list[tuple[int, ...]]) -> NDArray[np.void]:
    """Blocks whose source is their destination plus the motion, cut toward zero as C does it."""
    blocks = np.zeros(len(rows), BLOCK_DTYPE)
    for block, (source, size, x, y, motion_x, motion_y, scale) in zip(blocks, rows, strict=True):
        shift_x, shift_y = (math.trunc(Fraction(value, scale)) for value in (motion_x, motion_y))
        values = (source, size, size, x + shift_x, y + shift_y, x, y, motion_x, motion_y, scale)
        for name, value in zip(FIELDS, values, strict=True):
            block[name] = value
    return blocks


@given(st.lists(st.lists(BLOCK, max_size=5), max_size=5))
def test_any_blocks_round_trip(rows: list[list[tuple[int, ...]]]) -> None:
    frames = [as_blocks(part) for part in rows]
    restored = motion.decode(motion.encode([motion.to_columns(blocks) for blocks in frames]))
    assert [part.tolist() for part in restored] == [part.tolist() for part in frames]


@given(BLOCK, st.sampled_from(["src_x", "src_y"]), st.sampled_from([-1, 1]))
def test_a_source_that_cannot_be_rebuilt_is_refused(row: tuple[int, ...], name: str, error: int) -> None:
    blocks = as_blocks([row])
    blocks[name] += error
    with pytest.raises(UnsupportedError, match=r"src != dst \+ trunc.*--codec mpeg4"):
        motion.encode([motion.to_columns(blocks)])


def test_facts_say_how_many_blocks_there_are(stream: Callable[[str], Path], tmp_path: Path) -> None:
    sample = extract_copy(stream("b.avi"), tmp_path, "all")
    num_blocks = sum(map(len, motion.decode(sample.entries["motion.npz"])))
    assert sample.facts["motion"] == {"format": "npz", "form": "blocks", "num_blocks": num_blocks}
    assert motion.Motion.decode({}, {}) is None
    with pytest.raises(ShardError, match="motion: its entries are missing, and the json has them"):
        motion.Motion.decode({}, sample.facts)
    assert to_json(sample.facts) == sample.entries["json"]


def test_what_waits_for_the_end_is_small() -> None:
    """Twice as many frames of 8160 blocks (1080p) don't take twice the memory."""
    columns = np.tile(np.arange(10, dtype=np.int16)[:, None], 8160)
    columns[8:] = columns[3:5] + columns[5:7] // columns[7]  # the sources that belong to these vectors

    def peak_bytes(num_frames: int) -> int:
        tracemalloc.start()
        motion.encode(columns.copy() for _ in range(num_frames))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(512) < 1.2 * peak_bytes(256)
