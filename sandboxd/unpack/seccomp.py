"""Which system calls are left to the child: seccomp filters, seccomp(2).

The filters are compiled when sandboxd is built (``native/src/policy/unpack_policy.c``); the daemon
passes them. What they say that Landlock does not: nothing of the daemon's user is changed by its
name, no socket is opened, no signal is sent. They need no Landlock.
"""

from __future__ import annotations

import base64
import ctypes
import os
import signal

# uapi/linux/prctl.h, uapi/linux/seccomp.h. As prctl(2) it has no number of each architecture's.
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8


class Filters:
    """To be installed one after the other; what one took away stays away."""

    def __init__(self, base: bytes, no_process: bytes, no_program: bytes) -> None:
        self._base = base
        self._no_process = no_process
        self._no_program = no_program
        # Found here: after a fork there is no time for it.
        self._libc = ctypes.CDLL(None, use_errno=True)

    @classmethod
    def decode(cls, text: str) -> Filters:
        """From what `encode` made."""
        return cls(*(base64.b64decode(program) for program in text.split(",")))

    def begin(self) -> None:
        """Before the first byte of an archive. Raises OSError when the kernel does not take it."""
        self._checked(self._libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        self._install(self._base)

    def in_decompressor(self) -> None:
        """In the process that becomes zstd: it makes threads, no processes, and dies with this."""
        self._checked(self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        self._install(self._no_process)

    def last(self) -> None:
        """Before the first byte is decompressed, when zstd runs where it is needed."""
        self._install(self._no_process)
        self._install(self._no_program)

    def _install(self, program: bytes) -> None:
        buffer = ctypes.create_string_buffer(program, len(program))
        value = _Program(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(buffer))
        self._checked(self._libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(value), 0, 0))

    def _checked(self, result: int) -> None:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"seccomp: {os.strerror(code)}")


def encode(filters: tuple[bytes, ...]) -> str:
    """As an argument of the child's."""
    return ",".join(base64.b64encode(program).decode() for program in filters)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
