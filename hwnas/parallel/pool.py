"""Worker processes on this machine.

Each worker has a pipe of its own: a worker that dies takes one task with it, where the pools of
the standard library break as a whole.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from ..errors import UsageError
from .desk import Stationed
from .tasks import Lost, Station, Task, execute

ENDS_WITHIN_S = 5.0


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection


class ProcessPool(Stationed):
    """Up to `workers` processes, or one a station, each started when there is a task for it.

    They are spawned, not forked: a fork would copy the threads' locks of onnxruntime.

    Args:
        workers: how many; by default as many as there are processors for this process.
        stations: what each worker has, in place of `workers` that have nothing of their own.

    Raises:
        UsageError: less than one worker.
    """

    def __init__(self, workers: int | None = None, stations: Sequence[Station] = ()) -> None:
        self.workers = processors() if workers is None else workers
        if self.workers < 1:
            raise UsageError(f"--workers is {workers}; it must be at least 1.")
        self._context = multiprocessing.get_context("spawn")
        super().__init__(stations or [Station(f"worker {i}") for i in range(self.workers)])
        self._workers: dict[str, _Worker] = {}
        self._busy: dict[Connection, tuple[Station, Task]] = {}

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
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(ENDS_WITHIN_S)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _begin(self, station: Station, task: Task) -> None:
        while True:
            if station.name not in self._workers:
                self._workers[station.name] = self._started(station)
            worker = self._workers[station.name]
            try:
                worker.pipe.send(task)
            except OSError:  # it died while it was idle; another one takes its place
                self._buried(station)
                continue
            self._busy[worker.pipe] = station, task
            return

    def _ended(self) -> tuple[Station, Task, str | Lost]:
        pipe = next(p for p in wait(list(self._busy)) if isinstance(p, Connection))
        station, task = self._busy.pop(pipe)
        answer: str | Lost
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            answer = Lost(_end_of(self._buried(station)))
        return station, task, answer

    def _started(self, station: Station) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, station), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the worker does
        return _Worker(process, ours)

    def _buried(self, station: Station) -> int | None:
        """Forget a station's dead worker, and return its exit code."""
        worker = self._workers.pop(station.name)
        worker.pipe.close()
        worker.process.join()
        return worker.process.exitcode


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _work(pipe: Connection, station: Station) -> None:
    """Do tasks until the pipe ends."""
    # The parent ends its workers itself. Signals are not ignored but handled by doing nothing:
    # what a task starts, such as adb, would inherit that they are ignored.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    # Being ended is an exit, so that a task ends what it started and removes its files.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(execute(task, station))


def _end_with_parent() -> None:
    """Leave in the middle of a task when the parent was killed: nobody waits for the answer."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDS_WITHIN_S)
    os._exit(1)


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"it was killed by {signal.Signals(-exit_code).name}"
    return f"it ended with exit code {exit_code}"
