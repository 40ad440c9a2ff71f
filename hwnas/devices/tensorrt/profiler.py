"""TensorRT's own profiler: what each layer took in each run."""

from __future__ import annotations

from typing import Any

from .layers import LayerTime


def layer_times(trt: Any) -> Any:
    """Return a profiler that an execution context takes; `layers()` tells what it was told."""

    class LayerTimes(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.samples_s: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.samples_s.setdefault(layer_name, []).append(ms / 1e3)

        def layers(self) -> list[LayerTime]:
            """Return the layers in the order of execution."""
            return [LayerTime(name, tuple(times)) for name, times in self.samples_s.items()]

    return LayerTimes()
