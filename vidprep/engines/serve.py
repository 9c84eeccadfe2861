"""What runs inside a worker process of the local engine."""

import errno
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from vidprep.engines import Kind
from vidprep.errors import VidprepError

__all__ = ["Message", "describe", "serve"]

Message = tuple[Kind, Any, str | None]  # kind, value, error: an Outcome without its index


def serve(
    connection: "Connection[Any, Any]", function_bytes: bytes, memory_limit_bytes: int | None, task_bytes: bytes
) -> None:
    """Report ready, then answer the first task and each that comes through the pipe with a `Message`.

    Parameters
    ----------
    connection : Connection
        The worker's end of the pipe.
    function_bytes : bytes
        The pickled function.
    memory_limit_bytes : int or None
        What the process may add to its virtual memory, counted from when the function is imported.
    task_bytes : bytes
        The first task, pickled, as those are that come through the pipe.
    """
    _detach()
    try:
        function = pickle.loads(function_bytes)  # noqa: S301  the parent wrote it
    except Exception as error:
        connection.send_bytes(pickle.dumps(("error", None, describe(error))))
        return
    if memory_limit_bytes is not None:
        _limit_memory(memory_limit_bytes)
    connection.send_bytes(pickle.dumps(("ok", None, None)))
    with suppress(EOFError, OSError):  # the parent has closed the pipe: no more tasks
        while True:
            connection.send_bytes(_answer(function, task_bytes, memory_limit_bytes))
            task_bytes = connection.recv_bytes()


def describe(error: BaseException) -> str:
    """Return an exception as one line; one that isn't ours nor the system's is a bug and says where it is."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return _one_line(f"{error.strerror}: {error.filename}")
    if isinstance(error, VidprepError | OSError) and str(error):
        return _one_line(getattr(error, "strerror", None) or str(error))
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    where = f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})" if traceback else ""
    return f"{_name(error)}{where}"


def _name(error: BaseException) -> str:
    text = _one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines())


def _answer(function: Callable[[Any], Any], task_bytes: bytes, memory_limit_bytes: int | None) -> bytes:
    try:
        value = function(pickle.loads(task_bytes))  # noqa: S301  the parent wrote it
    except Exception as error:
        return pickle.dumps(_failure(error, memory_limit_bytes))
    try:
        return pickle.dumps(("ok", value, None))
    except Exception as error:
        kind, _, reason = _failure(error, memory_limit_bytes)
        if kind == "error":
            reason = f"result={type(value).__name__}: can't be pickled ({reason}); return plain data"
        return pickle.dumps((kind, None, reason))


def _failure(error: BaseException, memory_limit_bytes: int | None) -> Message:
    if not _is_out_of_memory(error):
        return "error", None, describe(error)
    error.__traceback__ = None  # lets go of what the task holds: the answer itself needs memory
    return (
        "memory",
        None,
        f"memory_limit_bytes={memory_limit_bytes}: the task needs more memory than its worker can have "
        f"({_name(error)}); raise the limit, use fewer --workers, or cut the video with --segment",
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:  # libraries wrap it
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _detach() -> None:
    """Make this process the head of its own group, deaf to Ctrl-C, and mortal with its parent."""
    os.setsid()  # so that one signal kills it together with the processes that its tasks start
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked by the parent until here
    with suppress(OSError):  # Linux: should the kernel need a victim, then a worker and not the parent
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)


def _limit_memory(limit_bytes: int) -> None:
    try:
        num_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return  # no Linux: other systems don't enforce the limit either
    soft = num_pages * resource.getpagesize() + limit_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
