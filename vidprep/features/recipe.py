"""How a store was made, and how that differs from what is wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_SHOWN = 60


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Say in which entries a recipe isn't what is wanted; entries that ``wanted`` lacks are not compared.

    Returns
    -------
    list of str
        ``export.weights_sha256='1f...': it has '2e...'``, one for each entry.
    """
    return [
        f"{name}={_short(value)}: it has {_short(other)}" for name, value, other in _compare(_plain(wanted), found, "")
    ]


def _compare(wanted: Mapping[str, Any], found: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for name, value in wanted.items():
        other = found.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _compare(value, other, f"{prefix}{name}.")
        elif value != other:
            yield f"{prefix}{name}", value, other


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
