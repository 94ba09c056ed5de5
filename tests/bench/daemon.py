"""A private sandboxd for the benchmarks, and the smallest client of its socket."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
from tools import BUILD, JAILED, BenchError

from sandboxd.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
OUTPUT_LIMIT = 1 << 30

CONFIG = """\
socket = "{socket}"
socket_mode = "600"
jobs = {jobs}
spare_slots = {spares}
queue_length = 4096
queue_per_tenant = 4096
readonly = {readonly}
max_limits.output_bytes = {output}
state_directory = "{state}"
detect_at_start = false
dedicated_cpus = {dedicated}
"""


class Rpc:
    """A blocking MessagePack-RPC client."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._unpacker = msgpack.Unpacker(max_buffer_size=256 << 20)

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.many(method, [params or {}], 1)[0]

    def many(
        self, method: str, params: Sequence[Mapping[str, Any]], inflight: int
    ) -> list[dict[str, Any]]:
        """Call `method` once for each of `params`, `inflight` at a time; results in their order."""
        results: list[dict[str, Any] | None] = [None] * len(params)
        sent = 0
        done = 0
        while done < len(params):
            while sent < len(params) and sent - done < inflight:
                self._socket.sendall(request(method, params[sent], sent))
                sent += 1
            for message in self._receive():
                _, msgid, error, result = message
                if error is not None:
                    raise BenchError(f"{method}: {error['message']}")
                results[msgid] = result
                done += 1
        return [result for result in results if result is not None]

    def _receive(self) -> Iterator[list[Any]]:
        data = self._socket.recv(1 << 20)
        if not data:
            raise BenchError("sandboxd closed the connection")
        self._unpacker.feed(data)
        yield from self._unpacker

    def close(self) -> None:
        self._socket.close()


def request(method: str, params: Mapping[str, Any], msgid: int = 0) -> bytes:
    """A frame whose msgid has the five-byte form, so that `load` can write its own there."""
    head = b"\x94\x00\xce" + msgid.to_bytes(4, "big")
    body: bytes = msgpack.packb(method) + msgpack.packb([params])
    return head + body


@functools.cache
def programs() -> Path:
    """Where sandboxes see the programs of build/. Every sandbox has a /work and a /tmp of its own,
    so what is there on the host cannot be shown at its own path."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-bench-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    for name in JAILED:
        shutil.copy(BUILD / name, directory / name)
    return directory


def job(program: str, *args: str, **fields: Any) -> dict[str, Any]:
    """The description of a job that runs one of the programs in build/."""
    return {"argv": [str(programs() / program), *args], **fields}


class Daemon:
    """The running daemon: its processes, its files, its socket."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.socket = directory / "sandboxd.sock"

    def connect(self) -> Rpc:
        return Rpc(self.socket)

    def frame(self, name: str, description: Mapping[str, Any], method: str = "job.run") -> Path:
        """A file with one request, for `load` and `stream`."""
        path = self.directory / f"{name}.frame"
        path.write_bytes(request(method, description))
        return path

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")


@contextmanager
def private_daemon(
    jobs: int = 0, spares: int = 0, group: Path | None = None, *, dedicated: bool = False
) -> Iterator[Daemon]:
    """Start sandboxd, wait until it is ready, and stop it at the end.

    `group` is a cgroup directory the daemon is started in.
    """
    with tempfile.TemporaryDirectory(prefix="sandboxd-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the daemon has given up root by the time it uses the files
        config = CONFIG.format(
            socket=directory / "sandboxd.sock",
            jobs=jobs,
            spares=spares,
            readonly=json.dumps([*Config().readonly_directories(), str(programs())]),
            output=OUTPUT_LIMIT,
            dedicated=str(dedicated).lower(),
            state=directory / "state",
        )
        (directory / "sandboxd.toml").write_text(config)
        daemon = Daemon(_start(directory, group), directory)
        try:
            yield daemon
        finally:
            _stop(daemon.process)


def _start(directory: Path, group: Path | None) -> subprocess.Popen[bytes]:
    """Start the daemon and wait for the READY=1 it sends to its service manager."""
    program = Path(sys.executable).parent / "sandboxd"
    if not program.exists():
        raise BenchError(f"{program} is missing: run this through 'make bench'")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SANDBOXD_")}
    temporary = directory / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    name = f"{directory.name}-notify"  # abstract, so that no permission stands in the way
    environment = {**kept, "NOTIFY_SOCKET": f"@{name}", "TMPDIR": str(temporary)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"\0{name}")
        notify.settimeout(0.2)
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(program), "--config", str(directory / "sandboxd.toml")],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if group is None else _Enter(group),
            )
        _wait_ready(process, notify, directory / "log")
    return process


class _Enter:
    """Puts the child into a cgroup between fork and exec; this program has no threads then."""

    def __init__(self, group: Path) -> None:
        self._procs = group / "cgroup.procs"

    def __call__(self) -> None:
        self._procs.write_text("0")


def _wait_ready(process: subprocess.Popen[bytes], notify: socket.socket, log: Path) -> None:
    for _ in range(int(START_TIMEOUT / 0.2)):
        try:
            if b"READY=1" in notify.recv(4096):
                return
        except TimeoutError:
            if process.poll() is not None:
                break
    _stop(process)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise BenchError(f"sandboxd did not start: {lines[-1] if lines else 'it said nothing'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise BenchError(f"sandboxd did not stop within {STOP_TIMEOUT:.0f} s") from None
