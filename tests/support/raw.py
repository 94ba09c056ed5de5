"""A connection that says what a client library never would."""

import contextlib
import socket
import struct
from types import TracebackType
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]


class RawConnection:
    """Bytes out, messages in. Every wait has a deadline."""

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout_s)
        self.sock.connect(path)
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_all_it_takes(self, data: bytes) -> None:
        """Send until the peer has had enough and closes."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def request(self, msgid: int, method: str, **params: Any) -> None:
        self.send(msgpack.packb([0, msgid, method, [params]]))

    def message(self) -> Any:
        """The next message, or None at the end of the connection."""
        while True:
            for message in self._unpacker:
                return message
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def messages_to_the_end(self) -> list[Any]:
        found = []
        while (message := self.message()) is not None:
            found.append(message)
        return found

    def answer(self, msgid: int) -> tuple[Any, Any]:
        """(error, result) of a request; answers to others in between are an error of the test."""
        message = self.message()
        assert message is not None, "the connection was closed"
        assert message[:2] == [1, msgid], message
        return message[2], message[3]

    def is_alive(self) -> bool:
        """Whether a request on this connection is answered."""
        try:
            self.request(4_000_000_000, "server.health")
            return bool(self.answer(4_000_000_000)[1]["status"] == "ok")
        except (BrokenPipeError, ConnectionResetError, AssertionError):
            return False


def reset(connection: RawConnection) -> None:
    """Close with RST-like suddenness: unread data is thrown away."""
    linger = struct.pack("ii", 1, 0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.sock.close()
