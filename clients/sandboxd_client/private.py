"""A daemon of one's own, for as long as it is needed.

The daemon listens in a directory that only this user may enter and serves only this user. It ends
when the lifeline, a pipe whose other end only this process holds, is closed: by `close`, or by the
kernel when this process dies in whatever way.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from sandboxd.protocol.errors import SandboxdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

# A start takes half a second; on a machine that swaps it may take this long.
START_TIMEOUT_MS = 30_000
STOP_TIMEOUT_MS = 10_000
# A socket's path has at most 107 bytes; below the parent come `/sandboxd-`, 16 digits and `/s`.
MAX_PARENT_BYTES = 107 - 28


class DaemonNotStarted(SandboxdError):
    """A private daemon could not be started; the text is its own reason where it gave one."""


class Daemon:
    """A running daemon; `socket` is the path to connect to. Ends with `close` or `with`."""

    def __init__(self, args: Sequence[str] = ()) -> None:
        """Start a daemon and wait until it serves. `args` are further options of `sandboxd`.

        Raises DaemonNotStarted.
        """
        self._directory = _make_directory()
        self.socket = f"{self._directory}/s"
        self._log = f"{self._directory}/log"
        self._lifeline = -1
        self.pid = 0
        try:
            self._start(args)
        except BaseException:
            self.close()
            raise

    def _start(self, args: Sequence[str]) -> None:
        lifeline_read, self._lifeline = os.pipe()
        ready_read, ready_write = os.pipe()
        try:
            self.pid = self._spawn(args, lifeline_read, ready_write)
        except OSError as exc:
            raise DaemonNotStarted(f"cannot start {sys.executable}: {exc.strerror}") from exc
        finally:
            os.close(lifeline_read)
            os.close(ready_write)
        try:
            line = _read_line(ready_read)
        finally:
            os.close(ready_read)
        if line != "READY":
            raise DaemonNotStarted(line or self._last_words())

    def _spawn(self, args: Sequence[str], lifeline: int, ready: int) -> int:
        # -P: a module in the current directory must not pass for one of ours, as root least of all.
        argv = [sys.executable, "-P", "-m", "sandboxd", "--private", "--socket", self.socket, *args]
        environment = {
            **os.environ,
            "SANDBOXD_LIFELINE": str(lifeline),
            "SANDBOXD_READY_FD": str(ready),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            # Onto itself: that takes close-on-exec off, in the child only.
            (os.POSIX_SPAWN_DUP2, lifeline, lifeline),
            (os.POSIX_SPAWN_DUP2, ready, ready),
        ]
        # A session of its own: the terminal's Ctrl-C is for the program, not for the daemon.
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)

    def _last_words(self) -> str:
        try:
            with open(self._log, encoding="utf-8", errors="replace") as log:
                lines = log.read(65536).split("\n")
        except OSError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"sandboxd ended before it was ready{': ' if last else ''}{last}"

    def close(self) -> None:
        """End the daemon, wait for it, and remove its directory. May be called again."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self.pid:
            _wait(self.pid)
            self.pid = 0
        _remove_directory(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _make_directory() -> str:
    """A directory that only we may enter; tempfile.mkdtemp would cost 10 ms to import."""
    parent = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the name is random, mkdir is exclusive
    if len(os.fsencode(parent)) > MAX_PARENT_BYTES:
        parent = "/tmp"  # noqa: S108
    path = f"{parent}/sandboxd-{os.urandom(8).hex()}"
    try:
        os.mkdir(path, 0o700)
    except OSError as exc:
        raise DaemonNotStarted(f"cannot make a directory in {parent}: {exc.strerror}") from exc
    return path


def _remove_directory(path: str) -> None:
    """Remove the directory and the two files that can be in it."""
    for name in ("s", "log"):
        try:  # noqa: SIM105 - contextlib costs 2 ms to import
            os.unlink(f"{path}/{name}")
        except OSError:
            pass
    try:  # noqa: SIM105
        os.rmdir(path)
    except OSError:
        pass


def _read_line(fd: int) -> str:
    """The line the daemon writes when it serves or gives up; empty when it died without one."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while not data.endswith(b"\n"):
        if not poll.poll(START_TIMEOUT_MS):
            raise DaemonNotStarted(f"sandboxd did not start within {START_TIMEOUT_MS // 1000} s")
        chunk = os.read(fd, 4096)
        if not chunk:
            break
        data += chunk
    return data.decode(errors="replace").strip()


def _wait(pid: int) -> None:
    """Wait for the daemon's orderly end; kill it when that does not come."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(STOP_TIMEOUT_MS):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
