"""Descriptors that clients pass along with a request."""

import fcntl
import os
import stat
from collections.abc import Sequence
from typing import Final

from sandboxd.engine.descriptors import close_all
from sandboxd.engine.job import NO_STDIO, Stdio
from sandboxd.protocol.errors import RemoteProtocolError, invalid
from sandboxd.protocol.models import FdIndices

# Three for each of a few requests on the way at once; one message can carry 253.
MAX_PENDING: Final = 64


class PassedFds:
    """Binds received descriptors to the message they came with.

    The kernel hands descriptors over with the first byte they were sent with, and a read never
    goes beyond the piece that had some. So of what one read returned, its descriptors belong to
    the last messages, and those of earlier reads to the message that began there.
    """

    def __init__(self) -> None:
        self._earlier: list[int] = []
        self._latest: list[int] = []

    def received(self, fds: Sequence[int]) -> None:
        """A read returned; owns ``fds``. Raises RemoteProtocolError when there are too many."""
        self._earlier += self._latest
        self._latest = list(fds)
        if len(self._earlier) + len(self._latest) > MAX_PENDING:
            self.close()
            raise RemoteProtocolError(f"more than {MAX_PENDING} descriptors in one message")

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
            close_all(self._earlier)
            self._earlier = []

    def read_ended(self, *, partial: bool) -> None:
        """All messages of a read are done; without the beginning of another, nothing is kept."""
        if not partial:
            self.close()

    def close(self) -> None:
        if self._earlier or self._latest:
            close_all(self._earlier + self._latest)
            self._earlier, self._latest = [], []


def stdio_from(passed: PassedFds, fds: FdIndices) -> Stdio:
    """The job's standard streams out of the passed descriptors; the caller owns the result.

    Raises RequestError for descriptors that are not there or that a job must not have.
    """
    indices = [index for index in (fds.stdin, fds.stdout, fds.stderr) if index is not None]
    if not indices:
        return NO_STDIO
    taken = passed.take(max(indices) + 1)
    wanted = set(indices)
    close_all([fd for index, fd in enumerate(taken) if index not in wanted])
    try:
        for name, index in (("stdin", fds.stdin), ("stdout", fds.stdout), ("stderr", fds.stderr)):
            if index is not None:
                _check(f"fds.{name}", taken[index], write=name != "stdin")
    except BaseException:
        close_all([taken[index] for index in wanted])
        raise
    return Stdio(
        *(None if index is None else taken[index] for index in (fds.stdin, fds.stdout, fds.stderr))
    )


def input_from(passed: PassedFds, field: str, index: int) -> int:
    """A file, pipe, socket or terminal to read from, out of the passed descriptors; the caller owns
    the result. Raises RequestError."""
    *others, fd = passed.take(index + 1)
    close_all(others)
    try:
        _check(field, fd, write=False)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check(field: str, fd: int, *, write: bool) -> None:
    """A directory (or a descriptor that only names a file) would be a way out of the sandbox."""
    mode = os.fstat(fd).st_mode
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    kinds = (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)
    if flags & os.O_PATH or not any(is_kind(mode) for is_kind in kinds):
        raise invalid(field, "must be a file, pipe, socket or terminal")
    access = flags & os.O_ACCMODE
    if access == (os.O_RDONLY if write else os.O_WRONLY):
        raise invalid(field, f"must be open for {'writing' if write else 'reading'}")
