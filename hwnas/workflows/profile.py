"""Profile a device: measure networks as searches visit them, and fit a predictor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ..devices import spec
from ..devices.lease import lease
from ..devices.registry import connect, described, is_remote
from ..devices.spec import DeviceSpec
from ..errors import DeviceUnavailableError, UsageError
from ..latency.predictor import Predictor
from ..profiling.session import Sample, Step, WholeNetworks, collect
from ..store import shelf
from ..store.journal import Journal
from ..store.locks import HeldError, lock
from . import adapting
from .choosing import LeastSure
from .profiled import LEAST_NETWORKS, Measured, keep
from .sampling import inside, resized, samples

PRECISIONS = tuple(spec.BYTES_PER_VALUE)
"""What devices can be measured in; each refuses what it does not know."""


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
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads is {self.threads}; one is the least.")
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
        DeviceUnavailableError: the device cannot be reached, or another client profiles it.
        TooNoisyError: the machine did other work most of the time.
    """
    device = device_of(plan)
    with alone(device.name):
        return _profile(plan, device, report)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep other clients from profiling a device of that name: they would delete its journal.

    The lease of what is measured is given back before the predictor is fitted.

    Raises:
        DeviceUnavailableError: another client does; the message names it.
        HwnasError: the shelf cannot be written.
    """
    try:
        with lock(shelf.user_shelf("profiles") / f"{name}.lock", 0.0):
            yield
    except HeldError as error:
        raise DeviceUnavailableError(
            f"'{name}' is being profiled by {error.holder}; a second profile would take the place "
            "of what that one measured. Wait until it ends, or end it, and repeat the command; or "
            "give another --name."
        ) from None


def _profile(
    plan: Plan, device: DeviceSpec, report: Callable[[Step], None]
) -> tuple[Predictor, dict[str, Any]]:
    sources = adapting.sources(plan.source, device) if plan.source else {}
    runtime = connect(device)
    check_kernels(plan, runtime.tells_kernels)
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
            drawn(plan.seed, device, whole=bool(sources)),
            journal,
            60 * plan.minutes,
            report,
            networks=plan.networks,
            choose=None if sources else LeastSure(device),
        )
        spent_s = sum(record.get("seconds", 0.0) for record in journal.records)
        measured = len({r["number"] for r in journal.records if "network" in r})
    began_on = {"date": began.date().isoformat(), "seed": plan.seed}
    predictor, document = keep(
        device,
        Measured(found, measured, spent_s, environment | began_on),
        sources,
        {"seconds": round(spent_s, 1)},
    )
    journal_path.unlink()
    return predictor, {
        **document,
        "elapsed_s": (datetime.now(timezone.utc) - began).total_seconds(),
        "predictor": str(shelf.user_shelf("predictors") / device.name),
        "environment": environment,
    }


def check_kernels(plan: Plan, tells_kernels: bool) -> None:
    """Raise where a plan needs kernels of a device that tells whole networks only.

    Raises:
        UsageError: it does.
    """
    if not (plan.source or tells_kernels):
        raise UsageError(
            f"'{plan.connection}' tells what whole networks take, not kernels: adapt the predictor "
            "of a device that was profiled, with --from DEVICE (or --from any)."
        )


def drawn(seed: int, device: DeviceSpec, *, whole: bool) -> Iterator[Sample]:
    """Yield the networks to measure on a device; `whole`: none from outside the spaces."""
    found = inside(seed) if whole else samples(seed)
    return resized(found, device.resolution, device.batch)


def device_of(plan: Plan) -> DeviceSpec:
    """Return the device of the plan's name, or a new one like the connection's own.

    Raises:
        UsageError: there is no such device, it has fewer processors than threads are asked for, or
            another device has its name.
        DeviceUnavailableError: it has no connection.
    """
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
    if changed.threads > (os.cpu_count() or 1) and not is_remote(changed.connection):
        raise UsageError(
            f"--threads is {changed.threads}; this machine has {os.cpu_count()} processors."
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
    if name in spec.names() and spec.load(name).connection:
        known = spec.load(name)
        if known.connection != like.connection:
            raise UsageError(
                f"the device '{name}' is known as '{known.connection}'; give another --name."
            )
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
