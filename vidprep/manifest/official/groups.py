"""Clips in numbered groups, which the splits test on in turn: UCF101. Needs no files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.rows import Row


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Make the rows of all clips: the TOML holds their number in each group."""
    del files
    rows = []
    for label, name in enumerate(facts["classes"]):
        stem = facts["file_stems"].get(name, name)
        for group, num_clips in enumerate(map(int, facts["num_clips"][name]), start=1):
            splits = memberships_of(facts, group)
            for clip in range(1, num_clips + 1):
                path = facts["path"].format(name=name, stem=stem, group=group, clip=clip)
                rows.append(Row(path, labels=(label,), splits=splits))
    return rows


def memberships_of(facts: Mapping[str, Any], group: int) -> tuple[str, ...]:
    """Say where a group of clips stands in each split, sorted: the test groups are tested on, others trained on."""
    sides = {name: "test" if group in groups else "train" for name, groups in facts["test_groups"].items()}
    return tuple(sorted(f"{name}/{side}" for name, side in sides.items()))
