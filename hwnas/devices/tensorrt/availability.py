"""Whether a GPU can be used here: driver, GPU, packages; and the command that mends what lacks.

The driver is asked first, through its own library: nobody should install gigabytes to learn that
there is no GPU.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ...errors import DeviceUnavailableError

DRIVER_LIBRARY = "libcuda.so.1"

LEAST_CAPABILITY = {(10, 5): (7, 5), (10, 0): (7, 0)}
"""The least compute capability by the TensorRT release since which it holds, newest first
(NVIDIA's support matrix): 10.5 gave up Volta (7.0)."""

INSTALL = "pip install 'hwnas[tensorrt]'"
INSTALL_VOLTA = "pip install 'hwnas[v100]'"

ATTRIBUTES = (75, 76, 16)
"""COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR and MULTIPROCESSOR_COUNT of cuda.h."""


@dataclass(frozen=True)
class Found:
    """A GPU as its driver names it, with its compute capability and count of multiprocessors."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int


def gpus() -> list[Found]:
    """Return the GPUs that the driver shows, in the order of their indices.

    Raises:
        DeviceUnavailableError: there is no driver, or it shows no GPU.
    """
    try:
        driver = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        raise DeviceUnavailableError(
            f"this machine has no NVIDIA driver ({DRIVER_LIBRARY} is missing). Where there is an "
            "NVIDIA GPU: install its driver (in a container: 'docker run --gpus all ...') until "
            f"'nvidia-smi' shows the GPU, then {INSTALL}. 'hwnas predict' answers without one."
        ) from None
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        raise DeviceUnavailableError(
            f"NVIDIA's driver is installed but shows no GPU (CUDA error {status}, {count.value} "
            "devices). 'nvidia-smi' must list one: check the power and the slot, "
            "$CUDA_VISIBLE_DEVICES, and in a container '--gpus all'."
        )
    return [_described(driver, index) for index in range(count.value)]


def _described(driver: Any, index: int) -> Found:
    handle = ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, 256, handle)
    parts = []
    for attribute in ATTRIBUTES:
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        parts.append(value.value)
    return Found(name.value.decode(errors="replace"), (parts[0], parts[1]), parts[2])


def require_gpu(index: int) -> Found:
    """Return the GPU of an index.

    Raises:
        DeviceUnavailableError: there is no driver, no GPU, or none of that index.
    """
    found = gpus()
    if index >= len(found):
        known = ", ".join(f"{i} is a {gpu.name}" for i, gpu in enumerate(found))
        raise DeviceUnavailableError(f"there is no GPU {index} here: {known}.")
    return found[index]


def require_tensorrt(gpu: Found) -> Any:
    """Return TensorRT's Python package, once it is known to run on a GPU.

    Raises:
        DeviceUnavailableError: it is not installed, its libraries are missing, or its release no
            longer supports the GPU.
    """
    install = INSTALL_VOLTA if gpu.capability < LEAST_CAPABILITY[(10, 5)] else INSTALL
    try:
        import tensorrt
    except ModuleNotFoundError:
        raise DeviceUnavailableError(
            f"TensorRT is not installed; the {gpu.name} is there. {install} installs it. Where "
            "only NVIDIA's 'trtexec' is at hand, give --device trtexec."
        ) from None
    except (ImportError, OSError) as error:
        raise DeviceUnavailableError(
            f"TensorRT is installed without its libraries ({error}). {install} installs both."
        ) from None
    require_supported(tensorrt.__version__, gpu)
    return tensorrt


def require_cuda(gpu: Found) -> None:
    """Raise an error where CUDA cannot be called from Python.

    Raises:
        DeviceUnavailableError: neither cuda-bindings nor pycuda is installed.
    """
    for module in ("cuda.bindings", "pycuda"):
        with suppress(ModuleNotFoundError):
            if find_spec(module) is not None:
                return
    install = INSTALL_VOLTA if gpu.capability < (7, 5) else INSTALL
    raise DeviceUnavailableError(
        "CUDA cannot be called from Python: neither cuda-bindings nor pycuda is installed. "
        f"{install} installs the former."
    )


def require_supported(version: str, gpu: Found) -> None:
    """Raise an error where a TensorRT release no longer supports a GPU, or is too old for hwnas.

    Raises:
        DeviceUnavailableError: it does not.
    """
    release = tuple(int(part) for part in version.split(".")[:2])
    since = next((since for since in LEAST_CAPABILITY if release >= since), None)
    if since is None or release < (10, 4):
        raise DeviceUnavailableError(
            f"TensorRT {version} is older than 10.4, the first that hwnas drives. "
            f"{INSTALL_VOLTA if gpu.capability < (7, 5) else INSTALL} installs one that fits."
        )
    least = LEAST_CAPABILITY[since]
    if gpu.capability < least:
        told = ".".join(map(str, gpu.capability))
        mend = (
            f"The last that does is 10.4: {INSTALL_VOLTA} installs it, in a new environment."
            if gpu.capability >= (7, 0)
            else "Only releases that hwnas does not drive do."
        )
        raise DeviceUnavailableError(
            f"TensorRT {version} no longer supports the {gpu.name} (compute capability {told}; "
            f"since {'.'.join(map(str, since))} it needs {'.'.join(map(str, least))}). {mend}"
        )
