"""Descriptors that travel over sockets."""

import array
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any


def ancillary_space(count: int) -> int:
    """The buffer for so many descriptors in one message."""
    return socket.CMSG_SPACE(count * array.array("i").itemsize)


def received(ancillary: Sequence[tuple[int, int, Any]]) -> list[int]:
    """The descriptors that recvmsg returned; the caller owns them."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def rights(fds: Sequence[int]) -> list[tuple[int, int, Any]]:
    """What sendmsg takes to send them along."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


def close_all(fds: Sequence[int]) -> None:
    """Close each descriptor once, however often it is named."""
    for fd in set(fds):
        with contextlib.suppress(OSError):
            os.close(fd)
