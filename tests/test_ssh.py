"""Remote boards: the real ssh against a real sshd on loopback, which runs the Python runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from device_contract import DeviceContract
from ssh_board import Board, board, running  # noqa: F401 (fixtures)

from hwnas.devices.contract import Device
from hwnas.devices.registry import connect, described
from hwnas.errors import DeviceLostError


class TestBoard(DeviceContract):
    @pytest.fixture(autouse=True)
    def reach(self, board: Board) -> Iterator[None]:  # noqa: F811
        self.board = board
        yield

    def connect(self) -> Device:
        return connect(described(self.board.connection))

    def before_each_run(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, hook: Callable[[], None]
    ) -> None:
        monkeypatch.setattr(self.board, "hook", hook)

    def lose(
        self, monkeypatch: pytest.MonkeyPatch, device: Device, when: Callable[[], bool]
    ) -> None:
        def hook() -> None:
            if when():
                self.board.hook = None  # the cable is put in again
                raise DeviceLostError

        self.before_each_run(monkeypatch, device, hook)
