"""``vidprep export``: shards become a store of arrays, made once and used by many.

Workers write parts of some videos each, in any order. What has its name is whole: a run that was killed goes on with
the parts that are missing. At the end all parts are put together in the shards' order, so that the store's bytes
don't depend on the number of workers or on kills.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from vidprep.engines import ENGINES
from vidprep.errors import FeatureError, ShardError, UsageError
from vidprep.features import SIGNATURE, FeatureStore, FeatureWriter, differences
from vidprep.modalities.stored import check_stored
from vidprep.pipelines.export_options import Options, Summary
from vidprep.pipelines.export_part import Job, Part, export_part, source_of
from vidprep.shards.access import ShardFolder
from vidprep.shards.files import DISK_FULL, locked_folder, read_json, removed_if_empty, whole_file, write_json

__all__ = ["Options", "Summary", "export"]

PART_VIDEOS = 32  # what a kill can cost, for each worker
_RECIPE_NAME = "recipe.json"
_TOOLS = ("vidprep", "av", "numpy", "pillow", "simplejpeg", "h5py")
_TORCH_TOOLS = ("torch", "torchvision")

Progress = Callable[[int, int, int], None]
"""Called with how many videos of how many are done, and how many of them failed."""


def _silent(num_done: int, num_total: int, num_failed: int) -> None:
    pass


def export(root: Path, to: Path, options: Options, *, on_progress: Progress = _silent) -> Summary:
    """Export arrays of all videos of a folder of shards, or go on where a run ended.

    Parameters
    ----------
    root : path
        What ``vidprep extract`` wrote, of either layout.
    to : path
        The store, an HDF5 file. Until it is whole, its parts stand in ``TO.parts``.
    options : Options
    on_progress : callable

    Raises
    ------
    VidprepError
        If nothing can be exported: no shards, unfinished ones, a store that was made in another way. A video that
        can't be read is no error; it stands in the summary.
    """
    folder = _finished_shards(root)
    check_stored(options.modalities or ("rgb",), folder.index.recipe)
    if to.is_dir():
        raise UsageError(f"to={to}: is a folder; give the name of a file, such as features.h5")
    recipe = {"shards": folder.index.identity, "export": _describe(options), "tools": _tools(options)}
    parts = to.with_name(f"{to.name}.parts")
    _refuse_foreign(to)
    with locked_folder(parts, "vidprep export", "to", to), removed_if_empty(parts):
        if options.overwrite:
            to.unlink(missing_ok=True)
            _remove(parts)
        if to.exists():
            store = FeatureStore(to)
            _refuse_other(f"{to}: the store", recipe, store.recipe)
            summary = _summary(store, num_resumed=len(store))
        else:
            _begin(parts, to, recipe)
            try:
                summary = _Run(root, folder, to, parts, options, recipe, on_progress).run()
            except OSError as error:
                if error.errno in DISK_FULL:
                    raise _disk_full(to, str(error.strerror)) from error
                raise
            finally:
                for left in parts.glob("*.part"):  # of a worker that was ended in the middle
                    left.unlink(missing_ok=True)
        if summary.is_written:
            _remove(parts)
    return summary


def _disk_full(to: Path, reason: str) -> ShardError:
    return ShardError(f"to={to}: {reason}; free some space and run the same command, it goes on where it ended")


def _finished_shards(root: Path) -> ShardFolder:
    folder = ShardFolder(root)
    if not folder.index.is_complete:
        raise ShardError(f"{root}: its extraction is not finished; run the same vidprep extract command again first")
    return folder


def _describe(options: Options) -> dict[str, Any]:
    """Return what the arrays depend on, of what the user chose."""
    chosen: dict[str, Any] = {"frames": options.frames, "compression": options.compression}
    if options.backbone is None:
        return {"modalities": list(options.modalities), **chosen}
    from vidprep.pipelines.export_backbone import BackboneOutputs

    source = source_of(options)
    assert isinstance(source, BackboneOutputs)
    return {**source.describe(), "outputs": list(options.outputs), "dtype": options.dtype, **chosen}


def _tools(options: Options) -> dict[str, str]:
    names = (*_TOOLS, *(_TORCH_TOOLS if options.backbone else ()))
    return {**{name: importlib.metadata.version(name) for name in names}, "machine": platform.machine()}


def _refuse_other(what: str, recipe: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    different = differences(recipe, found) or differences(found, recipe)
    if different:
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise FeatureError(
            f"{what} was made in another way: wanted is {different[0]}{more}; use the same options, another file "
            "(--to), or --overwrite to begin anew"
        )


def _begin(parts: Path, to: Path, recipe: dict[str, Any]) -> None:
    """Note the recipe beside the parts; FeatureError if there are parts of another one."""
    noted = parts / _RECIPE_NAME
    if noted.exists():
        _refuse_other(f"{to}: an unfinished store", recipe, read_json(noted))
    else:
        write_json(noted, recipe)


def _refuse_foreign(to: Path) -> None:
    """Refuse to take a file for a store, or to remove it, that is something else."""
    if to.exists():
        with to.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                raise UsageError(f"to={to}: is no HDF5 file, so vidprep did not write it; choose another name (--to)")


def _remove(parts: Path) -> None:
    """Remove what an export put beside its parts, and nothing else."""
    for path in [*parts.glob("*.h5"), *parts.glob("*.part"), parts / _RECIPE_NAME]:
        path.unlink(missing_ok=True)


def _summary(store: FeatureStore, *, num_resumed: int) -> Summary:
    num_bytes = store.path.stat().st_size
    return Summary(store.path, len(store), store.num_frames, num_bytes, num_resumed, store.failed, is_written=True)


class _Run:
    """One run: the parts that are still missing, and the store that is made of all."""

    def __init__(
        self,
        root: Path,
        folder: ShardFolder,
        to: Path,
        parts: Path,
        options: Options,
        recipe: dict[str, Any],
        on_progress: Progress,
    ) -> None:
        self.folder, self.to, self.options, self.on_progress = folder, to, options, on_progress
        self.dataset = {**folder.index.dataset}
        self.recipe = recipe
        self.parts = list(_cut(folder, parts))
        self.job = Job(root, options, json.dumps(recipe), json.dumps(self.dataset))

    def run(self) -> Summary:
        """Write the parts that are missing, and then the store; without one, if videos failed and may not."""
        missing = [part for part in self.parts if not part.path.exists()]
        num_resumed = sum(part.end - part.first for part in self.parts if part not in missing)
        failed = self._write(missing, num_resumed)
        if any(not part.path.exists() for part in self.parts):
            return Summary(self.to, num_resumed=num_resumed, failed=failed)
        self._merge()
        return _summary(FeatureStore(self.to), num_resumed=num_resumed)

    def _write(self, parts: list[Part], num_done: int) -> dict[str, str]:
        """Write some parts, and return the videos that failed."""
        total = num_done + sum(part.end - part.first for part in parts)
        failed: dict[str, str] = {}
        self.on_progress(num_done, total, 0)
        if not parts:
            return failed
        workers = min(self.options.workers, len(parts))
        with closing(ENGINES["local"](partial(export_part, self.job), parts, num_workers=workers)) as outcomes:
            for outcome in outcomes:
                part = parts[outcome.index]
                if outcome.value is None:  # the worker died, and nothing of its part is there
                    shard = self.folder.index.shards[part.shard]
                    keys = (self.folder.key(shard, number) for number in range(part.first, part.end))
                    failed |= dict.fromkeys(keys, outcome.error or outcome.kind)
                elif outcome.value.disk_full:
                    raise _disk_full(self.to, outcome.value.disk_full)
                else:
                    failed |= outcome.value.failed
                num_done += part.end - part.first
                self.on_progress(num_done, total, len(failed))
        return failed

    def _merge(self) -> None:
        """Put all parts together; the store has its name when all of it is on disk."""
        kinds = source_of(self.options).kinds
        with (
            whole_file(self.to) as file,
            FeatureWriter(
                Path(file.name), self.dataset, self.recipe, kinds, compression=self.options.compression
            ) as writer,
        ):
            for part in self.parts:
                with FeatureStore(part.path, self.recipe) as store:
                    writer.copy(store)


def _cut(folder: ShardFolder, parts: Path) -> Iterator[Part]:
    """Cut the shards into parts of some videos each."""
    for shard in folder.index.shards_of():
        for first in range(0, shard.num_samples, PART_VIDEOS):
            name = f"{shard.name.removesuffix('.tar')}-{first:06d}.h5"
            yield Part(parts / name, shard.name, first, min(first + PART_VIDEOS, shard.num_samples))
