"""The gateway's HTTP/1.x on a real socket, with an application that only notes what it is given."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING, Any, Final

import trio
import trio.testing

from sandboxd_rest.http import BODY, WATCHED
from sandboxd_rest.http1 import Connection, Settings
from sandboxd_rest.http1_request import origin_form

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fuzz.choices import Choices

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Seen = tuple[str, bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]

# More than any head made here: whether one is too long is looked at when a part of it is missing.
_HEAD_BYTES: Final = 8192
_PATIENCE_S: Final = 10
# An answer begins with it, and nothing that a client can put into one.
_OK: Final = b"HTTP/1.1 200 "

_POST: Final = b"POST / HTTP/1.1\r\nHost: h\r\n"
_GOOD: Final = (
    b"GET /a%20b?c HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    _POST + b"Content-Length: 5\r\n\r\n12345",
    _POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\n123\r\n2\r\n45\r\n0\r\nA: b\r\n\r\n",
    _POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n12345",
    _POST + b"Connection: close\r\nContent-Length: 5\r\n\r\n12345",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
)
_METHODS: Final = (b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT", b"PRI", b"G\0T", b"")
_TARGETS: Final = (
    b"/", b"/api/v2/execute", b"*", b"http://h/p?q", b"/%ff%00?a=%", b"/\xe4", b"/ /", b"h:1", b"",
)  # fmt: skip
_VERSIONS: Final = (b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/1.12", b" http/1.1", b"")
_LINES: Final = (
    b"Host: h", b"Connection: close", b"Connection: keep-alive", b"Content-Length: 5",
    b"Content-Length: 0", b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: 0x5",
    b"Content-Length: 99999999999999999999999", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: \x0bchunked", b"Expect: 100-continue",
    b"Upgrade: websocket", b"Connection: Upgrade, HTTP2-Settings", b" folded", b": x", b"A : x",
    b"A: \0", b"A: " + b"x" * 60,
)  # fmt: skip
_BODIES: Final = (
    b"", b"12345", b"5\r\n12345\r\n0\r\n\r\n", b"5;a=b\r\n12345\r\n0\r\nA: b\r\n\r\n", b"0\r\n\r\n",
    b"5\n12345\n0\n\n", b"-5\r\n", b"fffffffffffffffff\r\n", b"5\r\n123456\r\n", b"\r\n",
)  # fmt: skip
_ENDS: Final = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")


def http1(choices: Choices) -> None:
    """The same requests however the bytes are cut, an answer for each of them, and a connection
    that ends with its client."""
    waits = choices.byte() % 4 == 0
    cuts = [choices.number() for _ in range(choices.byte() % 6)]
    stream = choices.rest() if choices.byte() % 4 == 0 else _requests(choices)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    whole, foreign = trio.run(_exchange, [stream], waits)
    in_pieces, later = trio.run(_exchange, pieces, waits)
    assert whole == in_pieces
    assert (foreign is None) == (later is None)
    if foreign is not None and later is not None:
        # What is handed on is all that was read from the beginning of that request.
        assert stream.endswith(foreign)
        assert foreign.startswith(later)


def _requests(choices: Choices) -> bytes:
    parts: list[bytes] = []
    while choices.left and len(parts) < 300:
        if choices.byte() % 4:
            parts.append(choices.of(_GOOD))
            continue
        end = choices.of(_ENDS)
        parts += [choices.of(_METHODS), b" ", choices.of(_TARGETS), choices.of(_VERSIONS), end]
        for _ in range(choices.byte() % 5):
            parts += [choices.of(_LINES), end]
        parts += [end, choices.take(choices.byte()) if choices.byte() > 240 else b""]
        parts.append(choices.of(_BODIES))
    return b"".join(parts)


async def _exchange(pieces: list[bytes], waits: bool) -> tuple[list[Seen], bytes | None]:
    """The requests that the application saw whole, and what was no HTTP/1.x."""
    ours, theirs = socket.socketpair()
    application = _Application(waits)
    answers = bytearray()
    foreign = None
    with trio.fail_after(_PATIENCE_S):
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            connection = Connection(
                application.serve, Settings(_HEAD_BYTES, _PATIENCE_S * 2, _PATIENCE_S), stream,
                None, None,
            )  # fmt: skip
            client = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            async with client, trio.open_nursery() as nursery:
                nursery.start_soon(_send, client, pieces)
                nursery.start_soon(_read, client, answers)
                foreign = await connection.run()
                await stream.aclose()
    assert answers.count(_OK) == application.answered
    return application.seen, foreign


async def _send(client: trio.SocketStream, pieces: list[bytes]) -> None:
    """Each piece when what came before has been read."""
    try:
        for piece in pieces:
            await client.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        await client.send_eof()
    except trio.BrokenResourceError:
        return  # It need not listen to the end.


async def _read(client: trio.SocketStream, answers: bytearray) -> None:
    try:
        while data := await client.receive_some():
            answers += data
    except trio.BrokenResourceError:
        return


async def _received(receive: Receive) -> bytes | None:
    """The whole body; None when there is no more of it to come."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


class _Application:
    """Takes the body, waits for a moment beside the client where it should, and answers."""

    def __init__(self, waits: bool) -> None:
        self.seen: list[Seen] = []
        self.answered = 0
        self._waits = waits

    async def serve(
        self,
        scope: dict[str, Any],
        receive: Receive,
        respond: Callable[[int, list[tuple[bytes, bytes]], bytes], Awaitable[None]],
    ) -> None:
        body = scope[BODY]
        if body is None:
            body = await _received(receive)
        if body is None:
            return
        origin_form(scope)
        self.seen.append((
            scope["method"], scope["raw_path"], scope["query_string"], tuple(scope["headers"]), body
        ))  # fmt: skip
        if self._waits:
            await self._wait(scope["state"][WATCHED])
        self.answered += 1
        await respond(200, [(b"content-length", b"2")], b"ok")

    async def _wait(self, watched: Connection) -> None:
        with trio.CancelScope() as scope:
            watched.add(scope)
            for _ in range(2):  # Once for what was sent, once for what is sent then.
                await trio.testing.wait_all_tasks_blocked()
        watched.discard(scope)
