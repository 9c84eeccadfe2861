"""What FFmpeg reports of damage: an error at once, or a count where a damaged video is to be kept."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import av
import av.logging

from vidprep.errors import DecodeError

Item = TypeVar("Item")
Result = TypeVar("Result")

if av.logging.get_level() is None:
    av.logging.set_level(av.logging.PANIC)  # prints nothing, but lets errors be counted


class Damage:
    """Listens to FFmpeg while one stream is read.

    What it can't know is what FFmpeg itself does not see: flipped bits that are still valid syntax (of H.264 with
    CABAC, HEVC and VP9 most are), whole packets that are lost, swapped or there twice.

    Parameters
    ----------
    name : str
        What messages call the stream.
    keep : bool
        Count reports instead of raising them.

    Attributes
    ----------
    num_reports : int
        Damaged pictures, damaged packets and refused packets.
    is_logged : bool
        Whether FFmpeg logged an error, be there a report or not: lost references, garbage between packets.
    """

    def __init__(self, name: str, *, keep: bool) -> None:
        self.name = name
        self.keep = keep
        self.num_reports = 0
        self.is_logged = False

    def report(self, error: DecodeError) -> None:
        """Count one report, or raise it."""
        if not self.keep:
            raise error
        self.num_reports += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice errors that FFmpeg logs meanwhile."""
        before = _num_logged()
        try:
            yield
        finally:
            self.is_logged |= _num_logged() > before

    def attempt(self, call: Callable[[], Result]) -> Result | None:
        """Return what one call of FFmpeg returns; None if it refuses its input and that is counted."""
        before = _num_logged()
        try:
            return call()
        except av.FFmpegError as error:
            if is_of_machine(error):
                raise
            self.report(refusal(self.name, error))
            return None
        finally:
            self.is_logged |= _num_logged() > before

    def each(self, items: Iterable[Item]) -> Iterator[Item | None]:
        """Yield packets; where the container can't be read on, a None, which makes a decoder give what it holds."""
        iterator, end = iter(items), object()
        while (item := self.attempt(lambda: next(iterator, end))) is not end:
            yield item  # type: ignore[misc]
            if item is None:
                return


def is_of_machine(error: av.FFmpegError) -> bool:
    """Tell whether an error is about memory or disk, not about the input."""
    return error.errno in (errno.ENOMEM, errno.ENOSPC, errno.EIO)


def refusal(name: str, error: av.FFmpegError) -> DecodeError:
    """Return the error for an input that FFmpeg refuses."""
    cause = DecodeError(
        f"{name}: {error.strerror}; the file is damaged, or no video of a known kind: get it anew or remove it"
    )
    cause.__cause__ = error
    return cause


def _num_logged() -> int:
    """Return how many errors FFmpeg has logged in this process."""
    last = av.logging.get_last_error()
    return int(last[0])
