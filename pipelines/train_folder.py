"""The folder of a training: one run at a time writes there, and no other files are lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from vidprep.errors import UsageError
from vidprep.pipelines.train_checkpoint import BEST_NAME, CHECKPOINT_NAME, read_checkpoint
from vidprep.pipelines.train_metrics import METRICS_NAME, remove_events
from vidprep.shards.files import locked_folder, removed_if_empty

_OF_SHARDS = ("index.json", "plan.json")  # a folder of shards is full of files that a training must not be among


@contextmanager
def claimed(to: Path, *, is_first: bool) -> Iterator[None]:
    """Lock a folder, on the first rank; one that is made for a training that is refused goes with it."""
    if is_first:
        with (
            locked_folder(to, "vidprep train", "to", to) as is_new,
            removed_if_empty(to) if is_new else nullcontext(),
        ):
            yield
    else:
        yield


def make_room(folder: Path) -> None:
    """Remove the training that a folder holds, for another that begins there; what has no checkpoint is none of ours.

    Raises
    ------
    UsageError
        If the folder holds files that a training would be lost among, or would take the place of.
    """
    names = (METRICS_NAME, BEST_NAME, CHECKPOINT_NAME)  # the last is what says that there is a training
    has_training = (folder / CHECKPOINT_NAME).exists()
    of_others = _OF_SHARDS if has_training else (*names, *_OF_SHARDS)
    if found := [name for name in of_others if (folder / name).exists()]:
        raise UsageError(f"to={folder}: holds {found[0]}, but no training; name another folder")
    if not has_training:
        return
    try:
        read_checkpoint(folder / CHECKPOINT_NAME)
    except UsageError as error:
        raise UsageError(
            f"to={folder}: holds a {CHECKPOINT_NAME} that is damaged, or not of this program; name another folder, or"
            " remove what is in this one"
        ) from error
    remove_events(folder)
    for name in names:
        (folder / name).unlink(missing_ok=True)
