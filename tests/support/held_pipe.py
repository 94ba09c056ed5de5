"""Somebody who has the lock of a pipe and does not give it back.

Who writes to a pipe keeps its lock while it copies from its own memory, so also while it waits for
a page of that (fs/pipe.c). A job can make such a page come late; userfaultfd(2), which no job may
have, makes it come when the test says so.
"""

import array
import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import signal
import struct
import threading
import time
from collections.abc import Iterator

from support import requirements

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
# linux/userfaultfd.h; the sizes are those of the structs.
_UFFDIO_API, _API = 0xC018AA3F, 0xAA
_UFFDIO_REGISTER, _MISSING = 0xC020AA00, 1
_UFFDIO_ZEROPAGE = 0xC020AA04
_GIVEN = 1


@contextlib.contextmanager
def held(fd: int, reader: int) -> Iterator[None]:
    """While this is entered, whoever reads from, writes to or closes the pipe waits.

    There is a byte in it, `\\1`, which the process ``reader`` is told of and does not read before
    the lock is taken; at the end there is another, `\\0`.
    """
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    faults = _register(address, page)

    os.kill(reader, signal.SIGSTOP)
    os.write(fd, bytes([_GIVEN]))
    writer = threading.Thread(target=os.write, args=(fd, memoryview(memory)[:1]), daemon=True)
    writer.start()
    try:
        _wait_for_fault(faults)
        os.kill(reader, signal.SIGCONT)
        yield
    finally:
        os.kill(reader, signal.SIGCONT)
        zero = array.array("Q", [address, page, 0, 0])
        fcntl.ioctl(faults, _UFFDIO_ZEROPAGE, zero, True)
        writer.join()
        os.close(faults)


def _register(address: int, size: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _USERFAULTFD.get(platform.machine(), -1)
    faults = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
    if faults < 0:
        requirements.skip(f"userfaultfd(2): {os.strerror(ctypes.get_errno())}")
    fcntl.ioctl(faults, _UFFDIO_API, struct.pack("QQQ", _API, 0, 0))
    fcntl.ioctl(faults, _UFFDIO_REGISTER, struct.pack("QQQQ", address, size, _MISSING, 0))
    return int(faults)


def _wait_for_fault(faults: int) -> None:
    """The writer has the lock, and waits."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            os.read(faults, 32)
            return
        time.sleep(0.001)
    raise AssertionError("nobody writes to the pipe")
