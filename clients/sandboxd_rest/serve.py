"""The gateway as a process: what it is made of, and the HTTP server around it."""

from __future__ import annotations

import logging
import signal
import socket
from typing import TYPE_CHECKING, Final

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve as hypercorn_serve
from starlette.routing import Route

from sandboxd import systemd
from sandboxd.errors import HostError
from sandboxd.logs import fields
from sandboxd_rest import metrics, openapi
from sandboxd_rest.app import App, Dialect, Endpoint
from sandboxd_rest.http import Request, Response, json_response
from sandboxd_rest.link import Link
from sandboxd_rest.piston.dialect import dialect as piston_dialect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Sockets

    from sandboxd_rest.config import Config

_log = logging.getLogger("sandboxd.rest")
_http_log = logging.getLogger("sandboxd.rest.http")
_http_log.setLevel(logging.WARNING)

_MAX_HEADERS_BYTES: Final = 16 * 1024
_TLS_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 1024
# Messages between the server and a task: a few, so that whoever sends more has to wait.
_QUEUE: Final = 4


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being handled may end.

    Raises HostError when an address cannot be listened on.
    """
    link = Link(config.socket)
    counts = metrics.HttpCounts()
    dialects = [piston_dialect(config, link, counts)]
    app = App(config, [*dialects, _own(dialects, link, counts)], counts)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def stopped() -> None:
            async for _ in signals:
                systemd.notify("STOPPING=1")
                return

        try:
            async with trio.open_nursery() as nursery:
                where = await nursery.start(_serve, app, config, stopped)
                for text in where:
                    _log.info("listening %s", fields(on=text))
                systemd.notify("READY=1")
        except* OSError as group:
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise HostError(f"cannot listen on {', '.join(config.bind)}: {first}") from None
        finally:
            with trio.CancelScope(shield=True):
                await link.aclose()


def _own(dialects: list[Dialect], link: Link, counts: metrics.HttpCounts) -> Dialect:
    """What belongs to no wire format."""
    described = openapi.document(dialects)
    document = json_response(described)
    page = openapi.page(described)

    async def show_document(request: Request) -> Response:
        return document

    async def show_page(request: Request) -> Response:
        return page

    async def show_metrics(request: Request) -> Response:
        return await metrics.render(counts, link)

    routes = [
        Route("/openapi.json", Endpoint(show_document), methods=["GET"]),
        Route("/docs", Endpoint(show_page), methods=["GET"]),
        Route("/metrics", Endpoint(show_metrics), methods=["GET"]),
    ]
    return Dialect("own", (), routes)


async def _serve(
    app: App,
    config: Config,
    stopped: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The one place that knows which HTTP server this is."""
    await hypercorn_serve(
        app,  # type: ignore[arg-type] # an ASGI application, which its types see otherwise
        _Server(config),
        shutdown_trigger=stopped,
        task_status=task_status,
        mode="asgi",
    )


class _Server(HypercornConfig):
    """Hypercorn's configuration, from ours."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._write_timeout_ms = config.write_timeout_ns // 1_000_000
        self.bind = list(config.bind)
        self.backlog = _BACKLOG
        self.certfile = config.tls_certificate or None
        self.keyfile = config.tls_key or None
        self.ssl_handshake_timeout = _TLS_TIMEOUT_S
        self.h11_max_incomplete_size = _MAX_HEADERS_BYTES
        self.websocket_max_message_size = config.max_body_bytes
        self.max_app_queue_size = _QUEUE
        self.keep_alive_timeout = config.keep_alive_timeout_ns / 1e9
        self.keep_alive_max_requests = 2**62
        self.graceful_timeout = config.shutdown_timeout_ns / 1e9
        self.include_server_header = False
        self.accesslog = None
        self.errorlog = _http_log

    def create_sockets(self) -> Sockets:
        """As hypercorn makes them, with what their connections inherit."""
        sockets = super().create_sockets()
        for sock in (*sockets.secure_sockets, *sockets.insecure_sockets):
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                # Who does not read what he is sent loses his connection, by the kernel: hypercorn
                # shields its sending from cancellation.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._write_timeout_ms)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sockets
