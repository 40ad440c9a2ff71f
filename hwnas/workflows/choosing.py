"""Which networks to measure next: the ones about which a predictor would be least sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..devices.spec import DeviceSpec
from ..latency.columns import from_kernels
from ..latency.committee import Committee
from ..latency.fitting import sequence_of
from ..lowering.fusing import fuse
from ..profiling.profile import NetworkRecord
from ..profiling.session import Sample

REMEMBERED = 200
"""The latest networks that a committee is fitted to: with more, asking would cost too much."""


class LeastSure:
    """Chooses by the disagreement of a committee; see `profiling.session.Chooser`."""

    def __init__(self, device: DeviceSpec) -> None:
        self._device = device

    def __call__(
        self, pool: Sequence[Sample], known: Sequence[NetworkRecord], count: int
    ) -> list[Sample]:
        """Return the samples of the pool to measure, in the pool's order."""
        known = known[-REMEMBERED:]
        columns = from_kernels([kernel for network in known for kernel, _ in network.kernels])
        committee = Committee(
            columns,
            np.array([time_s for network in known for _, time_s in network.kernels]),
            sequence_of([len(network.kernels) for network in known]),
            feature_set=self._device.feature_set,
            bytes_per_value=self._device.bytes_per_value,
            seed=len(known),
        )
        kernels = [fuse(sample.graph(), self._device.fusion) for sample in pool]
        unsure = committee.disagreement(
            from_kernels([kernel for each in kernels for kernel in each]),
            sequence_of([len(each) for each in kernels]),
        )
        return [pool[i] for i in sorted(np.argsort(-unsure)[:count])]
