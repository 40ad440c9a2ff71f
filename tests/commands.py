"""Commands as a user runs them: by the interpreter, and those that end with a message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli import main


def hwnas(*arguments: str, cwd: Path | None = None, **environment: str) -> Any:
    """Run a command to its end, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hwnas", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        timeout=300,
    )


def ends(
    arguments: list[str], code: int, message: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a command; it ends with that code and message, and leaves nothing beside the file."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, told = capsys.readouterr()
    assert ended.value.code == code, told
    assert message in told
    assert "internal error" not in told
    assert out == ""
    assert [path.name for path in Path().iterdir()] == [file]
