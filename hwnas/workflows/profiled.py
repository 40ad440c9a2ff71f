"""What was measured becomes a profile, a predictor and a device on the user's shelf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices import spec
from ..devices.spec import DeviceSpec
from ..errors import HwnasError, TooNoisyError
from ..latency import features
from ..latency.columns import from_kernels
from ..latency.fitting import Networks, adding_up, fit, sequence_of
from ..latency.predictor import Predictor
from ..latency.regressors import Radial
from ..lowering.kernels import Kernel
from ..profiling.profile import NetworkRecord, Profile
from ..store import shelf
from . import adapting

LEAST_NETWORKS = 8
"""Networks below which no predictor is fitted."""


@dataclass(frozen=True)
class Measured:
    """What was measured on a device.

    Attributes:
        networks: those of good spells.
        count: all that were measured, good or not.
        spent_s: the time that it took the device, in seconds.
        provenance: on what, when and how.
    """

    networks: tuple[NetworkRecord, ...]
    count: int
    spent_s: float
    provenance: dict[str, Any]


def keep(
    device: DeviceSpec,
    measured: Measured,
    sources: Mapping[str, Predictor],
    more: Mapping[str, Any],
) -> tuple[Predictor, dict[str, Any]]:
    """Fit a predictor and write it, the profile and the device to the user's shelf.

    Args:
        device: what was measured, with what its runtime fuses.
        measured: the networks and where they come from.
        sources: predictors to adapt to whole networks; none to learn kernels.
        more: what else the profile's provenance says.

    Returns:
        The predictor and what `hwnas profile` tells of it, as JSON data.

    Raises:
        TooNoisyError: the machine did other work most of the time.
        HwnasError: too few networks were measured, or the shelf cannot be written.
    """
    networks = measured.networks
    if device.threads > 1:
        # Wall time is all there is of several threads, and no CPU time corrects it.
        networks = tuple(network for network in networks if not network.contended)
    _check_enough(networks, measured, device.threads)
    provenance = {
        **measured.provenance,
        "networks": len(networks),
        "networks_left_out": measured.count - len(networks),
        "contended_networks": sum(network.contended for network in networks),
        **more,
    }
    profiled = Profile(device.name, networks, provenance)
    if sources:
        predictor = adapting.adapt(profiled, device, dict(sources))
    else:
        predictor = fit_profile(profiled, device)
    profiled.save(shelf.user_shelf("profiles") / device.name)
    predictor.save(shelf.user_shelf("predictors") / device.name)
    spec.save(device)
    told = predictor.card.accuracy
    return predictor, {
        "schema": "hwnas.profile/1",
        "device": device.name,
        "networks": len(networks),
        "kernels": sum(len(network.kernels) for network in networks),
        "accuracy": _told(told["held-out networks"]),
        "accuracy_calm": _told(told.get("held-out calm networks")),
        "contended_networks": provenance["contended_networks"],
        "networks_left_out": provenance["networks_left_out"],
        "adapted_from": predictor.card.provenance.get("adapted_from"),
    }


def _told(accuracy: dict[str, float] | None) -> dict[str, Any] | None:
    """Return an accuracy of networks as a document has it."""
    if accuracy is None:
        return None
    figures = {name: accuracy[name] for name in ("mape", "within_5", "within_10")}
    return {"networks": int(accuracy["rows"]), **figures}


def _check_enough(networks: tuple[NetworkRecord, ...], measured: Measured, threads: int) -> None:
    """Raise an error where too little of what was measured can be trusted."""
    left_out = measured.count - len(networks)
    if 2 * len(networks) < measured.count:
        several = (
            f"{threads} threads need {threads} processors that nothing else uses. "
            if threads > 1
            else ""
        )
        raise TooNoisyError(
            f"the machine did other work during {left_out} of {measured.count} networks. "
            f"{several}Stop what else runs on it, then go on with --resume and more --minutes."
        )
    if len(networks) < LEAST_NETWORKS:
        raise HwnasError(
            f"only {len(networks)} networks were measured in {measured.spent_s:.0f} s, too few for "
            "a predictor. Go on with --resume and more --minutes."
        )


def fit_profile(profile: Profile, device: DeviceSpec) -> Predictor:
    """Fit a predictor to a profile."""
    rows = sequence_of([len(network.kernels) for network in profile.networks])
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
        networks=Networks(
            rows, np.bincount(rows, weights=seconds).astype(np.float64), _calm(profile)
        ),
        regressor=Radial(features.classes(device.feature_set)),
    )


def kernel_times(profile: Profile) -> tuple[list[Kernel], NDArray[np.float64]]:
    """Return the kernels of a profile's networks and times that add up to their network's."""
    pairs = [pair for network in profile.networks for pair in network.kernels]
    rows = sequence_of([len(network.kernels) for network in profile.networks])
    median_s = np.array([network.median_s for network in profile.networks])
    seconds = adding_up(np.array([time_s for _, time_s in pairs]), rows, median_s, _calm(profile))
    return [kernel for kernel, _ in pairs], seconds


def _calm(profile: Profile) -> NDArray[np.bool_]:
    return np.array([not network.contended for network in profile.networks])
