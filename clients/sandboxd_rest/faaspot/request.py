"""What a request says: its function, its arguments, its body."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

import msgspec

from sandboxd.protocol.functions import DEFAULT_SPACE, MAX_CALLS, MAX_IDS
from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.errors import invalid

if TYPE_CHECKING:
    from typing import TypeVar

    from sandboxd_rest.http import Request

    T = TypeVar("T")

_MAX_ARGUMENTS: Final = 1000
_NO_ARGUMENTS: Final = b"{}"

_MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Object(msgspec.Struct):
    """Any JSON object: of a type without fields, all that is there is looked at and not kept."""


_object = msgspec.json.Decoder(_Object)


def space_of(request: Request) -> str:
    """The application, which is the space; that of a path without one is the default."""
    return str(request.path_params.get("application", DEFAULT_SPACE))


def named(request: Request) -> dict[str, Any]:
    """Params that name the function, and the key. Raises Refusal."""
    name = request.path_params["name"]
    return {"space": space_of(request), "name": name, "key": secret(request)}


def query_arguments(request: Request) -> bytes:
    """The arguments in the query, which are all texts, as JSON. Of a name that is there twice the
    last one holds. Raises Refusal."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_ARGUMENTS
        )
    except ValueError:  # UnicodeDecodeError is one.
        text = f"the query must be percent-encoded UTF-8 with at most {_MAX_ARGUMENTS} arguments"
        raise invalid(text) from None
    return msgspec.json.encode(dict(pairs))


async def body_arguments(request: Request) -> bytes:
    """The arguments in the body: a JSON object, or nothing. Raises Refusal, Disconnected."""
    body = await request.body()
    return _arguments("the body", body) if body.strip() else _NO_ARGUMENTS


async def many_arguments(request: Request) -> list[bytes]:
    """The arguments of each call: a JSON array of objects. Raises Refusal, Disconnected."""
    calls = _elements("calls", await request.body(), msgspec.Raw, MAX_CALLS)
    if not calls:
        raise invalid("the body is an empty array; it must have the arguments of each call")
    return [_arguments(f"call {at}", bytes(call)) for at, call in enumerate(calls)]


def _arguments(what: str, text: bytes) -> bytes:
    """`text`, if it is a JSON object; null is one without arguments."""
    if text.strip() == b"null":
        return _NO_ARGUMENTS
    try:
        text.decode()
        _object.decode(text)
    except _MALFORMED as error:
        raise invalid(f"{what} must be a JSON object of arguments: {error}") from None
    return text


async def ids(request: Request) -> list[str]:
    """Ids of executions: a JSON array of texts, MAX_IDS at most. Raises Refusal, Disconnected."""
    return _elements("ids", await request.body(), str, MAX_IDS)


def _elements(what: str, body: bytes, kind: type[T], most: int) -> list[T]:
    """Those of a JSON array. Raises Refusal, also for more than `most`, of which none are made:
    an element takes two bytes on the wire and a hundred in memory."""
    try:
        found = msgspec.json.decode(body, type=_array(cast("Any", kind), most + 1))
    except _MALFORMED as error:
        raise invalid(f"the body must be a JSON array of {what}: {error}") from None
    elements = [each for each in msgspec.structs.astuple(found) if each is not None]
    if len(elements) > most:
        raise invalid(f"the body has more than {most} {what}; so many may be given at once")
    return elements


@cache
def _array(kind: type[Any], most: int) -> type[msgspec.Struct]:
    """An array of any length, of whose elements the first `most` are kept."""
    fields = [(f"e{at}", kind, cast("Any", None)) for at in range(most)]
    return msgspec.defstruct("Array", fields, array_like=True)


async def fields(request: Request, kind: type[T]) -> T:
    """The body as `kind`. Raises Refusal, Disconnected."""
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except _MALFORMED as error:
        raise invalid(f"the body is not as it should be: {error}") from None


def flag(request: Request, name: str) -> bool:
    """Whether the query has it, as Python or JSON write it."""
    return query(request, name).lower() in ("true", "1", "yes", "on")


def query(request: Request, name: str) -> str:
    """The last value in the query, "" when there is none."""
    text = request.scope.get("query_string", b"").decode("latin-1")
    try:
        pairs: list[tuple[str, str]] = parse_qsl(text, max_num_fields=_MAX_ARGUMENTS)
    except ValueError:
        raise invalid(f"the query has more than {_MAX_ARGUMENTS} arguments") from None
    return dict(pairs).get(name, "")
