"""A daemon's end of the socket that does what a test says, byte for byte."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from sandboxd.protocol import rpc
from sandboxd.protocol.framing import NEED_DATA, FrameDecoder


class Peer:
    """One accepted connection, driven by a test's script in a thread of its own."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(10)
        self._decoder = FrameDecoder()
        self.fds: list[int] = []

    def request(self) -> tuple[int, str, Any]:
        """The next request: msgid, method and its one param."""
        while (frame := self._decoder.next_frame()) is NEED_DATA:
            data, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
            if not data:
                raise EOFError
            self.fds += fds
            self._decoder.receive_data(data)
        request = rpc.decode_request(frame)  # type: ignore[arg-type]
        return request.msgid, request.method, msgpack.unpackb(bytes(request.params))[0]

    def answer(self, msgid: int, result: object) -> None:
        self.sock.sendall(rpc.encode_response(msgid, result))

    def notify(self, method: str, **params: object) -> None:
        self.sock.sendall(rpc.encode_notification(method, params))


Script = Callable[[Peer], None]


class Daemon:
    """Listens at `path` and runs one script for each connection, in order."""

    def __init__(self, path: Path, scripts: tuple[Script, ...]) -> None:
        self.path = str(path)
        self.failures: list[BaseException] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.settimeout(10)
        self._thread = threading.Thread(target=self._serve, args=(scripts,))
        self._thread.start()

    def _serve(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            try:
                sock, _ = self._listener.accept()
                with sock:
                    script(Peer(sock))
            except BaseException as exc:
                self.failures.append(exc)

    def close(self) -> None:
        self._thread.join()
        self._listener.close()
        assert not self.failures, self.failures


RESULT = {"status": "ok", "exit_code": 0, "stdout": b"out", "stderr": b""}
