"""A journal: records appended as they come, one JSON document a line, safe against a kill."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import HwnasError, UsageError


class Journal:
    """An append-only file of records; each is on disk before `append` returns.

    Args:
        path: the file; made with `header` as its first record, or continued.
        header: what the records belong to; a journal with another header is not continued.

    Raises:
        UsageError: the file is not a journal, or belongs to something else.
        HwnasError: it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise HwnasError(f"cannot write {path}: {error.strerror}.") from None
        try:
            self._go_on(header)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Add a record.

        Raises:
            HwnasError: the disk is full.
        """
        try:
            self._write(record)
        except OSError as error:
            raise HwnasError(f"cannot write {self.path}: {error.strerror}.") from None
        self.records.append(record)

    def __enter__(self) -> Journal:
        """Return the journal itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def _go_on(self, header: dict[str, Any]) -> None:
        """Keep other processes out, and read what is there."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HwnasError(
                f"another process writes {self.path} just now. Wait until it ends, or end it, and "
                "repeat the command."
            ) from None
        except OSError as error:
            raise HwnasError(f"cannot lock {self.path}: {error.strerror}.") from None
        found, self.records, intact = _read(self.path)
        if found is not None and found != header:
            raise UsageError(
                f"{self.path} belongs to another run ({found}); delete it, or repeat that run's "
                "options."
            )
        try:
            self._file.truncate(intact)  # a line torn by a kill is dropped
            if found is None:
                self._write(header)
        except OSError as error:
            raise HwnasError(f"cannot write {self.path}: {error.strerror}.") from None

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Return header, records, and the length of the part that is whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, [], 0
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}.") from None
    intact = data.rfind(b"\n") + 1
    records: list[dict[str, Any]] = []
    for number, line in enumerate(data[:intact].splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UsageError(f"{path}, line {number}: not a record of a journal.")
        records.append(record)
    return (records[0], records[1:], intact) if records else (None, [], 0)
