"""Tasks as data: a function by its name, with JSON arguments and a JSON result; who may do them."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

from ..errors import DeviceLostError, DeviceUnavailableError, HwnasError, InfeasibleError


@dataclass(frozen=True)
class Task:
    """A call that any worker can make: its result depends on nothing but what stands here.

    Attributes:
        name: unique among the tasks of a run; the journal knows the task by it.
        function: `package.module:function`, importable wherever workers run.
        arguments: its keyword arguments, as JSON data.
        resource: what a worker must have to do it (`Station`); '' for any worker.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    resource: str = ""


@dataclass(frozen=True)
class Station:
    """A worker's place. It does one task at a time.

    Attributes:
        name: unique among the stations; on a cluster, the resource of the node that has it.
        resource: what it has, as tasks ask for it; stations of one resource are interchangeable.
            A task may also ask for one station by its name.
        arguments: what every function is called with besides the task's own arguments.
    """

    name: str
    resource: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def may_do(self, task: Task) -> bool:
        """Whether a task can be done here."""
        return task.resource in ("", self.resource, self.name)


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: the error's message, exit code and, where it has one, document."""

    message: str
    exit_code: int = 1
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """No answer: the worker died before it gave one. The task can be done again elsewhere.

    `for_good` says that the worker will not come back: the task is not to blame for it.
    """

    reason: str
    for_good: bool = False


def execute(task: Task, station: Station | None = None) -> str | Lost:
    """Call a task's function and return `{"result": ...}` or `{"error": ...}` as JSON text.

    An error of the task is an answer like any other: repeating the call would repeat the error.
    Only where the device of the worker's `station` is out of reach, another one may do better.
    The answer is text already here, so that it is the same to the bit whether it comes from a
    worker or, later, from the journal.
    """
    own = station.arguments if station is not None else {}
    try:
        module, _, function = task.function.partition(":")
        answer = {"result": getattr(import_module(module), function)(**task.arguments, **own)}
        return json.dumps(answer)
    except HwnasError as error:
        if own and isinstance(error, DeviceUnavailableError):
            # One that went away half-way may be back for the next task, which will find out.
            return Lost(str(error), for_good=not isinstance(error, DeviceLostError))
        document = error.document if isinstance(error, InfeasibleError) else {}
        failure = Failure(str(error), error.exit_code, document)
    except Exception as error:
        failure = Failure(
            f"internal error: {type(error).__name__}: {error}",
            document={"traceback": traceback.format_exc()},
        )
    return failed(failure)


def failed(failure: Failure) -> str:
    """Return the answer of a task that has no result."""
    return json.dumps({"error": asdict(failure)})
