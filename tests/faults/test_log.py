"""Nobody reads the log: the daemon does not wait for that, and says later what is missing."""

from __future__ import annotations

import fcntl
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from faults.places import running
from sandboxd_client import Client

if TYPE_CHECKING:
    from pathlib import Path


def _pair(kind: str) -> tuple[int, int]:
    """A reader and a writer with little room between them."""
    if kind == "pipe":
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        return reader, writer
    one, two = socket.socketpair()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return one.detach(), two.detach()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads(where: Path, kind: str) -> None:
    """As systemd passes a socket of the journal's, which may hang."""
    reader, writer = _pair(kind)
    try:
        with running(where, stderr=writer, log_level="debug") as daemon:
            os.close(writer)
            with Client(daemon.socket) as client:
                for _ in range(500):  # Each is a line.
                    assert client.run(["true"]).status == "ok"
                text = _read(reader)
                assert client.run(["true"]).status == "ok"
                text += _read(reader)
            assert "lines_lost=" in text, text[-500:]
            assert text.count("lines_lost=") == 1
            assert daemon.stop() == 0
    finally:
        os.close(reader)


def _read(fd: int) -> str:
    """What is there."""
    found = b""
    while select.select([fd], [], [], 0.3)[0]:
        data = os.read(fd, 1 << 16)
        if not data:
            break
        found += data
    return found.decode()
