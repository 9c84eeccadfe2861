"""Thousands of damaged videos: every one becomes a sample or a reason, and no reported damage is hidden."""

import hashlib
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
import pytest
from mutants import SIZE, write_mutants, write_sources
from runs import in_process

from vidprep.codec.frame import Frame
from vidprep.codec.packed import pack
from vidprep.codec.unpacked import PackedVideo
from vidprep.codec.video import Video
from vidprep.errors import VidprepError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Settings
from vidprep.pipelines import extract as extraction
from vidprep.pipelines.extract import Options, Summary, extract
from vidprep.shards.index import Status, load_statuses
from vidprep.shards.plan import load_plan
from vidprep.shards.reader import read_samples
from vidprep.shards.verify import verify

NUM_FEW, NUM_PACKED, NUM_MANY = 112, 224, 2000  # the few are one of each kind: 8 sources, 14 ways
TIMEOUT_SECONDS = 30.0
MODES = [("copy", "fail"), ("copy", "keep"), ("mpeg4", "fail"), ("mpeg4", "keep")]
# What the engine says of a task that met a limit, and what a person must never see.
LIMITS = ("the task ended its worker process", "timeout_seconds=", "memory_limit_bytes")
TRACES = ("Traceback", "Error(", "Error:", ".py", "Exception", " @ 0x", "[error]")


@dataclass(frozen=True)
class Oracle:
    """What plain PyAV sees in a file."""

    num_reports: int = 0
    num_logged: int = 0
    num_pictures: int = 0


def ask(path: Path) -> Oracle:
    """Decode a file and go on whatever happens."""
    before = av.logging.get_last_error()[0]
    num_reports = num_pictures = 0
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = next(stream for stream in container.streams.video if stream.codec_context is not None)
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                num_reports += packet.is_corrupt
                try:
                    pictures = stream.decode(packet)
                except av.FFmpegError:
                    num_reports += 1
                    continue
                num_pictures += len(pictures)
                num_reports += sum(picture.is_corrupt for picture in pictures)
    except (av.FFmpegError, StopIteration):
        num_reports += 1
    return Oracle(num_reports, av.logging.get_last_error()[0] - before, num_pictures)


@dataclass(frozen=True)
class Run:
    """An extraction of many mutants."""

    decode_errors: str
    out: Path
    summary: Summary
    statuses: dict[str, Status]


def run(source: Path, out: Path, codec: str, decode_errors: str, num_workers: int) -> Run:
    options = Options(
        codec=codec,
        size="64x48" if codec == "mpeg4" else None,
        settings=Settings(levels=(16,)),
        decode_errors=decode_errors,
        shard_bytes=2_000_000,
        num_workers=num_workers,
        timeout_seconds=TIMEOUT_SECONDS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "_MEMORY_SHARE", 0.0)  # leaves the least that a worker is given
        summary = extract(source, out, options)
    statuses = [status for shard in load_plan(out).shards for status in load_statuses(out, shard.name)]
    return Run(decode_errors, out, summary, {status.path: status for status in statuses})


def check_statuses(run: Run, names: set[str]) -> None:
    """Each file has one row; each reason is a message."""
    assert set(run.statuses) == names
    assert run.summary.num_done + len(run.summary.failed) == len(names)
    for path, status in run.statuses.items():
        if status.error is None:
            assert status.num_frames > 0
            continue
        assert not any(limit in status.error for limit in LIMITS), (path, status.error)
        assert len(status.error) > 20, path
        assert status.error.isprintable(), path
        assert not any(trace in status.error for trace in TRACES), (path, status.error)


def check_samples(run: Run) -> None:
    """The shards are sound, and all arrays of a sample agree with its json."""
    assert verify(run.out).problems == ()
    num_samples = 0
    for shard in sorted(run.out.glob("*.tar")):
        for sample in read_samples(shard):
            facts: dict[str, Any] = sample.facts
            num_samples += 1
            assert facts["decode_errors"] == run.statuses[facts["path"]].facts["decode_errors"]
            assert (np.diff(facts["pts_seconds"]) > 0).all(), facts["path"]
            for name in ("rgb", "residual", "motion", "pyramid"):
                arrays = MODALITIES[name].decode(sample.entries, facts)
                assert arrays is not None
                assert len(arrays) == len(facts["frame_indices"]), facts["path"]
    assert num_samples == run.summary.num_done


def check_damage(run: Run, oracles: dict[str, Oracle]) -> None:
    """What the decoder reports is a failure or stands in the sample; nothing is reported of a sample with 0."""
    num_damaged = 0
    for path, status in run.statuses.items():
        if status.error is not None:
            continue
        num_damaged += status.facts["decode_errors"] > 0
        oracle = oracles[path]
        assert status.facts["decode_errors"] or not (oracle.num_reports or oracle.num_logged), (path, oracle)
        assert run.decode_errors == "keep" or not oracle.num_reports, (path, oracle)
    assert run.summary.num_damaged == num_damaged


def outcomes(run: Run) -> Counter[str]:
    kinds = ("sound" if not s.facts.get("decode_errors") else "damaged" for s in run.statuses.values() if not s.error)
    return Counter(kinds) + Counter(failed=len(run.summary.failed))


def fuzz(tmp_path: Path, count: int, codec: str, decode_errors: str, num_workers: int = 1) -> Counter[str]:
    """Run over mutants with all checks; return how many ended how."""
    mutants = write_mutants(write_sources(tmp_path / "sources"), tmp_path / "mutants", count)
    result = run(tmp_path / "mutants", tmp_path / "out", codec, decode_errors, num_workers)
    check_statuses(result, {path.name for path in mutants})
    check_samples(result)
    check_damage(result, {path.name: ask(path) for path in mutants})
    return outcomes(result)


@pytest.mark.parametrize(("codec", "decode_errors"), MODES)
def test_one_of_each_kind(tmp_path: Path, codec: str, decode_errors: str) -> None:
    """With workers where decoders go on after an error: there they crash, hang and take memory, if ever."""
    with nullcontext() if decode_errors == "keep" else in_process():
        found = fuzz(tmp_path, NUM_FEW, codec, decode_errors)
    assert min(found.values()) > NUM_FEW // 20, found
    assert set(found) == {"sound", "damaged", "failed"}


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "decode_errors"), MODES)
def test_thousands(tmp_path: Path, codec: str, decode_errors: str) -> None:
    found = fuzz(tmp_path, NUM_MANY, codec, decode_errors, num_workers=2)
    print(codec, decode_errors, dict(found))
    assert found["sound"] > NUM_MANY // 10


def test_sources_are_sound(tmp_path: Path) -> None:
    for path in write_sources(tmp_path):
        oracle = ask(path)
        assert (oracle.num_reports, oracle.num_logged, oracle.num_pictures) == (0, 0, 24)
    assert SIZE == (64, 48)


def check_packing(folder: Path) -> Counter[str]:
    """What is packed gives the frames of one pass over the file, or an error; never others."""
    found: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        try:
            expected = [frame_of(frame) for frame in Video(path).frames(vectors=False)]
        except VidprepError:
            expected = None
        try:
            stream = pack(Video(path))
            facts = {"packets": stream.facts(), "picture_types": stream.picture_types, "width": stream.width}
            facts |= {"height": stream.height, "pts_seconds": list(stream.pts_seconds)}
            packed = [frame_of(frame) for frame in PackedVideo(stream.data, facts).frames(vectors=False)]
        except VidprepError as error:
            assert len(str(error)) > 20
            found["refused"] += 1
            continue
        assert expected is None or packed == expected, path
        found["damaged for one pass" if expected is None else "equal"] += 1
    return found


def frame_of(frame: Frame) -> tuple[int, str, bytes]:
    return frame.index, frame.picture_type, hashlib.sha256(frame.rgb().tobytes()).digest()


def test_hundreds_are_packed(tmp_path: Path) -> None:
    write_mutants(write_sources(tmp_path / "sources"), tmp_path / "mutants", NUM_PACKED)
    found = check_packing(tmp_path / "mutants")
    assert min(found["equal"], found["refused"]) > NUM_PACKED // 10, found
