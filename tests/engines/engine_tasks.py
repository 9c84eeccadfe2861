"""Functions for test_local.py to run in workers; imports nothing heavy, since every worker imports it."""

import gc
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from vidprep.errors import DecodeError


def square(number: int) -> int:
    return number * number


def pid(_: object) -> int:
    return os.getpid()


def segfault_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def kill_itself(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def exit_at_once(status: int) -> None:
    os._exit(status)


def exit_as_python_does(status: int) -> None:
    sys.exit(status)


def exit_slowly(status: int) -> None:
    """Exit as an interpreter with much to tear down: the pipe is closed a while before the end."""
    for thing in gc.get_objects():
        if isinstance(thing, Connection):
            thing.close()
    time.sleep(0.3)
    os._exit(status)


def crash_until(log: Path, num_crashes: int) -> int:
    """Die in the first calls; the log has a byte for each call."""
    with log.open("ab") as file:
        file.write(b".")
    if log.stat().st_size <= num_crashes:
        os.kill(os.getpid(), signal.SIGKILL)
    return log.stat().st_size


def crash_the_first_time(log: Path) -> int:
    return crash_until(log, 1)


def crash_always(log: Path) -> int:
    return crash_until(log, 1000)


def hang_with_child(log: Path | None) -> str:
    """Write the pids of this process and of a child that would outlive it, then hang."""
    if log is None:
        return "fine"
    child = subprocess.Popen(["sleep", "1000"])
    with log.open("a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    time.sleep(1000)
    return "never"


def crash_with_child(log: Path) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    log.write_text(f"{child.pid}\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def wait_for_file(path: Path | None) -> int:
    while path is not None and not path.exists():
        time.sleep(0.01)
    return os.getpid()


def fill_memory(num_bytes: int) -> int:
    """Take memory piece by piece, as a leak does."""
    pieces = [bytearray(1 << 20) for _ in range(num_bytes >> 20)]
    return len(pieces) << 20


def fill_memory_to_the_last_byte(num_bytes: int) -> None:
    pieces: list[object] = []
    for piece_bytes in (1 << 20, 1 << 14, 1 << 8, 1):
        try:
            while len(pieces) < num_bytes:
                pieces.append(bytearray(piece_bytes))
        except MemoryError:
            if piece_bytes == 1:
                raise


def fill_memory_and_wrap(num_bytes: int) -> int:
    try:
        return len(bytearray(num_bytes))
    except MemoryError as error:
        raise DecodeError("frame=3: can't be decoded") from error


def big_result(num_bytes: int) -> bytes:
    return b"\x00\xff" * (num_bytes // 2)


def describe_process(_: object) -> dict[str, Any]:
    return {
        "is_group_head": os.getpgid(0) == os.getpid() == os.getsid(0),
        "ignores_ctrl_c": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "blocked_signals": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "num_threads": {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
    }


class OddError(Exception):
    pass


def fail(how: str) -> None:
    if how == "ours":
        raise DecodeError("path='a.avi': has no video\n  stream; leave it out")
    if how == "missing file":
        Path("/no/such/file").read_bytes()
    if how == "missing file with an odd name":
        Path("/no such/two  blanks\nand a line").read_bytes()
    if how == "plain OSError":
        raise OSError("the device\nis gone")
    if how == "no memory for a process":
        raise OSError(12, "Cannot allocate memory")
    if how == "unprintable":
        raise OddError(lambda: None)
    raise OddError


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return fail, ("bug",)


def unpicklable_result(kind: str) -> object:
    return {"lambda": lambda: None, "unloadable": Unloadable(), "fine": 1}[kind]
