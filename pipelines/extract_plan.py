"""Before the first video is extracted: the folder, the recipe, the probe and the plan."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vidprep.codec.transcode import Recipe, ffmpeg_version, output_size
from vidprep.codec.video import Video
from vidprep.engines import ENGINES
from vidprep.errors import ShardError, UsageError
from vidprep.manifest import Manifest, Row
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract_job import MAX_SECONDS, SLACK_SECONDS
from vidprep.sampling import Selection
from vidprep.shards.files import DISK_FULL, locked_folder, to_json
from vidprep.shards.index import INDEX_NAME, STATUS_FOLDER, status_path
from vidprep.shards.plan import PLAN_NAME, Plan, PlanRow, load_plan, make_plan

SPOOL_PREFIX = ".spool-"
_SHARDS = "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"
_BYTES_PER_PIXEL = {"rgb": 0.30, "residual": 0.45, "pyramid": 0.60, "motion": 0.02}  # measured at 340x256, qscale 1
_STREAM_BYTES_PER_PIXEL = 0.08
_SPECTROGRAM_BYTES_PER_SECOND = 22e3
_SAMPLE_BYTES = 20e3  # json, headers
_TOOLS = ("av", "numpy", "pillow", "simplejpeg", "librosa")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container claims: enough to guess a sample's size."""

    duration_seconds: float
    fps: float
    width: int
    height: int
    num_bytes: int = 0


def probe_video(root: Path, path: str, *, measure: bool = False) -> Probe:
    """Read one video's facts; DecodeError if it can't be opened. To measure its duration, all of it is read."""
    with Video(root / path) as video:
        facts = video.metadata
        measured_seconds = video.measure_seconds() if measure else 0.0
        duration = measured_seconds or facts.duration_seconds or 0.0
        num_bytes = (root / path).stat().st_size
        return Probe(duration, facts.fps or 25.0, facts.width, facts.height, num_bytes)


def describe(
    recipe: Recipe | None,
    modalities: Sequence[str],
    settings: Settings,
    selection: Selection,
    others: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything that the bytes of a shard depend on, the tools' versions included."""
    tools = {name: importlib.metadata.version(name) for name in _TOOLS}
    if recipe is not None:
        tools["ffmpeg"] = ffmpeg_version()
    return {
        "encode": None if recipe is None else asdict(recipe),
        "modalities": list(modalities),
        "frames": asdict(selection),
        "residual_form": settings.residual_form,
        "residual_format": settings.stored_residual_format,
        "spectrogram_recipe": settings.spectrogram_recipe,
        "levels": list(settings.levels),
        **others,
        "tools": {"vidprep": importlib.metadata.version("vidprep"), **tools, "machine": platform.machine()},
    }


def describe_dataset(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's name, classes, targets, splits (their cells) and a digest of its rows."""
    splits: dict[str, set[str]] = {}
    for row in manifest.rows:
        for split in row.splits:
            splits.setdefault(split, set()).add(row.cell)
    digest = hashlib.sha256()
    for row in manifest.rows:
        digest.update(to_json(row.facts()))
    return {
        "name": manifest.name,
        "classes": list(manifest.classes),
        "targets": {name: list(classes) for name, classes in sorted(manifest.targets.items())},
        "multi_label": manifest.multi_label,
        "splits": {split: sorted(cells) for split, cells in sorted(splits.items())},
        "num_rows": len(manifest.rows),
        "rows_sha256": digest.hexdigest(),
    }


def probe_all(
    manifest: Manifest,
    engine: str,
    num_workers: int,
    on_progress: Callable[[int], None],
    *,
    timeout_seconds: float | None = None,
    measure: bool = False,
) -> dict[str, Probe | None]:
    """Probe each file once; None for those that can't be read, which will fail by themselves later."""
    paths = sorted({row.path for row in manifest.rows})
    probes: dict[str, Probe | None] = {}
    function = partial(probe_video, manifest.root, measure=measure)
    with closing(
        ENGINES[engine](function, paths, num_workers=num_workers, timeout_seconds=timeout_seconds)
    ) as outcomes:
        for outcome in outcomes:
            probes[paths[outcome.index]] = outcome.value
            on_progress(len(probes))
    return probes


def new_plan(
    manifest: Manifest, probes: Mapping[str, Probe | None], dataset: Mapping[str, Any], recipe: Mapping[str, Any]
) -> Plan:
    """Cut the rows into segments where that is wanted, guess their sizes, and plan the shards."""
    rows: list[PlanRow] = []
    for row in manifest.rows:
        probe = probes[row.path]
        for part in _segments(row, probe, recipe["segment_seconds"]):
            rows.append(PlanRow(part.key, part.cell, part.facts(), _estimate(part, probe, recipe)))
    return make_plan(rows, dataset, recipe, recipe["shard_bytes"])


def _segments(row: Row, probe: Probe | None, segment_seconds: float | None) -> Iterator[Row]:
    if segment_seconds is None or probe is None or (row.start_seconds, row.end_seconds) != (None, None):
        yield row
        return
    num_segments = max(int(probe.duration_seconds / segment_seconds + 0.5), 1)  # no last piece below half a segment
    if probe.duration_seconds - (num_segments - 1) * segment_seconds > MAX_SECONDS + SLACK_SECONDS:
        num_segments += 1
    for i in range(num_segments):
        last = i == num_segments - 1  # open, so that nothing after the last timestamp is lost
        yield replace(row, start_seconds=i * segment_seconds, end_seconds=None if last else (i + 1) * segment_seconds)


def _estimate(row: Row, probe: Probe | None, recipe: Mapping[str, Any]) -> int:
    if probe is None:
        return 0
    encode = recipe["encode"]
    width, height = (
        (probe.width, probe.height) if encode is None else output_size(encode["size"], probe.width, probe.height)
    )
    end = probe.duration_seconds if row.end_seconds is None else row.end_seconds
    duration = max(end - (row.start_seconds or 0.0), 0.0)
    others = _SAMPLE_BYTES + _SPECTROGRAM_BYTES_PER_SECOND * duration
    if recipe["layout"] == "bitstream":
        copied = probe.num_bytes * min(duration / max(probe.duration_seconds, 1e-3), 1.0)
        encoded = _STREAM_BYTES_PER_PIXEL * width * height * duration * probe.fps
        return int(others + (copied if encode is None else encoded))
    return int(others + _decoded_bytes(width * height, duration, probe.fps, min(width, height), recipe))


def _decoded_bytes(
    num_pixels: int, duration_seconds: float, fps: float, short_side: int, recipe: Mapping[str, Any]
) -> float:
    num_frames = duration_seconds * fps
    frames = recipe["frames"]
    stored = {
        "uniform": min(frames["number"], num_frames),
        "stride": num_frames / max(frames["number"], 1),
        "fps": duration_seconds * frames["number"],
    }.get(frames["kind"], num_frames)
    pixels = dict.fromkeys(("rgb", "residual"), num_pixels * stored) | {"motion": num_pixels * num_frames}
    levels = (min(level / max(short_side, 1), 1.0) ** 2 for level in recipe["levels"])
    pixels["pyramid"] = num_pixels * stored * sum(levels)
    return sum(_BYTES_PER_PIXEL[name] * float(pixels[name]) for name in recipe["modalities"] if name in pixels)


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Create and lock the folder, yield a spool folder in it, and clean up; one run at a time may write."""
    with locked_folder(out, "vidprep extract", "out", out):
        _remove_remains(out)
        try:
            spool = Path(tempfile.mkdtemp(prefix=SPOOL_PREFIX, dir=out))
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise UsageError(f"out={out}: {error.strerror}; choose a folder that can be written (--out)") from error
        try:
            yield spool
        finally:
            shutil.rmtree(spool, ignore_errors=True)


def _remove_remains(out: Path) -> None:
    """Remove what a killed run left unfinished, unless the folder is none of ours: its files are not ours either."""
    spools, parts = list(out.glob(f"{SPOOL_PREFIX}*")), list(out.glob(f"{PLAN_NAME}.part"))
    if (out / PLAN_NAME).exists():
        parts += [*out.glob(f"{_SHARDS}.part"), *out.glob(f"{INDEX_NAME}.part")]
        parts += (out / STATUS_FOLDER).glob("*.jsonl.part")
    elif len(spools) + len(parts) < len(list(out.iterdir())):
        return
    for spool in spools:
        shutil.rmtree(spool, ignore_errors=True)
    for part in parts:
        part.unlink(missing_ok=True)


def existing_plan(out: Path, dataset: Mapping[str, Any], recipe: Mapping[str, Any], *, overwrite: bool) -> Plan | None:
    """Return the plan to resume, or None for a new one; ShardError if the folder holds something else."""
    others = [item for item in out.iterdir() if not item.name.startswith(SPOOL_PREFIX)]
    if not others:
        return None
    if not (out / PLAN_NAME).exists():
        raise ShardError(f"out={out}: it holds other files, such as {min(others).name}; choose an empty folder (--out)")
    if overwrite:
        _remove_shards(out)
        return None
    plan = load_plan(out)
    was, now = {**plan.recipe, "dataset": plan.dataset}, {**recipe, "dataset": dataset}
    different = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if different:
        name = different[0]
        raise ShardError(
            f"{name}={_short(now.get(name))}: the shards in {out} were begun with {_short(was.get(name))}; "
            "use the same options, another folder (--out), or --overwrite to begin anew"
        )
    return plan


def _short(value: object) -> str:
    if isinstance(value, dict) and "rows_sha256" in value:
        return f"{value['name']} of {value['num_rows']} rows ({value['rows_sha256'][:8]})"
    return str(value)


def _remove_shards(out: Path) -> None:
    """Remove what an earlier run wrote, and nothing else.

    Its plan stays until the new one takes its place, so that a kill in between leaves the folder known as ours.
    """
    (out / INDEX_NAME).unlink(missing_ok=True)
    for name in _shard_names(out):
        (out / name).unlink(missing_ok=True)
        status_path(out, name).unlink(missing_ok=True)


def _shard_names(out: Path) -> list[str]:
    try:
        return [shard.name for shard in load_plan(out).shards]
    except ShardError:  # broken, or of another version: the form of the names is all there is to go by
        return [path.name for path in out.glob(_SHARDS)]
