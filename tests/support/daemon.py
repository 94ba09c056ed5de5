"""Starts and stops a real daemon, with its helper: `python -m sandboxd` as root or (see
`support.rootless`) as an ordinary user, or the service of systemd where the tests run in one's
virtual machine."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from support import host, rootless
from support.requirements import CLEAN_ENVIRONMENT
from support.service import TEMPLATE, Service

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
# Three ids for each of 1024 slots at most: far from those of accounts and of a daemon that runs for
# real.
_UIDS_EACH = 3072
# In a mount namespace where every mount is shared, as on a host with systemd: what a sandbox fails
# to keep to itself shows in the daemon's own mounts, and what others mount meanwhile does not.
_OWN_MOUNTS = (
    "unshare", "--mount", "--propagation", "private",
    "sh", "-c", 'mount --make-rshared / && exec "$@"', "sh",
)  # fmt: skip
_next_uid = 1_000_000_000 + os.getpid() % 1000 * 65536 * 4


class Daemon:
    """One running daemon, its socket and its processes."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        environment: Mapping[str, str] | None = None,
        *,
        without_root: bool = rootless.ACTIVE,
        heir_of: "Daemon | None" = None,
        path: Path | None = None,
        stderr: int | None = None,
        around: Sequence[str] = (),
    ) -> None:
        """``heir_of``: one that is dead, whose user, uids and cgroups this one takes over.
        ``path``: of the socket. ``stderr``: instead of the log. ``around``: a command that executes
        the one that follows it, in the daemon's mount namespace."""
        self.socket = str(path or directory / "socket")
        self.notify: socket.socket | None = None
        """What it tells its service manager, which is this process."""
        self.log = directory / "log"
        self.uids = heir_of.uids if heir_of else take_uids()
        """Of the sandboxes."""
        self._is_heir = heir_of is not None
        self._account = heir_of._account if heir_of else None
        if without_root and not heir_of:
            self._account = rootless.Account(self.uids, directory)
            self.uids = self._account.subordinate
        elif self._account:
            self._account.take(directory)
        config = directory / "sandboxd.toml"
        config.write_text(
            _toml(
                {
                    **({} if without_root else {"uid_base": self.uids.start}),
                    "state_directory": str(directory / "state"),
                    "runtimes_directory": str(directory / "runtimes"),
                    "detect_at_start": False,  # It keeps the machine busy for a while.
                    **settings,
                }
            )
        )
        variables = dict(environment or {})
        self.process: subprocess.Popen[bytes] | Service
        ours = self._account or path or stderr is not None or around
        if TEMPLATE and not ours:
            self.process = self._as_service(directory, variables)
        else:
            self.process = self._as_child(directory, variables, stderr, around)
        reader, self._lifeline = os.pipe()
        self._guard = _guard(self.process.pid, reader)
        os.close(reader)

    def _as_service(self, directory: Path, environment: Mapping[str, str]) -> Service:
        try:
            return Service(directory, environment)
        except ChildProcessError as error:
            raise RuntimeError(f"the daemon did not start: {error}\n{self.log_text()}") from None

    def _as_child(
        self,
        directory: Path,
        environment: Mapping[str, str],
        stderr: int | None,
        around: Sequence[str],
    ) -> "subprocess.Popen[bytes]":
        self.notify = _notify_socket(directory)
        with open(self.log, "wb") as log:
            config = str(directory / "sandboxd.toml")
            command = [*around, sys.executable, "-m", "sandboxd", "--config", config]
            command += ["--socket", self.socket]
            process = subprocess.Popen(
                self._account.command(*command) if self._account else [*_OWN_MOUNTS, *command],
                stdin=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                cwd="/",
                env=CLEAN_ENVIRONMENT
                | (self._account.environment if self._account else {})
                | {"NOTIFY_SOCKET": str(directory / "notify")}
                | environment,
                start_new_session=True,
            )
            try:
                self._await_ready(process.pid, self.notify)
            except BaseException:
                _end(process)
                self.notify.close()
                self._leave_account()
                raise
        return process

    def _await_ready(self, pid: int, notify: socket.socket) -> None:
        ended = os.pidfd_open(pid)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while True:
                wait = max(0.0, deadline - time.monotonic())
                readable = _readable(wait, notify.fileno(), ended)
                if notify.fileno() in readable and b"READY=1" in notify.recv(4096).split(b"\n"):
                    return
                if not readable or readable == [ended]:
                    raise RuntimeError(f"the daemon did not start:\n{self.log_text()}")
        finally:
            os.close(ended)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def group(self) -> str:
        """The name of the daemon's cgroup in every hierarchy."""
        return f"sandboxd-{self.pid}"

    @property
    def owner(self) -> int:
        """The uid of the helper: root's, or the user's who started the daemon."""
        return self._account.uid if self._account else 0

    def helpers(self, table: host.Table | None = None) -> list[int]:
        """The keeper and its worker: what has the helper's name and is its owner's."""
        table = host.processes() if table is None else table
        tree = host.descendants(self.pid, table)
        return [pid for pid in tree if table[pid].uid == self.owner and not table[pid].zombie]

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not help. Returns the exit status."""
        status = _end(self.process)
        if self.notify is not None:
            self.notify.close()
        self._guard.kill()
        self._guard.wait()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._leave_account()
        return status

    def _leave_account(self) -> None:
        if self._account and not self._is_heir:
            self._account.close()


@contextlib.contextmanager
def running(
    environment: Mapping[str, str] | None = None,
    *,
    heir_of: Daemon | None = None,
    **settings: Any,
) -> Iterator[Daemon]:
    """A daemon with these settings, and variables besides, for as long as the block runs."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    # The daemon gives up root, and binds its socket before that.
    directory.chmod(0o755)
    try:
        daemon = Daemon(settings, directory, environment, heir_of=heir_of)
        try:
            yield daemon
        finally:
            daemon.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end(process: "subprocess.Popen[bytes] | Service") -> int:
    """The exit status, after SIGTERM, or SIGKILL when that does not help."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _readable(timeout_s: float, *fds: int) -> list[int]:
    return select.select(fds, [], [], timeout_s)[0]


def take_uids() -> range:
    """Ids that no other daemon of these tests has."""
    global _next_uid
    first = _next_uid
    _next_uid += _UIDS_EACH
    return range(first, first + _UIDS_EACH)


def _notify_socket(directory: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(directory / "notify"))
    (directory / "notify").chmod(0o666)
    return sock


def _guard(pid: int, lifeline: int) -> "subprocess.Popen[bytes]":
    """Ends the daemon when these tests are killed: only the kernel still cleans up then, and it
    closes the other end of ``lifeline``."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read line; kill -{signal.SIGTERM.value} {pid}"],
        stdin=lifeline,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _toml(settings: Mapping[str, Any]) -> str:
    """Enough of TOML for settings: values first, tables after."""
    lines = [f"{key} = {_value(value)}" for key, value in settings.items() if not _is_table(value)]
    for key, table in settings.items():
        if _is_table(table):
            lines += [f"[{key}]"] + [f"{name} = {_value(value)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str | int):
        return repr(value)
    assert isinstance(value, list | tuple)
    return "[" + ", ".join(_value(item) for item in value) + "]"
