"""Stations on a Ray cluster: one actor each, on the node that has the resource of its name."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .desk import Stationed
from .ray_cluster import RayConnection, lost
from .tasks import Lost, Station, Task, execute

RESERVED = {"CPU", "GPU", "memory", "object_store_memory"}
"""Resources that Ray itself has."""

POLL_S = 1.0
STARTS_WITHIN_S = 60.0
"""How long an actor waits for its node: as long as a client for a device (`devices.lease`)."""


@dataclass
class _Actor:
    handle: Any
    ready: Any
    began: float
    started: bool = False


class RayStations(Stationed, RayConnection):
    """One actor a station. It takes the whole resource of the station's name, so that no other
    client of the cluster has the same device.

    Args:
        address: as of `RayConnection`; `local` starts a cluster that has all resources.
        stations: what there is to be done on.

    Raises:
        UsageError: a station's name is one of Ray's own resources.
    """

    def __init__(self, address: str, stations: Sequence[Station]) -> None:
        Stationed.__init__(self, stations)
        RayConnection.__init__(self, address)
        for station in stations:
            if station.name in RESERVED:
                raise UsageError(
                    f"'{station.name}' is a resource of Ray's own; give the device another name."
                )
        self._stations = stations
        self._actors: dict[str, _Actor] = {}
        self._busy: dict[Any, tuple[Station, Task]] = {}

    def options(self) -> dict[str, Any]:
        """Return what a cluster is started with here: all resources."""
        named = {station.name: 1 for station in self._stations}
        return {**super().options(), **({"resources": named} if self.address == "local" else {})}

    def _begin(self, station: Station, task: Task) -> None:
        if station.name not in self._actors:
            self._actors[station.name] = self._started(station)
        reference = self._actors[station.name].handle.execute.remote(task, station)
        self._busy[reference] = station, task

    def _ended(self) -> tuple[Station, Task, str | Lost]:
        import ray

        reference, answer = self._next()
        station, task = self._busy.pop(reference)
        if isinstance(answer, Lost):
            # The next task gets a new actor, unless the station is gone for good.
            ray.kill(self._actors.pop(station.name).handle)
        return station, task, answer

    def _next(self) -> tuple[Any, str | Lost]:
        """Wait for the next answer, or for a station that turns out to be out of reach."""
        import ray

        while True:
            done, _ = ray.wait(list(self._busy), num_returns=1, timeout=POLL_S)
            for reference in done:
                return reference, self._answer(reference)
            for reference, (station, _) in self._busy.items():
                reason = self._out_of_reach(station)
                if reason:
                    return reference, Lost(reason, for_good=True)

    def _started(self, station: Station) -> _Actor:
        import ray

        actor: Any = ray.remote(num_cpus=0, resources={station.name: 1}, max_restarts=0)
        handle = actor(Worker).remote()
        return _Actor(handle, handle.ready.remote(), time.monotonic())

    def _answer(self, reference: Any) -> str | Lost:
        import ray

        station, _ = self._busy[reference]
        try:
            answer: str | Lost = ray.get(reference)
        except ray.exceptions.RayError as error:
            if self._hosted(station):
                return lost(error)
            return Lost(self._out_of_reach(station), for_good=True)
        return answer

    def _out_of_reach(self, station: Station) -> str:
        """Return why a station cannot be had, and what mends it; '' where it can."""
        import ray

        if not self._hosted(station):
            resources = json.dumps({station.name: 1})
            address = self.address if ":" in self.address else "HOST:PORT"
            return (
                f"no node of the Ray cluster has the resource '{station.name}'. On the machine "
                f"that reaches the device: ray start --address={address} --resources='{resources}'"
            )
        actor = self._actors[station.name]
        actor.started = actor.started or bool(ray.wait([actor.ready], timeout=0)[0])
        if not actor.started and time.monotonic() - actor.began > STARTS_WITHIN_S:
            return (
                f"another client of the Ray cluster has the resource '{station.name}'. Wait until "
                "it ends, or end it, and repeat the command."
            )
        return ""

    @staticmethod
    def _hosted(station: Station) -> bool:
        import ray

        resources: Any = ray.cluster_resources
        return bool(resources().get(station.name))


class Worker:
    """What runs on the node."""

    def ready(self) -> None:
        """Return once the actor runs."""

    def execute(self, task: Task, station: Station) -> str | Lost:
        """Do a task; see `tasks.execute`."""
        return execute(task, station)
