"""Answers as bytes."""

from __future__ import annotations

import email.utils
import time

import pytest

from sandboxd_rest.http1_answer import answer


def test_an_answer() -> None:
    head, _, body = answer(200, [(b"a", b"b")], b"xy", head_only=False).partition(b"\r\n\r\n")
    status, date, rest = head.split(b"\r\n", 2)
    assert (status, rest, body) == (b"HTTP/1.1 200 ", b"a: b", b"xy")
    name, _, text = date.decode().partition(": ")
    assert name == "date"
    assert abs(email.utils.parsedate_to_datetime(text).timestamp() - time.time()) < 5


@pytest.mark.parametrize(("status", "head_only"), [(200, True), (204, False), (304, False)])
def test_no_body_where_there_can_be_none(status: int, head_only: bool) -> None:
    assert answer(status, [], b"xy", head_only=head_only).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("text", [b"x\r\ny: z", b"x\ny", b"x\ry", b"x\r\n\r\nbody"])
def test_no_header_breaks_its_line(text: bytes) -> None:
    for header in ((b"a", text), (text, b"a")):
        with pytest.raises(ValueError, match="line break"):
            answer(200, [header], b"", head_only=False)
