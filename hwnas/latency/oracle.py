"""The latency oracle: what a network takes on a device, as a sum over its fused kernels."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..architecture.graph import Graph, Size
from ..lowering.fusing import fuse
from ..lowering.kernels import Fusion, Kernel


class KernelTimes(Protocol):
    """A predictor whose network latency is a constant plus a sum over kernels."""

    @property
    def constant_s(self) -> float:
        """What every network takes."""

    def table(self, kernel: Kernel, where: Any = None) -> Any:
        """Return seconds for a kernel whose channels are arrays; NaN outside `where`."""


class LatencyOracle:
    """Predicted latency in seconds, for one batch.

    Args:
        predictor: gives the seconds of a kernel.
        fusion: what the device's runtime fuses.
        resolution: height and width of the input.
        batch: images at a time.
        correction: what a measured network took over what was predicted for it.
    """

    additive = True

    def __init__(
        self,
        predictor: KernelTimes,
        fusion: Fusion,
        resolution: Size,
        batch: int,
        correction: float = 1.0,
    ) -> None:
        self.resolution = resolution
        self.batch = batch
        self.constant = correction * predictor.constant_s
        self._correction = correction
        self._predictor = predictor
        self._fusion = fusion
        self._known: dict[Any, Any] = {}

    def parts(self, graph: Graph, where: Any = None) -> list[Any]:
        """Return the seconds of each kernel of a graph."""
        return [self._seconds(kernel, where) for kernel in fuse(graph, self._fusion)]

    def cost(self, graph: Graph) -> float:
        """Return the seconds of a whole network."""
        return self.constant + float(sum(np.sum(part) for part in self.parts(graph)))

    def _seconds(self, kernel: Kernel, where: Any) -> Any:
        """Predict once what rows share: the same kernel on the same widths, whatever their axes."""
        into, out, groups = (
            np.asarray(c) for c in (kernel.in_channels, kernel.out_channels, kernel.groups)
        )
        shape = np.broadcast_shapes(into.shape, out.shape)
        spans_two = int(np.prod(shape)) > max(into.size, out.size)
        mask = None
        flat: tuple[Any, ...]
        if spans_two:
            if where is not None and shape == where.shape:
                mask = where.reshape(into.size, out.size)
            flat = (into.reshape(-1, 1), out.reshape(1, -1), groups.reshape(-1, 1))
        else:
            flat = (into.ravel(), out.ravel(), groups.ravel())
        bare = kernel._replace(in_channels=0, out_channels=0, groups=0)
        key = (bare, mask is None, *((c.shape, c.tobytes()) for c in flat))
        if key not in self._known:
            named = kernel._replace(in_channels=flat[0], out_channels=flat[1], groups=flat[2])
            self._known[key] = self._correction * self._predictor.table(named, mask)
        seconds = self._known[key]
        if spans_two and np.argmax(into.shape) > np.argmax(out.shape):
            seconds = seconds.T
        return seconds.reshape(shape)
