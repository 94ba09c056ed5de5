"""What a request says: its function, its arguments, its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from sandboxd.protocol.functions import DEFAULT_SPACE, MAX_CALLS
from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.errors import invalid

if TYPE_CHECKING:
    from typing import TypeVar

    from sandboxd_rest.http import Request

    T = TypeVar("T")

_MAX_ARGUMENTS: Final = 1000
_NO_ARGUMENTS: Final = b"{}"

_raw = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    try:
        calls = _raw.decode(await request.body())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid(f"the body must be a JSON array of objects: {error}") from None
    if not calls:
        raise invalid("the body is an empty array; it must have the arguments of each call")
    if len(calls) > MAX_CALLS:
        raise invalid(f"the body has {len(calls)} calls; at most {MAX_CALLS} may be made at once")
    return [_arguments(f"call {at}", bytes(call)) for at, call in enumerate(calls)]


def _arguments(what: str, text: bytes) -> bytes:
    """`text`, if it is a JSON object; null is one without arguments."""
    if text.strip() == b"null":
        return _NO_ARGUMENTS
    try:
        _object.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise invalid(f"{what} must be a JSON object of arguments: {error}") from None
    return text


async def ids(request: Request) -> list[str]:
    """Ids of executions: a JSON array of texts. Raises Refusal, Disconnected."""
    return await fields(request, list[str])


async def fields(request: Request, kind: type[T]) -> T:
    """The body as `kind`. Raises Refusal, Disconnected."""
    body = await request.body()
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
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
