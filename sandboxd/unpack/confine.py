"""What the child cannot reach even when an archive has taken it over: Landlock, landlock(7).

Decompressors are C code that reads what anybody may have made. From here on this process writes
beneath one directory, reads what the interpreter and zstd need, connects to nothing over TCP, and
neither signals nor traces a process that is not its own. Descriptors that are open stay usable, and
Landlock knows nothing of modes and times nor of Unix sockets that have a path: `seccomp` does. On a
kernel without Landlock (before 5.19, or where it is not switched on) the rest of the defence has to
do: the filter, no privileges, no other descriptors, limits.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# The same number on every architecture. uapi/linux/landlock.h, uapi/linux/prctl.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
_REFER = 1 << 13  # ABI 2; without, no hard link from one directory to another can be made.
_ALL_OF_ABI_2 = (1 << 14) - 1
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15  # ABI 3 and 5.
_ALL_OF_TCP = 3  # ABI 4: bind and connect.
_ALL_SCOPES = 3  # ABI 6: abstract Unix sockets and signals.

_WRITER = (
    _WRITE_FILE
    | _READ_DIR
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SYM
    | _REFER
)
_READER = _EXECUTE | _READ_FILE | _READ_DIR


def confine(into: int) -> bool:
    """Leave this process, for good, nothing to write to but the directory ``into``.

    False where the kernel cannot. Raises OSError when it can and does not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if abi < 2:
        return False
    handled = _ALL_OF_ABI_2 | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    attributes = struct.pack(
        "=QQQ", handled, _ALL_OF_TCP if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0
    )
    # What it does not know is zero, so an older kernel takes the longer structure, too.
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        _allow(libc, ruleset, into, _WRITER)
        for path in dict.fromkeys(("/usr", "/lib", "/lib64", sys.base_prefix)):
            _allow_path(libc, ruleset, path, _READER)
        _allow_path(libc, ruleset, os.devnull, _READ_FILE | _WRITE_FILE)
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _allow_path(libc: ctypes.CDLL, ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # Not there, so not needed.
    try:
        _allow(libc, ruleset, fd, access)
    finally:
        os.close(fd)


def _allow(libc: ctypes.CDLL, ruleset: int, fd: int, access: int) -> None:
    rule = struct.pack("=Qi", access, fd)
    _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
