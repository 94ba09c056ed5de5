"""A connected Unix socket that speaks the protocol, for code that waits by itself.

`_socket` is the part of `socket` that is written in C: importing only it saves a command line
program 5 ms, half of what the interpreter needs to start.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket
from sys import byteorder

from sandboxd.protocol import places
from sandboxd_client._wire import Wire
from sandboxd_client.errors import ConnectionLost, DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from sandboxd_client._wire import Codec, Notification, Response

DEFAULT_SOCKET = places.SYSTEM_SOCKET
SOCKET_VARIABLE = "SANDBOXD_SOCKET"
# One read takes a whole pipe's worth of output (64 KiB) with the message around it.
RECEIVE_BYTES = 128 * 1024
# A socket's buffer that is empty takes this much at once (net.core.wmem_default is 208 KiB).
SURELY_TAKEN_BYTES = 96 * 1024


def find_socket(path: str | None = None) -> str:
    """Where the daemon listens: `path`, else $SANDBOXD_SOCKET, else the machine's daemon; without
    one, the user's own."""
    return path or os.environ.get(SOCKET_VARIABLE) or places.find_socket()


def rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """Ancillary data that passes `fds`."""
    if not fds:
        return []
    packed = b"".join(fd.to_bytes(4, byteorder, signed=True) for fd in fds)
    return [(SOL_SOCKET, SCM_RIGHTS, packed)]


class Connection:
    """One connection; owns its socket. Not for use by several threads at once."""

    def __init__(self, path: str | None = None, codec: Codec | None = None) -> None:
        """Connect; raises DaemonUnreachable."""
        self.path = find_socket(path)
        self._wire = Wire(codec)
        self._inbox: list[Response | Notification] = []
        self._socket = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            self._socket.connect(self.path)
        except OSError as exc:
            self._socket.close()
            raise DaemonUnreachable(self.path, exc) from exc

    def fileno(self) -> int:
        """The socket's descriptor, for poll(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close; the daemon cancels the jobs that belong to this connection."""
        self._socket.close()

    def send(self, method: str, params: Mapping[str, Any], fds: Sequence[int] = ()) -> int:
        """Send a request and return its msgid. Blocks while the daemon does not read.

        That the connection is lost is said by `receive`.
        """
        msgid, data = self._wire.request(method, params)
        try:
            sent = self._socket.sendmsg([data], rights(fds)) if fds else 0
            while sent < len(data):
                sent += self._send_some(memoryview(data)[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass  # What the daemon said last is still to be read; then comes ConnectionLost.
        return msgid

    def _send_some(self, data: memoryview) -> int:
        """Send what the socket takes. Until it takes something, read what comes: the daemon stops
        reading from a client that does not read, and then both would wait for ever."""
        try:
            return self._socket.send(data, MSG_DONTWAIT)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._socket.fileno(), select.POLLIN | select.POLLOUT)
            if poll.poll()[0][1] & select.POLLIN:
                self._inbox.extend(self._receive_some())
            return 0

    def receive(self) -> Iterable[Response | Notification]:
        """The messages in what comes next, perhaps none. Blocks until something comes.

        Raises ConnectionLost when the daemon has closed the connection.
        """
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            return inbox
        return self._receive_some()

    def _receive_some(self) -> Iterator[Response | Notification]:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionLost("sandboxd closed the connection")
        return self._wire.receive(data)
