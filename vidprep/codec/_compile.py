"""How kernels are compiled: without the GIL, and kept on disk where there is a place for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function."""
    return _compile(function, "never")


def inlined(function: Function) -> Function:
    """Compile a function into those that call it."""
    return _compile(function, "always")


def _compile(function: Function, inline: Literal["never", "always"]) -> Function:
    try:
        return cast("Function", numba.njit(cache=True, nogil=True, inline=inline)(function))
    except RuntimeError:  # no folder can be written: a read-only installation, and no home
        return cast("Function", numba.njit(nogil=True, inline=inline)(function))
