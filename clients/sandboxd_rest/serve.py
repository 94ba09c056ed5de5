"""The gateway as a process: what it is made of, and the HTTP server around it."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
from typing import TYPE_CHECKING, Final

import trio
from starlette.routing import Route

from sandboxd import systemd
from sandboxd.errors import HostError
from sandboxd.logs import fields
from sandboxd.protocol.errors import SandboxdError
from sandboxd_rest import metrics, openapi
from sandboxd_rest.app import App, Dialect, Endpoint
from sandboxd_rest.faaspot.dialect import dialect as faaspot_dialect
from sandboxd_rest.http import Refusal, Request, Response, json_response
from sandboxd_rest.hypercorn import serve
from sandboxd_rest.link import Link
from sandboxd_rest.pifop.dialect import dialect as pifop_dialect
from sandboxd_rest.piston.dialect import dialect as piston_dialect
from sandboxd_rest.pythia.dialect import dialect as pythia_dialect

if TYPE_CHECKING:
    from sandboxd_rest.config import Config

_log = logging.getLogger("sandboxd.rest")

_PREPARE_S: Final = 30.0


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being handled may end.

    Raises HostError when an address cannot be listened on.
    """
    link = Link(config.socket)
    counts = metrics.HttpCounts()
    dialects = [piston_dialect(config, link, counts)]
    if config.faaspot.enabled:
        dialects.append(faaspot_dialect(config, link))
    if config.pythia.enabled:
        dialects.append(pythia_dialect(config, link))
    if config.pifop.enabled:
        dialects.append(pifop_dialect(config, link))  # The last: its paths look like anybody's.
    app = App(config, [*dialects, _own(dialects, link, counts)], counts)
    gc.freeze()  # What is there now stays: no collection need look at it again.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def stopped() -> None:
            async for _ in signals:
                systemd.notify("STOPPING=1")
                return

        failure: OSError | None = None
        try:
            async with trio.open_nursery() as nursery:

                async def serve_all(task_status: trio.TaskStatus[list[str]]) -> None:
                    await serve(app, config, stopped, task_status)
                    nursery.cancel_scope.cancel()

                where = await nursery.start(serve_all)
                for text in where:
                    _log.info("listening %s", fields(on=text))
                systemd.notify("READY=1")
                nursery.start_soon(_feed_watchdog)
                for dialect in dialects:
                    nursery.start_soon(_prepare, dialect)
                    if dialect.run is not None:
                        nursery.start_soon(dialect.run)
        except* OSError as group:
            failure = _first(group)
        finally:
            with trio.CancelScope(shield=True):
                await link.aclose()
        if failure is not None:
            addresses = ", ".join((*config.bind, *config.plain_bind))
            raise HostError(f"cannot listen on {addresses}: {failure.strerror}")


async def _prepare(dialect: Dialect) -> None:
    if dialect.prepare is not None:
        # The first request would find out the same, and say so.
        with trio.move_on_after(_PREPARE_S), contextlib.suppress(Refusal, SandboxdError):
            await dialect.prepare()


async def _feed_watchdog() -> None:
    """The loop goes round, so requests are answered."""
    interval_s = systemd.watchdog_interval_s()
    while interval_s is not None:
        systemd.notify("WATCHDOG=1")
        await trio.sleep(interval_s / 2)


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    error: OSError | BaseExceptionGroup[OSError] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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
