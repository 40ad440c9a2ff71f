"""A lock that is a file: one holder at a time, who is named to the others."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..errors import HwnasError

POLL_S = 0.1


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: the process, what it was started as, and since when."""

    pid: int
    command: str
    since: str

    def __str__(self) -> str:
        """Return the holder for a message."""
        return f"process {self.pid} ({self.command}), since {self.since}"


UNKNOWN = Holder(0, "unknown", "unknown")


class HeldError(HwnasError):
    """Somebody else holds the lock."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(f"the lock is held by {holder}.")
        self.holder = holder


@contextmanager
def lock(
    path: Path, wait_s: float, waiting: Callable[[Holder], None] = lambda holder: None
) -> Iterator[None]:
    """Hold a lock; the system releases it when the process ends, however it ends.

    Args:
        path: the lock's file; it stays, and holds the last holder.
        wait_s: how long to wait for another holder.
        waiting: told of the other holder, once.

    Raises:
        HeldError: another one held it all the time.
        HwnasError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HwnasError(f"cannot write {path}: {error.strerror}.") from None
    try:
        _acquire(descriptor, path, time.monotonic() + wait_s, waiting)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder(os.getpid(), command, since))).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(
    descriptor: int, path: Path, deadline: float, waiting: Callable[[Holder], None]
) -> None:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder(path)
        except OSError as error:
            raise HwnasError(f"cannot lock {path}: {error.strerror}.") from None
        if time.monotonic() >= deadline:
            raise HeldError(holder) from None
        if not told:
            told = True
            waiting(holder)
        time.sleep(POLL_S)


def _holder(path: Path) -> Holder:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it is being written just now
        return UNKNOWN
