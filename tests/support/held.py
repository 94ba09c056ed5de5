"""Memory whose pages are there when the test says so: whoever copies from or to it waits, with the
locks it has."""

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from support.requirements import skip

_SYSCALL = {"x86_64": 323}.get(platform.machine(), 282)
_API = 0xC018AA3F
_REGISTER = 0xC020AA00
_COPY = 0xC028AA03
_VERSION = 0xAA
_MISSING = 1
# However a test goes: nobody can end a process that waits for a page.
_MOST_S = 3.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

Call = Callable[[ctypes.c_void_p, int], object]


class HeldPage:
    """One page, which is missing until `release`, or for some seconds."""

    size = mmap.PAGESIZE

    def __init__(self, most_s: float = _MOST_S) -> None:
        self._fd = _libc.syscall(_SYSCALL, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            skip(f"userfaultfd, for root: {os.strerror(ctypes.get_errno())}")
        fcntl.ioctl(self._fd, _API, bytearray(struct.pack("=QQQ", _VERSION, 0, 0)))
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        read_write = mmap.PROT_READ | mmap.PROT_WRITE
        self._page: int = _libc.mmap(None, self.size, read_write, flags, -1, 0)
        where = struct.pack("=QQQQ", self._page, self.size, _MISSING, 0)
        fcntl.ioctl(self._fd, _REGISTER, bytearray(where))
        self._released = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._timer = threading.Timer(most_s, self.release)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.release()
        for thread in self._threads:
            thread.join()
        _libc.munmap(self._page, self.size)

    def release(self, data: bytes = b"") -> None:
        """Let there be a page, with these bytes."""
        if not self._released.acquire(blocking=False):
            return
        source = ctypes.create_string_buffer(data.ljust(self.size, b"\0"), 2 * self.size)
        aligned = ctypes.addressof(source)
        copied = struct.pack("=QQQQq", self._page, aligned, self.size, 0, 0)
        fcntl.ioctl(self._fd, _COPY, bytearray(copied))
        os.close(self._fd)

    def hold(self, call: Call) -> None:
        """Have a thread make this call with the page; returns when it waits in the kernel."""
        thread = threading.Thread(target=call, args=(ctypes.c_void_p(self._page), self.size))
        thread.start()
        self._threads.append(thread)
        # The kernel says so: with what it tells whoever is to provide the page.
        os.set_blocking(self._fd, True)
        os.read(self._fd, 64)

    def written_to(self, fd: int) -> None:
        """Somebody writes the page to this pipe, and has its lock until `release`."""
        self.hold(lambda page, size: _libc.write(fd, page, ctypes.c_size_t(size)))

    def read_from(self, fd: int) -> None:
        """Somebody reads from this pipe, in which there is something, into the page."""
        self.hold(lambda page, size: _libc.read(fd, page, ctypes.c_size_t(size)))

    def gets_window_size(self, fd: int) -> None:
        """Somebody has the size of this terminal written to the page."""
        self.hold(lambda page, _: _libc.ioctl(fd, ctypes.c_ulong(0x5413), page))
