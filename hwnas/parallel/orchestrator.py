"""The orchestrator: does every task once, on whatever backend, and journals each as it ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from .tasks import Failure, Lost, Task

ATTEMPTS = 3
"""Workers that may die of one task before it counts as failed."""


class Backend(Protocol):
    """Workers somewhere. Entering starts or finds them, leaving ends what still runs."""

    def submit(self, task: Task) -> None:
        """Queue a task for any worker."""

    def wait(self) -> tuple[Task, str | Lost]:
        """Return the next task that ended with its answer, or with how its worker was lost."""

    def __enter__(self) -> Backend:
        """Return the backend itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers."""


class Record(Protocol):
    """What survives the process: the answers so far, and a way to add one (`store.Journal`)."""

    records: list[dict[str, Any]]

    def append(self, record: dict[str, Any]) -> None:
        """Add an answer; it is safe once this returns."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended: `result` where `failure` is None. `attempts` counts lost workers too."""

    task: Task
    result: Any
    failure: Failure | None
    attempts: int


def run(
    tasks: Sequence[Task],
    backend: Backend,
    journal: Record,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Do every task that the journal has no result of; return all outcomes in the tasks' order.

    A task whose worker is lost is done again, at most `ATTEMPTS` times in all. One that fails by
    its own error is not, and does not stop the others; a later run with the same journal tries it
    again, since the reason may be gone by then.

    Args:
        tasks: what to do, each name once.
        backend: the workers, entered by the caller.
        journal: holds the answers of an earlier, interrupted run of the same tasks.
        report: told of each outcome as it comes, the journalled ones first.
    """
    by_name = {task.name: task for task in tasks}
    assert len(by_name) == len(tasks), "two tasks have one name"
    outcomes: dict[str, Outcome] = {}
    for record in journal.records:
        if record["task"] in by_name and "result" in record:
            outcomes[record["task"]] = _outcome(by_name[record["task"]], record)
    for outcome in outcomes.values():
        report(outcome)
    attempts = Counter[str]()
    for task in tasks:
        if task.name not in outcomes:
            backend.submit(task)
    while len(outcomes) < len(tasks):
        task, answer = backend.wait()
        attempts[task.name] += 1
        count = attempts[task.name]
        if isinstance(answer, Lost):
            if count < ATTEMPTS:
                backend.submit(task)
                continue
            message = f"its worker was lost {count} times; the last time {answer.reason}."
            answer = json.dumps({"error": {"message": message, "exit_code": 1, "document": {}}})
        record = {"task": task.name, "attempts": count, **json.loads(answer)}
        journal.append(record)
        outcomes[task.name] = _outcome(task, record)
        report(outcomes[task.name])
    return [outcomes[task.name] for task in tasks]


def _outcome(task: Task, record: dict[str, Any]) -> Outcome:
    failure = Failure(**record["error"]) if "error" in record else None
    return Outcome(task, record.get("result"), failure, record["attempts"])
