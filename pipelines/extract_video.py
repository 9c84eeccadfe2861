"""One video becomes one sample: the part of extraction that runs in a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vidprep.codec.packed import pack

from vidprep.codec.frame import Frame
from vidprep.codec.timing import microseconds
from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, UnsupportedError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Modality, Settings, Span
from vidprep.sampling import Selection
from vidprep.shards.files import DISK_FULL, sha256_of, to_json
from vidprep.shards.index import Status
from vidprep.shards.plan import PlanRow
from vidprep.shards.sample import SampleWriter

MAX_SECONDS = 300.0  # a sample must fit into a reader's memory
SLACK_SECONDS = 1.0  # containers round, and the last frame has a duration too
_TRACKS = ("none", "motion", "residual")


@dataclass(frozen=True, slots=True)
class Job:
    """What all videos of a run share.

    Attributes
    ----------
    root : path
        The dataset.
    spool : path
        Where finished samples wait for the shard's writer.
    recipe : Recipe or None
        How to encode; None reads the stream as it is.
    layout : {"decoded", "bitstream"}
        Store arrays, or the stream itself, from which the reader makes them.
    modalities : tuple of str
        Names in MODALITIES.
    keep_damaged : bool
        Keep a damaged video as far as it decodes, and say so in its sample.
    """

    root: Path
    spool: Path
    classes: tuple[str, ...]
    recipe: Recipe | None
    layout: str
    modalities: tuple[str, ...]
    settings: Settings
    selection: Selection
    keep_damaged: bool = False
    description: dict[str, Any] = field(default_factory=dict)


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
            read = _pack if job.layout == "bitstream" else _read
            modalities, timeline = read(job, stream, stream_span, sample)
        for modality in modalities:
            for name, data in modality.finish(source, span):
                sample.add(name, data)
        facts = _facts(job, planned, source, stream, modalities, timeline)
    facts["has_audio"] = (
        "spectrogram" in sample.bytes_by_kind if "spectrogram" in job.modalities else facts["has_audio"]
    )
    facts["sha256"] = sha256_of(source_path)
    if len(row["labels"]) == 1:
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


@dataclass(slots=True)
class Timeline:
    """The frames that a sample builds on, and which of them it stores."""

    picture_types: list[str] = field(default_factory=list)
    pts_seconds: list[float] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_seconds(self) -> float:
        """Time from the first stored frame to the last frame."""
        return self.pts_seconds[-1] - self.pts_seconds[self.stored[0]] if self.stored else 0.0


def _read(job: Job, stream: Video, span: Span, sample: SampleWriter) -> tuple[list[Modality], Timeline]:
    wanted = _wanted(job.selection, stream, span)
    modalities, timeline = _begin(job)
    needs = max((_TRACKS.index(modality.track) for modality in modalities), default=0)
    frames = stream.frames(
        track=_TRACKS[needs],  # type: ignore[arg-type]
        vectors="motion" in job.modalities,
        coded=any(modality.coded for modality in modalities),
        start_seconds=span.start_seconds,
        end_seconds=span.end_seconds,
    )
    first = stream.metadata.start_seconds
    last = None if wanted is None else max(wanted)
    for frame in frames:
        time = frame.pts_seconds - first
        if frame.picture_type == "I" and not timeline.stored and span.start_seconds is not None:
            modalities, timeline = _begin(job)  # nothing earlier is needed to follow pixels from here on
        stored = _inside(time, span) and (wanted is None or frame.index in wanted)
        _add(frame, stored, modalities, timeline, sample)
        _check_duration(timeline)
        if last is not None and frame.index >= last and frame.picture_type != "B":
            break  # a stored B-frame builds on the anchor displayed after it
    if not timeline.stored:
        raise DecodeError("num_frames=0: no frame lies in the wanted time; check start and end")
    return modalities, timeline


def _check_duration(timeline: Timeline) -> None:
    if timeline.duration_seconds > MAX_SECONDS + SLACK_SECONDS:
        raise UnsupportedError(
            f"duration_seconds={timeline.duration_seconds:.0f} or more: a sample is at most {MAX_SECONDS:.0f} s "
            "long; use --segment SECONDS, or start and end in the manifest"
        )


def _pack(job: Job, stream: Video, span: Span, sample: SampleWriter) -> tuple[list[Modality], Timeline]:
    """Store the stream as it is; what can be rebuilt from it is not stored."""
    packed = pack(stream, start_seconds=span.start_seconds, end_seconds=span.end_seconds)
    first = stream.metadata.start_seconds
    inside = [i for i, time in enumerate(packed.pts_seconds) if _inside(time - first, span)]
    if not inside:
        raise DecodeError("num_frames=0: no frame lies in the wanted time; check start and end")
    chosen = job.selection.indices([packed.pts_seconds[i] for i in inside])
    timeline = Timeline(
        picture_types=list(packed.picture_types),
        pts_seconds=[round(time, 6) for time in packed.pts_seconds],
        stored=[inside[i] for i in chosen],
        size=(stream.metadata.width, stream.metadata.height),
        facts={
            "motion_exact": packed.motion_exact,
            "num_dropped_frames": packed.num_dropped_frames,
            "num_repaired_times": packed.num_repaired_times,
            "packets": {"entry": packed.entry, **packed.facts()},
        },
    )
    _check_duration(timeline)
    sample.add(packed.entry, packed.data)
    kept = (MODALITIES[name] for name in job.modalities if not MODALITIES[name].from_stream)
    return [kind(job.settings) for kind in kept], timeline


def _begin(job: Job) -> tuple[list[Modality], Timeline]:
    return [MODALITIES[name](job.settings) for name in job.modalities], Timeline()


def _add(frame: Frame, stored: bool, modalities: list[Modality], timeline: Timeline, sample: SampleWriter) -> None:
    position = len(timeline.stored) if stored else None
    for modality in modalities:
        for name, data in modality.add(frame, position):
            sample.add(name, data)
    if stored:
        timeline.stored.append(len(timeline.picture_types))
    timeline.picture_types.append(frame.picture_type)
    timeline.pts_seconds.append(round(frame.pts_seconds, 6))
    timeline.size = (frame.width, frame.height)


def _wanted(selection: Selection, stream: Video, span: Span) -> set[int] | None:
    """Return the indices to store, None for all; counting needs a decoding of its own where no times are known."""
    if selection.kind == "all":
        return None
    if stream.frame_times is not None:
        return set(selection.indices(stream.frame_times))
    first = stream.metadata.start_seconds
    frames = stream.frames(vectors=False, start_seconds=span.start_seconds, end_seconds=span.end_seconds)
    inside = [(frame.index, frame.pts_seconds) for frame in frames if _inside(frame.pts_seconds - first, span)]
    if not inside:
        raise DecodeError("num_frames=0: no frame lies in the wanted time; check start and end")
    chosen = selection.indices([time for _, time in inside])
    return {inside[i][0] for i in chosen}


def _inside(time: float, span: Span) -> bool:
    after_start = span.start_seconds is None or microseconds(time) >= microseconds(span.start_seconds)
    return after_start and (span.end_seconds is None or microseconds(time) < microseconds(span.end_seconds))


def _facts(
    job: Job, planned: PlanRow, source: Video, stream: Video, modalities: list[Modality], timeline: Timeline
) -> dict[str, Any]:
    row = planned.row
    return {
        "key": planned.key,
        **row,
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
