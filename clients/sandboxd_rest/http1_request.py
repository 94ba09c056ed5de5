"""The head of a request as ASGI has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    import h11

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
