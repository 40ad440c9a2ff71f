"""Worker processes on this machine.

Each worker has a pipe of its own: a worker that dies takes one task with it, where the pools of
the standard library break as a whole.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from ..errors import UsageError
from .tasks import Lost, Task, execute

ENDS_WITHIN_S = 5.0


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection


class ProcessPool:
    """Up to `workers` processes, each started when there is a task for it.

    They are spawned, not forked: a fork would copy the threads' locks of onnxruntime.

    Args:
        workers: how many; by default as many as there are processors for this process.

    Raises:
        UsageError: less than one worker.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = processors() if workers is None else workers
        if self.workers < 1:
            raise UsageError(f"--workers is {workers}; it must be at least 1.")
        self._context = multiprocessing.get_context("spawn")
        self._queue: deque[Task] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Task]] = {}

    def submit(self, task: Task) -> None:
        """Queue a task for any worker."""
        self._queue.append(task)
        self._hand_out()

    def wait(self) -> tuple[Task, str | Lost]:
        """Return the next task that ended with its answer, or with how its worker was lost."""
        pipe = next(p for p in wait(list(self._busy)) if isinstance(p, Connection))
        worker, task = self._busy.pop(pipe)
        answer: str | Lost
        try:
            answer = pipe.recv()
            self._idle.append(worker)
        except (EOFError, OSError):
            pipe.close()
            worker.process.join()
            answer = Lost(_end_of(worker.process.exitcode))
        self._hand_out()
        return task, answer

    def __enter__(self) -> ProcessPool:
        """Return the pool itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers, in the middle of their tasks where they have one."""
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(ENDS_WITHIN_S)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _hand_out(self) -> None:
        while self._queue and len(self._busy) < self.workers:
            worker = self._idle.pop() if self._idle else self._started()
            try:
                worker.pipe.send(self._queue[0])
            except OSError:  # it died while it was idle; another takes the task
                worker.pipe.close()
                worker.process.join()
                continue
            self._busy[worker.pipe] = worker, self._queue.popleft()

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return _Worker(process, ours)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _work(pipe: Connection) -> None:
    """Do tasks until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(execute(task))


def _end_with_parent() -> None:
    """Leave in the middle of a task when the parent was killed: nobody waits for the answer."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"it was killed by {signal.Signals(-exit_code).name}"
    return f"it ended with exit code {exit_code}"
