"""Profile a device: measure networks as searches visit them, and fit a predictor."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices import spec
from ..devices.lease import lease
from ..devices.registry import connect, described
from ..devices.spec import DeviceSpec
from ..errors import DeviceUnavailableError, HwnasError, TooNoisyError, UsageError
from ..latency.columns import from_kernels
from ..latency.fitting import Networks, adding_up, fit, sequence_of
from ..latency.predictor import Predictor
from ..latency.regressors import Trees
from ..lowering.kernels import Kernel
from ..profiling.profile import NetworkRecord, Profile
from ..profiling.session import Step, WholeNetworks, collect
from ..store import shelf
from ..store.journal import Journal
from . import adapting
from .choosing import LeastSure
from .sampling import inside, resized, samples

LEAST_NETWORKS = 8
"""Networks below which no predictor is fitted."""

PRECISIONS = tuple(spec.BYTES_PER_VALUE)
"""What devices can be measured in; each refuses what it does not know."""

CPU_TREES = Trees(count=300, leaves=15, learning_rate=0.06, min_leaf=5)
"""What learns the residual of a processor's kernels."""


@dataclass(frozen=True)
class Plan:
    """What to profile, and how much.

    Attributes:
        connection: how the device is reached (`devices.registry`), or a device that is reached so.
        minutes: time to measure.
        name: what to call the device; by default the connection and what sets it apart.
        threads: threads that a network runs on; None for the device's own, as below.
        precision: `fp32` or `int8`.
        optimization: onnxruntime's level of graph optimisation, `all` or `basic`.
        networks: measure no more networks than these.
        source: a device whose predictor is adapted to whole-network times; '' to measure kernels.
            `any`: the one that suits best of all that are known.
        seed: chooses the networks.
        resume: go on with an interrupted profile.
    """

    connection: str
    minutes: float = 2.0
    name: str = ""
    threads: int | None = None
    precision: str | None = None
    optimization: str | None = None
    networks: int | None = None
    source: str = ""
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 24 * 60:
            raise UsageError(
                f"--minutes is {self.minutes:g}; give a positive number, 2 for example."
            )
        if self.networks is not None and self.networks < LEAST_NETWORKS:
            raise UsageError(
                f"--networks is {self.networks}; a predictor needs {LEAST_NETWORKS} at least."
            )
        if self.threads is not None and not 1 <= self.threads <= (os.cpu_count() or 1):
            raise UsageError(
                f"--threads is {self.threads}; this machine has {os.cpu_count()} processors."
            )
        for value, known, what in (
            (self.precision, PRECISIONS, "precision"),
            (self.optimization, spec.OPTIMIZATIONS, "optimization"),
        ):
            if value is not None and value not in known:
                raise UsageError(f"--{what} is '{value}'; known are {', '.join(known)}.")


def profile(
    plan: Plan, report: Callable[[Step], None] = lambda step: None
) -> tuple[Predictor, dict[str, Any]]:
    """Measure a device for some minutes and put its profile and predictor on the user's shelf.

    Returns:
        The predictor and a JSON document about it.

    Raises:
        UsageError: a source is unknown, or a journal is another profile's.
        DeviceUnavailableError: the device cannot be reached.
        TooNoisyError: the machine did other work most of the time.
    """
    device = device_of(plan)
    sources = adapting.sources(plan.source, device) if plan.source else {}
    runtime = connect(device)
    if not (sources or runtime.tells_kernels):
        raise UsageError(
            f"'{plan.connection}' tells what whole networks take, not kernels: adapt the predictor "
            "of a device that was profiled, with --from DEVICE (or --from any)."
        )
    with lease(runtime.resource):
        device = replace(device, fusion=runtime.fusion())
    environment = runtime.environment()
    journal_path = shelf.user_shelf("profiles") / f"{device.name}.journal"
    if journal_path.exists() and not plan.resume:
        journal_path.unlink()
    began = datetime.now(timezone.utc)
    header = {"device": device.name, "seed": plan.seed, "source": plan.source, **environment}
    with lease(runtime.resource), Journal(journal_path, header) as journal:
        found = collect(
            WholeNetworks(runtime) if sources else runtime,
            device.fusion,
            resized(
                inside(plan.seed) if sources else samples(plan.seed),
                device.resolution,
                device.batch,
            ),
            journal,
            60 * plan.minutes,
            report,
            networks=plan.networks,
            choose=None if sources else LeastSure(device),
        )
        spent = sum(record.get("seconds", 0.0) for record in journal.records)
        measured = len({r["number"] for r in journal.records if "number" in r})
    networks = found
    if device.threads > 1:
        # Wall time is all there is of several threads, and no CPU time corrects it.
        networks = tuple(network for network in found if not network.contended)
    _check_enough(networks, measured, spent, device.threads)
    provenance = {
        **environment,
        "date": began.date().isoformat(),
        "seed": plan.seed,
        "networks": len(networks),
        "networks_left_out": measured - len(networks),
        "contended_networks": sum(network.contended for network in networks),
        "seconds": round(spent, 1),
    }
    profiled = Profile(device.name, networks, provenance)
    if sources:
        predictor = adapting.adapt(profiled, device, sources)
    else:
        predictor = fit_profile(profiled, device)
    profiled.save(shelf.user_shelf("profiles") / device.name)
    predictor.save(shelf.user_shelf("predictors") / device.name)
    spec.save(device)
    journal_path.unlink()
    told = predictor.card.accuracy
    document = {
        "schema": "hwnas.profile/1",
        "device": device.name,
        "networks": len(networks),
        "kernels": sum(len(network.kernels) for network in networks),
        "accuracy": _told(told["held-out networks"]),
        "accuracy_calm": _told(told.get("held-out calm networks")),
        "elapsed_s": (datetime.now(timezone.utc) - began).total_seconds(),
        "contended_networks": provenance["contended_networks"],
        "networks_left_out": provenance["networks_left_out"],
        "adapted_from": predictor.card.provenance.get("adapted_from"),
        "predictor": str(shelf.user_shelf("predictors") / device.name),
        "environment": environment,
    }
    return predictor, document


def _told(accuracy: dict[str, float] | None) -> dict[str, Any] | None:
    """Return an accuracy of networks as a document has it."""
    if accuracy is None:
        return None
    figures = {name: accuracy[name] for name in ("mape", "within_5", "within_10")}
    return {"networks": int(accuracy["rows"]), **figures}


def _check_enough(
    networks: tuple[NetworkRecord, ...], measured: int, spent_s: float, threads: int
) -> None:
    """Raise an error where too little of what was measured can be trusted."""
    if 2 * len(networks) < measured:
        several = (
            f"{threads} threads need {threads} processors that nothing else uses. "
            if threads > 1
            else ""
        )
        raise TooNoisyError(
            f"the machine did other work during {measured - len(networks)} of {measured} networks. "
            f"{several}Stop what else runs on it, then go on with --resume and more --minutes."
        )
    if len(networks) < LEAST_NETWORKS:
        raise HwnasError(
            f"only {len(networks)} networks were measured in {spent_s:.0f} s, too few for a "
            "predictor. Go on with --resume and more --minutes."
        )


def fit_profile(profile: Profile, device: DeviceSpec) -> Predictor:
    """Fit a predictor to a profile."""
    counts = [len(network.kernels) for network in profile.networks]
    kernels, seconds = kernel_times(profile)
    return fit(
        from_kernels(kernels),
        seconds,
        device=device.name,
        runtime=str(profile.provenance.get("runtime", device.runtime)),
        precision=device.precision,
        feature_set=device.feature_set,
        bytes_per_value=device.bytes_per_value,
        provenance=profile.provenance,
        networks=Networks(sequence_of(counts), network_times(profile, seconds), _calm(profile)),
        regressor=CPU_TREES,
    )


def network_times(profile: Profile, kernels_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each network of a profile takes: its `kernel_times`, times what the median adds.

    A network's least time repeats better than its median, which one burst of other work on the
    machine moves. So networks are fitted by the least, times what the median typically adds.
    """
    rows = sequence_of([len(network.kernels) for network in profile.networks])
    least_s = np.array([network.least_s for network in profile.networks])
    median_s = np.array([network.median_s for network in profile.networks])
    settled_s = np.bincount(rows, weights=kernels_s)
    typical_s: NDArray[np.float64] = settled_s * np.median(median_s / least_s)
    return typical_s


def kernel_times(profile: Profile) -> tuple[list[Kernel], NDArray[np.float64]]:
    """Return the kernels of a profile's networks and times that add up to their network's."""
    pairs = [pair for network in profile.networks for pair in network.kernels]
    rows = sequence_of([len(network.kernels) for network in profile.networks])
    least_s = np.array([network.least_s for network in profile.networks])
    seconds = adding_up(np.array([time_s for _, time_s in pairs]), rows, least_s, _calm(profile))
    return [kernel for kernel, _ in pairs], seconds


def _calm(profile: Profile) -> NDArray[np.bool_]:
    return np.array([not network.contended for network in profile.networks])


def device_of(plan: Plan) -> DeviceSpec:
    """Return the device of the plan's name, or a new one like the connection's own."""
    like = described(plan.connection)
    if not like.connection:
        raise DeviceUnavailableError(
            f"'{plan.connection}' cannot be reached from here, so it cannot be profiled."
        )
    changed = replace(
        like,
        threads=plan.threads or like.threads,
        precision=plan.precision or like.precision,
        optimization=plan.optimization or like.optimization,
    )
    parts = [like.name]
    if changed.threads != like.threads:
        parts.append(f"{changed.threads}threads")
    parts += [
        new
        for new, old in (
            (changed.precision, like.precision),
            (changed.optimization, like.optimization),
        )
        if new != old
    ]
    name = shelf.check_name(plan.name) if plan.name else "-".join(parts)
    if name in spec.names():
        known = spec.load(name)
        asked = (changed.threads, changed.precision, changed.optimization)
        unchanged = (plan.threads, plan.precision, plan.optimization) == (None, None, None)
        if unchanged or asked == (known.threads, known.precision, known.optimization):
            return known
        raise UsageError(
            f"the device '{name}' is known with {known.threads} threads, {known.precision}, "
            f"optimization {known.optimization}; give another --name."
        )
    about = f"{like.connection}, {changed.precision.upper()}, {changed.threads} thread" + (
        "s" if changed.threads > 1 else ""
    )
    if changed.optimization != like.optimization:
        about += f", {changed.optimization} optimisation"
    return replace(changed, name=name, about=f"{about}, called {name}")
