"""FaaSpot's ways to write keys, code and contexts."""

from __future__ import annotations

import base64
import contextlib
import time
import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from sandboxd_rest.faaspot.auth import secret
from sandboxd_rest.faaspot.changes import Changes
from sandboxd_rest.faaspot.errors import CodedRefusal
from sandboxd_rest.faaspot.large import Large, Place, Places
from sandboxd_rest.faaspot.request import body_arguments, ids, many_arguments
from sandboxd_rest.faaspot.settings import Settings
from sandboxd_rest.faaspot.shapes import entry
from sandboxd_rest.faaspot.text import decode_code, decode_context, encode
from sandboxd_rest.http import Request
from sandboxd_rest.link import Link

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CODE = "def main(args, context):\n    return '100%25 +é%' + args['a']\n"
CONTEXT = 'access_key_is = "XYZ"\nsecret_access_key = "1+2%3D3"\n'
VALUES = {"access_key_is": "XYZ", "secret_access_key": "1+2%3D3"}


def javascript(text: str, kept: str) -> str:
    """What encodeURIComponent and encodeURI make of it."""
    return quote(text, safe=kept)


@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        quote_plus,
        lambda text: javascript(text, "!'()*"),
        lambda text: javascript(text, ";,/?:@&=+$#!'()*"),
    ],
    ids=["plain", "quote", "quote_plus", "encodeURIComponent", "encodeURI"],
)
def test_code_and_context_in_every_form(write: Callable[[str], str]) -> None:
    assert decode_code(write(CODE)) == CODE
    assert decode_context(write(CONTEXT)) == VALUES


@given(st.text())
def test_what_the_client_encodes_comes_back(text: str) -> None:
    assert decode_code(encode(f" {text}")) == f" {text}"


@pytest.mark.parametrize("text", ["KEY=a%20b", "KEY=%41", 'KEY="%"'])
def test_one_line_of_a_context_is_what_it_says(text: str) -> None:
    assert decode_context(text) == {"KEY": text.removeprefix("KEY=").strip('"')}


def test_what_is_not_utf_8() -> None:
    with pytest.raises(CodedRefusal) as caught:
        decode_code("%FF%FE")
    assert (caught.value.status, caught.value.message[:5]) == (400, "code:")
    with pytest.raises(CodedRefusal, match="context:"):
        decode_context("a%3D%FF")
    for text in ("def%20main%", "%4", "%zz", "=%41%"):
        with pytest.raises(CodedRefusal, match="two hexadecimal digits"):
            decode_code(text)


def test_a_secret_in_a_bad_context_is_not_repeated() -> None:
    with pytest.raises(CodedRefusal) as caught:
        decode_context("KEY = 1\nhunter2 hunter2")
    assert "line 2" in caught.value.message
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("size", [1_000_000, 8_000_000])
def test_reading_takes_time_in_proportion(size: int) -> None:
    began = time.process_time()
    for text in ("%", "%%41", "%41", "=%41", "+", "= ", "a", "\n", "a=", '"', "#"):
        for decode in (decode_code, decode_context):
            with contextlib.suppress(CodedRefusal):
                decode(text * (size // len(text)))
    assert time.process_time() - began < 5


def request(header: str | None, body: bytes | None = None) -> Request:
    async def receive() -> Any:
        assert body is not None, "nobody reads the body"
        return {"type": "http.request", "body": body}

    headers = {} if header is None else {b"authorization": header.encode("latin-1")}
    return Request({}, receive, headers, "peer", len(body or b""), 60.0)


KEY = "token_" + "aB3-_" * 8 + "xyz"


def basic(pair: str, encode: Callable[[bytes], bytes] = base64.b64encode) -> str:
    return encode(pair.encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Token {KEY}",
        f"token   {KEY} ",
        f"Bearer {KEY}",
        f"Basic {basic('somebody:' + KEY)}",
        f"Basic {basic(':' + KEY)}",
        f"Basic {basic('ÿ?ÿ?:' + KEY, base64.urlsafe_b64encode)}",
        f"Basic b'{basic('ÿ?ÿ?:' + KEY, base64.urlsafe_b64encode)}'",
    ],
)
def test_the_key_of_a_request(header: str) -> None:
    assert secret(request(header)) == KEY


@pytest.mark.parametrize(
    "header",
    [None, "", "Token", "Token ", KEY, "Digest x", "Basic", "Basic ?", "Basic b'", "Basic /w==",
     f"{KEY}", f"{KEY} ", f"Basic {basic('no colon')}", "Token ÿ", "Token " + "x" * 129],
)  # fmt: skip
def test_a_request_without_a_key(header: str | None) -> None:
    with pytest.raises(CodedRefusal) as caught:
        secret(request(header))
    assert caught.value.status == 401
    assert "sandboxctl keys create" in caught.value.message
    assert caught.value.headers == ((b"www-authenticate", b"Token"),)
    assert KEY[:4] not in caught.value.message


@pytest.mark.parametrize(("secure", "scheme"), [(True, "https"), (False, "http")])
def test_where_a_function_is_run_behind_a_proxy(secure: bool, scheme: str) -> None:
    """Which speaks HTTPS with the client and HTTP with the gateway."""
    info = {"name": "f", "space": "main", "created_ns": 0, "updated_ns": 0}
    given = request("Token k")
    given.scope["scheme"], given.secure = "http", secure
    assert entry(given, info).runner_url == f"{scheme}://localhost/v1/functions/f/rpc/"


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (many_arguments, b"[" + b"{}," * 1_000_000 + b"{}]"),
        (ids, b"[" + b'"",' * 1_000_000 + b'""]'),
        (body_arguments, b"{" + b'"a":0,' * 500_000 + b'"a":0}'),
        (body_arguments, b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}"),
    ],
    ids=["calls", "ids", "arguments", "names"],
)
async def test_what_has_very_many_parts_is_not_taken_apart(
    read: Callable[[Request], Awaitable[object]], body: bytes
) -> None:
    given = request("Token k", body)
    tracemalloc.start()
    try:
        with contextlib.suppress(CodedRefusal):
            await read(given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body) + 4_000_000


async def test_as_many_as_may_be_given_at_once() -> None:
    assert await many_arguments(request("", b"[" + b"{}," * 9_999 + b"null]")) == [b"{}"] * 10_000
    assert await ids(request("", b"[" + b'"a",' * 9_999 + b'"b"]')) == ["a"] * 9_999 + ["b"]
    with pytest.raises(CodedRefusal, match="more than 10000 ids"):
        await ids(request("", b"[" + b'"a",' * 10_000 + b'"b"]'))
    with pytest.raises(CodedRefusal, match="more than 10000 calls"):
        await many_arguments(request("", b"[" + b"{}," * 10_000 + b"{}]"))


@pytest.mark.parametrize("body", [b'{"\xff": 1}', b'{"a": "\xff"}', b"[]", b'"a"', b'{"a": 1,}'])
async def test_arguments_that_are_none(body: bytes) -> None:
    for read, text in ((body_arguments, body), (many_arguments, b"[" + body + b"]")):
        with pytest.raises(CodedRefusal):
            await read(request("", text))
    with pytest.raises(CodedRefusal):
        await ids(request("", b'["\xff"]'))


def test_changes_are_bounded_and_their_owners() -> None:
    changes = Changes()
    first = changes.add("one", "create_function", "made")
    assert changes.get("one", first.uuid) == first
    assert changes.get("two", first.uuid) is None
    assert changes.get("one", "nothing") is None
    for _ in range(10_000):
        last = changes.add("two", "create_function", "made")
    assert changes.get("one", first.uuid) is None
    assert changes.get("two", last.uuid) == last


# -- places --------------------------------------------------------------------------------------


async def test_one_key_leaves_places_for_the_others() -> None:
    places, got = Places(4), []

    async def take(key: str) -> None:
        got.append((key, await places.take(key)))

    def keys() -> str:
        return "".join(key for key, _ in got)

    async with trio.open_nursery() as nursery:
        for key in "aaaa":
            nursery.start_soon(take, key)
            await wait_all_tasks_blocked()
        assert keys() == "aa"
        for key in "bcd":
            nursery.start_soon(take, key)
            await wait_all_tasks_blocked()
        assert keys() == "aabc"
        got[2][1].give_back()  # b's: a has as many as it may.
        got[2][1].give_back()
        await wait_all_tasks_blocked()
        assert keys() == "aabcd"
        got[0][1].give_back()
        await wait_all_tasks_blocked()
        assert keys() == "aabcda"
        got[1][1].give_back()
    for _, place in got:
        place.give_back()
    assert [type(await places.take(key)) for key in "xyyz"] == [Place] * 4


async def test_who_stops_waiting_takes_no_place() -> None:
    places = Places(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await places.take("a")  # There is one, but nobody to give it back.
    with trio.fail_after(1):
        first = await places.take("b")
    with trio.move_on_after(0.01) as waited:
        await places.take("c")
    assert waited.cancelled_caught
    first.give_back()
    with trio.fail_after(1):
        await places.take("d")


async def test_a_large_request_waits_for_no_second_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def known(*_: object) -> None:
        pass

    async def made() -> object:
        return []

    monkeypatch.setattr("sandboxd_rest.faaspot.large.check_key", known)
    large = Large(Link(""), Settings(max_transfers=1))
    given = request("Token k", b"x")
    given.headers = {**given.headers, b"content-length": b"2000"}
    for _ in range(2):
        given.scope.clear()
        given.body_limit = 1000
        with trio.fail_after(1):
            async with large.request(given):
                response = await large.answer(given, made)
        assert response.sent is not None
        with trio.move_on_after(0.01) as waited:
            await large.answer(request("Token k"), made)
        assert waited.cancelled_caught
        response.sent()
