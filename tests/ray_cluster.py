"""A Ray cluster of two nodes, the second of which can be killed; see `two_ray_nodes.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps Ray on the loopback address
}


@contextmanager
def two_nodes(*resources: str, **environment: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Give the address, and what kills the second node in the middle of a task.

    `resources` are those of each node, as JSON; by default none.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("two_ray_nodes.py")), *resources],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | LOOPBACK | environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asks, answers = process.stdin, process.stdout

    def kill() -> None:
        asks.write("kill\n")
        asks.flush()
        assert answers.readline() == "killed\n"

    try:
        yield answers.readline().strip(), kill
    finally:
        process.communicate(timeout=60)
