"""The client's side of a connection under test."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import trio

from sandboxd.connection import Connection
from sandboxd.engine.descriptors import rights
from sandboxd.peer import Peer


class Client:
    """Sends requests and waits for messages, by trio, in the task of the test."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        self._next = 0

    def send(self, method: str, params: Any = None, fds: Sequence[int] = ()) -> int:
        self._next += 1
        self.send_bytes(self.encode(self._next, method, params or {}), fds)
        return self._next

    @staticmethod
    def encode(msgid: int, method: str, params: Any) -> bytes:
        data: bytes = msgpack.packb([0, msgid, method, [params]])
        return data

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        assert self.sock.sendmsg([data], rights(fds) if fds else []) == len(data)

    async def message(self) -> Any:
        """The next message; None at the end of the connection."""
        while True:
            for message in self._unpacker:
                return message
            await trio.lowlevel.wait_readable(self.sock)
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    async def answer(self, msgid: int) -> Any:
        """The result of a request that succeeded, in its turn."""
        kind, seen, error, result = await self.message()
        assert (kind, seen, error) == (1, msgid, None), (kind, seen, error, result)
        return result

    async def error(self, msgid: int) -> Any:
        kind, seen, error, result = await self.message()
        assert (kind, seen, result) == (1, msgid, None)
        return error

    async def call(self, method: str, params: Any = None, fds: Sequence[int] = ()) -> Any:
        return await self.answer(self.send(method, params, fds))

    async def refused(self, method: str, params: Any = None, fds: Sequence[int] = ()) -> Any:
        return await self.error(self.send(method, params, fds))


ANYBODY = Peer(uid=1000, can_run=True, can_admin=False)
# Makes a connection of the user with this id.
Connect = Callable[[int], tuple[Connection, Client]]
