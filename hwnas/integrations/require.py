"""What is needed where a framework is not installed, or does not import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DeviceUnavailableError


@contextmanager
def requiring(framework: str) -> Iterator[None]:
    """Turn the failed import of a framework into an error that says what to install.

    Raises:
        DeviceUnavailableError: the framework, or torch, is not installed or does not import.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise DeviceUnavailableError(
            f"this needs {framework}, but '{error.name}' is not installed: "
            f"pip install 'hwnas[{framework}]'."
        ) from None
    except (ImportError, RuntimeError) as error:
        # torchvision's wheels belong to one release of torch each, and to its CUDA build.
        raise DeviceUnavailableError(
            f"this needs {framework}, which does not import here ({error}): install the releases "
            "of torch and torchvision that belong together."
        ) from error
