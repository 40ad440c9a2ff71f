"""The work of one kind in a farm: which networks to measure next, and what came of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from ..parallel.tasks import Failure, Task
from ..profiling.profile import from_record
from ..profiling.session import (
    SPELL,
    VISITS,
    disturbed,
    drift,
    good_by_number,
    sentinel_times,
)
from .farm_spec import Kind
from .profiled import Measured

TASKS = "hwnas.workflows.farm_tasks"
"""The module of the functions that workers call."""


class Work:
    """The spells of one kind, shared among its units.

    Networks are numbered as the seed draws them. A spell takes first what is to be visited again,
    then the lowest numbers that nobody has. So the networks kept are the first good ones by number,
    whichever unit measured them and in whatever order the spells ended.

    Attributes:
        kind: what is measured.
        failure: why it cannot go on; None where it can.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.failure: Failure | None = None
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._visits = Counter[int]()
        self._again: list[int] = []
        self._flying: dict[str, list[int]] = {}
        self._names = itertools.count(1)

    def tell(self, result: dict[str, Any]) -> None:
        """Take in what a spell measured, now or before an interruption."""
        records = self._records.setdefault(result["unit"], [])
        records += result["records"]
        seen = [record["number"] for record in result["records"] if "number" in record]
        self._visits.update(seen)
        bad = disturbed(result["records"], sentinel_times(records))
        self._again = [number for number in self._again if number not in seen]
        self._again += [number for number in bad if self._visits[number] < VISITS]

    def ended(self, task: Task, failure: Failure | None) -> None:
        """Learn that a task is over; an error of its own ends the kind's work."""
        self._flying.pop(task.name)
        self.failure = self.failure or failure

    def next(self, run: int, units: int) -> Iterator[Task]:
        """Yield spells while there is work left and units have nothing to do.

        Args:
            run: the number of this run of the farm, which makes names unique.
            units: how many there are to share the work.
        """
        while self.failure is None and len(self._flying) < units and not self.complete:
            flying = self._in_flight()
            again, self._again = self._again[:SPELL], self._again[SPELL:]
            fresh = (n for n in itertools.count() if n not in self._visits and n not in flying)
            numbers = again + list(itertools.islice(fresh, SPELL - len(again)))
            name = f"{run}.spell.{self.kind.device.name}.{next(self._names)}"
            self._flying[name] = numbers
            arguments = {
                "kind": self.kind.device.name,
                "numbers": numbers,
                "seed": self.kind.plan.seed,
                "whole": bool(self.kind.sources),
                "seconds": self._left_s(),
            }
            yield Task(name, f"{TASKS}:spell", arguments, self.kind.device.name)

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to begin: networks are enough, or the time is over."""
        most = self.kind.plan.networks
        expected = good_by_number(*self._records.values()).keys() | self._in_flight()
        return self._left_s() <= 0 or (most is not None and len(expected) >= most)

    @property
    def networks(self) -> int:
        """How many networks are good so far."""
        return len(good_by_number(*self._records.values()))

    @property
    def spent_s(self) -> float:
        """The time that all units together measured, in seconds."""
        taken: list[float] = [r["seconds"] for rs in self._records.values() for r in rs]
        return sum(taken)

    def measured(self, provenance: dict[str, Any]) -> Measured:
        """Return what was measured, cut to the number of networks that was asked for."""
        good = good_by_number(*self._records.values())
        kept = dict(itertools.islice(good.items(), self.kind.plan.networks))
        # What was begun beyond the last network needed depends on how the spells overlapped.
        last = max(kept, default=0) if len(kept) < len(good) else max(self._visits, default=0)
        numbers = {
            record["number"]
            for records in self._records.values()
            for record in records
            if "network" in record and record["number"] <= last
        }
        networks = tuple(from_record(record) for record in kept.values())
        return Measured(networks, len(numbers), self.spent_s, provenance)

    def table(self) -> list[dict[str, Any]]:
        """Return what each unit did, as JSON data.

        `sentinel_ratio` compares the same network's median time with that of the quickest unit;
        `drift` is how far it lay above the unit's own median at worst.
        """
        medians = {unit: median(sentinel_times(records)) for unit, records in self._records.items()}
        return [
            {
                "device": unit,
                "kind": self.kind.device.name,
                "connection": self.kind.units[unit].connection,
                **self._did(self._records.get(unit, [])),
                "sentinel_s": medians.get(unit),
                "sentinel_ratio": medians[unit] / min(medians.values())
                if unit in medians
                else None,
            }
            for unit in self.kind.units
        ]

    def _in_flight(self) -> set[int]:
        return {number for numbers in self._flying.values() for number in numbers}

    def _left_s(self) -> float:
        """The time that a unit has left, on the average of those that measured anything."""
        return 60 * self.kind.plan.minutes - self.spent_s / max(1, len(self._records))

    @staticmethod
    def _did(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        times = sentinel_times(records)
        return {
            "networks": sum("network" in record for record in records),
            "spells": len(times),
            "seconds": sum(record["seconds"] for record in records),
            "drift": drift(sorted(times)) if times else None,
        }
