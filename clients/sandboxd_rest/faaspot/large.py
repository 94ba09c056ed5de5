"""Requests and answers that take much memory: some at once, the others wait for a place."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.errors import refusal
from sandboxd_rest.http import Disconnected, Response, json_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sandboxd_rest.faaspot.settings import Settings
    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link

_CLOSE = ((b"connection", b"close"),)


class Large:
    """The places."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._most = settings.max_request_bytes
        self._places = trio.Semaphore(settings.max_transfers)

    @asynccontextmanager
    async def request(self, request: Request) -> AsyncIterator[None]:
        """Let a request that says it is larger than usual be so, when it has a place. Raises
        RequestError for a key that is not known: nobody else is given one.

        One that does not say how large it is is not larger than usual.
        """
        size = _declared(request)
        if size <= request.body_limit:
            yield
            return
        await check_key(self._link, request)
        if size > self._most:
            await _drain(request)
            text = f"request entity too large: at most {self._most} bytes"
            raise refusal(400, "invalid_argument", text, _CLOSE)
        async with self._places:
            request.body_limit = self._most
            yield

    async def answer(self, make: Callable[[], Awaitable[object]]) -> Response:
        """The JSON of what `make` makes; it keeps its place until it is sent."""
        await self._places.acquire()
        try:
            response = json_response(await make())
        except BaseException:
            self._places.release()
            raise
        return Response(response.body, sent=self._places.release)


async def check_key(link: Link, request: Request) -> None:
    """Raises RequestError for a key that is not known."""
    params: dict[str, Any] = {"key": secret(request), "limit": 1}
    await link.call(lambda client: client.call("execution.list", params))


async def _drain(request: Request) -> None:
    """Take a body and keep nothing of it: a client that still sends when it is refused sees a
    connection that breaks, and not why. Raises Disconnected."""
    with trio.move_on_after(request.body_timeout_s):
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)


def _declared(request: Request) -> int:
    """The size that the request says it has; 0 when it does not."""
    text = request.headers.get(b"content-length", b"")
    return int(text) if text.isdigit() and len(text) < 20 else 0
