"""Devices that are made up, and small networks for them."""

from __future__ import annotations

import numpy as np

from hwnas.architecture import spaces
from hwnas.devices.measurement import KernelTiming, Measurement
from hwnas.profiling.session import Sample


class MadeUpDevice:
    """Answers at once: every kernel takes a microsecond per thousand weights."""

    resource = "made-up"
    tells_kernels = True

    def __init__(self, slow_spells: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.spell = 0
        self.slow = slow_spells
        self.calls = 0

    def profile(self, model: bytes, *, seconds: float = 0.1):
        import onnx

        self.calls += 1
        graph = onnx.load_from_string(model).graph
        weights = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
        shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.output}
        timings = [
            KernelTiming(
                n.name, n.op_type, (1, 8, 8, 8), (weights.get(f"{n.name}.weight", 0) / 1e9,)
            )
            for n in graph.node
            if n.op_type in ("Conv", "AveragePool")
        ]
        timings += [
            KernelTiming(f"reorder_{name}", "ReorderOutput", tuple(shape), (1e-6,))
            for name, shape in shapes.items()
        ]
        total = sum(t.seconds for t in timings) + 1e-5
        return timings, Measurement((total,), (total,))

    def measure(self, model: bytes, *, least_runs=10, least_s=1.0, most_s=60.0) -> Measurement:
        self.spell += 1
        took = 2.0 if self.spell in self.slow else 1.0
        return Measurement((took,), (took,))


def small_samples():
    space = spaces.load("mobile")
    rng = np.random.default_rng(0)
    while True:
        yield Sample(space.decode(space.sample(rng)), (64, 64), 1)
