"""Ctrl-C that another thread of a test presses: once, and only while the test waits for it.

A signal that comes when nobody waits for it any more, such as when the measurement that it was for
has failed already, would end whatever the main thread does then: another test, or the whole worker.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Interruptions of the main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._sent = self._come = 0

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Let one interruption come while the block runs; it raises KeyboardInterrupt in there.

        Nothing is raised behind the block, not even by a signal that is on its way at its end.
        """
        self._sent = self._come = 0
        # Set here whatever stood there before: it is ignored in background jobs.
        before = signal.signal(signal.SIGINT, self._arrive)
        try:
            try:
                self._open = True
                yield
            finally:
                self._open = False
        finally:
            with self._lock:  # no other one is sent from here on
                pass
            while self._come < self._sent:
                time.sleep(0.001)
            signal.signal(signal.SIGINT, before)

    def send(self) -> bool:
        """Interrupt the main thread where it expects that; return whether it did."""
        with self._lock:
            if not self._open or self._sent:
                return False
            self._sent += 1
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)  # to none of the other threads
            return True

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self._come += 1
        if self._open:
            self._open = False
            raise KeyboardInterrupt
