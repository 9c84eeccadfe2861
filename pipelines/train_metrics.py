"""The numbers of a training, epoch by epoch: as CSV, and for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidprep.shards.files import whole_file

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_NAME = "metrics.csv"
TENSORBOARD_NAME = "tensorboard"

Row = dict[str, float]
"""Of one epoch: ``epoch``, ``learning_rate`` (of its last step), ``loss``, and what was validated."""


class Metrics:
    """Writes the rows of a training into its folder.

    With the first row, what an earlier run wrote is written anew: nothing is missing, and nothing is there twice.

    Parameters
    ----------
    folder : path
    tensorboard : bool
        Whether there are event files too.
    """

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self._folder, self._has_events, self._num_sent = folder, tensorboard, 0
        self._events: SummaryWriter | None = None

    def write(self, history: Sequence[Row]) -> None:
        """Write all rows."""
        names = dict.fromkeys(name for row in history for name in row)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows(history)
        with whole_file(self._folder / METRICS_NAME) as file:
            file.write(text.getvalue().encode())
        if self._has_events:
            self._send(history)

    def _send(self, history: Sequence[Row]) -> None:
        if self._events is None:
            remove_events(self._folder)
            self._events = _writer(self._folder / TENSORBOARD_NAME)
        for row in history[self._num_sent :]:
            for name, value in row.items():
                if name != "epoch":
                    self._events.add_scalar(name, value, int(row["epoch"]))
        self._events.flush()
        self._num_sent = len(history)

    def close(self) -> None:
        """Close the event file."""
        if self._events is not None:
            self._events.close()


def remove_events(folder: Path) -> None:
    """Remove the event files of an earlier run."""
    for path in (folder / TENSORBOARD_NAME).glob("events.out.tfevents.*"):
        path.unlink()


def _writer(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to load

    return SummaryWriter(str(folder))
