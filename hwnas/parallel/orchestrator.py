"""The orchestrator: does every task once, on whatever backend, and journals each as it ends."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from .tasks import Failure, Lost, Task, failed

ATTEMPTS = 3
"""Workers that may die of one task before it counts as failed."""


class Backend(Protocol):
    """Workers somewhere. Entering starts or finds them, leaving ends what still runs.

    Attributes:
        gone: the workers that were lost for good, by name, and why.
    """

    @property
    def gone(self) -> Mapping[str, str]: ...  # noqa: D102

    def submit(self, task: Task) -> None:
        """Queue a task for any worker that has its resource."""

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
    follow: Callable[[Outcome], Iterable[Task]] = lambda outcome: (),
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
        follow: returns what else to do once a task has ended.
    """
    known = {record["task"]: record for record in journal.records if "result" in record}
    new, order = deque(tasks), list[Task]()
    outcomes: dict[str, Outcome] = {}
    attempts, to_blame = Counter[str](), Counter[str]()
    while new or len(outcomes) < len(order):
        if new:
            task = new.popleft()
            assert all(task.name != other.name for other in order), "two tasks have one name"
            order.append(task)
            if task.name not in known:
                backend.submit(task)
                continue
            record = known[task.name]
        else:
            task, answer = backend.wait()
            attempts[task.name] += 1
            if isinstance(answer, Lost):
                to_blame[task.name] += not answer.for_good
                if to_blame[task.name] < ATTEMPTS:
                    backend.submit(task)
                    continue
                message = f"its worker was lost {ATTEMPTS} times; the last time {answer.reason}."
                answer = failed(Failure(message))
            record = {"task": task.name, "attempts": attempts[task.name], **json.loads(answer)}
            journal.append(record)
        outcomes[task.name] = outcome = _outcome(task, record)
        report(outcome)
        new.extend(follow(outcome))
    return [outcomes[task.name] for task in order]


def _outcome(task: Task, record: dict[str, Any]) -> Outcome:
    failure = Failure(**record["error"]) if "error" in record else None
    return Outcome(task, record.get("result"), failure, record["attempts"])
