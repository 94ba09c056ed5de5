"""The protocol's values as JSON: bytes are text, or `{"base64": ...}` where they are not UTF-8."""

from __future__ import annotations

import os

from sandboxd.protocol.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandboxctl.stdio import Stdio


def print_json(stdio: Stdio, value: Any) -> None:
    """Print it: on one line for a program, on many for a person."""
    stdio.out(to_json(value, pretty=stdio.is_terminal(stdio.stdout)))


def error_map(exc: Exception) -> dict[str, object]:
    """An error as the protocol has it, also one that did not come from the daemon."""
    if isinstance(exc, RequestError):
        return {"code": exc.code, "message": exc.message, "data": exc.data}
    return {"code": getattr(exc, "code", "unreachable"), "message": str(exc), "data": {}}


def to_json(value: Any, *, pretty: bool = False) -> str:
    """`value` as one JSON text with a line break at its end."""
    import json  # With `re` and what that needs 5 ms, and most commands print none.

    return json.dumps(_plain(value), indent=2 if pretty else None) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            import binascii

            return {"base64": binascii.b2a_base64(value, newline=False).decode()}
    if isinstance(value, dict):
        return {
            os.fsdecode(key) if isinstance(key, bytes) else key: _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
