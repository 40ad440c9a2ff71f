"""The one contract of all devices: what each adapter to a runtime does, and how it fails."""

from __future__ import annotations

from typing import Any, Protocol

from ..lowering.kernels import Fusion
from .measurement import KernelTiming, Measurement

ENVIRONMENT = ("runtime", "driver", "threads", "precision", "clock", "power_mode")
"""What every environment names; `unknown` where the system does not tell."""


class Device(Protocol):
    """Takes ONNX models with fixed input shapes, and returns raw samples.

    Every method raises `DeviceLostError` where the device went away, and `HwnasError` where its
    runtime does not run the model or the model does not fit into its memory. After such an error,
    and after an interruption (KeyboardInterrupt passes through), the same object can be used again
    as soon as the device is back.

    Attributes:
        resource: what is busy while this device measures: two devices of one resource never
            measure at the same time (`devices.lease`). A name that may be a file's.
        tells_kernels: whether `profile` returns what each kernel took, or whole networks only.
    """

    resource: str
    tells_kernels: bool

    def environment(self) -> dict[str, Any]:
        """Return what a measurement depends on: all of ENVIRONMENT, and what else matters.

        It is the same for each connection to the same device, so that a profile can go on: it
        holds limits and settings, no momentary clock or temperature.
        """

    def fusion(self) -> Fusion:
        """Return what the runtime fuses."""

    def measure(
        self, model: bytes, *, least_runs: int = 10, least_s: float = 1.0, most_s: float = 60.0
    ) -> Measurement:
        """Time a whole network, after a run of warm-up that does not count.

        At least `least_runs` runs and `least_s` seconds; more where the device is disturbed. Ends
        after `most_s` seconds in any case: the run that is then going on is the last one.
        """

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Time each executed kernel in about `seconds`, then the whole network without that.

        Kernels come in the order of execution, named after the model's nodes. The list is empty
        where the runtime tells whole networks only.
        """
