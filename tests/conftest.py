"""What every test sees: an empty shelf of its own, no device chosen, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("hwnas", deadline=None)
settings.load_profile("hwnas")


@pytest.fixture(autouse=True)
def own_shelf(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HWNAS_HOME", str(home))
    monkeypatch.delenv("HWNAS_DEVICE", raising=False)
    # adb starts a server that stays: only the tests of phones use it, with a server of their own.
    monkeypatch.setenv("ADB", str(home / "no-adb"))
    return home
