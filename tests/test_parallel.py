"""Tasks on a process pool: lost workers, failures, and runs that go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import DeviceUnavailableError, InfeasibleError, UsageError
from hwnas.parallel.orchestrator import ATTEMPTS, Outcome, run
from hwnas.parallel.pool import ProcessPool
from hwnas.parallel.ray_cluster import RayCluster
from hwnas.parallel.tasks import Task, execute
from hwnas.store.journal import Journal


def shout(word: str, seconds: float = 0.0, calls: str = "") -> dict[str, Any]:
    """What the tasks of these tests do; leaves a trace of each call in a file."""
    if calls:
        with Path(calls).open("a") as file:
            file.write(f"{word}\n")
    time.sleep(seconds)
    return {"word": word.upper(), "third": 1 / 3}


def die(until: str) -> str:
    """Kill the worker as long as there is no file `until`, which the first call makes."""
    if not Path(until).exists():
        Path(until).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die_always() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(kind: str, calls: str = "") -> None:
    shout(kind, calls=calls)
    if kind == "infeasible":
        raise InfeasibleError("nothing fits", {"costs": [1]})
    if kind == "usage":
        raise UsageError("not so")
    raise RuntimeError("a bug")


def task(name: str, function: str, **arguments: Any) -> Task:
    return Task(name, f"{__name__}:{function}", arguments)


def outcomes(tasks: list[Task], journal: Path, workers: int = 2) -> list[Outcome]:
    with Journal(journal, {}) as record, ProcessPool(workers) as pool:
        return run(tasks, pool, record)


def test_outcomes_come_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    tasks = [task(w, "shout", word=w, seconds=s) for w, s in (("a", 0.5), ("b", 0), ("c", 0))]
    ended: list[str] = []
    with Journal(tmp_path / "j", {}) as record, ProcessPool(2) as pool:
        found = run(tasks, pool, record, lambda outcome: ended.append(outcome.task.name))
    assert [outcome.task.name for outcome in found] == ["a", "b", "c"]
    assert ended[-1] == "a"
    assert [outcome.result for outcome in found] == [
        {"word": w, "third": 1 / 3} for w in ("A", "B", "C")
    ]
    assert {outcome.attempts for outcome in found} == {1}


def test_a_dead_workers_task_is_done_again(tmp_path: Path) -> None:
    tasks = [task(w, "shout", word=w, seconds=0.2) for w in "abcd"]
    tasks.insert(1, task("dies", "die", until=str(tmp_path / "once")))
    found = {outcome.task.name: outcome for outcome in outcomes(tasks, tmp_path / "j")}
    assert found["dies"].result == "survived"
    assert {name: outcome.attempts for name, outcome in found.items()} == {
        "a": 1, "b": 1, "c": 1, "d": 1, "dies": 2,
    }  # fmt: skip


def test_a_task_that_kills_every_worker_fails_alone(tmp_path: Path) -> None:
    tasks = [task("dies", "die_always"), task("a", "shout", word="a")]
    dead, alive = outcomes(tasks, tmp_path / "j", workers=1)
    assert dead.failure is not None
    assert "SIGKILL" in dead.failure.message
    assert dead.attempts == ATTEMPTS
    assert alive.result["word"] == "A"


def test_a_tasks_own_error_is_its_answer(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    kinds = ("infeasible", "usage", "bug")
    found = outcomes([task(k, "fail", kind=k, calls=str(calls)) for k in kinds], tmp_path / "j")
    failures = [outcome.failure for outcome in found]
    assert [(f.message, f.exit_code) for f in failures if f is not None] == [
        ("nothing fits", 3),
        ("not so", 2),
        ("internal error: RuntimeError: a bug", 1),
    ]
    assert failures[0] is not None
    assert failures[0].document == {"costs": [1]}
    assert sorted(calls.read_text().split()) == sorted(kinds)


def test_what_was_journalled_is_not_done_again(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    tasks = [task(w, "shout", word=w, calls=str(calls)) for w in "ab"]
    tasks.append(task("usage", "fail", kind="usage", calls=str(calls)))
    first = outcomes([tasks[0], tasks[2]], tmp_path / "j")
    again = outcomes(tasks, tmp_path / "j")
    assert again[0] == first[0]
    assert again[1].result["word"] == "B"
    # A failure is tried again: its reason may be gone.
    assert sorted(calls.read_text().split()) == ["a", "b", "usage", "usage"]


def test_an_interrupted_pool_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ProcessPool(2) as pool:
        for word in "abc":
            pool.submit(task(word, "shout", word=word, seconds=60))
        workers = [worker.process for worker, _ in pool._busy.values()]
        assert all(process.is_alive() for process in workers)
        raise KeyboardInterrupt
    assert len(workers) == 2
    assert not any(process.is_alive() for process in workers)


def test_answers_that_json_cannot_hold_are_errors() -> None:
    assert "internal error: TypeError" in execute(Task("t", "builtins:set", {}))


def test_backends_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ProcessPool(0)
    with pytest.raises(DeviceUnavailableError, match=r"hwnas\[ray\]|no Ray cluster answers"):
        RayCluster("127.0.0.1:9").__enter__()
