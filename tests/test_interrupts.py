"""The tests' own Ctrl-C reaches what waits for it, once, and nothing else."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from interrupts import Interrupts


def test_one_interruption_comes_and_no_other() -> None:
    interrupts = Interrupts()
    sent: list[bool] = []

    def press() -> None:
        sent.extend(interrupts.send() for _ in range(3))

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts.expected():
        thread = threading.Thread(target=press)
        thread.start()
        try:
            time.sleep(60)
        finally:  # where a second one would come
            thread.join()
    assert sent == [True, False, False]
    assert not interrupts.send()
    assert signal.getsignal(signal.SIGINT) is before


def test_none_comes_behind_the_block() -> None:
    interrupts = Interrupts()
    stop = threading.Event()

    def press() -> None:
        while not stop.is_set():
            interrupts.send()

    thread = threading.Thread(target=press)
    thread.start()
    try:
        for _ in range(200):
            try:
                with interrupts.expected():
                    pass
            except KeyboardInterrupt:
                pass
            sum(range(1000))  # not guarded: what came here would end the test
    finally:
        stop.set()
        thread.join()


def test_a_signal_on_its_way_at_the_end_of_the_block_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupts = Interrupts()
    late: list[threading.Timer] = []

    def slowly(thread: int, number: int) -> None:
        late.append(threading.Timer(0.1, deliver, (thread, number)))
        late[0].start()

    deliver = signal.pthread_kill
    monkeypatch.setattr(signal, "pthread_kill", slowly)
    began = time.monotonic()
    with interrupts.expected():
        assert interrupts.send()
    assert time.monotonic() - began >= 0.1
    late[0].join()
