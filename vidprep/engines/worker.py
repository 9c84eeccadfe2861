"""A worker process of the local engine as its parent holds it."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import cast

from vidprep.engines.serve import Message, describe, serve

__all__ = ["Job", "Worker"]

# Spawned, not forked: a worker must neither keep the parent's file locks nor copy a lock that a thread holds.
_SPAWN = multiprocessing.get_context("spawn")
_THREAD_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_START_SECONDS = 300.0  # imports over a slow network file system take minutes; more is a hang
_EXIT_SECONDS = 5.0  # a killed process is gone at once, unless it hangs in the kernel


@dataclass(slots=True)
class Job:
    """A pickled task, and how often it has failed."""

    index: int
    task_bytes: bytes
    num_attempts: int = 0


class Worker:
    """One process, the pipe to it, and the job that it has."""

    def __init__(self, function_bytes: bytes, memory_limit_bytes: int | None, job: Job) -> None:
        self.connection, child_connection = _SPAWN.Pipe()
        # The first job goes along, so that it begins even while the parent is busy elsewhere.
        arguments = (child_connection, function_bytes, memory_limit_bytes, job.task_bytes)
        self.process = _SPAWN.Process(target=serve, args=arguments, daemon=True)
        with child_connection, _inheritance():
            self.process.start()
        self.is_ready = False  # the job's time begins when it is: imports don't count
        self.job: Job | None = job
        self.set_deadline(_START_SECONDS)

    def begin(self, job: Job, timeout_seconds: float) -> None:
        """Send it a job; it must be ready and idle."""
        self.job = job
        self.set_deadline(timeout_seconds)
        try:
            self.connection.send_bytes(job.task_bytes)
        except OSError:
            self.is_ready = False  # it died while it was idle: not this job's fault

    def set_deadline(self, timeout_seconds: float) -> None:
        """Start the clock."""
        self.deadline_seconds = time.monotonic() + timeout_seconds

    def receive(self) -> Message | None:
        """Return the message that lies in the pipe, or None if the worker has died."""
        try:
            if not self.connection.poll():
                return None
            message = self.connection.recv_bytes()
        except (EOFError, OSError):
            return None
        try:
            return cast(Message, pickle.loads(message))  # noqa: S301  our own process wrote it
        except Exception as error:
            return "error", None, f"the result can't be unpickled ({describe(error)}); return plain data"

    def kill(self) -> None:
        """Kill it and the processes that it started; doesn't wait for their end."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError, PermissionError):  # it has no group yet, or nobody is left in it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def bury(self, *, grace_seconds: float = 0.0) -> str:
        """Kill it and return how it ended, "SIGSEGV" or "status 3": by itself if it does so in the grace."""
        wait([self.process.sentinel], grace_seconds)
        self.kill()
        self.process.join(_EXIT_SECONDS)
        self.connection.close()
        exit_code = self.process.exitcode
        if exit_code is None or exit_code >= 0:
            return f"status {exit_code}"
        names = {int(number): number.name for number in signal.Signals}
        return names.get(-exit_code, f"signal {-exit_code}")


@contextmanager
def _inheritance() -> Iterator[None]:
    """Set what a worker inherits when it starts, and put it back."""
    main = sys.modules["__main__"]
    main_file = getattr(main, "__file__", None)
    environment = {name: os.environ.get(name) for name in _THREAD_POOLS}
    resource_tracker.ensure_running()  # its own start would unblock SIGINT
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the worker can ignore it
    try:
        os.environ.update(dict.fromkeys(_THREAD_POOLS, "1"))  # tasks are the parallelism; read at numpy's import
        if main_file is not None and not Path(main_file).exists():
            del main.__file__  # "<stdin>": the worker would try to run it
        yield
    finally:
        if main_file is not None:
            main.__file__ = main_file
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
