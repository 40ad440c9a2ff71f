"""Profile a device: measure networks as searches visit them, and fit a predictor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..architecture import lower, spaces
from ..architecture.graph import Size
from ..architecture.spaces import Candidate, Space
from ..budgets.oracles import graph_oracle
from ..costs import flops
from ..devices import spec
from ..devices.onnxruntime_cpu import OnnxRuntimeCpu
from ..devices.spec import DeviceSpec
from ..errors import DeviceUnavailableError, HwnasError, TooNoisyError, UsageError
from ..latency.columns import from_kernels
from ..latency.fitting import Networks, fit, sequence_of, without_profiler
from ..latency.predictor import Predictor
from ..latency.regressors import Trees
from ..lowering.kernels import Kernel
from ..profiling.probes import probes
from ..profiling.profile import Profile
from ..profiling.session import Sample, Step, collect
from ..scores.entropy import EntropyScore
from ..searchers.evaluator import Evaluator
from ..searchers.evolution import Evolution
from ..searchers.mutation import AttributeMutation
from ..store import shelf
from ..store.journal import Journal

SIZES = (160, 192, 224, 224, 224, 256, 320)
"""Resolutions that networks are measured at; the default one more often."""

FLOPS = {"resnet": (7e7, 5e9), "mobile": (4e7, 1e9)}
"""Multiply-adds of measured networks: from about two to about eighty milliseconds of a core."""


INSIDE = 3
"""Networks of the search spaces that are measured for each one outside them."""


def connect(connection: str, threads: int = 1) -> OnnxRuntimeCpu:
    """Return the device behind a connection.

    Raises:
        DeviceUnavailableError: this version cannot reach it.
    """
    if connection == "cpu":
        return OnnxRuntimeCpu(threads)
    raise DeviceUnavailableError(
        f"'{connection}' cannot be reached: this version measures 'cpu' only. "
        "'hwnas devices list' shows the devices that have a predictor."
    )


def profile(
    connection: str,
    minutes: float,
    *,
    name: str = "",
    seed: int = 0,
    resume: bool = False,
    report: Callable[[Step], None] = lambda step: None,
) -> tuple[Predictor, dict[str, Any]]:
    """Measure a device for some minutes and put its profile and predictor on the user's shelf.

    Returns:
        The predictor and a JSON document about it.

    Raises:
        UsageError: the minutes are not sensible, or a journal is in the way.
        DeviceUnavailableError: the device cannot be reached.
    """
    if not 0 < minutes <= 24 * 60:
        raise UsageError(f"--minutes is {minutes:g}; give a positive number, 2 for example.")
    device = _described(connection, shelf.check_name(name) if name else connection)
    runtime = connect(connection, device.threads)
    device = replace(device, fusion=runtime.fusion())
    environment = runtime.environment()
    journal_path = shelf.user_shelf("profiles") / f"{device.name}.journal"
    if journal_path.exists() and not resume:
        journal_path.unlink()
    began = datetime.now(timezone.utc)
    with Journal(journal_path, {"device": device.name, "seed": seed, **environment}) as journal:
        networks = collect(runtime, device.fusion, samples(seed), journal, 60 * minutes, report)
        spent = sum(record.get("seconds", 0.0) for record in journal.records)
        dropped = sum("network" in r for r in journal.records) - len(networks)
    if dropped > len(networks):
        raise TooNoisyError(
            f"the machine's speed changed during most of the {dropped + len(networks)} networks: "
            "stop what else runs on it, then go on with --resume and more --minutes."
        )
    if len(networks) < 8:
        raise HwnasError(
            f"only {len(networks)} networks were measured in {spent:.0f} s, too few for a "
            "predictor. Go on with --resume and more --minutes."
        )
    provenance = {
        **environment,
        "date": began.date().isoformat(),
        "seed": seed,
        "networks": len(networks),
        "networks_left_out": dropped,
        "contended_networks": sum(network.contended for network in networks),
        "seconds": round(spent, 1),
    }
    found = Profile(device.name, networks, provenance)
    predictor = fit_profile(found, device)
    found.save(shelf.user_shelf("profiles") / device.name)
    predictor.save(shelf.user_shelf("predictors") / device.name)
    spec.save(device)
    journal_path.unlink()
    told = predictor.card.accuracy["held-out networks"]
    document = {
        "schema": "hwnas.profile/1",
        "device": device.name,
        "networks": len(networks),
        "kernels": sum(len(network.kernels) for network in networks),
        "accuracy": {
            "networks": int(told["rows"]),
            "mape": told["mape"],
            "within_5": told["within_5"],
            "within_10": told["within_10"],
        },
        "elapsed_s": (datetime.now(timezone.utc) - began).total_seconds(),
        "contended_networks": provenance["contended_networks"],
        "networks_left_out": dropped,
        "predictor": str(shelf.user_shelf("predictors") / device.name),
        "environment": environment,
    }
    return predictor, document


def fit_profile(profile: Profile, device: DeviceSpec) -> Predictor:
    """Fit a predictor to a profile.

    A network's least time repeats better than its median, which one burst of other work on the
    machine moves. So networks are fitted by the least, times what the median typically adds.
    """
    counts = [len(network.kernels) for network in profile.networks]
    least_s = np.array([network.least_s for network in profile.networks])
    median_s = np.array([network.median_s for network in profile.networks])
    latency_s = least_s * float(np.median(median_s / least_s))
    kernels, seconds = kernel_times(profile)
    return fit(
        from_kernels(kernels),
        seconds,
        device=device.name,
        runtime=str(profile.provenance.get("runtime", device.runtime)),
        precision=device.precision,
        feature_set="cpu",
        bytes_per_value=device.bytes_per_value,
        provenance=profile.provenance,
        networks=Networks(sequence_of(counts), latency_s),
        regressor=Trees(count=400, leaves=31, learning_rate=0.05, min_leaf=5),
    )


def kernel_times(profile: Profile) -> tuple[list[Kernel], NDArray[np.float64]]:
    """Return the kernels of a profile's networks and their times, without the profiler's part."""
    pairs = [pair for network in profile.networks for pair in network.kernels]
    rows = sequence_of([len(network.kernels) for network in profile.networks])
    least_s = np.array([network.least_s for network in profile.networks])
    seconds = without_profiler(np.array([time_s for _, time_s in pairs]), rows, least_s)
    return [kernel for kernel, _ in pairs], seconds


def samples(seed: int) -> Iterator[Sample]:
    """Yield networks to measure: random ones, and ones on the way of searches.

    The winners of searches are deep and wide in ways that random networks hardly are, so every
    second network is taken from a short evolution under a random budget of FLOPs. Behind each
    three of these comes one outside the search spaces, for the kernels of any other model.
    """
    rng = np.random.default_rng(seed)
    outside = probes(np.random.default_rng([seed, 1]))
    inside = _inside(rng)
    while True:
        yield from itertools.islice(inside, INSIDE)
        name, graph = next(outside)
        yield Sample(None, graph.size, graph.batch, graph, name)


def _inside(rng: np.random.Generator) -> Iterator[Sample]:
    """Yield architectures of the search spaces."""
    known = {name: spaces.load(name) for name in spaces.SHIPPED}
    while True:
        for name, space in known.items():
            size = int(rng.choice(SIZES))
            low, high = FLOPS[name]
            budget = math.exp(rng.uniform(math.log(low), math.log(high)))
            for candidate in (
                _random(space, rng, (size, size), low, high),
                _evolved(space, rng, (size, size), budget),
            ):
                yield Sample(space.decode(candidate), (size, size), 1)


def _random(
    space: Space, rng: np.random.Generator, size: Size, low: float, high: float
) -> Candidate:
    while True:
        candidate = space.sample(rng)
        if low <= flops(lower(space.decode(candidate), size)) <= high:
            return candidate


def _evolved(space: Space, rng: np.random.Generator, size: Size, budget: float) -> Candidate:
    oracles = [graph_oracle("flops", size), graph_oracle("layers", size)]
    evaluator = Evaluator(space, EntropyScore(), oracles, [budget, space.layers])
    first = space.narrowest()
    score = evaluator.evaluate(first)
    if score is None:
        return first
    iterations = 2048
    sampler = Evolution(space, AttributeMutation(space), (first, score), rng, iterations, 32)
    for start in range(0, iterations, 1024):
        sampler.begin(start)
        for _ in range(1024):
            candidate = sampler.ask()
            found = evaluator.evaluate(candidate) if candidate is not None else None
            if candidate is not None and found is not None:
                sampler.tell(candidate, found)
    return sampler.best()[1]


def _described(connection: str, name: str) -> DeviceSpec:
    """Return the device of that name, or a new one like the connection's own."""
    if name in spec.names():
        return spec.load(name)
    like = next((d for d in map(spec.load, spec.names()) if d.connection == connection), None)
    if like is None:
        raise DeviceUnavailableError(
            f"'{connection}' is not a connection of this version: 'cpu' is."
        )
    return replace(like, name=name, about=f"{connection}, profiled as {name}")
