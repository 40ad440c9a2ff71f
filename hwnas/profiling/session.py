"""The profiling loop: network after network, a sentinel between, everything journalled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Protocol

from ..architecture import zoo
from ..architecture.genotype import Architecture, lower
from ..architecture.graph import Graph, Size
from ..devices.contract import Device
from ..devices.measurement import KernelTiming, Measurement
from ..errors import HwnasError
from ..lowering.kernels import Fusion
from ..lowering.onnx_writer import to_onnx
from ..lowering.weights import filler
from ..store.journal import Journal
from .profile import NetworkRecord, from_record, match_graph, to_record

SENTINEL = "mobilenetv2-0.5"
SPELL = 8
"""Networks measured between two runs of the sentinel."""

UNCHOSEN = 2 * SPELL
"""Networks that are measured as they come, before there is anything to choose by."""

CHOICE = 3
"""Networks to choose from for each one measured."""

VISITS = 3
"""How often a network is measured at most, where it was disturbed."""

DRIFT = 0.05
"""How far the sentinel may lie above its own median before a spell counts as bad."""


class WholeNetworks:
    """A device that is asked for whole networks only: it needs no profiler of its own."""

    tells_kernels = False

    def __init__(self, device: Device) -> None:
        self._device = device
        self.resource = device.resource

    def environment(self) -> dict[str, Any]:
        """Return the device's own."""
        return self._device.environment()

    def fusion(self) -> Fusion:
        """Return the device's own."""
        return self._device.fusion()

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Return no kernels, and the network's times."""
        return [], self.measure(model, least_runs=8, least_s=3 * seconds)

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> Measurement:
        """Time a whole network."""
        return self._device.measure(model, least_runs=least_runs, least_s=least_s, most_s=most_s)


@dataclass(frozen=True)
class Sample:
    """A network to be measured: an architecture, or a `probe` graph outside the spaces."""

    architecture: Architecture | None
    resolution: Size
    batch: int
    probe: Graph | None = None
    name: str = ""

    def graph(self) -> Graph:
        """Return the layers of the network."""
        if self.architecture is not None:
            return lower(self.architecture, self.resolution, batch=self.batch)
        if self.probe is None:
            raise ValueError("a sample is an architecture or a probe")
        return self.probe


class Chooser(Protocol):
    """Says what to measure next."""

    def __call__(
        self, pool: Sequence[Sample], known: Sequence[NetworkRecord], count: int
    ) -> list[Sample]:
        """Return `count` samples of the pool, given the networks that were measured so far."""


@dataclass(frozen=True)
class Step:
    """How far a session has come: networks kept, seconds spent, the sentinel's drift."""

    networks: int
    spent_s: float
    drift: float


def collect(
    device: Device,
    fusion: Fusion,
    samples: Iterator[Sample],
    journal: Journal,
    seconds: float,
    report: Callable[[Step], None] = lambda step: None,
    *,
    networks: int | None = None,
    choose: Chooser | None = None,
) -> tuple[NetworkRecord, ...]:
    """Measure networks until the time is over or there are enough; the journal's already count.

    A sentinel network is timed after every few networks. Where it is slow, something else slowed
    the machine down. These networks, and any that was hardly ever calm by itself, are visited
    again in the next spell, twice at most: disturbances only lengthen, so the least of all visits
    counts. Networks that a slow sentinel followed each time are left out.

    Behind the first spells, `choose` picks each spell from three times as many samples; without
    it they are measured as they come.

    Returns:
        The networks of good spells, in the order in which they were drawn.
    """
    spent = sum(record.get("seconds", 0.0) for record in journal.records)
    for _ in range(sum(record.get("drawn", 0) for record in journal.records)):
        next(samples)  # what was measured before the interruption is not measured again
    number = 1 + max((r["number"] for r in journal.records if "number" in r), default=-1)
    again: dict[int, Sample] = {}
    visits = Counter[int]()
    while spent < seconds and (networks is None or len(good_networks(journal.records)) < networks):
        began = time.monotonic()
        fresh = _next(samples, SPELL - len(again), journal, choose)
        waiting = again | dict(enumerate(fresh, number))
        number += len(fresh)
        visits.update(list(waiting))
        spell: list[dict[str, Any]] = []
        for record in measure_spell(device, fusion, waiting, seconds - spent, began):
            journal.append(record)
            spell.append(record)
            spent += record["seconds"]
        times = sentinel_times(journal.records)
        again = {n: waiting[n] for n in disturbed(spell, times) if visits[n] < VISITS}
        report(Step(len(good_networks(journal.records)), spent, drift(times)))
    good = good_networks(journal.records)
    return tuple(from_record(record) for record in good[:networks])


def measure_spell(
    device: Device,
    fusion: Fusion,
    samples: Mapping[int, Sample],
    seconds: float,
    began: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Measure networks until the time is over, then the sentinel; yield a record of each.

    Args:
        device: what to measure on.
        fusion: what its runtime fuses.
        samples: the networks, by their numbers in the session.
        seconds: no further network is begun once so many are over.
        began: since when the time counts, by the monotonic clock; by default now.
    """
    last = first = time.monotonic() if began is None else began
    for number, sample in samples.items():
        network = _measure(device, fusion, sample)
        now = time.monotonic()
        told = {"network": to_record(network)} if network else {"unmatched": sample.name}
        yield {**told, "number": number, "seconds": now - last}
        last = now
        if now - first >= seconds:
            break
    measured = device.measure(_sentinel(), least_runs=8, least_s=0.0).least_s
    yield {"sentinel_s": measured, "seconds": time.monotonic() - last}


def sentinel_times(records: Iterable[dict[str, Any]]) -> list[float]:
    """Return what the sentinel took, spell by spell, in seconds."""
    return [record["sentinel_s"] for record in records if "sentinel_s" in record]


def drift(times_s: Sequence[float]) -> float:
    """Return how far the last time of the sentinel lies above the median of all of them."""
    return times_s[-1] / median(times_s) - 1


def disturbed(spell: Iterable[dict[str, Any]], times_s: Sequence[float]) -> list[int]:
    """Return the numbers of the networks of a spell that another visit should see.

    Args:
        spell: the records of the device's last spell.
        times_s: what the sentinel took on the device, this spell's time the last.
    """
    bad = drift(times_s) > DRIFT
    return [r["number"] for r in spell if "network" in r and (bad or r["network"]["contended"])]


def _next(
    samples: Iterator[Sample], count: int, journal: Journal, choose: Chooser | None
) -> list[Sample]:
    """Return so many samples to measure next."""
    known = good_networks(journal.records) if choose is not None else []
    drawn = CHOICE * count if len(known) >= UNCHOSEN else count
    pool = [next(samples) for _ in range(drawn)]
    if choose is not None and drawn > count:
        pool = choose(pool, [from_record(record) for record in known], count)
    journal.append({"drawn": drawn})
    return pool


def good_networks(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the good networks of one device, in the order of their numbers."""
    return list(good_by_number(records).values())


def good_by_number(*devices: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the networks of the spells whose sentinel stayed near its median, visits as one.

    Args:
        devices: the records of a device's spells, or of several that are interchangeable: each
            has a median of its own.

    Returns:
        The networks by number, in the order of these, whoever measured them.
    """
    good: dict[int, dict[str, Any]] = {}
    for records in devices:
        times = sentinel_times(records)
        limit = (1 + DRIFT) * median(times) if times else 0.0
        spell: list[dict[str, Any]] = []
        for record in records:
            if "network" in record:
                spell.append(record)
            elif "sentinel_s" in record:
                if record["sentinel_s"] <= limit:
                    for visit in spell:
                        known = good.get(visit["number"])
                        network = visit["network"]
                        good[visit["number"]] = _least(known, network) if known else network
                spell = []
    return dict(sorted(good.items()))


def _least(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Return two visits to one network as one: the least time of each, calm if one was."""
    kernels = [
        [*one[:-1], min(one[-1], other[-1])]
        for one, other in zip(a["kernels"], b["kernels"], strict=True)
    ]
    times = {name: min(a[name], b[name]) for name in ("least_s", "median_s")}
    return {**a, **times, "contended": a["contended"] and b["contended"], "kernels": kernels}


def _measure(device: Device, fusion: Fusion, sample: Sample) -> NetworkRecord | None:
    """Measure a network; None where a probe runs other kernels than the fusion rules say."""
    graph = sample.graph()
    timings, whole = device.profile(_model(graph))
    try:
        kernels = match_graph(graph, fusion, timings) if timings else ()
    except ValueError as error:
        if sample.probe is None:
            raise HwnasError(
                f"the runtime does not execute the kernels that hwnas predicts for it: {error}. "
                "Measure whole networks instead, with --from DEVICE or --from any."
            ) from error
        return None
    return NetworkRecord(
        sample.architecture,
        sample.resolution,
        sample.batch,
        whole.least_s,
        whole.typical_s,
        whole.contended,
        kernels,
        sample.name,
    )


@cache
def _sentinel() -> bytes:
    return _model(lower(zoo.get(SENTINEL), (224, 224)))


def _model(graph: Graph) -> bytes:
    data: bytes = to_onnx(graph, filler(graph)).SerializeToString()
    return data
