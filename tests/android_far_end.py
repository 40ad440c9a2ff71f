"""A phone for the real `adb`: an adbd on loopback whose shell runs the runner in a folder.

It speaks adb's protocol: connection, `shell_v2`, and the old `sync` service. Commands run in mksh
with toybox's tools where these are installed, as on a phone. What the phone calls
/data/local/tmp/hwnas is a folder of the test.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from interrupts import Interrupts

from hwnas.devices.remote.adb import FOLDER
from hwnas.errors import DeviceLostError

NAMES = (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (int.from_bytes(name, "little") for name in NAMES)
MOST = 256 * 1024
STDOUT, STDERR, EXIT = 1, 2, 3
TOYBOX = ("chmod", "df", "env", "find", "mkdir", "mv", "rm", "sha256sum", "kill", "cat", "sleep")


class Phone:
    """A phone that listens on loopback.

    Attributes:
        folder: what it calls FOLDER.
        properties: what `getprop` prints.
        hook: called before each run of a model; what it raises is what happens to the run.
        interrupts: have to be expected where the hook interrupts.
        xnnpack: file to write how XNNPACK was asked for, where its onnxruntime has it.
        trusted: whether it lets this machine in.
        room: bytes that its storage still takes.
    """

    def __init__(self, folder: Path, shim: Path | None = None) -> None:
        self.folder = folder / "phone"
        self.folder.mkdir(parents=True)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.properties = {
            "ro.product.manufacturer": "Google",
            "ro.product.model": "Pixel 2",
            "ro.board.platform": "msm8998",
            "ro.build.version.release": "11",
            "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        }
        self.trusted = True
        self.room = 10**12
        self.banner = "ro.product.model=Pixel 2"
        self.hook: Callable[[], None] | None = None
        self.interrupts = Interrupts()
        self.xnnpack: Path | None = None
        self.scripts: list[str] = []
        self._shim = shim
        self._asked = folder / "asked"
        self._links: list[_Link] = []
        self._groups: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._asking = socket.socket(socket.AF_UNIX)
        self._asking.bind(str(self._asked))
        self._asking.listen()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listening.getsockname()[1]}"
        if shutil.which("toybox"):
            for tool in TOYBOX:
                (self.bin / tool).symlink_to(shutil.which("toybox"))
        self._program("getprop", 'cat "$PROPERTIES/$1" 2>/dev/null; echo')
        for serve in (self._accept, self._answer):
            threading.Thread(target=serve, daemon=True).start()

    def emulate(self, root: Path, cpu: str = "cortex-a76") -> None:
        """Run its programs as an arm64 machine whose libraries lie below a root."""
        emulator = f"qemu-aarch64-static -cpu {cpu} -L {root}"
        self._program("env", f'ld=$1; shift; exec {emulator} -E "$ld" "$@"')

    def drop(self) -> None:
        """Pull the cable."""
        for link in self._links:
            link.close()
        self._links.clear()

    def close(self) -> None:
        """Switch it off."""
        self._listening.close()
        self._asking.close()
        self.drop()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()

    def running(self) -> list[int]:
        """Return what still runs of its commands: processes, by their number."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) in self._groups and fields[0] != "Z":
                    found.append(int(path.parent.name))
        return found

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Run a script by its shell."""
        self.scripts.append(script)
        properties = self.bin / "properties"
        properties.mkdir(exist_ok=True)
        for key, value in self.properties.items():
            (properties / key).write_text(value)
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PROPERTIES": str(properties),
            "OMP_NUM_THREADS": "1",
        }
        if self.hook is not None or self.xnnpack is not None:
            environment["LD_PRELOAD"] = str(self._shim)
        if self.hook is not None:
            environment["RUN_HOOK"] = str(self._asked)
        if self.xnnpack is not None:
            environment["XNNPACK"] = str(self.xnnpack)
        process = subprocess.Popen(
            [shutil.which("mksh") or "sh", "-c", script.replace(FOLDER, str(self.folder))],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._groups.append(process.pid)
        self._processes.append(process)
        return process

    def path(self, name: str) -> Path:
        """Return where a file of the phone really is."""
        inside = Path(name).relative_to(FOLDER)
        assert ".." not in inside.parts
        return self.folder / inside

    def _program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = _Link(self, connection)
                self._links.append(link)
                threading.Thread(target=link.serve, daemon=True).start()

    def _answer(self) -> None:
        """Tell each run what becomes of it."""
        with contextlib.suppress(OSError):
            while True:
                asking, _ = self._asking.accept()
                try:
                    if self.hook is not None:
                        self.hook()
                    told = b"go"
                except KeyboardInterrupt:
                    self.interrupts.send()
                    threading.Timer(20.0, asking.close).start()  # it runs on until it is ended
                    continue
                except DeviceLostError as error:
                    if type(error) is DeviceLostError:
                        self.drop()
                    threading.Timer(20.0, asking.close).start()
                    continue
                except RuntimeError as error:
                    told = str(error).encode()
                with contextlib.suppress(OSError):
                    asking.sendall(told)
                    asking.close()


class _Link:
    """One connection from an adb server."""

    def __init__(self, phone: Phone, connection: socket.socket) -> None:
        self._phone = phone
        self._connection = connection
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                command, a, b, size, _, _ = struct.unpack("<6I", self._read(24))
                self._take(command, a, b, self._read(size))
        for stream in self._streams.values():
            stream.hang_up()
        self.close()

    def send(self, command: int, a: int, b: int, data: bytes = b"") -> None:
        check = sum(data) & 0xFFFFFFFF
        head = struct.pack("<6I", command, a, b, len(data), check, command ^ 0xFFFFFFFF)
        with self._sending:
            self._connection.sendall(head + data)

    def _take(self, command: int, a: int, b: int, data: bytes) -> None:
        if command in (CNXN, AUTH):
            if self._phone.trusted:
                banner = f"device::{self._phone.banner};features=shell_v2,cmd".encode()
                self.send(CNXN, 0x01000000, MOST, banner)
            else:
                self.send(AUTH, 1, 0, bytes(20))
        elif command == OPEN:
            number = len(self._streams) + 1
            service = data.rstrip(b"\0").decode(errors="surrogateescape")
            kind = _Shell if service.startswith("shell,v2") else _Sync
            self._streams[number] = kind(self._phone, self, number, a)
            self.send(OKAY, number, a)
            threading.Thread(
                target=self._streams[number].serve, args=(service,), daemon=True
            ).start()
        elif command == WRTE:
            self._streams[b].taken.put(data)
            self.send(OKAY, b, a)
        elif command == OKAY:
            self._streams[b].ready.release()
        elif command == CLSE and b in self._streams:
            self._streams[b].hang_up()

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._connection.recv_into(view)
            if not count:
                raise EOFError
            view = view[count:]
        return bytes(data)


class _Stream:
    def __init__(self, phone: Phone, link: _Link, own: int, other: int) -> None:
        self.phone, self.link, self.own, self.other = phone, link, own, other
        self.taken: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Semaphore(1)  # one message at a time, until it is taken

    def write(self, data: bytes) -> None:
        self.ready.acquire()
        self.link.send(WRTE, self.own, self.other, data)

    def end(self) -> None:
        self.ready.acquire()
        self.link.send(CLSE, self.own, self.other)

    def hang_up(self) -> None:
        self.taken.put(None)
        self.ready.release()

    def serve(self, service: str) -> None:
        raise NotImplementedError


class _Shell(_Stream):
    """A command: its output and its exit code in packets. adbd hangs it up with its stream."""

    process: subprocess.Popen[bytes] | None = None

    def serve(self, service: str) -> None:
        process = self.process = self.phone.start(service.partition(":")[2])
        assert process.stdout is not None and process.stderr is not None
        with contextlib.suppress(OSError):
            pipes = [(STDOUT, process.stdout), (STDERR, process.stderr)]
            threads = [threading.Thread(target=self._copy, args=pipe) for pipe in pipes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            code = process.wait()
            self.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
            self.end()

    def _copy(self, kind: int, pipe) -> None:
        with contextlib.suppress(OSError):
            while data := pipe.read1(4096):
                self.write(struct.pack("<BI", kind, len(data)) + data)

    def hang_up(self) -> None:
        super().hang_up()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)


class _Sync(_Stream):
    """Files: `STAT`, `SEND`, `RECV`."""

    def serve(self, service: str) -> None:
        assert service == "sync:"
        self._waiting = bytearray()
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, size = struct.unpack("<4sI", self._read(8))
                name = self._read(size).decode(errors="surrogateescape")
                if kind == b"STAT":
                    path = self.phone.path(name)
                    there = path.stat() if path.exists() else None
                    told = (
                        (there.st_mode, there.st_size, int(there.st_mtime)) if there else (0,) * 3
                    )
                    self.write(struct.pack("<4s3I", b"STAT", *told))
                elif kind == b"SEND":
                    self._take(name)
                elif kind == b"RECV":
                    self._give(self.phone.path(name))
                else:
                    self.end()  # QUIT
                    return

    def _take(self, name: str) -> None:
        path, _, mode = name.rpartition(",")
        target = self.phone.path(path)
        content = bytearray()
        while True:
            kind, size = struct.unpack("<4sI", self._read(8))
            if kind == b"DONE":
                break
            content += self._read(size)
        if len(content) > self.phone.room:
            target.write_bytes(content[: self.phone.room])
            reason = b"No space left on device"
            self.write(struct.pack("<4sI", b"FAIL", len(reason)) + reason)
            return
        target.write_bytes(content)
        target.chmod(int(mode) & 0o777)
        self.write(struct.pack("<4sI", b"OKAY", 0))

    def _give(self, path: Path) -> None:
        content = path.read_bytes()
        for start in range(0, len(content), 64 * 1024):
            part = content[start : start + 64 * 1024]
            self.write(struct.pack("<4sI", b"DATA", len(part)) + part)
        self.write(struct.pack("<4sI", b"DONE", 0))

    def _read(self, size: int) -> bytes:
        while len(self._waiting) < size:
            part = self.taken.get()
            if part is None:
                raise EOFError
            self._waiting += part
        found = bytes(self._waiting[:size])
        del self._waiting[:size]
        return found
