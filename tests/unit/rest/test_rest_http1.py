"""The connections of HTTP/1.x, between two ends of a socket."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from sandboxd_rest.http1 import Connection, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def connected(
    serve: Callable[..., Any],
) -> AsyncIterator[tuple[trio.SocketStream, Connection]]:
    """(the client's end, the server's)."""
    client, server = map(trio.SocketStream, trio.socket.socketpair())
    async with client, server:
        yield client, Connection(serve, Settings(4096, 60.0, 30.0), server, None, None)


async def test_who_takes_an_answer_by_bytes_does_not_hold_it_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As the kernel sees it, he is taking it."""
    body = b"x" * 8_000_000
    took = []

    async def serve(scope: Any, receive: Any, respond: Any) -> None:
        began = trio.current_time()
        await respond(200, [(b"content-length", b"%d" % len(body))], body)
        took.append(trio.current_time() - began)

    async def read(client: trio.SocketStream) -> None:
        while await client.receive_some(1000):  # noqa: ASYNC110 - so slow is the client
            await trio.sleep(1)

    async with connected(serve) as (client, connection), trio.open_nursery() as nursery:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        nursery.start_soon(read, client)
        await client.send_all(GET)
        with trio.fail_after(1000):
            assert await connection.run() is None
        nursery.cancel_scope.cancel()
    assert 100 < took[0] < 200
