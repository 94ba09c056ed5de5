"""The connections to sandboxd, made anew when they were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from sandboxd.protocol.errors import BUSY, RequestError, SandboxdError
from sandboxd_client.aio import TrioClient
from sandboxd_client.errors import ConnectionLost, DaemonUnreachable
from sandboxd_client.result import ExecuteResult
from sandboxd_rest.http import Headers, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    T = TypeVar("T")

_CONNECT_TIMEOUT_S: Final = 5.0
_DOWN_RETRY_S: Final = 1
# Connections for one job each: with those of sessions and the shared one fewer than the daemon
# takes from one user. It has more than enough to do with so many jobs at once.
_MAX_LENT: Final = 32


class Link:
    """Owns the connections: a shared one, and some for one job each. Close it with `aclose`."""

    def __init__(self, socket: str) -> None:
        self.maxima: dict[str, int] = {}
        """The most the daemon grants, by the protocol's names; filled in when connecting."""
        self.socket = socket or None
        self._client: TrioClient | None = None
        self._idle: list[TrioClient] = []
        self._lent = 0
        self._connecting = trio.Lock()

    async def call(self, request: Callable[[TrioClient], Awaitable[T]]) -> T:
        """Make a request on the shared connection. Raises RequestError, and Refusal (503) while
        there is no daemon.

        A daemon that was started anew is noticed only by asking it: the request is then made once
        more. Whatever the first try began has ended with its connection.
        """
        client = await self._shared()
        try:
            return await request(client)
        except ConnectionLost:
            await self._drop(client)
        except SandboxdError as error:
            await self._refuse_if_lost(client, error)
            raise
        return await self._last_try(request)

    async def once(self, request: Callable[[TrioClient], Awaitable[T]]) -> T:
        """Make a request that must not be made twice, because it changes what is stored.

        That a daemon was started anew is found out first, by asking for something else; one that
        goes away meanwhile may have done it or not, and nobody can tell. Raises like `call`.
        """
        await self.call(lambda client: client.info())
        return await self._last_try(request)

    async def _last_try(self, request: Callable[[TrioClient], Awaitable[T]]) -> T:
        client = await self._shared()
        try:
            return await request(client)
        except SandboxdError as error:
            await self._refuse_if_lost(client, error)
            raise

    async def _refuse_if_lost(self, client: TrioClient, error: SandboxdError) -> None:
        """Drop a connection that `error` was the end of, whatever it says, so that the next request
        gets a new one. Raises Refusal (503) then."""
        if error is client.lost:
            await self._drop(client)
            raise unavailable() from error

    async def execute(self, params: dict[str, Any]) -> ExecuteResult:
        """`runtime.execute`. The job is cancelled when the task is.

        A job that has a connection to itself is started and waited for with one request, and ends
        with that connection; on the shared one it takes two, so that it has a name to be cancelled
        by. Raises like `call`.
        """
        raw = await self._alone("runtime.execute", params)
        if raw is not None:
            return ExecuteResult(raw)
        return await self.call(lambda shared: shared.execute(**params))

    async def job(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A method that answers when a job of its has ended, which keeps nothing.

        The job is cancelled when the task is, unless very many run: then one that is cancelled runs
        until its limit. Raises like `call`.
        """
        raw = await self._alone(method, params)
        if raw is not None:
            return raw
        return dict(await self.call(lambda shared: shared.call(method, params)))

    async def _alone(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Make a request on a connection of its own, which is closed when the task is cancelled.
        None when there are too many of them, or the connection was lost."""
        client = await self._borrow()
        if client is None:
            return None
        reusable = False
        try:
            raw = await client.call(method, params)
            reusable = True
            return dict(raw)
        except RequestError:
            reusable = client.lost is None  # Else it was told so of all of the connection.
            raise
        except ConnectionLost:
            return None
        finally:
            self._lent -= 1
            if reusable:
                self._idle.append(client)
            else:
                await _close(client)

    async def _borrow(self) -> TrioClient | None:
        """A connection for one job, None when there are too many. Raises Refusal (503)."""
        if self._lent >= _MAX_LENT:
            return None
        self._lent += 1
        if self._idle:
            return self._idle.pop()
        try:
            return await self.connect()
        except BaseException:
            self._lent -= 1
            raise

    async def _shared(self) -> TrioClient:
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    self._client = await self._connect()
        return self._client

    async def _connect(self) -> TrioClient:
        client = await self.connect()
        try:
            info = await client.info()
        except BaseException as exc:
            await _close(client)
            if isinstance(exc, SandboxdError):
                raise unavailable() from exc
            raise
        self.maxima.update(info["max_limits"])
        return client

    async def connect(self) -> TrioClient:
        """A connection of the caller's own. Raises Refusal (503)."""
        with trio.move_on_after(_CONNECT_TIMEOUT_S):
            try:
                return await TrioClient.connect(self.socket)
            except DaemonUnreachable as exc:
                raise unavailable() from exc
        raise unavailable()

    async def _drop(self, client: TrioClient) -> None:
        if self._client is client:
            self._client = None
        await _close(client)

    async def aclose(self) -> None:
        """Close; what still runs is cancelled."""
        while self._idle:
            await _close(self._idle.pop())
        if self._client is not None:
            await self._drop(self._client)


async def _close(client: TrioClient) -> None:
    with trio.CancelScope(shield=True):
        await client.aclose()


def unavailable() -> Refusal:
    return Refusal(503, "sandboxd is not running; try again later", retry_after(_DOWN_RETRY_S))


def retry_after(seconds: int) -> Headers:
    return ((b"retry-after", str(max(1, seconds)).encode()),)


def busy_headers(error: RequestError) -> Headers:
    """Retry-After for what the daemon could not take now; whole seconds are all HTTP has."""
    wait: Any = error.data.get("retry_after_ns", 0)
    return retry_after(-(-int(wait) // 1_000_000_000)) if error.code == BUSY else ()
