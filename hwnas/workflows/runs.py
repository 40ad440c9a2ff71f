"""The run folder: what a search leaves behind, and what lets it go on after an interruption.

search.json        what was asked for, the command, the seed, the environment
checkpoint.json    the state of an unfinished search
history.csv        the best network after so many iterations, stage by stage
architecture.json  the result; architecture-2.json and so on are alternatives to it
run.json           the result's score, costs and budgets; written last
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import HwnasError, UsageError
from ..store.files import read_json, write_atomic

SCHEMA = "hwnas.run/1"


class RunFolder:
    """A run folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, settings: dict[str, Any]) -> RunFolder:
        """Make a new folder that holds the settings of a search.

        Raises:
            UsageError: there is already something at that path.
            HwnasError: the folder cannot be made.
        """
        if path.exists():
            unfinished = (path / "search.json").exists() and not (path / "run.json").exists()
            raise UsageError(
                f"{path} exists already."
                + (
                    f" It holds an unfinished search: go on with 'hwnas search --resume {path}'."
                    if unfinished
                    else " Choose another folder with --out."
                )
            )
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise HwnasError(f"cannot make the run folder {path}: {error.strerror}.") from None
        folder = cls(path)
        folder._write("search.json", {"schema": SCHEMA, **settings, "environment": environment()})
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier search.

        Raises:
            UsageError: the folder is not a run folder, or a newer version wrote it.
        """
        folder = cls(path)
        if not (path / "search.json").is_file():
            raise UsageError(f"{path} is not a run folder: it has no search.json.")
        schema = folder.settings().get("schema")
        if schema != SCHEMA:
            raise UsageError(
                f"{path} was written as {schema!r}; this version of hwnas reads '{SCHEMA}'."
            )
        return folder

    def settings(self) -> dict[str, Any]:
        """Return what was asked for."""
        return read_json(self.path / "search.json")

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state of an unfinished search, in place of the one before."""
        self._write("checkpoint.json", state, indent=None)

    def checkpoint(self) -> dict[str, Any] | None:
        """Return the saved state, or None where there is none."""
        path = self.path / "checkpoint.json"
        return read_json(path) if path.exists() else None

    def result(self) -> dict[str, Any] | None:
        """Return the finished run's document, or None where the search has not ended."""
        path = self.path / "run.json"
        return read_json(path) if path.exists() else None

    def finish(self, architecture: str, history: str, document: dict[str, Any]) -> None:
        """Write the result; the run's document comes last and marks the end."""
        write_atomic(self.path / "architecture.json", architecture)
        write_atomic(self.path / "history.csv", history)
        self._write("run.json", document)
        (self.path / "checkpoint.json").unlink(missing_ok=True)

    def amend(self, more: dict[str, Any]) -> dict[str, Any]:
        """Add to a finished run's document, and return it."""
        document = {**read_json(self.path / "run.json"), **more}
        self._write("run.json", document)
        return document

    def _write(self, name: str, document: dict[str, Any], indent: int | None = 2) -> None:
        write_atomic(self.path / name, json.dumps(document, indent=indent) + "\n")


def environment() -> dict[str, Any]:
    """Return what a result may depend on besides its inputs."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {name: _version(name) for name in ("hwnas", "numpy", "onnxruntime", "torch")},
        "command": ["hwnas", *sys.argv[1:]],
    }


def free_path(name: str, parent: str = "runs") -> Path:
    """Return `runs/NAME`, or `runs/NAME-2` and so on: the first that does not exist."""
    path = Path(parent) / name
    number = 2
    while path.exists():
        path = Path(parent) / f"{name}-{number}"
        number += 1
    return path


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
