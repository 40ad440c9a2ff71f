"""Adapt the predictor of a known device to whole-network times of a new one."""

from __future__ import annotations

import numpy as np

from ..architecture import lower
from ..devices import spec
from ..devices.spec import DeviceSpec
from ..errors import UsageError
from ..latency.columns import from_kernels
from ..latency.predictor import Predictor, load
from ..latency.transfer import Samples, transfer
from ..lowering.fusing import fuse
from ..profiling.profile import Profile
from ..store import shelf

ANY = "any"


def sources(name: str, device: DeviceSpec) -> dict[str, Predictor]:
    """Return the predictors to adapt: that of one device, or, for `any`, all that may suit.

    Raises:
        UsageError: there is no such predictor, or none that may suit, or it has no model.
    """
    if name != ANY:
        spec.load(name)
        predictor = load(shelf.find("predictors", name))
        if not predictor.card.feature_set:
            # Said before anything is measured for it.
            raise UsageError(
                f"the predictor of '{name}' is a roofline alone, from which none can be adapted; "
                "name a device that was profiled."
            )
        return {name: predictor}
    found = {}
    for other, folder in shelf.entries("predictors").items():
        if other == device.name or other not in spec.names():
            continue
        predictor = load(folder)
        # A processor's kernels say nothing about a graphics processor's, and the reverse.
        if predictor.card.feature_set == device.feature_set:
            found[other] = predictor
    if not found:
        raise UsageError(
            f"no other device has a predictor that could be adapted to '{device.name}': profile it "
            "without --from."
        )
    return found


def adapt(profile: Profile, device: DeviceSpec, known: dict[str, Predictor]) -> Predictor:
    """Return a predictor for a device of which whole networks were timed.

    Raises:
        UsageError: too few networks were measured.
    """
    networks = [n for n in profile.networks if n.architecture is not None]
    kernels = [
        fuse(lower(n.architecture, n.resolution, batch=n.batch), device.fusion)
        for n in networks
        if n.architecture is not None
    ]
    columns = from_kernels([kernel for each in kernels for kernel in each])
    rows = np.repeat(np.arange(len(kernels)), [len(each) for each in kernels])
    seconds = np.array([network.median_s for network in networks])
    return transfer(
        known,
        Samples(columns, rows, seconds, whole=True),
        device=device.name,
        runtime=str(profile.provenance.get("runtime", device.runtime)),
        precision=device.precision,
        provenance=profile.provenance,
    )
