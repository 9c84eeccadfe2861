"""What shards can hold by the options that they were extracted with: told from their recipe, before any is opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vidprep.errors import ShardError
from vidprep.modalities import MODALITIES
from vidprep.modalities.residual import FORMS

_LEVEL = re.compile(r"rgb([1-9][0-9]{0,3})")
_OPTIONS: dict[str, dict[str, str | int]] = {
    "rgb": {"modalities": "rgb"},
    "motion": {"modalities": "motion"},
    "accumulated_motion": {"modalities": "motion"},
    **{form.kind: {"modalities": "residual", "residual_form": name} for name, form in FORMS.items()},
    "spectrogram": {"modalities": "spectrogram"},
}


def level_of(name: str) -> int | None:
    """Return the short side in pixels of a level such as ``rgb112``; None if the name is another."""
    found = _LEVEL.fullmatch(name)
    return int(found[1]) if found else None


def check_stored(names: Iterable[str], recipe: Mapping[str, Any]) -> None:
    """Refuse arrays that shards of a recipe can't hold; names of others than the stored ones pass.

    Raises
    ------
    ShardError
        With the option that extraction needs for it.
    """
    for name in names:
        level = level_of(name)
        options = _OPTIONS.get(name, {}) if level is None else {"modalities": "pyramid", "levels": level}
        if recipe["layout"] == "bitstream" and options and MODALITIES[str(options["modalities"])].from_stream:
            continue
        for option, value in options.items():
            found = recipe[option] if isinstance(recipe[option], list) else [recipe[option]]
            if value not in found:
                raise ShardError(
                    f"modality={name}: the shards hold none, they were extracted with {option}="
                    f"{','.join(map(str, found))}; extract again with --{option.replace('_', '-')} {value}"
                )
