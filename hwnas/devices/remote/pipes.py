"""A local process that speaks for a far end: input given and output taken, within limits."""

from __future__ import annotations

import os
import selectors
import subprocess
import time

from ...errors import HwnasError
from .transport import Result

MOST_BYTES = 2**28
"""The most that a far end may say: profiles of large networks take some ten megabytes."""

CHUNK = 2**16


def exchange(
    process: subprocess.Popen[bytes],
    data: bytes = b"",
    *,
    hold: bool = False,
    timeout_s: float,
    until: bytes = b"",
    most_bytes: int = MOST_BYTES,
) -> Result:
    """Give a process its input, and return what it says until it ends.

    Args:
        process: started with pipes that are not buffered.
        data: its input.
        hold: leave its input open.
        timeout_s: how long it may take.
        until: return as soon as it has said this, with exit code 0, and let it run.
        most_bytes: the most that it may say.

    Raises:
        TimeoutError: it takes longer.
        HwnasError: it says more.
    """
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None and stdout is not None and stderr is not None
    deadline = time.monotonic() + timeout_s
    said = {stdout.fileno(): bytearray(), stderr.fileno(): bytearray()}
    told = said[stdout.fileno()]
    left = memoryview(data)
    with selectors.DefaultSelector() as waiting:
        for descriptor in said:
            waiting.register(descriptor, selectors.EVENT_READ)
        if data:
            os.set_blocking(stdin.fileno(), False)
            waiting.register(stdin, selectors.EVENT_WRITE)
        elif not hold:
            stdin.close()
        speaking = len(said)
        while speaking:
            for key, _ in waiting.select(max(0.0, deadline - time.monotonic())):
                if key.fileobj is stdin:
                    left = _written(key.fd, left)
                    if not left:
                        waiting.unregister(stdin)
                        if not hold:
                            stdin.close()
                    continue
                chunk = os.read(key.fd, CHUNK)
                said[key.fd] += chunk
                if not chunk:
                    waiting.unregister(key.fd)
                    speaking -= 1
                if len(said[key.fd]) > most_bytes:
                    raise HwnasError(
                        f"the device answers more than {most_bytes / 1e6:.0f} MB, which no runner "
                        "does: something else answers there."
                    )
            if until and until in told:
                return Result(0, bytes(told), bytes(said[stderr.fileno()]))
            if time.monotonic() >= deadline:
                raise TimeoutError
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()) + 1.0)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return Result(code, bytes(told), bytes(said[stderr.fileno()]))


def _written(descriptor: int, data: memoryview) -> memoryview:
    """Write what a pipe takes now, and return the rest."""
    try:
        return data[os.write(descriptor, data[:CHUNK]) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:  # it does not want the rest, and its end says why
        return data[:0]
