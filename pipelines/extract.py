"""``vidprep extract``: a folder of videos becomes verified WebDataset shards.

The plan says which sample stands where. Workers extract videos in any order and spool each sample to disk; one
writer appends them in the plan's order, so the bytes don't depend on the number of workers. What the index
holds is done: a run that was killed goes on where the index ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from vidprep.engines import ENGINES, Outcome
from vidprep.errors import ShardError
from vidprep.manifest import Manifest, find_rows
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract_job import Job
from vidprep.pipelines.extract_options import Options, Summary
from vidprep.pipelines.extract_plan import describe, describe_dataset, existing_plan, new_plan, output_folder, probe_all
from vidprep.pipelines.extract_video import Extracted, extract_video, spool_path
from vidprep.sampling import Selection
from vidprep.shards.files import DISK_FULL
from vidprep.shards.index import INDEX_NAME, Index, Status, load_index, load_statuses, save_index, status_path
from vidprep.shards.plan import Plan, PlannedShard, PlanRow, save_plan
from vidprep.shards.writer import ShardWriter

__all__ = ["Options", "Settings", "Summary", "extract"]

_AHEAD_PER_WORKER = 32  # samples that may wait for one slow video
_MEMORY_SHARE = 0.8  # of the machine's, over all workers
_MIN_MEMORY_BYTES = 2 << 30  # librosa and ffmpeg alone map most of one


Progress = Callable[[str, int, int, Status | None], None]
"""Called with the phase (``probe`` or ``extract``), how many of how many are done, and a new status row."""


def _silent(phase: str, num_done: int, num_total: int, status: Status | None) -> None:
    pass


def extract(
    source: Path,
    out: Path,
    options: Options | None = None,
    *,
    manifest: str | Path | Manifest | None = None,
    on_progress: Progress = _silent,
) -> Summary:
    """Extract a dataset into a folder of shards, or go on where a run ended.

    Parameters
    ----------
    source : path
        A folder of videos, or one video.
    out : path
        Folder for the shards.
    options : Options
    manifest : str, path or Manifest, optional
        A standard dataset's name, a CSV/TSV file, or rows that were made already; found by itself for a known layout.
    on_progress : callable

    Raises
    ------
    VidprepError
        If nothing can be extracted: a bad option, an empty dataset, a folder that holds something else, a full
        disk. A video that fails is no error; it stands in the summary.
    """
    options = options or Options()
    found = manifest if isinstance(manifest, Manifest) else find_rows(source, manifest)
    recipe = describe(
        options.recipe,
        options.modalities,
        options.settings,
        Selection.parse(options.frames),
        {
            "layout": options.layout,
            "segment_seconds": options.segment_seconds,
            "shard_bytes": options.shard_bytes,
            "decode_errors": options.decode_errors,
        },
    )
    dataset = describe_dataset(found)
    try:
        with output_folder(out) as spool:
            plan = existing_plan(out, dataset, recipe, overwrite=options.overwrite)
            if plan is None:
                total = len({row.path for row in found.rows})
                probes = probe_all(
                    found,
                    options.engine,
                    options.workers,
                    lambda done: on_progress("probe", done, total, None),
                    timeout_seconds=options.timeout_seconds,
                    measure=options.segment_seconds is not None,  # where to cut must not depend on a container's claim
                )
                plan = new_plan(found, probes, dataset, recipe)
                save_plan(out, plan)
            return _Run(out, spool, plan, options, found, on_progress).run()
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _disk_full(out, f"{error.strerror}: {error.filename or out}") from error
        raise


def _disk_full(out: Path, reason: str) -> ShardError:
    return ShardError(f"out={out}: {reason}; free some space and run the same command, it goes on where it ended")


class _Run:
    """One run over a plan: which shards are still to be written, and the writing of them."""

    def __init__(
        self, out: Path, spool: Path, plan: Plan, options: Options, found: Manifest, on_progress: Progress
    ) -> None:
        self.out = out
        self.plan = plan
        self.options = options
        self.on_progress = on_progress
        self.summary = Summary(out, num_ignored=len(found.ignored))
        self.job = Job(
            root=found.root,
            spool=spool,
            classes=found.classes,
            recipe=options.recipe,
            layout=options.layout,
            modalities=options.modalities,
            settings=options.settings,
            selection=Selection.parse(options.frames),
            keep_damaged=options.decode_errors == "keep",
            description=dict(plan.recipe),
        )
        self.index = self._finished()

    def run(self) -> Summary:
        """Write all shards that the index lacks, then add up what there is."""
        todo: list[tuple[PlannedShard, Mapping[str, Status]]] = []
        for shard in self.plan.shards:
            entry = self.index.shards.get(shard.name)
            if entry is None:
                todo.append((shard, {}))
            elif self.options.retry_failed and entry.num_failed:
                statuses = load_statuses(self.out, shard.name)
                todo.append((shard, {status.key: status for status in statuses if status.error is None}))
        tasks = [row for shard, kept in todo for row in shard.rows if row.key not in kept]
        self.summary.num_resumed = sum(entry.num_samples for entry in self.index.shards.values())
        with closing(self._results(tasks)) as results:  # no worker may outlive the spool folder
            for shard, kept in todo:
                self._write(shard, kept, results)
        save_index(self.out, self.index, self.plan)
        return self._add_up()

    def _finished(self) -> Index:
        """Load the index, less the shards whose files are not what it says: they are written again."""
        index = load_index(self.out) if (self.out / INDEX_NAME).exists() else Index(self.plan.dataset, self.plan.recipe)
        for name, entry in list(index.shards.items()):
            path, statuses = self.out / name, status_path(self.out, name)
            num_bytes = path.stat().st_size if path.is_file() else 0
            num_rows = len(statuses.read_bytes().splitlines()) if statuses.is_file() else 0
            if num_bytes != entry.num_bytes or num_rows != entry.num_samples + entry.num_failed:
                del index.shards[name]
        return index

    def _results(self, tasks: list[PlanRow]) -> Generator[Status, None, None]:
        """Extract the rows and yield their statuses in order, however the workers finish."""
        workers = self.options.workers
        engine = ENGINES[self.options.engine](
            partial(extract_video, self.job),
            tasks,
            num_workers=min(workers, max(len(tasks), 1)),
            timeout_seconds=self.options.timeout_seconds,
            memory_limit_bytes=_memory_limit(workers),
            max_ahead=_AHEAD_PER_WORKER * workers,
        )
        done: dict[int, Status] = {}
        position = 0
        with closing(engine) as outcomes:
            for num_done, outcome in enumerate(outcomes, 1):
                status = self._status(tasks[outcome.index], outcome)
                done[outcome.index] = status
                self.on_progress("extract", num_done, len(tasks), status)
                while position in done:
                    yield done.pop(position)
                    position += 1

    def _status(self, row: PlanRow, outcome: Outcome[Extracted]) -> Status:
        answer = outcome.value
        if answer is None:
            spool_path(self.job.spool, row.key).unlink(missing_ok=True)
            path = row.row["path"]
            # Where the dataset lies on this machine is nobody's business: equal input gives equal status rows.
            reason = (outcome.error or outcome.kind).replace(str(self.job.root / path), path)
            reason = reason.replace(str(self.job.spool), "spool")
            reason = re.sub(r"(memory_limit_bytes)=[0-9]+", r"\1=its share", reason)  # the same words in every run
            return Status(row.key, path, error=reason)
        if answer.status is None:
            raise _disk_full(self.out, answer.disk_full or "the disk is full")
        return answer.status

    def _write(self, shard: PlannedShard, kept: Mapping[str, Status], results: Iterator[Status]) -> None:
        with ExitStack() as stack:
            old = stack.enter_context((self.out / shard.name).open("rb")) if kept else None
            writer = ShardWriter(self.out, shard)
            stack.callback(writer.abandon)
            for row in shard.rows:
                if row.key in kept and old is not None:
                    old.seek(kept[row.key].offset_bytes)
                    writer.append(kept[row.key], old)
                else:
                    self._append_new(writer, next(results))
            self.index.shards[shard.name] = writer.finish()
        save_index(self.out, self.index, self.plan)

    def _append_new(self, writer: ShardWriter, status: Status) -> None:
        if status.error is not None:
            writer.append(status, None)
            return
        path = spool_path(self.job.spool, status.key)
        with path.open("rb") as members:
            writer.append(status, members)
        path.unlink()

    def _add_up(self) -> Summary:
        summary = self.summary
        stores_motion = not {"motion", "residual"}.isdisjoint(self.job.modalities)
        for shard in self.plan.shards:
            entry = self.index.shards[shard.name]
            summary.num_done += entry.num_samples
            summary.num_frames += entry.num_frames
            summary.num_bytes += entry.num_bytes
            summary.num_shards += entry.num_samples > 0
            statuses = load_statuses(self.out, shard.name)
            summary.failed += [status for status in statuses if status.error is not None]
            if stores_motion:
                summary.num_inexact += sum(not status.facts.get("motion_exact", True) for status in statuses)
            summary.num_damaged += sum((status.facts.get("decode_errors") or 0) > 0 for status in statuses)
        return summary


def _memory_limit(num_workers: int) -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(int(_MEMORY_SHARE * total / num_workers), _MIN_MEMORY_BYTES)
