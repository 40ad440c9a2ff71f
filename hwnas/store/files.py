"""Reading and writing files so that nothing is ever half-written."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import HwnasError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file beside its place and move it there: it is whole, or as it was.

    Raises:
        HwnasError: the place cannot be written, or the disk is full.
    """
    content = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise HwnasError(f"cannot write {path}: {error.strerror or error}.") from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; at the end it takes its place, replacing what was there.

    Raises:
        HwnasError: the place cannot be written, or the disk is full.
    """
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        beside.chmod(0o755)
        yield beside
        old = path.with_name(f".{path.name}.old")
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        beside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise HwnasError(f"cannot write {path}: {error.strerror or error}.") from None
    finally:
        if beside is not None and beside.exists():
            shutil.rmtree(beside, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        UsageError: the file cannot be read, or is not a JSON object.
    """
    try:
        document = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON file: {error}.") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} does not hold a JSON object.")
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(_read(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}.") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read {path}: {reason}.") from None
