"""Kinetics' lists (label, youtube_id, time_start, time_end, split), and the subsets of classes and of ids of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.rows import Row


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Make a whole-video row of each clip; on disk, the videos are cut already."""
    raise NotImplementedError
