"""Answering a request that has to wait for something: a task of the connection does it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from sandboxd.connection import LATER
from sandboxd.protocol.errors import INTERNAL, RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd.connection import Connection

_log: Final = logging.getLogger("sandboxd.server")


def later(connection: Connection, msgid: int, call: Callable[[], Awaitable[object]]) -> object:
    """What a handler returns that leaves its request to ``call``, in a task that ends with the
    connection. ``call`` returns the answer, raises RequestError, or returns LATER."""
    connection.start_soon(partial(answer_later, connection, msgid, call))
    return LATER


async def answer_later(
    connection: Connection, msgid: int, call: Callable[[], Awaitable[object]]
) -> None:
    """The task."""
    try:
        answer = await call()
    except RequestError as error:
        answer = error
    except Exception:
        _log.exception("a request failed")
        answer = RequestError(INTERNAL, "sandboxd made a mistake; see its log")
    if answer is not LATER:
        connection.answer(msgid, answer)
