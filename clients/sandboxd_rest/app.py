"""The shell around every wire format: an ASGI application.

It lets requests in (or not), routes them, turns what went wrong into an answer of the dialect's
shape, counts and logs. A request is handled in one task without any layer in between: the routes
of a dialect are Starlette's, their endpoints are `Endpoint`s and `Session`s.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router, WebSocketRoute

from sandboxd.logs import OftenLog, fields
from sandboxd.protocol import errors
from sandboxd.protocol.errors import RequestError
from sandboxd_rest.http import JSON, Disconnected, Headers, Refusal, Request, Response
from sandboxd_rest.http1_request import check_end, origin_form
from sandboxd_rest.link import busy_headers, retry_after
from sandboxd_rest.safety import Guard, by_name, client_label
from sandboxd_rest.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from sandboxd_rest.config import Config
    from sandboxd_rest.metrics import HttpCounts

    Respond = Callable[[int, list[tuple[bytes, bytes]], bytes], Awaitable[None]]
    Handler = Callable[[Request], Awaitable[Response]]
    SessionHandler = Callable[[Request, Send], Awaitable[None]]

_log = logging.getLogger("sandboxd.rest")
_access_log = OftenLog("sandboxd.rest.access")

CLOSED_BY_CLIENT: Final = 499
"""Logged and counted for a request whose client went away; nobody is sent it."""
_STATUS: Final = {
    errors.BUSY: 503,
    errors.CANCELLED: 503,
    errors.EXISTS: 409,
    errors.INVALID_ARGUMENT: 400,
    errors.LIMIT_EXCEEDED: 400,
    errors.NOT_FOUND: 404,
    errors.PERMISSION_DENIED: 403,
}
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_RETRY_S: Final = 1


def message_body(refusal: Refusal) -> bytes:
    """The body that most dialects have: `{"message": …}`."""
    return msgspec.json.encode({"message": refusal.message})


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format, mounted beside the others."""

    name: str
    prefixes: tuple[str, ...]
    """Paths below these are the dialect's, also those it does not know."""
    routes: Sequence[BaseRoute]
    paths: Mapping[str, Any] = field(default_factory=dict)
    """OpenAPI path items."""
    types: tuple[Any, ...] = ()
    """What `paths` refers to as `#/components/schemas/NAME`."""
    admit: Callable[[Request], None] | None = None
    """Called before a request is routed; raises Refusal."""
    error_body: Callable[[Refusal], bytes] = message_body
    prepare: Callable[[], Awaitable[object]] | None = None
    """Called once, when the gateway serves already: what takes long the first time."""
    run: Callable[[], Awaitable[object]] | None = None
    """Runs as long as the gateway does, and is cancelled with it."""
    owns: Callable[[str], bool] | None = None
    """Which paths are the dialect's, besides those below its prefixes: asked about the others."""


class Endpoint:
    """An ASGI application from a function that answers a request."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope["sandboxd.request"]
        request.path_params = scope.get("path_params", {})
        scope["sandboxd.response"] = await self.handler(request)


class SessionEndpoint:
    """An ASGI application from a function that holds a WebSocket session."""

    def __init__(self, handler: SessionHandler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request: Request = scope["sandboxd.request"]
        request.path_params = scope.get("path_params", {})
        await self._handler(request, send)


class App:
    """The ASGI application."""

    def __init__(self, config: Config, dialects: Sequence[Dialect], counts: HttpCounts) -> None:
        self._config = config
        self._guard = Guard(config)
        self._counts = counts
        self._body_timeout_s = config.body_timeout_ns / 1e9
        self._prefixes = sorted(
            ((prefix, dialect) for dialect in dialects for prefix in dialect.prefixes),
            key=lambda pair: -len(pair[0]),
        )
        self._owners = [(d.owns, d) for d in dialects if d.owns is not None]
        routes = [route for dialect in dialects for route in dialect.routes]
        self._router = Router(routes, redirect_slashes=False, default=_unknown)
        self._exact = _exact(routes)
        self._requests = Shares(config.max_requests)
        self._sessions = Shares(config.max_sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.serve(scope, receive, partial(_send, send))
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    # -- HTTP --------------------------------------------------------------------------------

    async def serve(self, scope: Scope, receive: Receive, respond: Respond) -> None:
        """Handle a request of HTTP: as ASGI has it, but that the answer is sent by one call with
        its status, headers and body. There is none when the client has gone away."""
        begun = time.monotonic()
        origin_form(scope)
        headers = by_name(scope["headers"])
        peer = self._guard.peer(scope, headers)
        _trim(scope)
        dialect = self._dialect(scope["path"])
        client = client_label(peer)
        admitted = self._requests.take(client)
        self._counts.running += 1
        status = CLOSED_BY_CLIENT
        response = None
        try:
            response = await self._answer(scope, receive, headers, peer, dialect, admitted=admitted)
            extra = self._guard.cors(scope, headers)
            status = response.status
            await respond(status, _headers(response, extra), response.body)
        except Disconnected:
            pass
        finally:
            self._counts.running -= 1
            if admitted:
                self._requests.give_back(client)
            if response is not None and response.sent is not None:
                response.sent()
            self._ended(scope, peer, status, time.monotonic() - begun)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
        peer: str,
        dialect: Dialect | None,
        *,
        admitted: bool,
    ) -> Response:
        """The answer, whatever happens. Raises Disconnected."""
        try:
            check_end(headers)
            self._guard.check(scope, headers)
            if not admitted:
                raise Refusal(503, "too many requests at once", retry_after(_RETRY_S))
            request = self._request(scope, receive, headers, peer)
            if dialect is not None and dialect.admit is not None:
                dialect.admit(request)
            return await self._routed(request)
        except Refusal as refusal:
            return _refused(refusal, dialect)
        except HTTPException as exc:
            return _refused(_of_router(exc, scope), dialect)
        except RequestError as error:
            return _refused(of_daemon(error), dialect)
        except Disconnected:
            raise
        except Exception:
            _log.exception("a request failed %s", fields(path=scope["path"]))
            return _refused(_mistake(), dialect)

    async def _routed(self, request: Request) -> Response:
        scope = request.scope
        if scope["path"].endswith("\n"):
            raise Refusal(404, "Not Found")  # To a route's pattern it would be the end.
        route = self._exact.get((scope["method"], scope["path"]))
        if route is not None:
            scope["route"] = route
            return await cast("Endpoint", route.app).handler(request)
        await self._router.app(scope, request.receive, _no_send)
        response: Response = scope["sandboxd.response"]
        return response

    def _request(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], peer: str
    ) -> Request:
        request = Request(
            scope,
            receive,
            headers,
            peer,
            self._config.max_body_bytes,
            self._body_timeout_s,
            secure=self._guard.secure(scope, headers),
        )
        scope["sandboxd.request"] = request
        scope["app"] = self  # Starlette then says by an exception what a route cannot do.
        return request

    def _dialect(self, path: str) -> Dialect | None:
        for prefix, dialect in self._prefixes:
            if f"{path}/".startswith(prefix):
                return dialect
        for owns, dialect in self._owners:
            if owns(path):
                return dialect
        return None

    # -- WebSocket ---------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        origin_form(scope)
        headers = by_name(scope["headers"])
        peer = self._guard.peer(scope, headers)
        _trim(scope)
        status = 101
        try:
            self._guard.check(scope, headers)
            self._request(scope, receive, headers, peer)
            client = client_label(peer)
            if not self._sessions.take(client):
                raise Refusal(503, "too many sessions at once", retry_after(_RETRY_S))
            try:
                await self._router.app(scope, receive, send)
            finally:
                self._sessions.give_back(client)
        except Refusal as refusal:  # Only before the session is accepted.
            status = refusal.status
            await _reject(send, _refused(refusal, self._dialect(scope["path"])))
        except Disconnected:
            pass
        except Exception:
            _log.exception("a session failed %s", fields(path=scope["path"]))
            await send({"type": "websocket.close", "code": 1011})
        finally:
            self._ended(scope, peer, status, time.monotonic() - begun)

    # -- what is left of it ------------------------------------------------------------------

    def _ended(self, scope: Scope, peer: str, status: int, seconds: float) -> None:
        """Count and log. Of the path only what the routes know is counted: the rest is anybody's
        choice. Neither the query nor a header is logged: there are secrets in them."""
        route = scope.get("route")
        path = route.path if route is not None else "other"
        method = scope.get("method", "WEBSOCKET")
        self._counts.add(method, path, status, seconds)
        if self._config.access_log:
            asked = fields(peer=peer, method=method, path=scope["path"])
            _access_log.write(f"{asked} status={status} ms={seconds * 1000:.1f}")


def _trim(scope: Scope) -> None:
    """A slash at the end of a path does not matter. To be called before it is looked at whose path
    it is: what is asked there and what is routed has to be the same."""
    path = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        scope["path"] = path.rstrip("/") or "/"


def _exact(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], Route]:
    """Routes by method and path, as far as it needs no router to find them: up to the first one
    whose path is a pattern, which goes before those after it."""
    found: dict[tuple[str, str], Route] = {}
    for route in routes:
        if isinstance(route, WebSocketRoute):
            continue
        if not isinstance(route, Route) or "{" in route.path:
            break
        if type(route.app).__call__ is Endpoint.__call__:
            for method in route.methods or ():
                found.setdefault((method, route.path), route)
    return found


def of_daemon(error: RequestError) -> Refusal:
    """What the daemon refused, for a client of HTTP."""
    headers = busy_headers(error) or (
        retry_after(_RETRY_S) if error.code == errors.CANCELLED else ()
    )
    return Refusal(_STATUS.get(error.code, 500), error.message, headers)


def _of_router(exc: HTTPException, scope: Scope) -> Refusal:
    allow = tuple((k.lower().encode(), v.encode()) for k, v in (exc.headers or {}).items())
    if exc.status_code == 405 and scope["method"] == "OPTIONS":
        return Refusal(204, "", allow)
    return Refusal(exc.status_code, exc.detail, allow)


def _mistake() -> Refusal:
    return Refusal(500, "the gateway made a mistake; see its log")


def _refused(refusal: Refusal, dialect: Dialect | None) -> Response:
    make = dialect.error_body if dialect is not None else message_body
    body = b"" if refusal.status == 204 else make(refusal)
    kind = JSON if body else b"text/plain; charset=utf-8"
    return Response(body, refusal.status, kind, refusal.headers)


def _headers(response: Response, extra: Headers = ()) -> list[tuple[bytes, bytes]]:
    headers = [_NOSNIFF, *response.headers, *extra]
    if response.status != 204:
        headers += [
            (b"content-type", response.content_type),
            (b"content-length", str(len(response.body)).encode()),
        ]
    return headers


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _reject(send: Send, response: Response) -> None:
    """Answer a WebSocket handshake with an HTTP error."""
    headers = _headers(response)
    start = {"type": "websocket.http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    raise Refusal(404, "Not Found")


async def _no_send(message: Any) -> None:
    raise AssertionError("an endpoint sends nothing itself")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
