"""What every endpoint does: reads JSON, asks the daemon, and says with a status what went wrong.

Pythia's errors have no body. Here a header says why.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from sandboxd.protocol.errors import EXISTS, NOT_FOUND, RequestError
from sandboxd_rest.app import Endpoint, of_daemon
from sandboxd_rest.http import Refusal, Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandboxd_rest.app import Handler
    from sandboxd_rest.http import Request

T = TypeVar("T")

SPACE: Final = "tasks"
"""Where tasks are among the functions."""
NOTHING: Final = Response(b"", content_type=b"text/plain; charset=utf-8")
WHY: Final = b"sandboxd-message"
_MAX_WHY: Final = 500
# Of a value that is no text, without the archive in it.
_MAX_VALUE: Final = 1024 * 1024
# The daemon takes eight times as many, and twice as deep, in one message.
_MAX_VALUES: Final = 32 * 1024
_MAX_DEPTH: Final = 16
_NO_VALUE: Final = msgspec.Raw()


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
        values = _values(data, kind)
        values = {key: value for key, value in values.items() if value is not None}
        limits = values.get("limits")
        if isinstance(limits, dict):
            values["limits"] = {key: each for key, each in limits.items() if each is not None}
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Refusal(400, f"the body is wrong: {exc}") from None


class _Archive(msgspec.Struct):
    taskfs: msgspec.Raw = _NO_VALUE


def _values(data: bytes, kind: type[Any]) -> dict[str, Any]:
    """Those that `kind` has a field for. One byte of JSON may become 64 of memory, so all but texts
    are decoded only when they are not long."""
    raw = msgspec.json.decode(data, type=_undecoded(kind.__name__, kind.__struct_fields__))
    found: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        text = bytes(getattr(raw, name))
        if not text:
            continue
        size = len(text)
        if size > _MAX_VALUE and text.startswith(b"{"):
            archive = bytes(msgspec.json.decode(text, type=_Archive).taskfs)
            size -= len(archive) if archive.startswith(b'"') else 0
        if size > _MAX_VALUE and not text.startswith(b'"'):
            raise Refusal(400, f"{name} is too large: at most {_MAX_VALUE} bytes")
        found[name] = msgspec.json.decode(text)
        _check_shape(name, found[name])
    return found


@cache
def _undecoded(name: str, fields: tuple[str, ...]) -> type[Any]:
    return msgspec.defstruct(name, [(field, msgspec.Raw, _NO_VALUE) for field in fields])


def _check_shape(name: str, value: object) -> None:
    """Raises Refusal for what would not be a message to the daemon, which ends a connection over
    one that is too deep or has too many values, and with it what others do on that."""
    level, count = [value], 0
    for _ in range(_MAX_DEPTH):
        count += len(level)
        if count > _MAX_VALUES:
            raise Refusal(400, f"{name} has more than {_MAX_VALUES} values")
        if any(type(each) is int and not -(2**63) <= each < 2**64 for each in level):
            raise Refusal(400, f"{name} has a number that is too large")
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise Refusal(400, f"{name} is nested deeper than {_MAX_DEPTH} levels")


def _inside(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list) else ()


def is_missing(error: RequestError) -> bool:
    """Whether there is no such task."""
    return error.code == NOT_FOUND
