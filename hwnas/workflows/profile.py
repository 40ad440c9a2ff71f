"""Profile a device: measure networks as searches visit them, and fit a predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices import spec
from ..devices.onnxruntime_cpu import OnnxRuntimeCpu
from ..devices.spec import DeviceSpec
from ..errors import DeviceUnavailableError, HwnasError, TooNoisyError, UsageError
from ..latency.columns import from_kernels
from ..latency.fitting import Networks, adding_up, fit, sequence_of
from ..latency.predictor import Predictor
from ..latency.regressors import Trees
from ..lowering.kernels import Kernel
from ..profiling.profile import Profile
from ..profiling.session import Step, collect
from ..store import shelf
from ..store.journal import Journal
from .sampling import samples

CPU_TREES = Trees(count=300, leaves=15, learning_rate=0.06, min_leaf=5)
"""What learns the residual of a processor's kernels."""


def connect(device: DeviceSpec) -> OnnxRuntimeCpu:
    """Return the runtime behind a device's connection.

    Raises:
        DeviceUnavailableError: this version cannot reach it.
    """
    if device.connection == "cpu":
        return OnnxRuntimeCpu(device.threads, device.precision, device.optimization)
    raise DeviceUnavailableError(
        f"'{device.connection}' cannot be reached: this version measures 'cpu' only. "
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
    runtime = connect(device)
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
        networks=Networks(sequence_of(counts), network_times(profile)),
        regressor=CPU_TREES,
    )


def network_times(profile: Profile) -> NDArray[np.float64]:
    """Return what each network of a profile takes: its least time, times what the median adds."""
    least_s = np.array([network.least_s for network in profile.networks])
    median_s = np.array([network.median_s for network in profile.networks])
    typical_s: NDArray[np.float64] = least_s * np.median(median_s / least_s)
    return typical_s


def kernel_times(profile: Profile) -> tuple[list[Kernel], NDArray[np.float64]]:
    """Return the kernels of a profile's networks and times that add up to their network's."""
    pairs = [pair for network in profile.networks for pair in network.kernels]
    rows = sequence_of([len(network.kernels) for network in profile.networks])
    least_s = np.array([network.least_s for network in profile.networks])
    seconds = adding_up(np.array([time_s for _, time_s in pairs]), rows, least_s)
    return [kernel for kernel, _ in pairs], seconds


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
