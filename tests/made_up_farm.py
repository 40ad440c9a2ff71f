"""Made-up devices that a farm can reach: `made-up:NAME`, everywhere this module is imported.

As a program it is `hwnas` with these devices. Its workers import this module for their tasks, so
they know the devices, too. Environment variables make them misbehave, as `name:amount` pairs:

MADE_UP_DIES     networks after which a device is unplugged
MADE_UP_SLOWER   how many times longer everything takes on a device
MADE_UP_PAUSE    seconds that each network really takes, of all devices
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

from made_up_devices import MadeUpDevice, small_samples

from hwnas.cli import main
from hwnas.devices import registry
from hwnas.devices.measurement import KernelTiming, Measurement
from hwnas.devices.onnxruntime_cpu import OnnxRuntimeCpu
from hwnas.devices.spec import DeviceSpec
from hwnas.errors import DeviceLostError
from hwnas.latency.regressors import Radial
from hwnas.lowering.kernels import Fusion
from hwnas.workflows import farm_work, profile, profiled
from hwnas.workflows.farm_tasks import hello, spell

__all__ = ["hello", "spell"]

MEASURED = Counter[str]()
"""How many networks this process has measured on each device."""


def setting(variable: str, name: str, default: float) -> float:
    pairs = dict(pair.split(":") for pair in os.environ.get(variable, "").split() if ":" in pair)
    return float(pairs.get(name, default))


class Plugged(MadeUpDevice):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = self.resource = name

    def environment(self) -> dict[str, Any]:
        said = {"runtime": "made up", "driver": "none", "threads": 1, "precision": "fp32"}
        return {**said, "clock": "unknown", "power_mode": "unknown"}

    def fusion(self) -> Fusion:
        return OnnxRuntimeCpu().fusion()

    def profile(
        self, model: bytes, *, seconds: float = 0.1
    ) -> tuple[list[KernelTiming], Measurement]:
        time.sleep(float(os.environ.get("MADE_UP_PAUSE", "0")))
        if unplugged(self.name):
            raise DeviceLostError(f"{self.name} went away.")
        MEASURED[self.name] += 1
        slower = setting("MADE_UP_SLOWER", self.name, 1)
        timings, whole = super().profile(model, seconds=seconds)
        told = [replace(t, samples_s=tuple(slower * s for s in t.samples_s)) for t in timings]
        took = slower * whole.least_s
        return told, Measurement((took,) * 3, (took,) * 3)

    def measure(self, model: bytes, **effort: Any) -> Measurement:
        took = setting("MADE_UP_SLOWER", self.name, 1)
        return Measurement((took,), (took,))


def unplugged(name: str) -> bool:
    return MEASURED[name] >= setting("MADE_UP_DIES", name, 1e9)


def connections() -> list[str]:
    return []


def missing(argument: str) -> str:
    return "it is unplugged; plug it in." if unplugged(argument) else ""


def default(connection: str, argument: str) -> DeviceSpec:
    return registry.like_cpu(connection, "a made-up device")


def connect(device: DeviceSpec, argument: str) -> Plugged:
    return Plugged(argument)


registry.KINDS["made-up"] = registry.Kind("made-up:NAME", "a made-up device", "made_up_farm")
sys.modules["hwnas.devices.made_up_farm"] = sys.modules[__name__]
profile.samples = lambda seed: small_samples()
profiled.Radial = partial(Radial, rows=50, steps=2)  # how good it is, is not the question
farm_work.TASKS = "made_up_farm"

if __name__ == "__main__":
    main()
