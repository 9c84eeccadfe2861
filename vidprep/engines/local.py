"""A pool of processes in which one crashing, hanging or memory-eating task fails alone.

``concurrent.futures`` gives up the whole pool when one process dies, and can't end a task that hangs. Here each
worker has a pipe of its own and one task at a time: the parent always knows whose fault it was, kills that
worker with the processes that it started (ffmpeg), replaces it and goes on.
"""

import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Literal, TypeVar

from vidprep.engines import Outcome
from vidprep.engines.serve import Message, describe
from vidprep.engines.worker import Job, Worker
from vidprep.errors import EngineError, UsageError

__all__ = ["map_unordered"]

Task = TypeVar("Task")
T = TypeVar("T")

_LONGEST_WAIT_SECONDS = 3600.0  # poll() takes no infinity
_MOST_FAILED_STARTS = 3  # in a row; an accident hits one
_EXIT_GRACE_SECONDS = 5.0


def map_unordered(
    function: Callable[[Task], T],
    tasks: Iterable[Task],
    *,
    num_workers: int,
    timeout_seconds: float | None = None,
    memory_limit_bytes: int | None = None,
    num_retries: int = 1,
    max_ahead: int | None = None,
) -> Generator[Outcome[T], None, None]:
    """Call ``function`` on every task in worker processes; yield the outcomes in the order of completion.

    Closing the generator, an exception in it (Ctrl-C) and the end of the parent, even by SIGKILL, end all workers
    and the processes that they started. Use `contextlib.closing` if it has a name and the loop over it may raise.

    Parameters
    ----------
    function : callable
        A function of a module (or a `functools.partial` of one), since workers import it by name.
    tasks : iterable
        Picklable arguments. One is taken only when there is a worker for it.
    num_workers : int
        Processes at most; no more are started than there are tasks. Their thread pools have one thread.
    timeout_seconds : float, optional
        Limit of a task's wall-clock time, from when a worker begins it.
    memory_limit_bytes : int, optional
        What a worker may add to its virtual memory, counted from when it has imported ``function``; a process
        that it starts may have as much as the worker. Linux only. A task that needs more isn't tried again.
    num_retries : int
        How often a task is tried again after a crash or a timeout.
    max_ahead : int, optional
        No task begins whose index is that of the oldest unfinished task plus ``max_ahead``, or higher. So a
        consumer that puts the outcomes in order has fewer than this in hand.

    Yields
    ------
    Outcome
        One a task. For a `VidprepError` and an `OSError` the reason is their message; for any other exception it
        names the type and the line of code as well.

    Raises
    ------
    UsageError
        At once: for a number that can't be meant, and for a function that can't be pickled.
    EngineError
        If workers can't start at all. Exceptions of ``tasks`` pass through.
    """
    least = {"num_workers": (num_workers, 1), "num_retries": (num_retries, 0), "max_ahead": (max_ahead, 1)}
    for name, (value, minimum) in least.items():
        if value is not None and value < minimum:
            raise UsageError(f"{name}={value}: must be at least {minimum}; give a larger number")
    for name, limit in {"timeout_seconds": timeout_seconds, "memory_limit_bytes": memory_limit_bytes}.items():
        if limit is not None and not limit > 0:
            raise UsageError(f"{name}={limit}: must be positive; give more, or None for no limit")
    try:
        function_bytes = pickle.dumps(function)
    except Exception as error:
        raise UsageError(
            f"function={function!r}: workers import it by name ({error}); define it at the top of a module"
        ) from error
    settings = _Settings(
        function_bytes,
        num_workers,
        math.inf if timeout_seconds is None else timeout_seconds,
        memory_limit_bytes,
        num_retries,
        math.inf if max_ahead is None else max_ahead,
    )
    return _Pool(settings, iter(tasks)).run()


@dataclass(frozen=True, slots=True)
class _Settings:
    function_bytes: bytes
    num_workers: int
    timeout_seconds: float
    memory_limit_bytes: int | None
    num_retries: int
    max_ahead: float


class _Pool:
    """The workers and the jobs of one call of `map_unordered`."""

    def __init__(self, settings: _Settings, tasks: Iterator[Any]) -> None:
        self.settings = settings
        self.tasks = tasks
        self.num_taken = 0  # the index of the next task
        self.num_failed_starts = 0  # since a worker last became ready
        self.workers: list[Worker] = []
        self.retries: deque[Job] = deque()
        self.outcomes: deque[Outcome[Any]] = deque()  # not yet yielded

    def run(self) -> Generator[Outcome[Any], None, None]:
        try:
            while True:
                self._assign()  # first, so that workers work while the consumer does
                while self.outcomes:
                    yield self.outcomes.popleft()
                if not any(worker.job for worker in self.workers):
                    return
                self._wait()
        finally:
            self.close()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        while self.workers:
            self.workers[-1].bury()
            self.workers.pop()

    def _assign(self) -> None:
        """Give every worker a job, and start workers, as long as there are jobs."""
        idle = [worker for worker in self.workers if worker.job is None]
        while idle or len(self.workers) < self.settings.num_workers:
            job = self._next_job()
            if job is None:
                return
            if idle:
                idle.pop().begin(job, self.settings.timeout_seconds)
            else:
                self.workers.append(Worker(self.settings.function_bytes, self.settings.memory_limit_bytes, job))

    def _next_job(self) -> Job | None:
        if self.retries:
            return self.retries.popleft()
        unfinished = [worker.job.index for worker in self.workers if worker.job]
        if self.num_taken >= min(unfinished, default=self.num_taken) + self.settings.max_ahead:
            return None
        for task in self.tasks:
            index = self.num_taken
            self.num_taken += 1
            try:
                return Job(index, pickle.dumps(task))
            except Exception as error:
                reason = f"task={type(task).__name__}: can't be pickled ({describe(error)}); give plain data"
                self.outcomes.append(Outcome(index, None, reason, "error"))
        return None

    def _wait(self) -> None:
        """Wait for messages, deaths and deadlines, and deal with them."""
        busy = [worker for worker in self.workers if worker.job]
        handles = [handle for worker in busy for handle in (worker.connection, worker.process.sentinel)]
        seconds = min(worker.deadline_seconds for worker in busy) - time.monotonic()
        ready = wait(handles, min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS))
        now_seconds = time.monotonic()
        for worker in busy:
            # The message first: a task that is done in time counts, however late the consumer asks for it.
            if worker.connection in ready or worker.process.sentinel in ready:
                self._hear(worker)
            elif worker.deadline_seconds <= now_seconds:
                self._lose(worker, "timeout")

    def _hear(self, worker: Worker) -> None:
        message = worker.receive()
        if message is None:
            self._lose(worker, "crash")
        elif worker.is_ready:
            self._finish(worker, message)
        elif message[2] is not None:
            raise EngineError(f"function: workers can't import it ({message[2]}); define it in a module")
        else:
            self.num_failed_starts = 0
            worker.is_ready = True
            worker.set_deadline(self.settings.timeout_seconds)

    def _finish(self, worker: Worker, message: Message) -> None:
        assert worker.job is not None
        kind, value, error = message
        self.outcomes.append(Outcome(worker.job.index, value, error, kind))
        worker.job = None
        if kind == "memory":  # what failed halfway in its libraries is unknown
            worker.bury()
            self.workers.remove(worker)

    def _lose(self, worker: Worker, kind: Literal["crash", "timeout"]) -> None:
        """Put away a worker that has died or must die; its job is tried again or fails."""
        job = worker.job
        assert job is not None
        # A Python that exits closes its pipe a moment before it ends.
        exit_name = worker.bury(grace_seconds=_EXIT_GRACE_SECONDS if kind == "crash" else 0.0)
        self.workers.remove(worker)
        if worker.is_ready:
            job.num_attempts += 1
        else:
            self._count_failed_start(exit_name)  # no fault of this job
        if job.num_attempts <= self.settings.num_retries:
            self.retries.append(job)
        else:
            reason = self._crash_reason(exit_name) if kind == "crash" else self._timeout_reason()
            self.outcomes.append(Outcome(job.index, None, f"{reason} (attempts: {job.num_attempts})", kind))

    def _count_failed_start(self, exit_name: str) -> None:
        self.num_failed_starts += 1
        if self.num_failed_starts == _MOST_FAILED_STARTS:
            raise EngineError(
                f"exit={exit_name}: {self.num_failed_starts} workers in a row ended before their first "
                'task; a script must call this under `if __name__ == "__main__":`, else see what they wrote above'
            )

    def _timeout_reason(self) -> str:
        return f"timeout_seconds={self.settings.timeout_seconds:g}: the task took longer; allow more with --timeout"

    def _crash_reason(self, exit_name: str) -> str:
        cure = "the input is probably corrupt: repair it or leave it out"
        if exit_name == "SIGKILL":
            cure = "the system was probably out of memory: use fewer --workers"
        elif self.settings.memory_limit_bytes is not None:
            cure += f"; or a library met memory_limit_bytes={self.settings.memory_limit_bytes}: raise it"
        return f"exit={exit_name}: the task ended its worker process; {cure}"
