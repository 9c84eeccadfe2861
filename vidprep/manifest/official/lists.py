"""Splits that are lists and no rule, written into the TOML: HMDB51. Needs no files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.rows import Row

SIDES = {"0": None, "1": "train", "2": "test"}


def read(facts: Mapping[str, Any], files: Mapping[str, Path]) -> list[Row]:
    """Make the rows of all clips from the compact lists.

    A line of ``[clips]`` is a source and its clips: ``Gum_Club h_nm_np1_fr_bad 0:120 2:122 h_nm_np1_fr_goo 1:111``
    stands for three clips, the first ``Gum_Club_chew_h_nm_np1_fr_bad_0.avi`` of class chew, whose digits say what it is
    in each split: 0 unused, 1 for training, 2 for testing.
    """
    del files
    rows = []
    for label, name in enumerate(facts["classes"]):
        for line in facts["clips"][name].splitlines():
            for clip, sides in _clips_of(name, line):
                path = facts["path"].format(name=name, clip=clip)
                rows.append(Row(path, labels=(label,), splits=_memberships(sides)))
    return rows


def _clips_of(name: str, line: str) -> Iterator[tuple[str, str]]:
    source, *words = line.split()
    properties = ""
    for word in words:
        number, is_clip, sides = word.partition(":")
        if is_clip:
            yield f"{source}_{name}_{properties}_{number}", sides
        else:
            properties = word


def _memberships(sides: str) -> tuple[str, ...]:
    return tuple(f"split{i}/{SIDES[side]}" for i, side in enumerate(sides, 1) if SIDES[side])
