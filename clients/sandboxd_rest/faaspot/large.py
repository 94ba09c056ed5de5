"""Requests and answers that take much memory: some at once, the others wait for a place."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

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
_PLACE: Final = "sandboxd.faaspot.place"


class Place:
    """One that was taken; giving it back twice does nothing."""

    def __init__(self, places: Places, key: str) -> None:
        self._places: Places | None = places
        self._key = key
        self.answers = False
        """It is kept until the answer is sent."""

    def give_back(self) -> None:
        if self._places is not None:
            self._places.give_back(self._key)
            self._places = None


class Places:
    """As many as there are. Who has one key gets half of them at most: an answer keeps its place as
    long as its client takes to read it."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._most_of_key = max(1, most // 2)
        self._by_key: Counter[str] = Counter()
        self._waiting: dict[trio.Event, str] = {}

    async def take(self, key: str) -> Place:
        """Wait for one; those who have waited longest go first, where their key has not enough."""
        turn = trio.Event()
        self._waiting[turn] = key
        self._next()
        try:
            await turn.wait()
        except trio.Cancelled:
            if self._waiting.pop(turn, None) is None:
                self.give_back(key)
            raise
        return Place(self, key)

    def give_back(self, key: str) -> None:
        self._free += 1
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]
        self._next()

    def _next(self) -> None:
        for turn, key in list(self._waiting.items()):
            if not self._free:
                return
            if self._by_key[key] < self._most_of_key:
                del self._waiting[turn]
                self._free -= 1
                self._by_key[key] += 1
                turn.set()


class Large:
    """What may be large."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._most = settings.max_request_bytes
        self._places = Places(settings.max_transfers)

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
        place = await self._places.take(secret(request))
        request.scope[_PLACE] = place
        try:
            request.body_limit = self._most
            yield
        except BaseException:
            place.give_back()
            raise
        if not place.answers:
            place.give_back()

    async def answer(self, request: Request, make: Callable[[], Awaitable[object]]) -> Response:
        """The JSON of what `make` makes; it keeps its place until it is sent. That of a large
        request is its answer's, too: who waited for a second one could wait for himself."""
        place: Place | None = request.scope.get(_PLACE)
        if place is None:
            place = await self._places.take(secret(request))
        try:
            response = json_response(await make())
        except BaseException:
            place.give_back()
            raise
        place.answers = True
        return Response(response.body, sent=place.give_back)


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
