"""Run a function over many tasks: ``ENGINES["local"](function, tasks, num_workers=4)``.

An engine yields one `Outcome` a task, in the order of completion. What a task does to its process (a crash,
a hang, all the memory) becomes the outcome of that task, never the end of the run.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypedDict, TypeVar, Unpack

__all__ = ["ENGINES", "Kind", "Limits", "Outcome", "map_local"]

Task = TypeVar("Task")
T = TypeVar("T")
Kind = Literal["ok", "error", "crash", "timeout", "memory"]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How one task ended.

    Attributes
    ----------
    index : int
        Position of the task in the input, from 0.
    value : T or None
        What the function returned, where ``kind`` is ``"ok"``.
    error : str or None
        The reason, in one line, where ``kind`` is anything else.
    kind : {"ok", "error", "crash", "timeout", "memory"}
        ``error``: the function raised; ``crash``: its process died; ``timeout``, ``memory``: it met a limit.
    """

    index: int
    value: T | None
    error: str | None
    kind: Kind


class Limits(TypedDict, total=False):
    """The optional arguments of every engine; `vidprep.engines.local.map_unordered` explains them."""

    timeout_seconds: float | None
    memory_limit_bytes: int | None
    num_retries: int
    max_ahead: int | None


def map_local(
    function: Callable[[Task], T], tasks: Iterable[Task], *, num_workers: int, **limits: Unpack[Limits]
) -> Generator[Outcome[T], None, None]:
    """Run over processes of this machine: see `vidprep.engines.local.map_unordered`."""
    from vidprep.engines.local import map_unordered

    return map_unordered(function, tasks, num_workers=num_workers, **limits)


# Each entry imports its engine when it is called, so that the names alone (for `--engine`) cost nothing.
ENGINES = {"local": map_local}
