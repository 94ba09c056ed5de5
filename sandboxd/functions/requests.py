"""Requests about functions that wait for something: a task has each of them whole until it answers.

Files and inputs may be as large as a message, so what all of them consist of is bounded, as that of
waiting jobs is.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from sandboxd import later as tasks
from sandboxd.protocol.errors import BUSY, RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd.connection import Connection

# What ends executions, or asks for them, is let through.
_SMALL_BYTES: Final = 4096
_RETRY_NS: Final = 1_000_000_000


class Requests:
    """Counts the bytes of those that are not answered yet."""

    def __init__(self, most: int) -> None:
        self._most = most
        # One uid leaves room for the others.
        self._per_uid = most * 3 // 4
        self._bytes = 0
        self._by_uid: Counter[int] = Counter()

    def enter(self, uid: int, size: int) -> None:
        """Raises RequestError `busy`; else `leave` must be called with the same. One that is larger
        than all may be together has to be alone."""
        mine = self._by_uid[uid]
        if self._bytes and self._bytes + size > self._most:
            raise _busy(self._bytes, "requests")
        if mine and mine + size > self._per_uid:
            raise _busy(mine, "requests of yours")
        self._bytes += size
        self._by_uid[uid] += size

    def leave(self, uid: int, size: int) -> None:
        self._bytes -= size
        self._by_uid[uid] -= size
        if not self._by_uid[uid]:
            del self._by_uid[uid]


def _busy(count: int, what: str) -> RequestError:
    message = f"{what} with {count} bytes are not answered yet; try again in 1 s"
    return RequestError(BUSY, message, {"retry_after_ns": _RETRY_NS})


def later(connection: Connection, msgid: int, call: Callable[[], Awaitable[object]]) -> object:
    """As `sandboxd.later.later`, for a handler's own call. Raises RequestError `busy`."""
    size = connection.message_bytes
    if size <= _SMALL_BYTES:
        return tasks.later(connection, msgid, call)
    requests, uid = connection.server.functions.requests, connection.peer.uid
    requests.enter(uid, size)
    return tasks.later(connection, msgid, partial(_counted, requests, uid, size, call))


async def _counted(
    requests: Requests, uid: int, size: int, call: Callable[[], Awaitable[object]]
) -> object:
    try:
        return await call()
    finally:
        requests.leave(uid, size)


def go_on(connection: Connection, msgid: int, call: Callable[[], Awaitable[object]]) -> object:
    """What the task of a request returns that leaves the rest to ``call``, in a task that does not
    have the request any more."""
    return tasks.later(connection, msgid, call)
