"""Splits that are lists and no rule, written into the TOML: HMDB51. Needs no files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.rows import Row


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Make the rows of all clips from the compact lists; manifests/README.md explains how they are written."""
    raise NotImplementedError
