"""The HTTP server: connections of plain HTTP/1.x are `http1`'s, all others hypercorn's, on trio.

The one module that knows which server hypercorn is. Its own loop costs a job's time twice over:
the head of an answer, its body and its end are sent one by one, and two tasks are started for each
request to tell whether the connection is idle. It also ends altogether when one connection fails,
and keeps a connection whose client has gone until it has been idle for long enough.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, RawData
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, repr_socket_addr

from sandboxd_rest import http1
from sandboxd_rest.http import SESSION, WATCHED
from sandboxd_rest.http1_answer import CLOSE, time_to_take

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Sockets
    from hypercorn.events import Event
    from hypercorn.trio.task_group import TaskGroup

    from sandboxd_rest.app import App
    from sandboxd_rest.config import Config

_log = logging.getLogger("sandboxd.rest.http")
_log.setLevel(logging.WARNING)

_CONNECTION: Final = "sandboxd.connection"  # In a request's state.
_MAX_HEADERS_BYTES: Final = 16 * 1024
_TLS_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 1024
# Messages between the server and a task: a few, so that whoever sends more has to wait.
_QUEUE: Final = 4
# Of an answer: `App` sends bodies in one piece.
_LAST: Final = ("http.response.body", "websocket.http.response.body", "websocket.close")


async def serve(
    app: App,
    config: Config,
    stopped: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopped()` returns; then requests that are being handled may end, for as long
    as is configured. Raises OSError when an address cannot be listened on."""
    server = _Server(config)
    context = WorkerContext(None)
    plain: set[http1.Connection] = set()
    handler = _handler(app, server, context, plain)
    listeners, where = _listeners(server)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            await accepting.start(_accept, handler, listeners, connections)
            task_status.started(where)
            await stopped()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        for connection in plain:
            connection.stop()
        connections.cancel_scope.deadline = trio.current_time() + server.graceful_timeout


def _listeners(server: _Server) -> tuple[list[Any], list[str]]:
    """(what to accept from, how to say that)."""
    sockets = server.create_sockets()
    context = server.create_ssl_context()
    listeners: list[Any] = []
    where = []
    for scheme, each in (("https", sockets.secure_sockets), ("http", sockets.insecure_sockets)):
        for sock in each:
            sock.listen(server.backlog)
            listener: Any = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            if scheme == "https" and context is not None:
                listener = trio.SSLListener(listener, context, https_compatible=True)
            listeners.append(listener)
            where.append(f"{scheme}://{repr_socket_addr(sock.family, sock.getsockname())}")
    return listeners, where


async def _accept(
    handler: Callable[[Any], Awaitable[None]],
    listeners: list[Any],
    connections: trio.Nursery,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    await trio.serve_listeners(
        handler, listeners, handler_nursery=connections, task_status=task_status
    )


def _handler(
    app: App, server: _Server, context: WorkerContext, plain: set[http1.Connection]
) -> Callable[[Any], Awaitable[None]]:
    wrapped = _Wrapper(app)  # type: ignore[arg-type]
    settings = http1.Settings(_MAX_HEADERS_BYTES, server.keep_alive_timeout, server.write_timeout_s)

    async def handle(stream: Any) -> None:
        begun: bytes | None = b""
        try:
            async with stream:
                if isinstance(stream, trio.SocketStream):
                    begun = await _serve_plain(app, settings, stream, plain)
                if begun is not None:
                    await _Connection(wrapped, server, context, ConnectionState({}), stream, begun)
        except* Exception:  # Of one connection; the others have nothing to do with it.
            _log.exception("a connection failed")

    return handle


async def _serve_plain(
    app: App, settings: http1.Settings, stream: trio.SocketStream, plain: set[http1.Connection]
) -> bytes | None:
    """As `http1.Connection.run`."""
    sock = stream.socket
    try:
        client = parse_socket_addr(sock.family, sock.getpeername())
        server = parse_socket_addr(sock.family, sock.getsockname())
    except OSError:  # It has gone already.
        return None
    connection = http1.Connection(app.serve, settings, stream, client, server)
    plain.add(connection)
    try:
        return await connection.run()
    finally:
        plain.discard(connection)


class _Wrapper(ASGIWrapper):
    """Takes what nobody wants of a body while the end of the answer is sent: hypercorn says that it
    is sent in the queue by which the body comes, and waits for a place there, for ever."""

    async def __call__(
        self, scope: Any, receive: Any, send: Any, sync_spawn: object, call_soon: object
    ) -> None:
        async def send_it(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and scope["state"][_CONNECTION].owed:
                others = [each for each in message["headers"] if each != CLOSE]
                message = {**message, "headers": [*others, CLOSE]}
            if message["type"] not in _LAST:
                await send(message)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_take_all, receive)
                await send(message)
                nursery.cancel_scope.cancel()

        await self.app(scope, receive, send_it)  # type: ignore[arg-type]


async def _take_all(receive: Callable[[], Awaitable[object]]) -> None:
    while True:
        await receive()


class _Connection(TCPServer):
    """One client's connection, where it is encrypted, or no HTTP/1.x."""

    def __init__(self, *args: Any) -> None:
        """The last of them are the bytes that have been read already."""
        *others, self._begun = args
        super().__init__(*others)
        self._write_timeout_s = cast("_Server", self.config).write_timeout_s
        self._head = b""
        self._watched: set[trio.CancelScope] = set()
        self.state[_CONNECTION] = self
        self.state[WATCHED] = self._watched
        self._all = trio.CancelScope()
        self._session = trio.CancelScope()
        self.state[SESSION] = self._begin_session
        self._idle = self.idle_task = _Idle(self)  # type: ignore[assignment]

    async def run(self) -> None:
        with self._all:
            await super().run()

    async def protocol_send(self, event: Event) -> None:
        """The head of an answer is kept back until what follows it, and sent in one piece."""
        if isinstance(event, Closed) and self.owed and not self.context.terminated.is_set():
            await self._linger()
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        data = event.data
        if data.startswith(b"HTTP/1.") and not data.startswith(b"HTTP/1.1 1"):
            self._head += data
            return
        if self._head:
            data, self._head = self._head + data, b""
        data = data[self._send_now(data) :]
        if data:
            async with trio.open_nursery() as nursery:
                seconds = time_to_take(len(data), self._write_timeout_s)
                nursery.start_soon(self._end_after, seconds)
                await super().protocol_send(RawData(data))
                nursery.cancel_scope.cancel()

    async def _end_after(self, seconds: float) -> None:
        """The kernel ends the sending then, which hypercorn shields."""
        await trio.sleep(seconds)
        with contextlib.suppress(OSError):
            self._socket().shutdown(socket.SHUT_RDWR)

    def _socket(self) -> trio.socket.SocketType:
        stream: Any = self.stream
        found = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
        return cast("trio.SocketStream", found).socket

    def _send_now(self, data: bytes) -> int:
        """How much the socket takes without a wait: nearly always all of it."""
        stream: Any = self.stream
        if not data or not isinstance(stream, trio.SocketStream) or self.send_lock.locked():
            return 0
        try:
            return os.write(stream.socket.fileno(), data)
        except OSError:
            return 0  # What is wrong comes out below.

    async def _read_data(self) -> None:
        if self._begun:
            await self.protocol.handle(RawData(self._begun))
        await super()._read_data()
        self._idle.end()
        self._session.cancel()
        for scope in self._watched:
            scope.cancel()

    @property
    def owed(self) -> bool:
        """Whether the client has not sent all of the request that is answered."""
        protocol = getattr(getattr(self, "protocol", None), "protocol", None)
        connection = getattr(protocol, "connection", None)
        return getattr(connection, "their_state", None) is h11.SEND_BODY

    async def _linger(self) -> None:
        """As plain connections do. Whatever the client still sends is read and forgotten, and the
        connection ends when it has closed it, as it is told to; when that takes too long; or with
        the server."""
        self.protocol.protocol.connection = _Forgetful()
        await self.protocol.handle(Closed())
        self._idle.linger(http1.LINGER_S)

    def _begin_session(self) -> None:
        self._task_group.spawn(self._end_with_client)

    async def _end_with_client(self) -> None:
        """While a client has sent more than its program takes, nothing is read of it, also not that
        it went away; the kernel knows."""
        sock = self._socket()
        with self._session, select.epoll(1) as gone:
            gone.register(sock.fileno(), select.EPOLLRDHUP)
            await trio.lowlevel.wait_readable(gone.fileno())
            self._all.cancel()


class _Forgetful(H11WSConnection):
    """In the place of the parser of a connection that is read to its end and no more."""

    def __init__(self) -> None:
        """It has nothing to take over."""

    def receive_data(self, data: bytes) -> None:
        pass

    def next_event(self) -> Any:
        return h11.NEED_DATA


class _Idle:
    """Closes a connection that has had nothing to do for long, or when the server ends."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._timeout_s = connection.config.keep_alive_timeout
        self._scope = trio.CancelScope()
        self._started = False
        self._ended = False

    async def restart(self, task_group: TaskGroup, action: object) -> None:
        """The connection is idle from now on."""
        self._scope.deadline = trio.current_time() + self._timeout_s
        if not self._started:
            self._started = True
            task_group.spawn(self._watch)

    def linger(self, seconds: float) -> None:
        """It is only read, and for no longer than this."""
        self._scope.deadline = trio.current_time() + seconds

    async def stop(self) -> None:
        """It has something to do."""
        self._scope.deadline = math.inf

    def end(self) -> None:
        """There is nothing more to come from the client."""
        self._ended = True
        self._scope.cancel()

    async def _watch(self) -> None:
        with self._scope:
            await self._connection.context.terminated.wait()
        if not self._ended and self._scope.deadline != math.inf:
            with trio.CancelScope(shield=True):
                await self._connection._initiate_server_close()


class _Server(HypercornConfig):
    """hypercorn's configuration, from ours."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.write_timeout_s = config.write_timeout_ns / 1e9
        self.bind = list(config.bind)
        self.insecure_bind = list(config.plain_bind)
        self.backlog = _BACKLOG
        self.certfile = config.tls_certificate or None
        self.keyfile = config.tls_key or None
        self.ssl_handshake_timeout = _TLS_TIMEOUT_S
        # Over HTTP/2 a request that is answered before its body has come, as one that is too large,
        # ends the connection, and with it every other request on it.
        self.alpn_protocols = ["http/1.1"]
        self.h11_max_incomplete_size = _MAX_HEADERS_BYTES
        self.websocket_max_message_size = config.max_body_bytes
        self.max_app_queue_size = _QUEUE
        self.keep_alive_timeout = config.keep_alive_timeout_ns / 1e9
        self.keep_alive_max_requests = 2**62
        self.graceful_timeout = config.shutdown_timeout_ns / 1e9
        self.include_server_header = False
        self.accesslog = None
        self.errorlog = _log

    def create_sockets(self) -> Sockets:
        """As hypercorn makes them, with what their connections inherit."""
        sockets = super().create_sockets()
        for sock in (*sockets.secure_sockets, *sockets.insecure_sockets):
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                # Who does not read what he is sent loses his connection, by the kernel: hypercorn
                # shields its sending from cancellation.
                timeout = int(self.write_timeout_s * 1000)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sockets
