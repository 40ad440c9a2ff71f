"""onnxruntime's other execution providers, by name: XNNPACK, OpenVINO, CUDA, TensorRT, Core ML.

Each is in some builds of onnxruntime only. Nodes that a provider does not take run on the
processor; the kernels of a profile say which ran, as they are those of this build.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeviceUnavailableError, UsageError, did_you_mean
from ..lowering.kernels import Fusion
from . import spec
from .measurement import KernelTiming, Measurement
from .onnxruntime_cpu import OnnxRuntimeCpu, import_onnxruntime
from .registry import like_cpu, refuse
from .spec import DeviceSpec


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        name: what onnxruntime calls it.
        about: one line for people.
        build: the command that installs an onnxruntime which has it, or how to come by one.
        resource: what is busy while it computes.
        systems: where it exists; () for everywhere.
        rules: its fusion rules.
        fuses_add: whether additions run inside convolutions.
    """

    name: str
    about: str
    build: str
    resource: str
    systems: tuple[str, ...] = ()
    rules: str = "common"
    fuses_add: bool = True

    @property
    def fusion(self) -> Fusion:
        """What it is known to fuse."""
        return Fusion(add=self.fuses_add, rules=self.rules)


_SWAP = "pip uninstall onnxruntime && pip install "
PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime's own kernels", "", "processor"),
    "xnnpack": Provider(
        "XnnpackExecutionProvider",
        "this machine's processor by onnxruntime and XNNPACK",
        "no package on PyPI has it: build onnxruntime with --use_xnnpack "
        "(https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html)",
        "processor",
        rules="xnnpack",
        fuses_add=False,
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "this machine's processor by onnxruntime and OpenVINO",
        f"{_SWAP}onnxruntime-openvino; or measure OpenVINO itself, --device openvino",
        "processor",
        ("Linux", "Windows"),
        rules="openvino",
    ),
    "cuda": Provider(
        "CUDAExecutionProvider",
        "an NVIDIA GPU by onnxruntime",
        f"{_SWAP}onnxruntime-gpu",
        "cuda-0",
        ("Linux", "Windows"),
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "an NVIDIA GPU by onnxruntime and TensorRT",
        f"{_SWAP}onnxruntime-gpu tensorrt",
        "cuda-0",
        ("Linux", "Windows"),
        rules="tensorrt",
    ),
    "coreml": Provider(
        "CoreMLExecutionProvider",
        "this Mac by onnxruntime and Core ML",
        "pip install onnxruntime, on a Mac",
        "processor",
        ("Darwin",),
    ),
}


class OnnxRuntimeProvider(OnnxRuntimeCpu):
    """Runs ONNX models by an execution provider, and on the processor what it does not take.

    Times are wall times: from a call with an image in this machine's memory to the feature maps
    in it. The processor's own time says nothing about another processor.
    """

    def __init__(self, provider: Provider, threads: int = 1) -> None:
        super().__init__(threads, alone=threads == 1 and provider.resource == "processor")
        self.provider = provider
        self.resource = provider.resource
        self.tells_kernels = False

    def environment(self) -> dict[str, Any]:
        """Return also the provider, and the driver of a GPU."""
        found = {**super().environment(), "provider": self.provider.name}
        if self.provider.resource != "processor":
            found["driver"] = nvidia_driver() or "unknown"
        return found

    def fusion(self) -> Fusion:
        """Return what the provider is known to fuse."""
        return self.provider.fusion

    def profile(
        self, model: bytes, *, seconds: float = 0.03
    ) -> tuple[list[KernelTiming], Measurement]:
        """Return no kernels, and the whole network's times: a provider runs graphs as a whole."""
        return [], self.measure(model, least_runs=5, least_s=seconds)

    def _providers(self) -> list[Any]:
        # These have threads of their own.
        options = {
            "XnnpackExecutionProvider": {"intra_op_num_threads": str(self.threads)},
            "OpenVINOExecutionProvider": {
                "device_type": "CPU",
                "num_of_threads": str(self.threads),
            },
        }
        name = self.provider.name
        return [(name, options.get(name, {})), "CPUExecutionProvider"]

    def _session(self, model: bytes, profile: str | None) -> Any:
        session = super()._session(model, profile)
        # onnxruntime goes on without a provider that cannot start, and only logs it.
        if self.provider.name not in session.get_providers():
            raise DeviceUnavailableError(
                f"onnxruntime has {self.provider.name} but could not start it: its driver or "
                "one of its libraries is missing. 'hwnas doctor' tells what this machine has."
            )
        return session


def nvidia_driver() -> str:
    """Return the version of the NVIDIA driver, '' where there is none."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    words = text.partition("\n")[0].split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return [f"onnxruntime:{name}" for name in PROVIDERS if name != "cpu"]


def missing(argument: str) -> str:
    """Return what is missing for a provider, with what installs it; '' where nothing is.

    Raises:
        UsageError: there is no such provider.
    """
    provider = _provider(argument)
    if provider.systems and platform.system() not in provider.systems:
        return f"{provider.name} exists on {' and '.join(provider.systems)} only."
    if provider.name not in import_onnxruntime().get_available_providers():
        return f"this build of onnxruntime has no {provider.name}: {provider.build}."
    if provider.resource.startswith("cuda") and not nvidia_driver():
        return "there is no NVIDIA driver on this machine: install one (nvidia-smi shows it)."
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on a provider.

    Raises:
        UsageError: there is no such provider.
    """
    if argument == "cpu":
        return spec.shipped("cpu")
    provider = _provider(argument)
    fusion = Fusion(add=provider.fuses_add, rules=provider.rules)
    return like_cpu(connection, provider.about, fusion=fusion)


def connect(device: DeviceSpec, argument: str) -> OnnxRuntimeCpu:
    """Return the device.

    Raises:
        UsageError: there is no such provider, or it does not run what the device asks for.
    """
    if argument == "cpu":
        return OnnxRuntimeCpu(device.threads, device.precision, device.optimization)
    refuse(device)
    return OnnxRuntimeProvider(_provider(argument), device.threads)


def _provider(argument: str) -> Provider:
    if argument not in PROVIDERS:
        raise UsageError(
            f"'onnxruntime:{argument}' names no execution provider."
            f"{did_you_mean(argument, PROVIDERS)} Known: {', '.join(PROVIDERS)}."
        )
    return PROVIDERS[argument]
