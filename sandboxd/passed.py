"""Descriptors that clients pass along with a request."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from typing import Final

import trio

from sandboxd.engine.aside import Aside, Closer, close_ends
from sandboxd.engine.job import NO_STDIO, Stdio
from sandboxd.filesystems import may_wait, waits
from sandboxd.protocol.errors import BUSY, RemoteProtocolError, RequestError, invalid
from sandboxd.protocol.models import FdIndices

# Three for each of a few requests on the way at once.
MAX_PENDING: Final = 64
MAX_PASSED: Final = 253  # SCM_MAX_FD: in one message.
# Sockets through which no descriptor goes. A Unix socket would carry the job's own out of the
# sandbox, with them the worker's pipes, and others into it that nobody has looked at.
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_KEEPS: Final = (
    "fds: a program of yours was killed and cannot end, as it waits in the kernel for a descriptor"
    " that you passed: no further ones are taken until whoever keeps the other end lets go"
)
_RETRY_NS: Final = 1_000_000_000
# Character devices by major number (Documentation/admin-guide/devices.txt): /dev/null and its like,
# and terminals. What others do nobody knows: Binder's, too, carry descriptors.
_DEVICES: Final = frozenset({1, 4, 5, *range(136, 144), 188, 204, 229})
# An ordinary file system answers at once.
_PATIENCE_S: Final = 5.0


class PassedFds:
    """Binds received descriptors to the message they came with.

    The kernel hands descriptors over with the first byte they were sent with, and a read never
    goes beyond the piece that had some. So of what one read returned, its descriptors belong to
    the last messages, and those of earlier reads to the message that began there.

    A client may pass what keeps waiting whoever does anything with it, a close included. So nothing
    is done with a descriptor here until `look` has been at it; and all are closed by threads.
    """

    def __init__(self, closer: Closer | None = None) -> None:
        """``closer`` is that of the user who passes them."""
        self.closer = Closer() if closer is None else closer
        self._earlier: list[int] = []
        self._latest: list[int] = []
        self.new: list[int] = []
        """Of the latest, those that have not been looked at."""
        self._refused: dict[int, Aside] = {}

    def received(self, fds: Sequence[int]) -> None:
        """A read returned; owns ``fds``. Raises RemoteProtocolError when there are too many."""
        self._earlier += self._latest
        self._latest = list(fds)
        self.new = list(fds)
        if len(self._earlier) + len(self._latest) > MAX_PENDING:
            self.close()
            raise RemoteProtocolError(f"more than {MAX_PENDING} descriptors in one message")

    async def room(self) -> bool:
        """Before a read: wait until few enough of this user's descriptors wait to be closed. False
        when that takes too long."""
        with trio.move_on_after(_PATIENCE_S):
            await self.closer.room()
        return not self.closer.full

    async def look(self) -> None:
        """Find out which of those that came with the last read no job may have, for where they are.

        It takes a thread for files and terminals, and some seconds for what keeps it waiting.
        """
        new, self.new = [fd for fd in self.new if may_wait(fd)], []
        if not new:
            return
        self._refused.update({fd: Aside(fd) for fd in new})
        with trio.move_on_after(_PATIENCE_S):
            for fd in new:
                if not await self._refused[fd].call(waits):
                    del self._refused[fd]

    def refuses(self, fd: int) -> bool:
        """Whether no job may have one of the present message's."""
        return fd in self._refused

    def close_those(self, fds: Iterable[int]) -> None:
        """Close some that were taken."""
        fds = set(fds)
        refused = fds & self._refused.keys()
        close_ends([self._refused.pop(fd) for fd in refused], self.closer)
        self.closer.close(fds - refused)

    def take(self, count: int) -> list[int]:
        """The first ``count`` descriptors of the present message; the caller owns them."""
        pending = self._earlier + self._latest
        if len(pending) < count:
            raise invalid(
                "fds", f"index {count - 1} of {len(pending)} descriptors passed with the request"
            )
        taken, rest = pending[:count], pending[count:]
        cut = max(0, len(self._earlier) - count)
        self._earlier, self._latest = rest[:cut], rest[cut:]
        return taken

    def message_ended(self) -> None:
        """What came in earlier reads was this message's and is not wanted."""
        if self._earlier:
            self.close_those(self._earlier)
            self._earlier = []

    def read_ended(self, *, partial: bool) -> None:
        """All messages of a read are done; without the beginning of another, nothing is kept."""
        if not partial:
            self.close()

    def close(self) -> None:
        if self._earlier or self._latest:
            self.close_those(self._earlier + self._latest)
            self._earlier, self._latest, self.new = [], [], []


def stdio_from(passed: PassedFds, fds: FdIndices) -> Stdio:
    """The job's standard streams out of the passed descriptors; the caller owns the result.

    Raises RequestError for descriptors that are not there or that a job must not have.
    """
    indices = [index for index in (fds.stdin, fds.stdout, fds.stderr) if index is not None]
    if not indices:
        return NO_STDIO
    if passed.closer.lost:
        raise RequestError(BUSY, _KEEPS, {"retry_after_ns": _RETRY_NS})
    taken = passed.take(max(indices) + 1)
    wanted = set(indices)
    passed.close_those([fd for index, fd in enumerate(taken) if index not in wanted])
    try:
        for name, index in (("stdin", fds.stdin), ("stdout", fds.stdout), ("stderr", fds.stderr)):
            if index is not None:
                _check(passed, f"fds.{name}", taken[index], write=name != "stdin")
    except BaseException:
        passed.close_those([taken[index] for index in wanted])
        raise
    stdin, stdout, stderr = (
        None if index is None else taken[index] for index in (fds.stdin, fds.stdout, fds.stderr)
    )
    return Stdio(
        stdin,
        stdout,
        stderr,
        closer=passed.closer,
        passed=tuple(taken[index] for index in wanted),
    )


def input_from(passed: PassedFds, field: str, index: int) -> int:
    """A file, pipe, socket or terminal to read from, out of the passed descriptors; the caller owns
    the result. Raises RequestError."""
    *others, fd = passed.take(index + 1)
    passed.close_those(others)
    try:
        _check(passed, field, fd, write=False)
    except BaseException:
        passed.close_those([fd])
        raise
    return fd


def _check(passed: PassedFds, field: str, fd: int, *, write: bool) -> None:
    """A directory (or a descriptor that only names a file) would be a way out of the sandbox."""
    if passed.refuses(fd):
        raise invalid(
            field, "is of a file system that asks a server (FUSE, NFS); pass a pipe instead"
        )
    found = os.fstat(fd)
    mode = found.st_mode
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    kinds = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)
    strange = stat.S_ISCHR(mode) and os.major(found.st_rdev) not in _DEVICES
    if flags & os.O_PATH or strange or not any(is_kind(mode) for is_kind in kinds):
        raise invalid(field, "must be a file, pipe, socket or terminal")
    if stat.S_ISSOCK(mode) and _family(fd) not in _FAMILIES:
        raise invalid(field, "must be no socket but an Internet one; pass a pipe instead")
    access = flags & os.O_ACCMODE
    if access == (os.O_RDONLY if write else os.O_WRONLY):
        raise invalid(field, f"must be open for {'writing' if write else 'reading'}")


def _family(fd: int) -> int:
    """Of a socket."""
    sock = socket.socket(socket.AF_UNIX, fileno=fd)  # Whose own is what is asked for.
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
    finally:
        sock.detach()
