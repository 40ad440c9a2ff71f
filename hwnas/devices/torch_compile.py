"""PyTorch's compiler as a device: whole networks, on this machine's processor or an NVIDIA GPU."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ..lowering.kernels import Fusion
from . import torch_eager
from .registry import like_cpu, refuse
from .spec import DeviceSpec
from .torch_eager import TorchEager, place, where

FUSION = Fusion(add=False, rules="torch-compile")


class TorchCompile(TorchEager):
    """Runs ONNX models as torch modules under `torch.compile` with its default settings.

    Compiling takes seconds to minutes a network, before its first run.
    """

    name = "torch.compile"

    def version(self) -> str:
        """Return torch, its version, and that it compiles."""
        return f"{super().version()}, torch.compile"

    def fusion(self) -> Fusion:
        """Return what the compiler is known to fuse: elementwise operators with each other."""
        return FUSION

    def _prepared(self, module: Any) -> Any:
        import torch

        # A compiler that remembers other networks gives up after eight, and runs eagerly.
        torch.compiler.reset()
        return torch.compile(module, dynamic=False)


def connections() -> list[str]:
    """Return the connections worth trying on this machine."""
    return ["torch-compile", "torch-compile:cuda:0"]


def missing(argument: str) -> str:
    """Return what is missing, with the command that mends it; '' where nothing is.

    Raises:
        UsageError: the argument names no place of torch's.
    """
    if found := torch_eager.missing(argument):
        return found
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not argument and not any(name and shutil.which(name) for name in compilers):
        return "torch.compile needs a C++ compiler: apt install g++."
    return ""


def default(connection: str, argument: str) -> DeviceSpec:
    """Return what a short command means on it.

    Raises:
        UsageError: the argument names no place of torch's.
    """
    place(argument)
    about = f"{where(argument)}, PyTorch, torch.compile, FP32"
    return like_cpu(connection, about, runtime="torch", fusion=FUSION)


def connect(device: DeviceSpec, argument: str) -> TorchCompile:
    """Return the device.

    Raises:
        UsageError: torch does not run what the device asks for.
    """
    refuse(device)
    return TorchCompile(place(argument), device.threads)
