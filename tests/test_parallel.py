"""Tasks on a process pool: lost workers, failures, and runs that go on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import (
    DeviceLostError,
    DeviceUnavailableError,
    InfeasibleError,
    UsageError,
)
from hwnas.parallel.orchestrator import ATTEMPTS, Outcome, run
from hwnas.parallel.pool import ProcessPool
from hwnas.parallel.ray_cluster import RayCluster
from hwnas.parallel.tasks import Station, Task, execute
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


def where(station: str, until: str = "", seconds: float = 0.0) -> str:
    """Say which station this is; `lost` and `away` have no device behind them."""
    if station == "lost" and Path(until).exists():
        raise DeviceLostError("the cable was pulled.")
    if station == "away":
        raise DeviceUnavailableError("plug it in.")
    if station == "dies":
        die_always()
    if until:
        Path(until).touch()
    time.sleep(seconds)
    return station


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
        workers = [worker.process for worker in pool._workers.values()]
        assert all(process.is_alive() for process in workers)
        raise KeyboardInterrupt
    assert len(workers) == 2
    assert not any(process.is_alive() for process in workers)


def own_things(said: str) -> None:
    """Begin what a task over ssh or adb begins, files and another process, and say what."""
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(["sleep", "60"]) as child:
        try:
            Path(f"{said}.part").write_text(f"{folder} {child.pid}")
            Path(f"{said}.part").rename(said)
            time.sleep(60)
        finally:
            child.kill()


def test_an_ended_worker_leaves_no_files_and_processes(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with ProcessPool(1) as pool:
        pool.submit(task("t", "own_things", said=str(said)))
        deadline = time.monotonic() + 30
        while not said.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        folder, child = said.read_text().split()
        blocked = Path(f"/proc/{child}/status").read_text().partition("SigIgn:")[2].split()[0]
        assert not int(blocked, 16) & 1 << (signal.SIGINT - 1)  # Ctrl-C ends it, too
    assert not Path(folder).exists()
    assert not Path(f"/proc/{child}").exists()


def stations(*names: str, resource: str = "phone") -> list[Station]:
    return [Station(name, resource, {"station": name}) for name in names]


def test_a_station_does_one_task_at_a_time_and_only_its_own(tmp_path: Path) -> None:
    own = [*stations("a", "b"), *stations("c", resource="board")]
    tasks = [Task(str(i), f"{__name__}:where", {"seconds": 0.2}, "phone") for i in range(4)]
    tasks += [Task(n, f"{__name__}:where", {"seconds": 0.2}, "board") for n in ("x", "y")]
    tasks.append(Task("b's", f"{__name__}:where", {}, "b"))
    busy: list[set[str]] = []
    with Journal(tmp_path / "j", {}) as record, ProcessPool(stations=own) as pool:
        look = lambda outcome: busy.append({s.name for s, _ in pool._busy.values()})  # noqa: E731
        found = {outcome.task.name: outcome.result for outcome in run(tasks, pool, record, look)}
    assert {found[str(i)] for i in range(4)} == {"a", "b"}
    assert (found["x"], found["y"], found["b's"]) == ("c", "c", "b")
    assert max(map(len, busy)) == 3


def test_what_a_lost_station_was_doing_another_one_does(tmp_path: Path) -> None:
    own = stations("lost", "away", "dies", "well")
    until = str(tmp_path / "until")
    Path(until).touch()
    tasks = [Task(str(i), f"{__name__}:where", {"until": until}, "phone") for i in range(8)]
    tasks.append(Task("hello", f"{__name__}:where", {}, "away"))
    with Journal(tmp_path / "j", {}) as record, ProcessPool(stations=own) as pool:
        *found, hello = run(tasks, pool, record)
        assert pool.gone == {
            "away": "plug it in.",
            "lost": "the cable was pulled.",
            "dies": "it was killed by SIGKILL",
        }
    assert [outcome.result for outcome in found] == ["well"] * 8
    assert hello.failure is not None
    assert (hello.failure.message, hello.failure.exit_code) == ("plug it in.", 4)


def test_tasks_that_no_station_is_left_for_say_why(tmp_path: Path) -> None:
    own = stations("away", "dies")
    with Journal(tmp_path / "j", {}) as record, ProcessPool(stations=own) as pool:
        (one,) = run([Task("t", f"{__name__}:where", {}, "phone")], pool, record)
    assert one.failure is not None
    assert one.failure.message == "away: plug it in. dies: it was killed by SIGKILL."
    assert one.failure.exit_code == 4


def test_tasks_may_follow_from_others_and_are_found_in_the_journal(tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def said(letter: str) -> Task:
        return task(letter, "shout", word=letter, calls=str(calls))

    def up_to(last: str) -> list[Outcome]:
        def follow(outcome: Outcome) -> list[Task]:
            name = outcome.task.name
            return [said(chr(ord(name) + 1))] if name < last else []

        with Journal(tmp_path / "j", {}) as record, ProcessPool(1) as pool:
            return run([said("a")], pool, record, follow=follow)

    up_to("b")
    found = up_to("d")
    assert [outcome.result["word"] for outcome in found] == list("ABCD")
    assert calls.read_text().split() == list("abcd")


def test_answers_that_json_cannot_hold_are_errors() -> None:
    assert "internal error: TypeError" in execute(Task("t", "builtins:set", {}))


def test_backends_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ProcessPool(0)
    with pytest.raises(DeviceUnavailableError, match=r"hwnas\[ray\]|no Ray cluster answers"):
        RayCluster("127.0.0.1:9").__enter__()
