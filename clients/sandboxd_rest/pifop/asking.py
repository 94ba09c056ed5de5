"""What every endpoint does first: who asks, for what, and how the daemon is asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from sandboxd.protocol.errors import (
    INVALID_ARGUMENT,
    LIMIT_EXCEEDED,
    PERMISSION_DENIED,
    RequestError,
)
from sandboxd_rest.http import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link

_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([\x21-\x7e]{1,128})")
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="functions"'),)
_MOST_PARAMETERS: Final = 32
# What may be asked for once more, when the daemon was lost meanwhile: it changes nothing.
_READING: Final = frozenset(
    ("execution.get", "execution.list", "execution.output", "function.get", "key.list")
)
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def admit(request: Request, *, plain_http: bool) -> None:
    """Raises Refusal for what is not even looked at: readable on its way, or without a key."""
    if request.scope["method"] == "OPTIONS":
        return  # A browser asks what it may do; it is told nothing else.
    if not (request.secure or plain_http):
        text = "PIFOP's API is served over HTTPS only; see tls_certificate and pifop.plain_http"
        raise Refusal(403, text)
    bearer(request)
    coding = request.headers.get(b"content-encoding", b"identity").decode("latin-1")
    if coding.lower() != "identity":
        raise Refusal(415, f"unsupported content encoding {coding[:40]!r}; send it as it is")


def bearer(request: Request) -> str:
    """The key that a request came with. Raises Refusal (401)."""
    header = request.headers.get(b"authorization", b"").decode("latin-1")
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise _unauthorised("the request needs a header `Authorization: Bearer KEY`")
    return match[1]


def _unauthorised(message: str) -> Refusal:
    return Refusal(401, message, _CHALLENGE)


async def ask(link: Link, request: Request, method: str, **params: Any) -> Any:
    """Call the daemon with the request's key. Raises Refusal and RequestError.

    Where a daemon that goes away meanwhile may have done it already, that is Refusal (503)."""
    params["key"] = bearer(request)
    make = link.call if method in _READING else link.once
    try:
        return await make(lambda client: client.call(method, params))
    except RequestError as error:
        raise refusal(error) from error


def refusal(error: RequestError) -> Exception:
    """What PIFOP's clients are told of what the daemon refused, where that is its own."""
    if error.code == PERMISSION_DENIED and error.data.get("field") == "key":
        return _unauthorised(error.message)
    if error.code == INVALID_ARGUMENT and "state" in error.data:
        return Refusal(409, error.message)
    if error.code == LIMIT_EXCEEDED and error.data.get("field") == "data":
        return Refusal(413, error.message)
    return error


def function_of(request: Request) -> dict[str, str]:
    """The function in the path, as the daemon is told of it."""
    return {"space": request.path_params["author"], "name": request.path_params["func"]}


def query(request: Request) -> Mapping[str, str]:
    """The parameters behind the `?`; of two with one name the last. Raises Refusal."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict"
        )
    except ValueError:
        raise Refusal(400, "the query cannot be understood") from None
    return dict(pairs)


def flag(parameters: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A parameter that is true or false. Raises Refusal."""
    text = parameters.get(name, "").lower()
    if not text:
        return default
    if text not in _FLAGS:
        raise Refusal(400, f"{name} must be true or false, not {text[:40]!r}")
    return _FLAGS[text]


def error_body(failure: Refusal) -> bytes:
    """The body of every error."""
    return msgspec.json.encode({"errorMessage": failure.message})
