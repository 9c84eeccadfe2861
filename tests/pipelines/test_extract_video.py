"""One video becomes one sample: segments, chosen frames, the limit of length, and what the json says."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_videos import IRREGULAR, claim_frames, hum, make, without_i_frames
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from runs import in_process

from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, UnsupportedError
from vidprep.manifest import Row
from vidprep.modalities import motion, residual, rgb
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options, extract
from vidprep.pipelines.extract_job import MAX_SECONDS, SLACK_SECONDS, Job
from vidprep.pipelines.extract_plan import Probe, _segments
from vidprep.pipelines.extract_video import extract_video, spool_path
from vidprep.sampling import Selection
from vidprep.shards.index import Status
from vidprep.shards.plan import PlanRow
from vidprep.shards.reader import Sample, read_samples

NATIVE = Recipe(size="native")
NUM_FRAMES = 26
CLIPS: dict[str, Callable[[Path], None]] = {
    "plain.avi": partial(make, num_frames=NUM_FRAMES, gop=6),
    "b_frames.avi": partial(make, num_frames=NUM_FRAMES, gop=6, num_b_frames=2),
    "b_frames.mp4": partial(make, num_frames=NUM_FRAMES, gop=7, num_b_frames=2, codec="h264"),
    "open_gops.mkv": partial(make, num_frames=NUM_FRAMES, gop=8, num_b_frames=3, codec="mpeg2video"),
    "variable.mkv": partial(make, gop=5, num_b_frames=2, codec="h264", pts=IRREGULAR),
    "late.ts": partial(make, num_frames=NUM_FRAMES, gop=6, num_b_frames=2, codec="h264"),
    "raw.m4v": partial(make, num_frames=NUM_FRAMES, gop=6, container_format="m4v"),
}
SEGMENTS = ((None, 0.2), (0.2, 0.52), (0.52, None), (0.24, 0.28), (0.3, 0.301), (0.1, 0.9), (0.0, 0.04), (0.45, 0.7))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for name, maker in CLIPS.items():
        maker(root / name)
    return root


Whole = Callable[..., Sample]


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Give the sample of a whole clip; each is extracted once."""
    job = make_job(clips, tmp_path_factory.mktemp("whole"))
    return cache(lambda name, recipe=None: extract_one(replace(job, recipe=recipe), name))


@pytest.fixture
def job(clips: Path, tmp_path: Path) -> Job:
    return make_job(clips, tmp_path)


def make_job(root: Path, spool: Path) -> Job:
    return Job(
        root=root,
        spool=spool,
        classes=("Jump", "Run"),
        recipe=None,
        modalities=("rgb", "motion", "residual"),
        settings=Settings(residual_format="png"),
        selection=Selection("all"),
        description={"made": "here"},
    )


def extract_row(job: Job, row: Row) -> tuple[Sample, Status]:
    fields = row.facts()
    status = extract_video(job, PlanRow(row.key, row.cell, fields, 0)).status
    assert status is not None
    path = spool_path(job.spool, row.key)
    assert status.num_bytes == path.stat().st_size
    tar = path.with_suffix(".whole.tar")
    tar.write_bytes(path.read_bytes() + bytes(1024))
    (sample,) = read_samples(tar)
    assert status.num_frames == len(sample.facts["frame_indices"])
    return sample, status


def extract_one(job: Job, name: str, start: float | None = None, end: float | None = None) -> Sample:
    return extract_row(job, Row(name, start_seconds=start, end_seconds=end))[0]


def relative_times(sample: Sample) -> list[float]:
    """Times of the stored frames since the video's start."""
    facts = sample.facts
    return [round(facts["pts_seconds"][i] - facts["video_start_seconds"], 6) for i in facts["frame_indices"]]


def positions_within(sample: Sample, start: float | None, end: float | None) -> list[int]:
    low, high = start or 0.0, 1e9 if end is None else end
    return [i for i, time in enumerate(relative_times(sample)) if low <= time < high]


def entries_of(sample: Sample, kind: str) -> list[bytes]:
    return [data for name, data in sorted(sample.entries.items()) if name.startswith(f"{kind}.")]


def accumulated(sample: Sample) -> NDArray[np.int16]:
    """Accumulated motion of the stored frames, rebuilt from the stored vectors."""
    facts = sample.facts
    blocks = motion.decode(sample.entries["motion.npz"])
    assert len(blocks) == facts["num_frames"] == len(facts["picture_types"])
    fields = motion.accumulated(blocks, facts["picture_types"], facts["height"], facts["width"])
    return np.asarray(fields[facts["frame_indices"]])


def assert_is_part(part: Sample, whole: Sample, positions: Sequence[int]) -> None:
    """All that is stored of a part is what is stored of the whole at these positions, bit for bit."""
    assert len(part.facts["frame_indices"]) == len(positions)
    for kind in ("rgb", "residual"):
        all_entries = entries_of(whole, kind)
        assert entries_of(part, kind) == [all_entries[i] for i in positions], kind
    np.testing.assert_array_equal(accumulated(part), accumulated(whole)[list(positions)])
    fields = [motion.Motion.decode(sample.entries, sample.facts) for sample in (part, whole)]
    assert fields[0] is not None
    assert fields[1] is not None
    np.testing.assert_array_equal(fields[0], fields[1][list(positions)])
    times = relative_times(whole)
    assert relative_times(part) == [times[i] for i in positions]


class TestSegments:
    @pytest.mark.parametrize(("start", "end"), SEGMENTS)
    @pytest.mark.parametrize("name", CLIPS)
    def test_of_a_stream_are_the_whole_cut(
        self, job: Job, whole: Whole, name: str, start: float | None, end: float | None
    ) -> None:
        wanted = positions_within(whole(name), start, end)
        if not wanted:
            with pytest.raises(DecodeError, match=r"num_frames=0.*check start and end"):
                extract_one(job, name, start, end)
            return
        part = extract_one(job, name, start, end)
        assert_is_part(part, whole(name), wanted)
        first = part.facts["frame_indices"][0]
        assert "I" not in part.facts["picture_types"][1 : first + 1], "frames are stored that nobody needs"

    @pytest.mark.parametrize(("start", "end"), SEGMENTS)
    @pytest.mark.parametrize("name", ["b_frames.avi", "b_frames.mp4", "variable.mkv", "late.ts"])
    def test_of_an_encoded_video_show_the_same_frames(
        self, job: Job, whole: Whole, name: str, start: float | None, end: float | None
    ) -> None:
        job = replace(job, recipe=NATIVE, modalities=("rgb",))
        wanted = positions_within(whole(name, NATIVE), start, end)
        if not wanted:
            with pytest.raises(DecodeError, match=r"num_frames=0.*check start and end"):
                extract_one(job, name, start, end)
            return
        part = extract_one(job, name, start, end)
        times = relative_times(whole(name, NATIVE))
        assert relative_times(part) == [times[i] for i in wanted]
        stored, expected = (rgb.Rgb.decode(sample.entries, sample.facts) for sample in (part, whole(name, NATIVE)))
        assert stored is not None
        assert expected is not None
        errors = [[np.abs(a.astype(int) - b).mean() for b in expected] for a in stored]
        assert np.argmin(errors, axis=1).tolist() == wanted
        assert np.min(errors, axis=1).max() < 3

    @pytest.mark.parametrize("recipe", [None, NATIVE])
    @pytest.mark.parametrize(("start", "end"), [(5.0, None), (5.0, 6.0), (2.0, 2.001)])
    def test_beyond_the_end(self, job: Job, recipe: Recipe | None, start: float, end: float | None) -> None:
        for name in ("plain.avi", "b_frames.mp4"):
            with pytest.raises(DecodeError, match=r"num_frames=0.*start and end"):
                extract_one(replace(job, recipe=recipe), name, start, end)

    @pytest.mark.parametrize("recipe", [None, NATIVE])
    def test_of_the_sound_are_the_whole_cut(self, job: Job, tmp_path: Path, recipe: Recipe | None) -> None:
        make(tmp_path / "sound.mkv", num_frames=25, audio=hum(1.0), audio_codec="pcm_s16le")
        job = replace(job, root=tmp_path, modalities=("spectrogram", "rgb"), recipe=recipe)
        sample, status = extract_row(job, Row("sound.mkv", start_seconds=0.4, end_seconds=0.8))
        facts = sample.facts
        assert facts["has_audio"]
        assert status.facts["has_audio"]
        assert facts["spectrogram"]["audio_start_seconds"] == pytest.approx(0.4, abs=1e-4)
        assert facts["spectrogram"]["num_columns"] == 1 + round(0.4 * 22050) // 512
        assert len(facts["frame_indices"]) == 10


class TestChosenFrames:
    @pytest.mark.parametrize("text", ["uniform:1", "uniform:4", "uniform:99", "stride:3", "fps:7", "fps:60"])
    @pytest.mark.parametrize("name", CLIPS)
    def test_are_those_of_the_whole(self, job: Job, whole: Whole, name: str, text: str) -> None:
        selection = Selection.parse(text)
        part = extract_one(replace(job, selection=selection), name)
        assert_is_part(part, whole(name), selection.indices(relative_times(whole(name))))

    @pytest.mark.parametrize("name", CLIPS)
    def test_need_the_vectors_up_to_the_last_and_its_anchor(self, job: Job, whole: Whole, name: str) -> None:
        all_types = whole(name).facts["picture_types"]
        for selection in (Selection("uniform", 1), Selection("uniform", 3), Selection("stride", 4)):
            facts = extract_one(replace(job, selection=selection), name).facts
            last = facts["frame_indices"][-1]
            end = last + 1
            while all_types[end - 1 : end] == "B":  # up to the anchor, or the video's end
                end += 1
            end = min(end, len(all_types))
            assert facts["picture_types"] == all_types[:end]
            assert facts["num_frames"] == end

    @pytest.mark.parametrize("text", ["uniform:3", "stride:4", "fps:10"])
    @pytest.mark.parametrize("name", ["plain.avi", "b_frames.mp4", "late.ts"])
    def test_of_a_segment(self, job: Job, whole: Whole, name: str, text: str) -> None:
        selection, times = Selection.parse(text), relative_times(whole(name))
        inside = positions_within(whole(name), 0.3, 0.85)
        chosen = [inside[i] for i in selection.indices([times[i] for i in inside])]
        part = extract_one(replace(job, selection=selection), name, 0.3, 0.85)
        assert_is_part(part, whole(name), chosen)

    @pytest.mark.parametrize("text", ["uniform:3", "stride:4", "fps:10"])
    def test_of_an_encoded_video(self, job: Job, whole: Whole, text: str) -> None:
        selection, sample = Selection.parse(text), whole("b_frames.mp4", NATIVE)
        part = extract_one(replace(job, recipe=NATIVE, selection=selection), "b_frames.mp4")
        assert_is_part(part, sample, selection.indices(relative_times(sample)))
        assert part.facts["num_frames"] == part.facts["frame_indices"][-1] + 1


@pytest.mark.parametrize("recipe", [None, NATIVE])
@pytest.mark.parametrize("name", CLIPS)
def test_stored_vectors_lead_to_the_stored_residual(job: Job, whole: Whole, name: str, recipe: Recipe | None) -> None:
    """residual + 128 = frame - I-frame at (position - accumulated motion), clipped; frames from another pass."""
    sample = whole(name, recipe)
    facts, fields = sample.facts, accumulated(sample)
    stored = residual.Residual.decode(sample.entries, facts)
    assert stored is not None
    with Video(job.root / name) as video, nullcontext(video) if recipe is None else transcode(video, recipe) as stream:
        frames = [frame.rgb().astype(np.int16) for frame in stream.frames(vectors=False)]
    assert len(frames) == facts["num_frames"]
    if facts["motion_exact"]:
        assert np.median(fields[2][..., 0]) == -8  # `pictures` move by 4 pixels a frame
    rows, columns = np.mgrid[: facts["height"], : facts["width"]]
    types = facts["picture_types"]
    for i, field in enumerate(fields):
        past_anchor = max(j for j in range(i + 1) if types[j] != "B") if types[i] == "B" else i
        key_frame = types.rindex("I", 0, past_anchor + 1)
        source = frames[key_frame][rows - field[..., 1], columns - field[..., 0]]
        np.testing.assert_array_equal(stored[i], np.clip(frames[i] - source, -128, 127))


def slow(path: Path, num_frames: int, fps: int = 1, **settings: Any) -> None:
    """A clip of few frames that lasts long."""
    make(path, num_frames=num_frames, size=(32, 32), fps=fps, **settings)


class TestLength:
    @pytest.mark.parametrize("recipe", [None, NATIVE])
    @pytest.mark.parametrize("name", ["long.mp4", "claims_little.avi"])
    def test_more_than_five_minutes_need_segments(
        self, job: Job, tmp_path: Path, name: str, recipe: Recipe | None
    ) -> None:
        slow(tmp_path / name, 310)
        if name == "claims_little.avi":
            data = bytearray((tmp_path / name).read_bytes())
            for place in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
                data[place : place + 4] = (3).to_bytes(4, "little")
            (tmp_path / name).write_bytes(data)
        job = replace(job, root=tmp_path, recipe=recipe, modalities=("rgb",))
        with pytest.raises(UnsupportedError, match="at most 300 s long; use --segment SECONDS, or start and end"):
            extract_one(job, name)
        with pytest.raises(UnsupportedError, match=r"duration_seconds=305: .*--segment"):
            extract_one(job, name, 0.0, 305.0)
        assert len(extract_one(job, name, 5.0, 305.0).facts["frame_indices"]) == 300
        assert len(extract_one(job, name, 290.0, None).facts["frame_indices"]) == 20

    @pytest.mark.parametrize("recipe", [None, NATIVE])
    def test_five_minutes_are_not_too_long(self, job: Job, tmp_path: Path, recipe: Recipe | None) -> None:
        slow(tmp_path / "x.mp4", 300)
        sample = extract_one(replace(job, root=tmp_path, recipe=recipe, modalities=("rgb",)), "x.mp4")
        assert len(sample.facts["frame_indices"]) == MAX_SECONDS

    @pytest.mark.parametrize("recipe", [None, NATIVE])
    def test_a_claim_alone_is_no_reason(self, job: Job, tmp_path: Path, recipe: Recipe | None) -> None:
        claim_frames(tmp_path / "x.avi", count=100_000)
        with Video(tmp_path / "x.avi") as video:
            assert (video.metadata.duration_seconds or 0) > MAX_SECONDS
            assert video.measure_seconds() == pytest.approx(0.56)
            assert video.measure_seconds(0.2) < 0.3
        job = replace(job, root=tmp_path, recipe=recipe)
        assert extract_one(job, "x.avi").facts["num_frames"] == 14
        assert extract_one(job, "x.avi", 0.0, 1000.0).facts["num_frames"] == 14


class TestCutting:
    """`--segment` covers every frame exactly once."""

    @pytest.mark.parametrize(
        ("codec", "lengths_seconds"), [("copy", (0.1, 0.3, 0.88, 40.0)), ("mpeg4", (0.1, 0.88, 40.0))]
    )
    def test_covers_every_frame_once(
        self, clips: Path, tmp_path: Path, codec: str, lengths_seconds: tuple[float, ...]
    ) -> None:
        root, size = tmp_path / "videos", "native" if codec == "mpeg4" else None
        root.mkdir()
        for name in CLIPS:
            (root / name).symlink_to(clips / name)
        for count in (0, 3, 500):
            claim_frames(root / f"claims_{count}.avi", count=count)
        options = Options(codec=codec, size=size, modalities=("rgb",), num_workers=1)
        found = {}
        with in_process():
            for seconds in (None, *lengths_seconds):
                out = tmp_path / f"{seconds}"
                summary = extract(root, out, replace(options, segment_seconds=seconds))
                # between two frames there may be a piece without any, but no claim makes one
                assert {status.path for status in summary.failed} <= {"variable.mkv"}
                found[seconds] = {path: sorted(times) for path, times in frames_by_path(out).items()}
        whole = found.pop(None)
        assert set(whole) == {*CLIPS, "claims_0.avi", "claims_3.avi", "claims_500.avi"}
        assert found == dict.fromkeys(lengths_seconds, whole)

    def test_leaves_segments_of_a_table_alone(self, clips: Path, tmp_path: Path) -> None:
        table = tmp_path / "table.csv"
        table.write_text("path,start,end\nplain.avi,0.2,0.6\nb_frames.mp4,,\n")
        options = Options(codec="copy", modalities=("rgb",), num_workers=1, segment_seconds=0.5)
        with in_process():
            summary = extract(clips, tmp_path / "out", options, manifest=table)
        samples = [sample for shard in (tmp_path / "out").glob("*.tar") for sample in read_samples(shard)]
        keys = {sample.key for sample in samples}
        assert keys == {"plain%2Eavi@200-600", "b_frames%2Emp4@0-500", "b_frames%2Emp4@500-"}
        assert summary.failed == []

    @pytest.mark.parametrize("codec", ["copy", "mpeg4"])
    def test_of_a_raw_stream(self, tmp_path: Path, codec: str) -> None:
        """It states neither its length nor any time."""
        (tmp_path / "raw").mkdir()
        make(tmp_path / "raw/x.h264", num_frames=150, size=(32, 32), codec="h264", gop=25, num_b_frames=2)
        options = Options(codec=codec, modalities=("rgb",), num_workers=1, segment_seconds=2.0)
        with in_process():
            summary = extract(tmp_path / "raw", tmp_path / "out", options)
        assert (summary.num_done, summary.num_frames, summary.failed) == (3, 150, [])
        times = sorted(frames_by_path(tmp_path / "out")["x.h264"])
        with Video(tmp_path / "raw/x.h264") as video:
            assert times == pytest.approx(video.times(), abs=1.1e-6)

    @given(st.floats(0.04, 2000), st.one_of(st.just(300.0), st.floats(0.5, 300)))
    def test_no_piece_is_too_long(self, duration_seconds: float, segment_seconds: float) -> None:
        parts = list(_segments(Row("x.mp4"), Probe(duration_seconds, 25.0, 64, 48), segment_seconds))
        starts = [part.start_seconds or 0.0 for part in parts]
        assert [part.end_seconds for part in parts] == [*starts[1:], None]
        lengths = np.diff([*starts, duration_seconds])
        assert lengths.max() <= MAX_SECONDS + SLACK_SECONDS
        assert lengths[:-1] == pytest.approx(segment_seconds)
        assert lengths[-1] > 0
        assert len(parts) == 1 or lengths[-1] >= segment_seconds / 2 - 1e-6 or lengths[-2:].sum() > MAX_SECONDS

    @pytest.mark.parametrize("codec", ["copy", "mpeg4"])
    def test_longest_segments(self, tmp_path: Path, codec: str) -> None:
        """The rest of 100 s is less than half a segment, but joined to the first it would be too long."""
        (tmp_path / "long").mkdir()
        for num_seconds in (300, 301, 400, 449):
            slow(tmp_path / f"long/{num_seconds}.mp4", num_seconds)
        size = "native" if codec == "mpeg4" else None
        options = Options(codec=codec, size=size, modalities=("motion",), num_workers=1, segment_seconds=300)
        with in_process():
            summary = extract(tmp_path / "long", tmp_path / "out", options)
        assert (summary.num_done, summary.num_frames, summary.failed) == (6, 300 + 301 + 400 + 449, [])
        found = frames_by_path(tmp_path / "out")
        assert {path: sorted(times) for path, times in found.items()} == {
            f"{number}.mp4": list(range(number)) for number in (300, 301, 400, 449)
        }

    def test_never_uncut_what_could_not_be_read_for_the_plan(self, tmp_path: Path) -> None:
        root, out = tmp_path / "videos", tmp_path / "out"
        root.mkdir()
        (root / "x.avi").symlink_to(tmp_path / "later.avi")
        options = Options(codec="copy", modalities=("rgb",), num_workers=1, segment_seconds=1.0)
        with in_process():
            (failed,) = extract(root, out, options).failed
            assert "No such file" in (failed.error or "")
            make(tmp_path / "later.avi", num_frames=75)
            (failed,) = extract(root, out, replace(options, retry_failed=True)).failed
            assert "could not be read when the plan was made" in (failed.error or "")
            assert "begin anew with --overwrite" in (failed.error or "")
            assert frames_by_path(out) == {}
            summary = extract(root, out, replace(options, overwrite=True))
        assert (summary.num_done, summary.num_frames, summary.failed) == (3, 75, [])


def frames_by_path(out: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample in (sample for shard in out.glob("*.tar") for sample in read_samples(shard)):
        facts = sample.facts
        found.setdefault(facts["path"], []).extend(facts["pts_seconds"][i] for i in facts["frame_indices"])
    return found


class TestFacts:
    @pytest.mark.parametrize("recipe", [None, NATIVE])
    def test_of_a_video(self, job: Job, recipe: Recipe | None) -> None:
        row = Row("b_frames.mp4", labels=(1,), splits=("split1/test", "split2/train"))
        sample, status = extract_row(replace(job, recipe=recipe), row)
        facts = sample.facts
        with Video(job.root / "b_frames.mp4") as video:
            source = asdict(video.metadata)
            frames = list(video.frames(vectors=False))
        types = "".join(frame.picture_type for frame in frames)
        assert {name: facts.pop(name) for name in ("rgb", "motion", "residual")}.keys() == {"rgb", "motion", "residual"}
        assert facts == {
            "key": row.key,
            "path": "b_frames.mp4",
            "labels": [1],
            "label_names": ["Run"],
            "start_seconds": None,
            "end_seconds": None,
            "splits": ["split1/test", "split2/train"],
            "width": 80,
            "height": 64,
            "num_frames": NUM_FRAMES,
            "frame_indices": list(range(NUM_FRAMES)),
            "picture_types": types if recipe is None else "IPPPPPPPPPPPIPPPPPPPPPPPIP",
            "pts_seconds": [round(frame.pts_seconds, 6) for frame in frames],
            "video_start_seconds": source["start_seconds"],
            "has_audio": False,
            "motion_exact": recipe is not None,
            "decode_errors": 0,
            "num_dropped_frames": 0,
            "num_repaired_times": 0,
            "source": source,
            "stream_codec": "h264" if recipe is None else "mpeg4",
            "recipe": {"made": "here"},
            "sha256": hashlib.sha256((job.root / "b_frames.mp4").read_bytes()).hexdigest(),
        }
        assert sample.entries["cls"] == b"1"
        assert status.facts["labels"] == [1]
        assert status.facts["motion_exact"] == (recipe is not None)
        assert status.facts["duration_seconds"] == pytest.approx((NUM_FRAMES - 1) / 25)
        kinds = {name.partition(".")[0] for name in sample.entries}
        sizes = {
            kind: sum(len(data) for name, data in sample.entries.items() if name.partition(".")[0] == kind)
            for kind in kinds
        }
        assert status.facts["bytes_by_kind"] == sizes

    @pytest.mark.parametrize("labels", [(), (0, 1)])
    def test_no_class_entry_without_a_single_label(self, job: Job, labels: tuple[int, ...]) -> None:
        sample, _ = extract_row(job, Row("plain.avi", labels=labels))
        assert "cls" not in sample.entries
        assert sample.facts["labels"] == list(labels)
        assert sample.facts["label_names"] == [job.classes[label] for label in labels]

    def test_dropped_frames(self, job: Job, tmp_path: Path) -> None:
        without_i_frames(tmp_path / "x.m4v", only_first=True)
        for recipe in (None, NATIVE):
            facts = extract_one(replace(job, root=tmp_path, recipe=recipe), "x.m4v").facts
            assert facts["num_dropped_frames"] == 5
            assert facts["num_frames"] == 8

    def test_members_stand_side_by_side_and_end_with_the_json(self, job: Job) -> None:
        row = Row("plain.avi", labels=(0,))
        extract_row(job, row)
        data = spool_path(job.spool, row.key).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
            members = tar.getmembers()
            assert members[-1].name == f"{row.key}.json"
            json.loads(tar.extractfile(members[-1]).read())  # type: ignore[union-attr]
        assert {member.name.partition(".")[0] for member in members} == {row.key}
        assert len({member.name for member in members}) == len(members) == 2 * NUM_FRAMES + 3
