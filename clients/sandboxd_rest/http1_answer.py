"""The bytes of an answer in HTTP/1.1."""

from __future__ import annotations

import time
from typing import Final
from wsgiref.handlers import format_date_time

CLOSE: Final = (b"connection", b"close")
CONTINUE: Final = b"HTTP/1.1 100 \r\n\r\n"
_LEAST_RATE: Final = 64 * 1024
_BODILESS: Final = (204, 304)

_second = 0
_second_text = b""


def time_to_take(size: int, timeout_s: float) -> float:
    """The seconds that a client has to take so many bytes: who takes a few at a time would hold
    what they are part of for ever."""
    return timeout_s + size / _LEAST_RATE


def answer(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, head_only: bool
) -> bytes:
    """A whole answer, whose headers say how long its body is.

    Raises ValueError for a header that would be more than one.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError(f"a header with a line break: {lines!r}")
    if head_only or status in _BODILESS:
        body = b""
    return b"HTTP/1.1 %d \r\ndate: %b\r\n%b\r\n%b" % (status, _date(), lines, body)


def _date() -> bytes:
    """Now; put into words once a second."""
    global _second, _second_text
    now = int(time.time())
    if now != _second:
        _second, _second_text = now, format_date_time(now).encode()
    return _second_text
