"""Who does which task: hands them to workers that have what they need, and knows who is gone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import DeviceUnavailableError
from .tasks import Failure, Lost, Station, Task, failed

LOSSES = 2
"""How often in a row a worker with a resource may be lost before it is given up: less often than a
task may lose its worker, so that another worker still has its turn."""


class Desk:
    """Hands tasks to stations: the first task that waits to the first station that may do it.

    Args:
        stations: all there are.

    Attributes:
        gone: the stations that were lost for good, by name, and why.
    """

    def __init__(self, stations: Sequence[Station]) -> None:
        self.gone: dict[str, str] = {}
        self._stations = tuple(stations)
        self._idle = list(stations)
        self._queue: list[Task] = []
        self._losses = Counter[str]()

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)

    def assign(self) -> tuple[Station, Task] | None:
        """Return a task and the station that is busy with it from now on; None where none fits."""
        for task in self._queue:
            for station in self._idle:
                if station.may_do(task):
                    self._queue.remove(task)
                    self._idle.remove(station)
                    return station, task
        return None

    def ended(self, station: Station, answer: str | Lost) -> None:
        """Take a station back with its answer, or learn that it is lost."""
        if isinstance(answer, Lost):
            self._losses[station.name] += 1
            if answer.for_good or (station.resource and self._losses[station.name] >= LOSSES):
                self.gone[station.name] = answer.reason
                return
        else:
            self._losses[station.name] = 0
        self._idle.insert(0, station)  # one that works already is the next to be used

    def stranded(self) -> tuple[Task, str] | None:
        """Return a queued task that no station is left for, with its answer; None where none is."""
        for task in self._queue:
            able = [station for station in self._stations if station.may_do(task)]
            if all(station.name in self.gone for station in able):
                self._queue.remove(task)
                reasons = [self.gone[station.name] for station in able]
                if len(able) > 1:
                    reasons = [f"{s.name}: {why}" for s, why in zip(able, reasons, strict=True)]
                message = " ".join(f"{reason.rstrip('.')}." for reason in reasons)
                return task, failed(Failure(message, DeviceUnavailableError.exit_code))
        return None


class Stationed(ABC):
    """Workers that have stations: a backend, but for how a worker does a task.

    Args:
        stations: all there are.
    """

    def __init__(self, stations: Sequence[Station]) -> None:
        self._desk = Desk(stations)

    @property
    def gone(self) -> Mapping[str, str]:
        """The stations that were lost for good, by name, and why."""
        return self._desk.gone

    def submit(self, task: Task) -> None:
        """Queue a task for any worker that has its resource."""
        self._desk.submit(task)
        self._hand_out()

    def wait(self) -> tuple[Task, str | Lost]:
        """Return the next task that ended with its answer, or with how its worker was lost."""
        stranded = self._desk.stranded()
        if stranded is not None:
            return stranded
        station, task, answer = self._ended()
        self._desk.ended(station, answer)
        self._hand_out()
        return task, answer

    @abstractmethod
    def _begin(self, station: Station, task: Task) -> None:
        """Have a station's worker do a task."""

    @abstractmethod
    def _ended(self) -> tuple[Station, Task, str | Lost]:
        """Return the next task that ended, where, and with which answer."""

    def _hand_out(self) -> None:
        while (assigned := self._desk.assign()) is not None:
            self._begin(*assigned)
