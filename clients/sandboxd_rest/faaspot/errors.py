"""Errors in the form that FaaSpot's clients read."""

from __future__ import annotations

from typing import Final

import msgspec

from sandboxd.protocol.errors import PERMISSION_DENIED, RequestError
from sandboxd_rest.app import of_daemon
from sandboxd_rest.faaspot.models import FaaspotError
from sandboxd_rest.http import Headers, Refusal

# Not `Basic`, which would make a browser ask its user and keep the answer.
CHALLENGE: Final = ((b"www-authenticate", b"Token"),)
# For what was refused before it was known what it is about.
_CODES: Final = {
    400: "invalid_argument",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "exists",
    415: "unsupported_media_type",
    421: "misdirected_request",
    503: "busy",
}


class CodedRefusal(Refusal):
    """A refusal with an `error_code`, and of a function that failed its traceback."""

    def __init__(
        self, status: int, code: str, message: str, headers: Headers, traceback: str
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.traceback = traceback


def refusal(
    status: int, code: str, message: str, headers: Headers = (), traceback: str = ""
) -> CodedRefusal:
    return CodedRefusal(status, code, message, headers, traceback)


def invalid(message: str) -> CodedRefusal:
    return refusal(400, "invalid_argument", message)


def refused_by_daemon(error: RequestError) -> CodedRefusal:
    """What the daemon refused, with its own code."""
    plain = of_daemon(error)
    if error.code == PERMISSION_DENIED and error.data.get("field") == "key":
        return refusal(401, "authentication_failed", plain.message, CHALLENGE)
    return refusal(plain.status, error.code, plain.message, plain.headers)


def error_body(refusal: Refusal) -> bytes:
    """The body of every error."""
    code, traceback = _CODES.get(refusal.status, "internal"), ""
    if isinstance(refusal, CodedRefusal):
        code, traceback = refusal.code, refusal.traceback
    return msgspec.json.encode(FaaspotError(refusal.message, refusal.message, code, traceback))
