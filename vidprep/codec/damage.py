"""What FFmpeg reports of damage: an error at once, or a count where a damaged video is to be kept."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import av
import av.logging

from vidprep.errors import DecodeError

Packet = TypeVar("Packet")
Result = TypeVar("Result")

_PLENTY_BYTES = 256 << 20  # more than a sound packet or picture needs

_END: Any = object()

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
    is_logged : bool
        Whether FFmpeg logged an error, be there a report or not: lost references, garbage between packets.
    """

    def __init__(self, name: str, *, keep: bool) -> None:
        self.name = name
        self.keep = keep
        self._num_before = self._num_found = 0
        self.is_logged = False

    def again(self) -> Damage:
        """Return one for another pass over the same stream; it remembers what the worst pass before it found."""
        other = Damage(self.name, keep=self.keep)
        other._num_before = max(self._num_before, self._num_found)
        other.is_logged = self.is_logged
        return other

    @property
    def num_reports(self) -> int:
        """Damaged pictures, damaged packets and refused packets, in the pass that found most."""
        return max(self._num_before, self._num_found)

    def report(self, error: DecodeError) -> None:
        """Count one report, or raise it."""
        if not self.keep:
            raise error from None  # whatever FFmpeg says, it is no lack of memory
        self._num_found += 1

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

    def each(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield packets; where the container can't be read on, an empty one makes the decoder give what it holds."""
        iterator = iter(packets)
        last = None
        while (packet := self.attempt(partial(next, iterator, _END))) is not _END:
            if packet is None:
                yield from _flush(last)
                return
            last = packet
            yield packet


def _flush(last: Any) -> list[Any]:
    if last is None or last.time_base is None:
        return []
    packet: Any = av.Packet()
    packet.time_base = last.time_base  # without one, times are no numbers
    return [packet]


def is_of_machine(error: av.FFmpegError) -> bool:
    """Tell whether an error is about memory or disk, not about the input.

    A damaged input may ask for gigabytes for one packet or picture: memory lacks only where a plain amount can't be
    had either.
    """
    return error.errno in (errno.ENOSPC, errno.EIO) or (error.errno == errno.ENOMEM and not _has_memory())


def _has_memory() -> bool:
    try:
        mmap.mmap(-1, _PLENTY_BYTES).close()  # reserved, not touched
    except OSError:
        return False
    return True


def refusal(name: str, error: av.FFmpegError) -> DecodeError:
    """Return the error for an input that FFmpeg refuses."""
    return DecodeError(
        f"{name}: {error.strerror}; the file is damaged, or no video of a known kind: get it anew or remove it"
    )


def _num_logged() -> int:
    """Return how many errors FFmpeg has logged in this process."""
    last = av.logging.get_last_error()
    return int(last[0])
