"""Removal of a tree by directory descriptors: no link is followed, no permission stands in the way.

Blocks for as long as the tree is large; the daemon calls it in a thread.
"""

from __future__ import annotations

import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ALL = 0o700


def remove_at(parent: int, name: bytes | str) -> None:
    """Remove ``name`` in the directory ``parent``, whatever it is. Not there is as good.

    Raises OSError when it cannot be removed. One descriptor for each level is open meanwhile.
    """
    try:
        found = os.lstat(name, dir_fd=parent)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        _empty(parent, name)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def empty(directory: int) -> None:
    """Remove everything in an open directory."""
    for name in os.listdir(directory):
        remove_at(directory, name)


def _empty(parent: int, name: bytes | str) -> None:
    try:
        inner = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _let_in(parent, name)
        inner = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        if stat.S_IMODE(os.fstat(inner).st_mode) & _ALL != _ALL:
            os.fchmod(inner, _ALL)
        empty(inner)
    finally:
        os.close(inner)


def _let_in(parent: int, name: bytes | str) -> None:
    """chmod(2) of what O_PATH has found, which follows no link; fchmodat cannot be told so before
    Linux 6.6."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", _ALL)
    finally:
        os.close(fd)
