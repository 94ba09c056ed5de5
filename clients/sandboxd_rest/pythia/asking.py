"""What every endpoint does: reads JSON, asks the daemon, and says with a status what went wrong.

Pythia's errors have no body. Here a header says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from sandboxd.protocol.errors import EXISTS, NOT_FOUND, RequestError
from sandboxd_rest.app import Endpoint, of_daemon
from sandboxd_rest.http import Refusal, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.app import Handler
    from sandboxd_rest.http import Request

T = TypeVar("T")

SPACE: Final = "tasks"
"""Where tasks are among the functions."""
NOTHING: Final = Response(b"", content_type=b"text/plain; charset=utf-8")
WHY: Final = b"sandboxd-message"
_MAX_WHY: Final = 500


class Methods(Endpoint):
    """The methods of one path."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        async def handle(request: Request) -> Response:
            method = request.scope["method"]
            try:
                return await handlers["GET" if method == "HEAD" else method](request)
            except RequestError as error:
                raise explained(of_daemon_here(error)) from error
            except Refusal as refusal:
                raise explained(refusal) from None

        super().__init__(handle)


def of_daemon_here(error: RequestError) -> Refusal:
    """A task that is there already is a mistake like any other."""
    return Refusal(400, error.message) if error.code == EXISTS else of_daemon(error)


def explained(refusal: Refusal) -> Refusal:
    """With the header that says why, on one line of ASCII."""
    text = "".join(char if " " <= char <= "~" else "?" for char in refusal.message[:_MAX_WHY])
    headers = (*refusal.headers, (WHY, text.encode()))
    return Refusal(refusal.status, refusal.message, headers, of_body=refusal.of_body)


def empty_body(refusal: Refusal) -> bytes:
    """Of every error."""
    return b""


async def body(request: Request, kind: type[T]) -> T:
    """The JSON of a request. What is null counts as not given. Raises Refusal."""
    data = await request.body()
    try:
        values = msgspec.json.decode(data)
        if not isinstance(values, dict):
            raise Refusal(400, "the body must be a JSON object")
        return msgspec.convert(_without_null(values), kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Refusal(400, f"the body is wrong: {exc}") from None


def _without_null(values: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in values.items() if value is not None}
    limits = found.get("limits")
    if isinstance(limits, dict):
        found["limits"] = {key: value for key, value in limits.items() if value is not None}
    return found


def is_missing(error: RequestError) -> bool:
    """Whether there is no such task."""
    return error.code == NOT_FOUND
