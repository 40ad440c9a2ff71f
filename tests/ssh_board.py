"""A remote board on loopback: a real sshd with keys, a configuration and a home folder of its own.

Tests reach it with the real ssh, which is told about the keys as a user's own configuration would.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from interrupts import Interrupts

from hwnas.errors import DeviceLostError

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

HOOKED = '''"""onnxruntime as it is, except that a run asks the test first, where that wants it."""
import os
import socket
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
del sys.modules["onnxruntime"]
import onnxruntime


def ask(what):
    with socket.socket(socket.AF_UNIX) as test:
        test.connect({ask!r})
        test.sendall(what)
        return test.recv(4096).decode()


class InferenceSession(onnxruntime.InferenceSession):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.asks = ask(b"session") == "ask"

    def run(self, *arguments, **options):
        if self.asks:
            error = ask(b"run")
            if error != "go on":
                raise RuntimeError(error or "the test went away")
        return super().run(*arguments, **options)


onnxruntime.InferenceSession = InferenceSession
sys.modules["onnxruntime"] = onnxruntime
'''

CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
LogLevel ERROR
SetEnv {environment}
"""

CLIENT = """Host board-alias
  HostName 127.0.0.1
  Port {port}
Host *
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
  ControlMaster auto
  ControlPersist 60
  ControlPath {folder}/own-%C
  RequestTTY yes
  VisualHostKey yes
  LogLevel QUIET
"""
"""What stands in people's configurations, comforts that hwnas must not take over among it."""


class Board:
    """A running sshd.

    Attributes:
        folder: its keys and configuration.
        home: what a login finds as its home folder.
        hook: called before each run of a model on the board. What it raises happens: an
            interruption here, a lost connection, an error of the runtime.
        interrupts: have to be expected where the hook interrupts.
        connection: what `--device` takes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.hook: Callable[[], None] | None = None
        self.interrupts = Interrupts()
        self.user = getpass.getuser()
        self.port = free_port()
        for name in ("host_key", "key", "other_key"):
            self.make_key(name)
        self.make_client()
        packages = folder / "packages"
        packages.mkdir()
        (packages / "onnxruntime.py").write_text(HOOKED.format(ask=str(folder / "ask")))
        self.plain = {
            "HOME": str(self.home),
            "PYTHONPATH": str(packages),
            "OMP_NUM_THREADS": "1",
        }
        self.settings: tuple[tuple[str, ...], dict[str, str]] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(folder / "ask"))
        self.server.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def connection(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "hwnas"

    def make_key(self, name: str) -> None:
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def know(self, key: str) -> None:
        """Have the client know the board by a key of this name, or not at all ('')."""
        text = (self.folder / f"{key}.pub").read_text() if key else ""
        hosts = f"[127.0.0.1]:{self.port}"
        (self.folder / "known_hosts").write_text(f"{hosts} {text}" if text else "")

    def make_client(self) -> None:
        """Put an `ssh` into a folder that is the real one with a configuration of the test's."""
        (self.folder / "ssh_config").write_text(CLIENT.format(port=self.port, folder=self.folder))
        (self.folder / "bin").mkdir()
        wrapper = self.folder / "bin" / "ssh"
        real = shutil.which("ssh")
        wrapper.write_text(f'#!/bin/sh\nexec {real} -F {self.folder}/ssh_config "$@"\n')
        wrapper.chmod(0o755)

    def reset(self) -> None:
        """Have it as it was set up, and running."""
        self.hook = None
        for left in self.cache.glob("*"):
            left.unlink()
        shutil.copy(self.folder / "key.pub", self.folder / "authorized_keys")
        self.know("host_key")
        python = self.home / ".hwnas" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        if self.settings != ((), {}):
            self.restart()

    def restart(self, *options: str, **environment: str) -> None:
        """Start anew, with more lines of configuration and other environment variables."""
        self.stop()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd does not start without
        told = {**self.plain, **environment}
        shown = " ".join(f'"{key}={value}"' for key, value in told.items())
        text = CONFIG.format(port=self.port, folder=self.folder, environment=shown)
        path = self.folder / "sshd_config"
        path.write_text("\n".join([*options, text]))  # the first of two lines counts
        with (self.folder / "sshd.log").open("ab") as log:
            self.daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", path], stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.daemon.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                self.settings = (options, environment)
                return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def cut(self) -> None:
        """End all connections, as a pulled cable does; sshd itself goes on."""
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        if self.daemon is not None:
            self.cut()
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None
            self.settings = None

    def close(self) -> None:
        self.stop()
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(10)

    def runners(self) -> list[int]:
        """Return the processes that measure on the board."""
        return [pid for pid, line in command_lines() if str(self.cache) in line and "--out" in line]

    def _serve(self) -> None:
        """Answer what runs on the board: whether to ask before each run, and at each."""
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:  # it was closed
                return
            with client, contextlib.suppress(OSError):
                hook = self.hook
                if client.recv(100) == b"session":
                    client.sendall(b"ask" if hook else b"do not ask")
                    continue
                try:
                    if hook:
                        hook()
                    client.sendall(b"go on")
                except KeyboardInterrupt:
                    if self.interrupts.send():
                        client.recv(1)  # until that ends the runner
                except DeviceLostError:
                    self.cut()
                except RuntimeError as error:
                    client.sendall(str(error).encode())

    def _children(self) -> list[int]:
        """Return sshd's processes, but for the one that listens."""
        assert self.daemon is not None
        parents = dict(processes())
        found = []
        for pid in parents:
            above = parents.get(pid)
            while above and above != self.daemon.pid:
                above = parents.get(above)
            if above == self.daemon.pid and name_of(pid).startswith("sshd"):
                found.append(pid)
        return found


def processes() -> Iterator[tuple[int, int]]:
    """Yield each process and its parent."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            yield int(path.name), int(fields[1])


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def command_lines() -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(path.name), (path / "cmdline").read_text().replace("\0", " ")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing() -> str:
    """Return what this machine lacks for a board on loopback."""
    if shutil.which("ssh") is None:
        return "there is no ssh: apt install openssh-client"
    return "" if Path(SSHD).exists() else "there is no sshd: apt install openssh-server"
