"""HTTP/1.x on a plain socket: h11's parser, and as little around it as there can be.

Theory of operation. A request is handled by the task that read it, so nothing has to be passed on
and nobody has to be woken. Only a request that waits for something else, and has to end when its
client goes away (`add`), needs somebody who reads meanwhile: a second task, which from then on
takes turns with the first one. Whichever of them is reading when the next request comes handles
it, and the other one rests until it is needed.

WebSocket and HTTP/2 are not spoken here: the bytes read so far are handed on.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

from sandboxd_rest.http import BODY, WATCHED
from sandboxd_rest.http1_answer import CLOSE, CONTINUE, answer, time_to_take
from sandboxd_rest.http1_request import is_ambiguous, is_foreign, scope_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Pair = tuple[bytes, bytes]
    Respond = Callable[[int, list[Pair], bytes], Awaitable[None]]
    Serve = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Respond], Any]
    Address = tuple[str, int] | None

_RECEIVE_BYTES: Final = 64 * 1024
LINGER_S: Final = 5.0
_GONE: Final = {"type": "http.disconnect"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every connection."""

    max_head_bytes: int
    idle_timeout_s: float
    write_timeout_s: float


class Connection:
    """One client's connection. Whoever made it closes the stream in the end."""

    def __init__(
        self,
        serve: Serve,
        settings: Settings,
        stream: trio.SocketStream,
        client: Address,
        server: Address,
    ) -> None:
        """`serve` is an `App.serve`; `client` and `server` are as in an ASGI scope."""
        self._serve_request = serve
        self._settings = settings
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._addresses = {"client": client, "server": server}
        # It only reads: answers are simple enough. A new one for each request is the cheapest.
        self._http = self._parser()
        # What was read since the end of the last request.
        self._raw = b""
        self._foreign: bytes | None = None
        self._stopping = False
        # Of the request at hand.
        self._busy = False
        self._parts: list[bytes] = []
        self._complete = False
        self._head_only = False
        self._answered = False
        self._ended = False
        self._lingering = trio.CancelScope()
        self._watched: set[trio.CancelScope] = set()
        self._end: trio.CancelScope | None = None
        # The second task: whether it is the one that reads, and what it read too early.
        self._resting = trio.lowlevel.ParkingLot()
        self._wanting = trio.lowlevel.ParkingLot()
        self._other_reads = False
        self._ahead: bytes | None = None

    async def run(self) -> bytes | None:
        """Serve until the connection is at its end: None. Bytes are the beginning of a request
        that is none of HTTP/1.x: what is done with it, and with the stream, is the caller's."""
        async with trio.open_nursery() as self._nursery:
            self._idle_from_now()
            await self._take_turns()
        return self._foreign

    def stop(self) -> None:
        """End, or when a request is being handled, after it."""
        self._stopping = True
        self._lingering.cancel()
        if not self._busy:
            self._nursery.cancel_scope.cancel()

    def _parser(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._settings.max_head_bytes)

    # -- who watches -------------------------------------------------------------------------

    def add(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client goes away. The body must have been read."""
        self._watched.add(scope)
        if self._ahead == b"":
            scope.cancel()
        if self._ahead:
            self._watch_end()
        if self._other_reads or self._ahead is not None or not self._complete:
            return
        self._other_reads = True
        if not self._resting.unpark():
            self._nursery.start_soon(self._take_turns)

    def discard(self, scope: trio.CancelScope) -> None:
        self._watched.discard(scope)
        if not self._watched and self._end is not None:
            self._end.cancel()
            self._end = None

    def _watch_end(self) -> None:
        """What has come hides from who reads what comes after it; the kernel knows."""
        if self._end is None:
            self._end = trio.CancelScope()
            self._nursery.start_soon(self._tell_of_end, self._end)

    async def _tell_of_end(self, until: trio.CancelScope) -> None:
        with until, select.epoll(1) as gone:
            gone.register(self._fd, select.EPOLLRDHUP)
            await trio.lowlevel.wait_readable(gone.fileno())
            self._cancel_watched()

    def _cancel_watched(self) -> None:
        for scope in self._watched:
            scope.cancel()

    # -- the two tasks -----------------------------------------------------------------------

    async def _take_turns(self) -> None:
        """Each of them runs this; with the end of one of them the connection ends."""
        while await self._turn():
            pass
        self._nursery.cancel_scope.cancel()

    async def _turn(self) -> bool:
        data = await self._read()
        self._other_reads = False
        if self._busy:  # With a request of the other task, which goes on with this.
            self._ahead = data
            self._wanting.unpark()
            if not data:
                self._cancel_watched()
            elif self._watched:
                self._watch_end()
            await self._resting.park()
            return True
        self._busy = True
        goes_on = await self._serve(data)
        if self._http.their_state in (h11.SEND_BODY, h11.ERROR) and self._foreign is None:
            await self._linger()
        self._busy = False
        if goes_on and self._other_reads:
            await self._resting.park()
        return goes_on

    async def _linger(self) -> None:
        """Take what a client still sends of a request that was refused, and keep nothing of it: to
        close a socket with something unread resets the connection, and the client then sees that
        instead of the answer."""
        with self._lingering:
            self._lingering.deadline = trio.current_time() + LINGER_S
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()
            while await self._next():
                pass

    async def _next(self) -> bytes:
        """What comes next, also when the other task reads it."""
        if self._other_reads:  # It began to with the request before.
            await self._wanting.park()
        return await self._read()

    async def _read(self) -> bytes:
        """What comes next; nothing at the client's end."""
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            await trio.lowlevel.checkpoint()
            return data
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return os.read(self._fd, _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    def _idle_from_now(self) -> None:
        now = trio.current_time()
        self._nursery.cancel_scope.deadline = now + self._settings.idle_timeout_s

    # -- requests ----------------------------------------------------------------------------

    async def _serve(self, data: bytes) -> bool:
        """Handle the requests in what was read. False: the connection has to end."""
        self._raw += data
        self._http.receive_data(data)
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return True
                if not isinstance(event, h11.Request):
                    return False
                headers = list(event.headers)
                if is_ambiguous(headers):
                    raise h11.RemoteProtocolError("two ways to tell where the body ends")
                if is_foreign(event, headers):
                    self._foreign = self._raw + (self._ahead or b"")
                    return False
                body = self._begin(event)
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc)
                return False
            scope = {
                **scope_of(event, headers),
                **self._addresses,
                "state": {WATCHED: self},
                BODY: body,
            }
            await self._serve_request(scope, self.receive, self.respond)
            if not self._next_cycle():
                return False
            if self._raw:  # Others have their turn before the next one.
                await trio.lowlevel.checkpoint()

    def _begin(self, request: h11.Request) -> bytes | None:
        """The body when it has come with the head, as it nearly always has.

        Raises RemoteProtocolError."""
        self._nursery.cancel_scope.deadline = math.inf
        self._head_only = request.method == b"HEAD"
        self._parts = []
        self._complete = False
        while not self._complete:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return None
            self._take(event)
        return b"".join(self._parts)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Data):
            self._parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self._complete = True

    async def receive(self) -> dict[str, Any]:
        """The next message of ASGI about the request."""
        if self._ended:
            return _GONE
        if self._complete and not self._parts:
            with trio.CancelScope() as scope:
                self.add(scope)
                await trio.sleep_forever()
            self.discard(scope)
            return _GONE
        if not self._parts:
            try:
                await self._receive_some()
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc)
                return _GONE
        body = b"".join(self._parts)
        self._parts = []
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def _receive_some(self) -> None:
        """Read until there is some of the body, or its end. Raises RemoteProtocolError."""
        if self._http.they_are_waiting_for_100_continue:
            self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
            await self._write(CONTINUE)
        while not self._parts and not self._complete:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._next())
            else:
                self._take(event)

    # -- answers -----------------------------------------------------------------------------

    async def respond(self, status: int, headers: list[Pair], body: bytes) -> None:
        """Send a whole answer, in one piece. Its headers say how long it is."""
        if self._ended:
            return
        self._answered = True
        self._ended = CLOSE in headers
        if not self._ended and self._http.their_state is not h11.DONE:
            headers.append(CLOSE)  # As it wants, or there is more of a body that nobody wanted.
            self._ended = True
        await self._write(answer(status, headers, body, head_only=self._head_only))

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say that this is no HTTP; the connection has to end."""
        if not self._answered:
            await self.respond(error.error_status_hint, [(b"content-length", b"0"), CLOSE], b"")
        self._ended = True

    async def _write(self, data: bytes) -> None:
        """Send. That the client has gone is seen by whoever reads next."""
        try:
            sent = os.write(self._fd, data)  # Nearly always all of it.
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            seconds = time_to_take(len(data), self._settings.write_timeout_s)
            try:
                with trio.fail_after(seconds):
                    await self._stream.send_all(memoryview(data)[sent:])
            except (trio.BrokenResourceError, trio.TooSlowError):
                self._ended = True

    def _next_cycle(self) -> bool:
        """Get ready for the next request. False: there can be none."""
        if self._stopping or self._ended or not self._answered:
            return False
        self._raw = self._http.trailing_data[0]
        self._http = self._parser()
        if self._raw:
            self._http.receive_data(self._raw)
        self._answered = False
        self._idle_from_now()
        return True
