"""The profiling loop: network after network, a sentinel between, everything journalled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, Protocol

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


class _Visit(NamedTuple):
    """A network to measure: its number in the session, and which visit to it this is."""

    number: int
    sample: Sample
    which: int


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
        The networks of good spells, in the order of measuring.
    """
    sentinel = _model(Sample(zoo.get(SENTINEL), (224, 224), 1))
    spent = sum(record.get("seconds", 0.0) for record in journal.records)
    for _ in range(sum(record.get("drawn", 0) for record in journal.records)):
        next(samples)  # what was measured before the interruption is not measured again
    number = 1 + max((r["number"] for r in journal.records if "number" in r), default=-1)
    again: list[_Visit] = []
    while spent < seconds and (networks is None or len(good_networks(journal.records)) < networks):
        began = time.monotonic()
        fresh = _next(samples, SPELL - len(again), journal, choose)
        waiting = again + [_Visit(number + i, sample, 1) for i, sample in enumerate(fresh)]
        number += len(fresh)
        spell: list[tuple[_Visit, bool]] = []
        for visit in waiting:
            record = _measure(device, fusion, visit.sample)
            took = time.monotonic() - began
            began = time.monotonic()
            spent += took
            if record is None:
                journal.append({"unmatched": visit.sample.name, "seconds": took})
                continue
            line = {"network": to_record(record), "number": visit.number, "seconds": took}
            journal.append(line)
            spell.append((visit, record.contended))
            if spent >= seconds:
                break
        measured = device.measure(sentinel, least_runs=8, least_s=0.0).least_s
        took = time.monotonic() - began
        spent += took
        journal.append({"sentinel_s": measured, "seconds": took})
        times = [r["sentinel_s"] for r in journal.records if "sentinel_s" in r]
        drift = measured / median(times) - 1
        again = [
            visit._replace(which=visit.which + 1)
            for visit, contended in spell
            if (contended or drift > DRIFT) and visit.which < VISITS
        ]
        report(Step(len(good_networks(journal.records)), spent, drift))
    good = good_networks(journal.records)
    return tuple(from_record(record) for record in good[:networks])


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


def good_networks(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the networks of the spells whose sentinel stayed near its median, visits as one."""
    times = [r["sentinel_s"] for r in records if "sentinel_s" in r]
    limit = (1 + DRIFT) * median(times) if times else 0.0
    good: dict[int, dict[str, Any]] = {}
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
    return list(good.values())


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
    timings, whole = device.profile(_model(sample))
    graph = sample.graph()
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


def _model(sample: Sample) -> bytes:
    graph = sample.graph()
    data: bytes = to_onnx(graph, filler(graph)).SerializeToString()
    return data
