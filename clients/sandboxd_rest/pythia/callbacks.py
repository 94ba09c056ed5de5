"""Asynchronous executions: their results are posted to where the client said.

They run in tasks of their own, as many as are configured; the gateway serves meanwhile. A post that
fails is tried again, a redirection is not followed. When the gateway ends, what was not
posted is stopped.
"""

from __future__ import annotations

import logging
import ssl
from functools import cache
from typing import TYPE_CHECKING, Final

import h11
import msgspec
import trio

from sandboxd.logs import fields
from sandboxd.protocol.errors import SandboxdError
from sandboxd_rest.http import Refusal
from sandboxd_rest.link import retry_after
from sandboxd_rest.pythia import targets
from sandboxd_rest.pythia.models import PythiaResult
from sandboxd_rest.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd_rest.pythia.settings import Settings
    from sandboxd_rest.pythia.targets import Target

    Run = Callable[[], Awaitable[PythiaResult]]

_log = logging.getLogger("sandboxd.rest.pythia")

_RETRY_S: Final = (1.0, 5.0, 15.0)
_BUSY_S: Final = 5
_MAX_ANSWER: Final = 64 * 1024
_AGAIN: Final = frozenset((408, 425, 429))


class Callbacks:
    """Runs executions and posts their results, as long as `run` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = Shares(settings.max_callbacks)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled, which ends what was begun."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    async def begin(self, client: str, url: str, tid: str, run: Run) -> None:
        """Have `run` execute task `tid` and its result posted to `url`. Raises Refusal when that is
        not taken, of this client among others."""
        target = await targets.check(url, self._settings)
        if self._nursery is None:
            raise Refusal(503, "the gateway is starting", retry_after(_BUSY_S))
        if not self._places.take(client):
            text = "too many asynchronous executions; try again later"
            raise Refusal(503, text, retry_after(_BUSY_S))
        self._nursery.start_soon(self._work, client, target, tid, run)

    async def _work(self, client: str, target: Target, tid: str, run: Run) -> None:
        try:
            try:
                result = await run()
            except (Refusal, SandboxdError) as exc:  # Somebody waits for the callback.
                why = exc.message if isinstance(exc, Refusal) else str(exc)
                result = PythiaResult(tid, "error", why)
            await self._deliver(target, msgspec.json.encode(result))
        except Exception:  # One that goes wrong must not end the others.
            _log.exception("a callback failed %s", fields(host=target.host))
        finally:
            self._places.give_back(client)

    async def _deliver(self, target: Target, body: bytes) -> None:
        why = ""
        for attempt in range(self._settings.callback_attempts):
            if attempt:
                await trio.sleep(_RETRY_S[min(attempt, len(_RETRY_S)) - 1])
            try:
                status = await self._attempt(target, body)
            except (
                OSError,
                trio.TooSlowError,
                trio.BrokenResourceError,
                h11.RemoteProtocolError,
            ) as exc:
                why = str(exc) or type(exc).__name__
                continue
            if 200 <= status < 300:
                return
            why = f"HTTP status {status}"
            if status < 500 and status not in _AGAIN:
                break
        _log.warning("a result was not taken %s", fields(host=target.host, why=why))

    async def _attempt(self, target: Target, body: bytes) -> int:
        with trio.fail_after(self._settings.callback_timeout_ns / 1e9):
            return await post(target, body)


async def post(target: Target, body: bytes) -> int:
    """The status with which one request was answered. Raises what goes wrong."""
    stream = await _connect(target)
    try:
        return await _exchange(stream, target, body)
    finally:
        await trio.aclose_forcefully(stream)


async def _connect(target: Target) -> trio.abc.Stream:
    """To the first of the checked addresses that takes it."""
    failure: OSError = ConnectionError("it has no address")
    for address in target.addresses:
        try:
            stream = await trio.open_tcp_stream(address, target.port)
        except OSError as exc:
            failure = exc
            continue
        if not target.tls:
            return stream
        return trio.SSLStream(stream, _trust(), server_hostname=target.host, https_compatible=True)
    raise failure


@cache
def _trust() -> ssl.SSLContext:
    """Made once, with the certificates that the host trusts then: everybody waits for that."""
    return ssl.create_default_context()


async def _exchange(stream: trio.abc.Stream, target: Target, body: bytes) -> int:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_ANSWER)
    request = h11.Request(
        method="POST",
        target=target.path,
        headers=[
            ("Host", target.authority),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", "sandboxd-rest"),
            ("Connection", "close"),
        ],
    )
    parts = (
        connection.send(request),
        connection.send(h11.Data(data=body)),
        connection.send(h11.EndOfMessage()),
    )
    await stream.send_all(b"".join(part or b"" for part in parts))
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_MAX_ANSWER)))
        elif isinstance(event, h11.Response):  # What comes behind it is not read.
            return event.status_code
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("the connection was closed without an answer")
