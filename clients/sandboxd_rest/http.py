"""What a dialect sees of HTTP: a request that has been let in, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeVar

    from starlette.types import Message, Receive, Scope

    T = TypeVar("T")

JSON = b"application/json; charset=utf-8"
WATCHED = "sandboxd.watched"
"""Key in an ASGI scope's state: a set of cancel scopes that the connection cancels at its end."""
SESSION = "sandboxd.session"
"""Key in an ASGI scope's state: to be called when a session begins, which is then cancelled when
its client goes away, also while nothing is read of what that has sent."""
BODY = "sandboxd.body"
"""Key in an ASGI scope: the whole body, where it came with the head; `receive` gives it too."""
Headers = tuple[tuple[bytes, bytes], ...]


class Refusal(Exception):
    """A request is answered with an error; the dialect it belongs to gives it its shape."""

    def __init__(
        self, status: int, message: str, headers: Headers = (), *, of_body: bool = False
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers
        self.of_body = of_body


class Disconnected(Exception):
    """The client went away; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: Headers = ()
    sent: Callable[[], None] | None = None
    """Called once the client has taken it, or has gone."""


@dataclass(slots=True)
class Request:
    """One HTTP request whose Host and Origin have been checked."""

    scope: Scope
    receive: Receive
    headers: Mapping[bytes, bytes]
    peer: str
    """Address of the client, or what a trusted proxy says it is; see `safety`."""
    body_limit: int
    body_timeout_s: float
    path_params: dict[str, Any] = field(default_factory=dict)
    secure: bool = False
    """Nobody on the way could read it: HTTPS, a Unix socket, or what a trusted proxy says."""

    @property
    def content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1")

    async def body(self) -> bytes:
        """The whole body. Raises Refusal when it is too large or too slow, and Disconnected."""
        whole: bytes | None = self.scope.get(BODY)
        if whole is not None and len(whole) <= self.body_limit:
            return whole
        parts: list[bytes] = []
        size = 0
        with trio.move_on_after(self.body_timeout_s):
            while True:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                size += len(part)
                if size > self.body_limit:
                    # What is still to come is not waited for.
                    text = f"request entity too large: at most {self.body_limit} bytes"
                    raise Refusal(400, text, ((b"connection", b"close"),), of_body=True)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        raise Refusal(408, "the request did not come in time", ((b"connection", b"close"),))


def json_response(value: object, status: int = 200, headers: Headers = ()) -> Response:
    return Response(msgspec.json.encode(value), status, headers=headers)


async def while_connected(request: Request, call: Callable[[], Awaitable[T]]) -> T:
    """Await `call`, and cancel it when the client goes away: then Disconnected is raised.

    The body must have been read. On trio, hypercorn tells of a disconnect only to a task that
    waits for the next message; Starlette's `is_disconnected` never turns true. A connection that
    carries one request at a time tells by itself, which saves that task.
    """
    watched = request.scope.get("state", {}).get(WATCHED)
    if watched is None or request.scope["http_version"] not in ("1.0", "1.1"):
        return await _while_nothing_comes(request.receive, call)
    with trio.CancelScope() as scope:
        watched.add(scope)
        try:
            return await call()
        finally:
            watched.discard(scope)
    raise Disconnected


async def _while_nothing_comes(receive: Receive, call: Callable[[], Awaitable[T]]) -> T:
    failure: Exception | None = None
    done = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, receive, nursery.cancel_scope)
        try:
            result = await call()
            done = True
        except Exception as exc:  # Not to be raised here, where it would come out in a group.
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not done:
        raise Disconnected
    return result


async def _watch(receive: Receive, scope: trio.CancelScope) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
    scope.cancel()
