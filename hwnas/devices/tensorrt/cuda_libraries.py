"""CUDA from Python: by cuda-bindings, or by pycuda where that is what is installed."""

from __future__ import annotations

from ...errors import DeviceUnavailableError
from .availability import INSTALL, Found, require_cuda
from .cuda import Cuda


def connect(index: int, gpu: Found) -> Cuda:
    """Return the GPU of an index, by cuda-bindings, else by pycuda.

    Raises:
        DeviceUnavailableError: neither is installed, or the GPU does not answer.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        pass
    else:
        from .cuda_bindings import CudaBindings

        return CudaBindings(index, runtime)
    require_cuda(gpu)
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise DeviceUnavailableError(
            f"pycuda does not load ({error}); {INSTALL} installs cuda-bindings instead."
        ) from None
    from .pycuda_driver import PyCuda

    return PyCuda(index, driver)
