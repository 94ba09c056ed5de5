"""Bytes that are too long for a message travel in memory that nobody can change any more."""

import fcntl
import os
from typing import Final

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_memfd(name: str, data: bytes) -> int:
    """A descriptor, to be closed by the caller, from which ``data`` is read from the start.

    Sealed: the job that gets it can neither change what a later reader sees nor let it grow.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        done = 0
        while done < len(data):
            done += os.pwrite(fd, view[done:], done)
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
        data = bytearray(min(self.size(), most))
        view = memoryview(data)
        done = 0
        while done < len(data):
            count = os.preadv(self._fd, [view[done:]], done)
            if not count:
                break
            done += count
        return bytes(view[:done])

    def close(self) -> None:
        os.close(self._fd)


def open_memfd(name: str) -> Memory:
    return Memory(os.memfd_create(name, os.MFD_CLOEXEC))
