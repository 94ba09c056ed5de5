"""Bytes that are too long for a message travel in memory that nobody can change any more."""

import errno
import fcntl
import os
from typing import Final

_MAX_VECTOR: Final = 1024  # writev(2), IOV_MAX.
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_memfd(name: str, *parts: bytes) -> int:
    """A descriptor, to be closed by the caller, from which ``parts`` are read from the start.

    Sealed: the job that gets it can neither change what a later reader sees nor let it grow.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        done = 0
        for first in range(0, len(parts), _MAX_VECTOR):
            some = parts[first : first + _MAX_VECTOR]
            size = sum(map(len, some))
            if size and os.pwritev(fd, some, done) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += size
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Memory:
    """A memfd that a job writes and the daemon reads. Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def duplicate(self) -> int:
        """A descriptor of its own for the job; the receiver owns it."""
        return fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 3)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, most: int) -> bytes:
        """Copied, not mapped: nobody can change it afterwards or make reading it fail."""
        return os.pread(self._fd, min(self.size(), most), 0)

    def close(self) -> None:
        os.close(self._fd)


def open_memfd(name: str) -> Memory:
    return Memory(os.memfd_create(name, os.MFD_CLOEXEC))
