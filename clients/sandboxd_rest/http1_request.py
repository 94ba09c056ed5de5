"""The head of a request as ASGI has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from sandboxd_rest.http import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import h11
    from starlette.types import Scope

_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/]+)(/.*)?", re.DOTALL)
_CLOSE: Final = ((b"connection", b"close"),)
_VERSIONS: Final = (b"1.0", b"1.1")


def is_foreign(request: h11.Request, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether another protocol than HTTP/1.x begins here, or may begin."""
    return request.http_version not in _VERSIONS or any(name == b"upgrade" for name, _ in headers)


def is_ambiguous(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a proxy in front may see the end of the request elsewhere than we do."""
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


def scope_of(request: h11.Request, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """An ASGI scope but for what belongs to the connection."""
    path, _, query = request.target.partition(b"?")
    text = path.decode("ascii")
    return {
        "type": "http",
        "http_version": request.http_version.decode(),
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": request.method.decode("ascii").upper(),
        "scheme": "http",
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "extensions": {},
    }


def check_end(headers: Mapping[bytes, bytes]) -> None:
    """`is_ambiguous` for requests that another server has read. Raises Refusal."""
    if b"transfer-encoding" in headers and b"content-length" in headers:
        raise Refusal(400, "there are two ways to tell where the body ends", _CLOSE)


def origin_form(scope: Scope) -> None:
    """Of a request to a proxy, `GET http://HOST/PATH`, what it would be to us. Its Host is the one
    in the target, whatever the header says (RFC 9112, 3.2.2)."""
    if scope["path"].startswith("/"):
        return
    match = _ABSOLUTE.fullmatch(scope["raw_path"])
    if match is None:
        return
    path = match[2] or b"/"
    scope["raw_path"], scope["path"] = path, unquote(path.decode("ascii"))
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [(b"host", match[1]), *others]
