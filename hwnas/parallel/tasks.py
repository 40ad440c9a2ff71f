"""Tasks as data: a function by its name, with JSON arguments and a JSON result."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

from ..errors import HwnasError, InfeasibleError


@dataclass(frozen=True)
class Task:
    """A call that any worker can make: its result depends on nothing but what stands here.

    Attributes:
        name: unique among the tasks of a run; the journal knows the task by it.
        function: `package.module:function`, importable wherever workers run.
        arguments: its keyword arguments, as JSON data.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a task has no result: the error's message, exit code and, where it has one, document."""

    message: str
    exit_code: int = 1
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """No answer: the worker died before it gave one. The task can be done again elsewhere."""

    reason: str


def execute(task: Task) -> str:
    """Call a task's function and return `{"result": ...}` or `{"error": ...}` as JSON text.

    An error of the task is an answer like any other: repeating the call would repeat the error.
    The answer is text already here, so that it is the same to the bit whether it comes from a
    worker or, later, from the journal.
    """
    try:
        module, _, function = task.function.partition(":")
        answer = {"result": getattr(import_module(module), function)(**task.arguments)}
        return json.dumps(answer)
    except HwnasError as error:
        document = error.document if isinstance(error, InfeasibleError) else {}
        failure = Failure(str(error), error.exit_code, document)
    except Exception as error:
        failure = Failure(
            f"internal error: {type(error).__name__}: {error}",
            document={"traceback": traceback.format_exc()},
        )
    return json.dumps({"error": asdict(failure)})
