"""The pool of processes, with real processes: whatever a task does to its own, the others have their answers."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import engine_tasks
import pytest

from vidprep.engines import ENGINES, Outcome
from vidprep.engines import local as local_engine
from vidprep.engines.local import map_unordered
from vidprep.errors import EngineError, UsageError

MEBIBYTE = 1 << 20
HERE = Path(__file__).resolve().parent


def run(function: Callable[..., Any], tasks: Iterable[Any], **options: Any) -> dict[int, Outcome[Any]]:
    outcomes = list(map_unordered(function, tasks, **{"num_workers": 2} | options))
    by_index = {outcome.index: outcome for outcome in outcomes}
    assert len(by_index) == len(outcomes), "a task was answered twice"
    assert all((outcome.error is None) == (outcome.kind == "ok") for outcome in outcomes)
    assert all("\n" not in outcome.error for outcome in outcomes if outcome.error)
    return by_index


def is_running(pid: int) -> bool:
    """Whether a process exists and isn't a zombie (init of a container may leave those lying)."""
    if sys.platform == "linux":
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
    else:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return state.strip()[:1] not in ("", "Z", "X")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited 20 s in vain"
        time.sleep(0.02)


def pids_in(log: Path) -> list[int]:
    return [int(word) for word in log.read_text().split()] if log.exists() else []


# Answers


@pytest.mark.parametrize(("num_tasks", "num_workers"), [(0, 2), (1, 3), (50, 1), (50, 3)])
def test_every_task_is_answered_once(num_tasks: int, num_workers: int) -> None:
    tasks = random.Random(num_tasks).sample(range(1000), num_tasks)
    outcomes = run(engine_tasks.square, tasks, num_workers=num_workers)
    assert outcomes == {i: Outcome(i, task**2, None, "ok") for i, task in enumerate(tasks)}


def test_no_more_workers_than_tasks_and_each_is_used_again() -> None:
    outcomes = run(engine_tasks.pid, range(20), num_workers=2)
    pids = {outcome.value for outcome in outcomes.values()}
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_outcomes_come_in_the_order_of_completion(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    order = []
    for outcome in map_unordered(engine_tasks.wait_for_file, [gate, None, None], num_workers=2):
        order.append(outcome.index)
        if len(order) == 2:
            gate.touch()
    assert order == [1, 2, 0]


def test_tasks_and_results_larger_than_a_pipe() -> None:
    size = 5 * MEBIBYTE
    (outcome,) = run(engine_tasks.big_result, [size]).values()
    assert outcome.value == b"\x00\xff" * (size // 2)
    (outcome,) = run(len, [bytes(size)]).values()
    assert outcome.value == size


def test_the_table_has_this_engine() -> None:
    (outcome,) = ENGINES["local"](engine_tasks.square, [3], num_workers=1, timeout_seconds=60.0)
    assert outcome.value == 9


# Crashes


def test_a_crash_fails_alone() -> None:
    outcomes = run(engine_tasks.segfault_at_three, range(8))
    crash = outcomes.pop(3)
    assert crash.kind == "crash"
    assert crash.error is not None
    assert "exit=SIGSEGV" in crash.error
    assert "attempts: 2" in crash.error
    assert {i: outcome.value for i, outcome in outcomes.items()} == {i: i for i in range(8) if i != 3}


def test_more_crashes_than_workers() -> None:
    outcomes = run(engine_tasks.kill_itself, [signal.SIGKILL, 0, signal.SIGABRT, 0, signal.SIGBUS, 0])
    assert [outcomes[i].kind for i in range(6)] == ["crash", "ok"] * 3
    reasons = [outcomes[i].error or "" for i in (0, 2, 4)]
    assert "exit=SIGKILL" in reasons[0]
    assert "--workers" in reasons[0]
    assert "exit=SIGABRT" in reasons[1]
    assert "exit=SIGBUS" in reasons[2]


def test_a_signal_without_a_name() -> None:
    (outcome,) = run(engine_tasks.kill_itself, [signal.SIGRTMIN + 3], num_retries=0).values()
    assert f"exit=signal {signal.SIGRTMIN + 3}:" in (outcome.error or "")


def test_a_crash_below_a_memory_limit_mentions_it() -> None:
    options = {"num_retries": 0, "memory_limit_bytes": 400 * MEBIBYTE}
    (outcome,) = run(engine_tasks.kill_itself, [signal.SIGABRT], **options).values()
    assert f"memory_limit_bytes={400 * MEBIBYTE}" in (outcome.error or "")


@pytest.mark.parametrize(
    "function", [engine_tasks.exit_at_once, engine_tasks.exit_as_python_does, engine_tasks.exit_slowly]
)
def test_an_exit_is_a_crash_with_its_status(function: Callable[[int], None]) -> None:
    (outcome,) = run(function, [3], num_retries=0).values()
    assert outcome.kind == "crash"
    assert "exit=status 3" in (outcome.error or "")


def test_a_task_that_crashes_once_is_retried(tmp_path: Path) -> None:
    (outcome,) = run(engine_tasks.crash_the_first_time, [tmp_path / "log"]).values()
    assert outcome == Outcome(0, 2, None, "ok")


@pytest.mark.parametrize("num_retries", [0, 2])
def test_the_number_of_attempts(tmp_path: Path, num_retries: int) -> None:
    (outcome,) = run(engine_tasks.crash_always, [tmp_path / "log"], num_retries=num_retries).values()
    assert outcome.kind == "crash"
    assert (tmp_path / "log").stat().st_size == 1 + num_retries


def test_partial_functions_are_taken(tmp_path: Path) -> None:
    (outcome,) = run(partial(engine_tasks.crash_until, tmp_path / "log"), [1]).values()
    assert outcome.value == 2


def test_what_a_crashed_worker_started_dies_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (outcome,) = run(engine_tasks.crash_with_child, [log], num_retries=0).values()
    assert outcome.kind == "crash"
    (child,) = pids_in(log)
    wait_until(lambda: not is_running(child))


# Time


def test_a_hang_is_killed_with_its_children(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes = run(engine_tasks.hang_with_child, [None, log, None], timeout_seconds=1.0)
    assert [outcomes[i].value for i in (0, 2)] == ["fine", "fine"]
    assert outcomes[1].kind == "timeout"
    reason = outcomes[1].error or ""
    assert "timeout_seconds=1:" in reason
    assert "--timeout" in reason
    assert "attempts: 2" in reason
    pids = pids_in(log)
    assert len(set(pids)) == 4  # a worker and its child, in each of two attempts
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_the_start_of_a_worker_is_not_the_time_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(
        "import multiprocessing, time\n"
        "if multiprocessing.parent_process(): time.sleep(2)\n"
        "def negate(number): return -number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import slow_to_import  # type: ignore[import-not-found]

    outcomes = run(slow_to_import.negate, [1], timeout_seconds=1.0, num_retries=0)
    assert outcomes[0].value == -1


def test_a_slow_consumer_is_not_the_time_of_a_task() -> None:
    options: dict[str, Any] = {"num_workers": 2, "timeout_seconds": 1.0, "num_retries": 0}
    kinds = []
    for outcome in map_unordered(engine_tasks.square, range(4), **options):
        kinds.append(outcome.kind)
        if len(kinds) == 1:
            time.sleep(1.5)  # meanwhile the others end, and lie in the pipes past their deadline
    assert kinds == ["ok"] * 4


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
def test_a_memory_eater_fails_alone() -> None:
    tasks = [MEBIBYTE, 2000 * MEBIBYTE, MEBIBYTE, 2000 * MEBIBYTE, MEBIBYTE]
    outcomes = run(engine_tasks.fill_memory, tasks, num_workers=1, memory_limit_bytes=300 * MEBIBYTE)
    assert [outcomes[i].kind for i in range(5)] == ["ok", "memory", "ok", "memory", "ok"]
    reason = outcomes[1].error or ""
    assert f"memory_limit_bytes={300 * MEBIBYTE}:" in reason
    assert "--workers" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
def test_the_limit_counts_from_what_a_worker_has() -> None:
    sizes = [10 * MEBIBYTE, 30 * MEBIBYTE]  # a bare Python has about as much already
    outcomes = run(engine_tasks.fill_memory, sizes, memory_limit_bytes=20 * MEBIBYTE)
    assert [outcomes[i].kind for i in range(2)] == ["ok", "memory"]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
@pytest.mark.parametrize("function", [engine_tasks.fill_memory_and_wrap, engine_tasks.big_result])
def test_memory_that_fails_elsewhere(function: Callable[[int], Any]) -> None:
    """A library may wrap the MemoryError; the pickling of a result may be what fails."""
    size = 900 * MEBIBYTE if function is engine_tasks.fill_memory_and_wrap else 150 * MEBIBYTE
    (outcome,) = run(function, [size], memory_limit_bytes=250 * MEBIBYTE).values()
    assert outcome.kind == "memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
def test_a_worker_without_any_memory_left_still_answers() -> None:
    tasks = [1 << 30, 1 << 30]
    outcomes = run(engine_tasks.fill_memory_to_the_last_byte, tasks, memory_limit_bytes=64 * MEBIBYTE)
    assert [outcomes[i].kind for i in range(2)] == ["memory"] * 2


def test_a_memory_error_replaces_the_worker_and_is_not_retried() -> None:
    (outcome,) = run(engine_tasks.fail, ["no memory for a process"]).values()
    assert outcome.kind == "memory"
    assert "memory_limit_bytes=None:" in (outcome.error or "")


# Exceptions


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("ours", "path='a.avi': has no video stream; leave it out"),
        ("missing file", "No such file or directory: /no/such/file"),
        ("missing file with an odd name", "No such file or directory: /no such/two  blanks and a line"),
        ("plain OSError", "the device is gone"),
    ],
)
def test_known_errors_give_their_message(how: str, reason: str) -> None:
    (outcome,) = run(engine_tasks.fail, [how]).values()
    assert outcome == Outcome(0, None, reason, "error")


def test_a_bug_names_its_type_and_line() -> None:
    outcomes = run(engine_tasks.fail, ["bug", "unprintable"])
    lines = (HERE / "engine_tasks.py").read_text().splitlines()
    bug_line = lines.index("    raise OddError") + 1
    assert outcomes[0].error == f"OddError ({HERE / 'engine_tasks.py'}:{bug_line})"
    assert (outcomes[1].error or "").startswith("OddError: <function fail")


def test_results_that_can_not_travel() -> None:
    outcomes = run(engine_tasks.unpicklable_result, ["lambda", "fine", "unloadable", "fine"])
    assert [outcomes[i].kind for i in range(4)] == ["error", "ok", "error", "ok"]
    assert "result=function: can't be pickled" in (outcomes[0].error or "")
    assert "can't be unpickled (OddError" in (outcomes[2].error or "")


def test_tasks_that_can_not_travel() -> None:
    outcomes = run(engine_tasks.pid, [lambda: None, 1, engine_tasks.Unloadable()])
    assert [outcomes[i].kind for i in range(3)] == ["error", "ok", "error"]
    assert "task=function: can't be pickled" in (outcomes[0].error or "")
    assert (outcomes[2].error or "").startswith("OddError (")


def test_an_exception_of_the_tasks_passes_through(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def tasks() -> Iterator[Path | None]:
        yield log
        while len(pids_in(log)) < 2:
            yield None
        raise KeyError("no more rows")

    with pytest.raises(KeyError, match="no more rows"):
        run(engine_tasks.hang_with_child, tasks())
    wait_until(lambda: not any(is_running(pid) for pid in pids_in(log)))


@pytest.mark.parametrize(
    "option",
    [
        {"num_workers": 0},
        {"num_workers": -1},
        {"num_retries": -1},
        {"max_ahead": 0},
        {"timeout_seconds": 0.0},
        {"timeout_seconds": float("nan")},
        {"memory_limit_bytes": 0},
    ],
)
def test_numbers_that_can_not_be_meant_are_refused_at_once(option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(UsageError, match=f"{name}={value}: must be"):
        map_unordered(engine_tasks.square, [1], **{"num_workers": 1} | option)


def test_functions_that_workers_can_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="top of a module"):
        map_unordered(lambda task: task, [1], num_workers=1)
    (tmp_path / "vanishing.py").write_text("def negate(number): return -number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing  # type: ignore[import-not-found]

    (tmp_path / "vanishing.py").unlink()
    with pytest.raises(EngineError, match=r"can't import it \(ModuleNotFoundError: No module named 'vanishing'"):
        run(vanishing.negate, [1])


def test_workers_that_never_become_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly.py").write_text(
        "import multiprocessing, os\n"
        "if multiprocessing.parent_process(): os._exit(7)\n"
        "def negate(number): return -number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import deadly  # type: ignore[import-not-found]

    with pytest.raises(EngineError, match="exit=status 7: 3 workers in a row"):
        run(deadly.negate, range(10), num_workers=1)


# Order and bounds


@pytest.mark.parametrize("max_ahead", [1, 3])
def test_no_task_begins_too_far_ahead(tmp_path: Path, max_ahead: int) -> None:
    taken = []

    def tasks() -> Iterator[Path | None]:
        for index in range(10):
            taken.append(index)
            yield tmp_path / "gate" if index == 0 else None

    with closing(map_unordered(engine_tasks.wait_for_file, tasks(), num_workers=2, max_ahead=max_ahead)) as outcomes:
        early = [next(outcomes).index for _ in range(max_ahead - 1)]
        assert sorted(early) == list(range(1, max_ahead))
        if early:
            assert taken == list(range(max_ahead))
        (tmp_path / "gate").touch()
        late = [outcome.index for outcome in outcomes]
    assert sorted(early + late) == list(range(10))
    assert late[0] == 0 or max_ahead > 1


def test_max_ahead_of_one_is_the_order_of_the_input() -> None:
    outcomes = map_unordered(engine_tasks.square, range(12), num_workers=3, max_ahead=1)
    assert [outcome.index for outcome in outcomes] == list(range(12))


# The life of workers


def test_what_a_worker_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    (outcome,) = run(engine_tasks.describe_process, [None]).values()
    facts = outcome.value
    assert facts["is_group_head"]
    assert facts["ignores_ctrl_c"]
    assert facts["blocked_signals"] == []
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert {name: facts["num_threads"].get(name) for name in pools} == dict.fromkeys(pools, "1")
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in os.environ


def test_workers_do_not_keep_the_locks_of_the_parent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as lock, path.open("w") as other:
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(map_unordered(engine_tasks.pid, range(100), num_workers=2)) as outcomes:
            next(outcomes)
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.close()
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_breaking_out_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes = map_unordered(engine_tasks.hang_with_child, [log, None, log], num_workers=2)
    for outcome in outcomes:
        assert outcome.index == 1
        wait_until(lambda: len(pids_in(log)) == 4)
        break
    outcomes.close()
    pids = pids_in(log)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_worker_that_dies_while_idle_costs_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    tasks = [gate, None, None, None]
    with closing(
        map_unordered(engine_tasks.wait_for_file, tasks, num_workers=2, num_retries=0, max_ahead=2)
    ) as outcomes:
        early = next(outcomes)  # task 2 may not begin before task 0 has ended: this worker is idle
        assert early.index == 1
        idle = early.value or 0
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: not is_running(idle))
        gate.touch()
        late = list(outcomes)
    assert {outcome.index: outcome.kind for outcome in late} == dict.fromkeys((0, 2, 3), "ok")


# Whole programs


@contextmanager
def python(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    script = f"import sys, signal\nsys.path.insert(0, {str(HERE)!r})\n" + script
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


HANG = """
import engine_tasks
from pathlib import Path
from vidprep.engines.local import map_unordered
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell leaves it ignored
log = Path(sys.argv[1])
def tasks():
    print("starting", flush=True)
    yield log
    yield log
try:
    list(map_unordered(engine_tasks.hang_with_child, tasks(), num_workers=2))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_die_with_their_parent(tmp_path: Path, signal_number: int) -> None:
    log = tmp_path / "log"
    with python(HANG, log) as parent:
        wait_until(lambda: len(pids_in(log)) == 4)
        parent.send_signal(signal_number)
        assert parent.wait(20) == -signal_number
        wait_until(lambda: not any(is_running(pid) for pid in pids_in(log)))


@pytest.mark.parametrize("delay_seconds", [0.0, 0.05, 0.2, None])
def test_ctrl_c(tmp_path: Path, delay_seconds: float | None) -> None:
    """It reaches the whole foreground group: workers that are just starting, too."""
    log = tmp_path / "log"
    with python(HANG, log) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "starting\n"
        if delay_seconds is None:
            wait_until(lambda: len(pids_in(log)) == 4)
        else:
            time.sleep(delay_seconds)
        os.killpg(parent.pid, signal.SIGINT)
        stdout, stderr = parent.communicate(timeout=20)
    assert (stdout, stderr, parent.returncode) == ("interrupted\n", "", 0)
    wait_until(lambda: not any(is_running(pid) for pid in pids_in(log)))


HANG_WHILE_THE_CONSUMER_FAILS = """
import engine_tasks
from itertools import chain, repeat
from pathlib import Path
from vidprep.engines.local import map_unordered
log = Path(sys.argv[1])
outcomes = map_unordered(engine_tasks.hang_with_child, chain([log], repeat(None)), num_workers=2)
for outcome in outcomes:
    if log.exists() and len(log.read_text().split()) == 2:
        raise KeyError("the consumer's")
"""


def test_an_exception_of_the_consumer_ends_the_program(tmp_path: Path) -> None:
    """The name keeps the generator open until the interpreter ends."""
    log = tmp_path / "log"
    with python(HANG_WHILE_THE_CONSUMER_FAILS, log) as parent:
        _, stderr = parent.communicate(timeout=20)
    assert parent.returncode == 1
    assert stderr.strip().endswith('KeyError: "the consumer\'s"')
    wait_until(lambda: not any(is_running(pid) for pid in pids_in(log)))


@pytest.mark.parametrize("way", ["stdin", "command", "interactive"])
def test_programs_without_a_file(way: str) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import engine_tasks\n"
        "from vidprep.engines.local import map_unordered\n"
        "print(sorted(o.value for o in map_unordered(engine_tasks.square, range(4), num_workers=2)))\n"
    )
    arguments = {"stdin": ["-"], "command": ["-c", script], "interactive": ["-i", "-q", "-"]}[way]
    done = subprocess.run([sys.executable, *arguments], input=script, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[0, 1, 4, 9]\n"
    assert "Error" not in done.stderr


SCRIPT = """
from vidprep.engines.local import map_unordered
from vidprep.errors import VidprepError
def negate(number):
    return -number
def main():
    try:
        print([outcome.value for outcome in map_unordered(negate, [1, 2], num_workers=1)])
    except VidprepError as error:
        print(error)
"""


def test_a_script_may_have_the_function_itself(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT + "if __name__ == '__main__':\n    main()\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[-1, -2]\n", "")


def test_ctrl_c_while_a_worker_imports(tmp_path: Path) -> None:
    """The parent decides; a worker that is still starting must not die, nor write a traceback."""
    ctrl_c = "import os, signal\nif __name__ != '__main__':\n    os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "script.py").write_text(ctrl_c + SCRIPT + "if __name__ == '__main__':\n    main()\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[-1, -2]\n", "")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT + "main()\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert 'under `if __name__ == "__main__":`' in done.stdout


def test_a_function_of_a_program_without_a_file() -> None:
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT + "\nmain()\n", capture_output=True, text=True, timeout=60
    )
    assert "workers can't import it" in done.stdout
    assert "define it in a module" in done.stdout


def test_the_names_of_engines_cost_no_import() -> None:
    check = "import sys, vidprep.engines; print('multiprocessing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n"
    assert local_engine.map_unordered is map_unordered
