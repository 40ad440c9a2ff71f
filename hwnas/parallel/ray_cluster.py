"""Workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

from ..errors import DeviceUnavailableError
from .tasks import Lost, Task, execute

PASSED_ON = ("HWNAS_HOME", "OMP_NUM_THREADS")
"""Environment variables that workers take over from this process."""

KNOCK_S = 10.0

Connected = TypeVar("Connected", bound="RayConnection")


class RayConnection:
    """A cluster that this process is connected to, once it is entered.

    Every node needs the same version of hwnas.

    Args:
        address: of a running cluster, `HOST:PORT` or `auto`; `local` starts one on this machine.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self: Connected) -> Connected:
        """Connect, and return the cluster.

        Raises:
            DeviceUnavailableError: Ray is not installed, or no cluster answers at the address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if self.address == "local":
            # Despite its name this is what keeps all of Ray's ports on the loopback address.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            import ray
        except ImportError:
            raise DeviceUnavailableError(
                "Ray is not installed: pip install 'hwnas[ray]', or leave --ray out."
            ) from None
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            _knock(self.address)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(
                    address=self.address,
                    **self.options(),
                    runtime_env={"env_vars": passed},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            raise DeviceUnavailableError(
                f"no Ray cluster answers at '{self.address}': {_first(error)}. Start one with "
                "'ray start --head', or use --ray local."
            ) from None
        return self

    def options(self) -> dict[str, Any]:
        """Return what a cluster is started with here, where it is."""
        return {"include_dashboard": False if self.address == "local" else None}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; what still runs for this process is ended by Ray."""
        import ray

        ray.shutdown()


class RayCluster(RayConnection):
    """One Ray task per task, one processor each; Ray chooses the node.

    Whether a lost task is repeated is the orchestrator's business, so Ray's own retries are off.

    Args:
        address: as of `RayConnection`.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._running: dict[Any, Task] = {}

    @property
    def gone(self) -> Mapping[str, str]:
        """No worker: Ray replaces them."""
        return {}

    def submit(self, task: Task) -> None:
        """Queue a task for any worker."""
        self._running[self._remote.remote(task)] = task

    def wait(self) -> tuple[Task, str | Lost]:
        """Return the next task that ended with its answer, or with how its worker was lost."""
        import ray

        (done, *_), _ = ray.wait(list(self._running), num_returns=1)
        task = self._running.pop(done)
        try:
            answer: str = ray.get(done)
        except ray.exceptions.RayError as error:
            return task, lost(error)
        return task, answer

    @cached_property
    def _remote(self) -> Any:
        import ray

        return ray.remote(num_cpus=1, max_retries=0)(execute)


def lost(error: Exception) -> Lost:
    """Return how Ray says that a worker was lost."""
    return Lost(f"{type(error).__name__}: {_first(error)}")


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
