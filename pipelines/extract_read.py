"""The frames of one video become entries of its sample: as arrays, or as the stream that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vidprep.codec.frame import Frame
from vidprep.codec.packed import pack
from vidprep.codec.timing import microseconds
from vidprep.codec.video import Video
from vidprep.codec.wanted import Wanted, union
from vidprep.errors import DecodeError, UnsupportedError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Modality, Span
from vidprep.pipelines.extract_job import MAX_SECONDS, SLACK_SECONDS, Job
from vidprep.sampling import Selection
from vidprep.shards.sample import SampleWriter


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


def read_frames(job: Job, stream: Video, span: Span, sample: SampleWriter) -> tuple[list[Modality], Timeline]:
    """Decode once and store the arrays of the wanted modalities."""
    wanted = _wanted(job.selection, stream, span)
    modalities, timeline = _begin(job)
    frames = stream.frames(
        track=union(modality.track for modality in modalities),
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
        raise _no_frame(span)
    return modalities, timeline


def _no_frame(span: Span) -> DecodeError:
    start, end = ("none" if time is None else f"{time:g}" for time in (span.start_seconds, span.end_seconds))
    return DecodeError(
        f"num_frames=0: no frame lies in the wanted time, start={start} to end={end} seconds; check start and end, and"
        " that the video is whole"
    )


def _check_duration(timeline: Timeline) -> None:
    if timeline.duration_seconds > MAX_SECONDS + SLACK_SECONDS:
        raise UnsupportedError(
            f"duration_seconds={timeline.duration_seconds:.0f} or more: a sample is at most {MAX_SECONDS:.0f} s "
            "long; use --segment SECONDS, or start and end in the manifest"
        )


def pack_stream(job: Job, stream: Video, span: Span, sample: SampleWriter) -> tuple[list[Modality], Timeline]:
    """Store the stream as it is; what can be rebuilt from it is not stored."""
    packed = pack(stream, start_seconds=span.start_seconds, end_seconds=span.end_seconds)
    if packed.is_interlaced and {"motion", "residual"} & set(job.modalities):
        raise UnsupportedError(
            "interlaced=true: vectors of fields can't be told from those of frames; transcode it (--codec mpeg4), or "
            "leave out motion and residual (--modalities)"
        )
    if "residual" in job.modalities and job.settings.residual_form == "coded":
        Wanted(coded=True).check(stream.metadata.codec)
    first = stream.metadata.start_seconds
    inside = [i for i, time in enumerate(packed.pts_seconds) if _inside(time - first, span)]
    if not inside:
        raise _no_frame(span)
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
            **({"decode_errors": None} if job.recipe is None else {}),  # not known: nothing was decoded
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
        raise _no_frame(span)
    chosen = selection.indices([time for _, time in inside])
    return {inside[i][0] for i in chosen}


def _inside(time: float, span: Span) -> bool:
    after_start = span.start_seconds is None or microseconds(time) >= microseconds(span.start_seconds)
    return after_start and (span.end_seconds is None or microseconds(time) < microseconds(span.end_seconds))
