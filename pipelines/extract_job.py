"""What all videos of an extraction share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidprep.codec.transcode import Recipe
from vidprep.modalities.base import Settings
from vidprep.sampling import Selection

MAX_SECONDS = 300.0  # a sample must fit into a reader's memory
SLACK_SECONDS = 1.0  # containers round, and the last frame has a duration too


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
    multi_label : bool
        Whether a row may have any number of labels; then no sample has a ``cls``.
    """

    root: Path
    spool: Path
    classes: tuple[str, ...]
    recipe: Recipe | None
    modalities: tuple[str, ...]
    settings: Settings
    selection: Selection
    layout: str = "decoded"
    keep_damaged: bool = False
    multi_label: bool = False
    description: dict[str, Any] = field(default_factory=dict)
