"""One video becomes one sample: the part of extraction that runs in a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidprep.codec.transcode import transcode
from vidprep.codec.video import Video
from vidprep.errors import UnsupportedError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Modality, Span
from vidprep.pipelines.extract_job import MAX_SECONDS, SLACK_SECONDS, Job
from vidprep.pipelines.extract_read import Timeline, pack_stream, read_frames
from vidprep.shards.files import DISK_FULL, sha256_of, to_json
from vidprep.shards.index import Status
from vidprep.shards.plan import PlanRow
from vidprep.shards.sample import SampleWriter


@dataclass(frozen=True, slots=True)
class Extracted:
    """A worker's answer: the status row, or ``disk_full`` with the file that could not grow."""

    status: Status | None
    disk_full: str | None = None


def spool_path(spool: Path, key: str) -> Path:
    """Return where the members of a sample lie until its shard's writer takes them."""
    return spool / f"{hashlib.sha256(key.encode()).hexdigest()}.tar"


def extract_video(job: Job, planned: PlanRow) -> Extracted:
    """Extract one planned row into the spool folder.

    Raises
    ------
    VidprepError
        If the video can't be read; its message is the reason in the status row.
    """
    path = spool_path(job.spool, planned.key)
    try:
        with path.open("wb") as file:
            return Extracted(_extract(job, planned, SampleWriter(file, planned.key)))
    except OSError as error:
        if error.errno in DISK_FULL:
            return Extracted(None, disk_full=f"{error.strerror}: {error.filename or path}")
        raise


def _extract(job: Job, planned: PlanRow, sample: SampleWriter) -> Status:
    row = planned.row
    source_path = job.root / row["path"]
    span = Span(row["start_seconds"], row["end_seconds"])
    with Video(source_path, keep_damaged=job.keep_damaged) as source:
        if job.description.get("segment_seconds") is not None and span == Span():
            raise UnsupportedError(
                "start_seconds=none: this video could not be read when the plan was made, so it is not cut into "
                "segments; begin anew with --overwrite"
            )
        _check_length(source, span)
        with _stream(job, source, span) as (stream, stream_span):
            read = pack_stream if job.layout == "bitstream" else read_frames
            modalities, timeline = read(job, stream, stream_span, sample)
        for modality in modalities:
            for name, data in modality.finish(source, span):
                sample.add(name, data)
        facts = _facts(job, planned, source, stream, modalities, timeline)
    facts["has_audio"] = (
        "spectrogram" in sample.bytes_by_kind if "spectrogram" in job.modalities else facts["has_audio"]
    )
    facts["sha256"] = sha256_of(source_path)
    if len(row["labels"]) == 1 and not job.multi_label:  # else samples of one dataset would differ in their entries
        sample.add("cls", str(row["labels"][0]).encode())
    sample.add("json", to_json(facts))
    return Status(
        key=planned.key,
        path=row["path"],
        num_bytes=sample.num_bytes,
        num_frames=len(timeline.stored),
        facts={
            "bytes_by_kind": sample.bytes_by_kind,
            "duration_seconds": timeline.duration_seconds,
            "has_audio": facts["has_audio"],
            "motion_exact": facts["motion_exact"],
            "decode_errors": facts["decode_errors"],
            "labels": row["labels"],
        },
    )


def _check_length(source: Video, span: Span) -> None:
    start = span.start_seconds or 0.0
    end = (source.metadata.duration_seconds or 0.0) if span.end_seconds is None else span.end_seconds
    # A claim: no sample may fail, nor be encoded for nothing, because it is wrong.
    if end - start > MAX_SECONDS + SLACK_SECONDS:
        end = min(source.measure_seconds(end), end)
    if end - start > MAX_SECONDS + SLACK_SECONDS:
        raise UnsupportedError(
            f"duration_seconds={end - start:.0f}: a sample is at most {MAX_SECONDS:.0f} s long; "
            "use --segment SECONDS, or start and end in the manifest"
        )


@contextmanager
def _stream(job: Job, source: Video, span: Span) -> Iterator[tuple[Video, Span]]:
    if job.recipe is None:
        if source.metadata.rotation_degrees and (
            job.layout == "bitstream" or any(MODALITIES[name].from_stream for name in job.modalities)
        ):
            raise UnsupportedError(
                f"rotation_degrees={source.metadata.rotation_degrees}: --codec copy keeps the picture as it is "
                "coded, lying on its side; use --codec mpeg4, which turns it upright"
            )
        yield source, span
        return
    with transcode(
        source, job.recipe, start_seconds=span.start_seconds, end_seconds=span.end_seconds, folder=job.spool
    ) as stream:
        yield stream, Span()


def _facts(
    job: Job, planned: PlanRow, source: Video, stream: Video, modalities: list[Modality], timeline: Timeline
) -> dict[str, Any]:
    row = planned.row
    return {
        "key": planned.key,
        **row,
        **({"multi_label": True} if job.multi_label else {}),
        "label_names": [job.classes[label] for label in row["labels"]],
        "width": timeline.size[0],
        "height": timeline.size[1],
        "num_frames": len(timeline.picture_types),
        "frame_indices": timeline.stored,
        "picture_types": "".join(timeline.picture_types),
        "pts_seconds": timeline.pts_seconds,
        "video_start_seconds": source.metadata.start_seconds,
        "has_audio": source.metadata.has_audio,
        "motion_exact": stream.motion_exact,
        "decode_errors": sum(video.num_decode_errors for video in {source, stream}),
        "num_dropped_frames": stream.num_dropped_frames,
        "num_repaired_times": stream.num_repaired_times,
        "source": asdict(source.metadata),
        "stream_codec": stream.metadata.codec,
        **timeline.facts,
        **{modality.name: modality.facts() for modality in modalities},
        "recipe": job.description,
    }
