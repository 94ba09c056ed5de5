"""Errors of sandboxd and the codes they have on the wire. Imports nothing, so that clients may."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

INVALID_ARGUMENT = "invalid_argument"
NOT_FOUND = "not_found"
EXISTS = "exists"
BUSY = "busy"
PERMISSION_DENIED = "permission_denied"
LIMIT_EXCEEDED = "limit_exceeded"
CANCELLED = "cancelled"
INTERNAL = "internal"

ERROR_CODES = frozenset(
    {
        INVALID_ARGUMENT,
        NOT_FOUND,
        EXISTS,
        BUSY,
        PERMISSION_DENIED,
        LIMIT_EXCEEDED,
        CANCELLED,
        INTERNAL,
    }
)


class SandboxdError(Exception):
    """Base of every error that sandboxd raises on purpose. `str()` is fit for a person."""


class LocalProtocolError(SandboxdError):
    """Our own side used the protocol wrongly: a bug of the caller, never of the peer."""


class RemoteProtocolError(SandboxdError):
    """The peer does not speak the protocol. The connection cannot be used any more."""


class RequestError(SandboxdError):
    """One request was refused or failed. The connection is as good as before.

    `code` is one of `ERROR_CODES`, `message` names the field and says what to do, `data` is
    `{"field": ...}` for `invalid_argument` and `limit_exceeded`, `{"retry_after_ns": ...}` for
    `busy`, and empty otherwise.
    """

    def __init__(self, code: str, message: str, data: Mapping[str, object] | None = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data: dict[str, object] = dict(data) if data else {}

    def __str__(self) -> str:
        return self.message


def invalid(field: str, problem: str) -> RequestError:
    """`RequestError` for a field with a wrong value; `problem` reads on after `field: `."""
    return RequestError(INVALID_ARGUMENT, f"{field}: {problem}", {"field": field})
