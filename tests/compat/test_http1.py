"""Requests as bytes: where one ends and the next begins, and what ends a connection."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from compat.gateway import running

if TYPE_CHECKING:
    from compat.gateway import Gateway
    from support.daemon import Daemon

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(content: str, *more: str, close: bool = False) -> bytes:
    body = json.dumps({"language": "bash", "version": "*", "files": [{"content": content}]})
    lines = (
        "POST /api/v2/execute HTTP/1.1", "Host: localhost", "Content-Type: application/json",
        f"Content-Length: {len(body)}", *more, *(["Connection: close"] if close else []),
    )  # fmt: skip
    return "\r\n".join((*lines, "", body)).encode()


def connected(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), 20)


def rest(sock: socket.socket) -> bytes:
    """Everything until the gateway closes the connection."""
    text = b""
    try:
        while data := sock.recv(65536):
            text += data
    except ConnectionResetError:
        pass
    return text


def until(sock: socket.socket, end: bytes) -> bytes:
    text = b""
    while end not in text:
        data = sock.recv(65536)
        assert data, text
        text += data
    return text


def exchange(gateway: Gateway, *pieces: bytes) -> bytes:
    with connected(gateway) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(0.05 if len(pieces) > 1 else 0)
        return rest(sock)


def test_several_requests_in_one_piece_are_answered_in_order(gateway: Gateway) -> None:
    text = exchange(
        gateway, GET + post("echo one") + GET + post("echo two") + post("echo three", close=True)
    )
    assert text.count(b"HTTP/1.1 200 ") == 5
    places = [text.index(word) for word in (b"one\\n", b"two\\n", b"three\\n")]
    assert places == sorted(places)


def test_requests_that_come_while_another_is_handled(gateway: Gateway) -> None:
    text = exchange(
        gateway, post("sleep 0.3; echo one"), GET, post("echo two"), post("echo 3", close=True)
    )
    assert text.count(b"HTTP/1.1 200 ") == 4
    assert text.index(b"one\\n") < text.index(b"Piston v") < text.index(b"two\\n")


@pytest.mark.parametrize("cut", [5, 90, 150])
def test_the_rest_of_a_request_comes_while_another_is_handled(gateway: Gateway, cut: int) -> None:
    last = post("echo two", close=True)
    for first in (post("sleep 0.2; echo one"), post("echo one")):
        text = exchange(gateway, first + last[:cut], last[cut:])
        assert text.count(b"HTTP/1.1 200 ") == 2, text
        assert text.index(b"one\\n") < text.index(b"two\\n")


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_request_in_pieces(gateway: Gateway, size: int) -> None:
    data = post("echo hi", close=True)
    with connected(gateway) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
        assert b'"stdout":"hi\\n"' in rest(sock)


def test_a_body_in_chunks(gateway: Gateway) -> None:
    body = json.dumps({"language": "bash", "version": "*", "files": [{"content": "echo hi"}]})
    head = (
        b"POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    chunks = [f"1\r\n{char}\r\n".encode() for char in body]
    text = exchange(gateway, head, b"".join(chunks[:20]), b"".join(chunks[20:]) + b"0\r\n\r\n")
    assert b'"stdout":"hi\\n"' in text


def test_a_body_that_is_asked_for(gateway: Gateway) -> None:
    head, _, body = post("echo hi", "Expect: 100-continue", close=True).partition(b"\r\n\r\n")
    with connected(gateway) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert b'"stdout":"hi\\n"' in rest(sock)


def test_a_body_that_is_refused_is_not_asked_for(gateway: Gateway) -> None:
    head, _, _ = post("").partition(b"\r\n\r\n")
    head = head.replace(b"application/json", b"text/plain") + b"\r\nExpect: 100-continue\r\n\r\n"
    text = exchange(gateway, head)
    assert text.startswith(b"HTTP/1.1 415 ")
    assert text.count(b"HTTP/1.1 ") == 1


HEAD = b"POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        HEAD + b"Content-Length: 2, 3\r\n\r\n{} ",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 0x2\r\n\r\n{}",
        HEAD + b"Content-Length: -1\r\n\r\n{}",
        HEAD + b"Content-Length : 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n{\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA\0b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\rc: d\r\n\r\n",
        b"GET /\tb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_where_a_request_ends_is_never_guessed(gateway: Gateway, request_: bytes) -> None:
    """One refusal, then the connection ends: what follows is taken for no request."""
    text = exchange(gateway, request_ + GET)
    assert text.count(b"HTTP/1.1 ") == 1, text
    assert text.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), text


def test_a_body_that_nobody_wanted_is_no_request(gateway: Gateway) -> None:
    head = (
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n"
    )
    text = exchange(gateway, head % len(GET) + GET + LAST)  # All of it is there: it is passed over.
    assert text.count(b"HTTP/1.1 404 ") == 1
    assert text.count(b"HTTP/1.1 200 ") == 1
    text = exchange(gateway, head % 5000, GET, GET)  # The connection ends.
    assert text.count(b"HTTP/1.1 ") == 1, text


@pytest.mark.parametrize(
    "request_", [LAST, b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"]
)
def test_the_last_request_of_a_connection(gateway: Gateway, request_: bytes) -> None:
    text = exchange(gateway, request_ + GET)
    assert text.count(b"HTTP/1.1 200 ") == 1


def test_head_has_no_body(gateway: Gateway) -> None:
    text = exchange(gateway, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" + LAST)
    first, _, second = text.partition(b"\r\n\r\n")
    assert int(first.partition(b"content-length: ")[2].split()[0]) > 0
    assert second.startswith(b"HTTP/1.1 200 ")


def test_http2_is_spoken_to_who_speaks_it(gateway: Gateway) -> None:
    """Also in pieces, and after a request of HTTP/1.1."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    running = post("sleep 0.2")
    for pieces in (
        (preface,),
        (preface[:9], preface[9:]),
        (GET, preface),
        (running + preface[:18], preface[18:]),
    ):
        with connected(gateway) as sock:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(0.05)
            text = until(sock, b"\4\0\0\0\0\0")  # A SETTINGS frame of stream 0.
            assert (b"HTTP/1.1 200 " in text) == (not preface.startswith(pieces[0]))


def test_a_request_that_upgrades_to_nothing_known(gateway: Gateway) -> None:
    upgrade = b"\r\nConnection: upgrade\r\nUpgrade: irc\r\n\r\n"
    text = exchange(gateway, GET + GET.replace(b"\r\n\r\n", upgrade) + LAST)
    assert text.count(b"HTTP/1.1 200 ") == 3


def test_a_connection_that_was_of_use_ends_when_it_is_idle(daemon: Daemon) -> None:
    with (
        running(daemon.socket, keep_alive_timeout_ns="500ms") as gateway,
        connected(gateway) as sock,
    ):
        sock.sendall(post("sleep 0.8; echo slow"))  # Longer than that: it is not idle.
        assert b"slow" in until(sock, b'"}')
        begun = time.monotonic()
        assert rest(sock) == b""
        assert 0.4 < time.monotonic() - begun < 5


def test_stopping_lets_a_request_end_and_no_other_begin(daemon: Daemon) -> None:
    with running(daemon.socket) as gateway:
        gateway.run("bash", "")
        with connected(gateway) as sock:
            sock.sendall(post("sleep 0.7; echo slow") + post("echo late"))
            time.sleep(0.3)
            os.kill(gateway.process.pid, signal.SIGTERM)
            text = rest(sock)
        assert b"slow" in text
        assert text.count(b"HTTP/1.1 ") == 1
        assert gateway.process.wait(5) == 0
        assert "Traceback" not in gateway.log_text()


def test_who_goes_away_after_many_requests_takes_the_last_along(gateway: Gateway) -> None:
    before = gateway.log_text().count("status=499")
    with connected(gateway) as sock:
        for _ in range(5):
            sock.sendall(post("echo hi"))
            until(sock, b'"}')
        sock.sendall(post("sleep 2"))
        time.sleep(0.2)
    deadline = time.monotonic() + 1.5
    while gateway.log_text().count("status=499") == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_ways_to_tell_the_end_of_a_body(gateway: Gateway) -> None:
    """A proxy in front may have gone by the other one: what follows is no request of its client."""
    both = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    text = exchange(gateway, both + GET)
    assert text.startswith(b"HTTP/1.1 400 "), text
    assert text.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/api/execute", "/api/v2/execute", "/v1/functions"])
def test_who_still_sends_what_is_refused_sees_why(gateway: Gateway, path: str) -> None:
    """Not a connection that is reset: clients take that for a failure of the network."""
    body = b"x" * 20_000_000
    answer = gateway.request("PUT" if path.startswith("/v1") else "POST", path, body)
    assert answer.status in (400, 401, 415), answer


def test_a_refusal_waits_for_nobody(daemon: Daemon) -> None:
    """Who neither sends the rest nor goes away is left, also by a gateway that is to end."""
    head = HEAD.replace(b"json", b"nothing") + b"Content-Length: 5000\r\n\r\n"
    with running(daemon.socket) as gateway, connected(gateway) as sock:
        sock.sendall(head)
        assert rest(sock).startswith(b"HTTP/1.1 415 ")
        begun = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/", b"evil.example", 200),
        (b"HTTP://127.0.0.1:1234?x=1", b"localhost", 200),
        (b"http://localhost/api/v2/runtimes?x=/y", b"localhost", 200),
        (b"http://evil.example/", b"localhost", 421),
        (b"http://localhost@evil.example/", b"localhost", 421),
        (b"http://evil.example@localhost/", b"localhost", 421),
        (b"http:///", b"localhost", 404),
        (b"ftp://localhost/", b"localhost", 404),
        (b"localhost:80", b"localhost", 404),
    ],
)
def test_a_target_as_proxies_get_it(
    gateway: Gateway, target: bytes, host: bytes, status: int
) -> None:
    text = exchange(gateway, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host) + LAST)
    assert text.startswith(b"HTTP/1.1 %d " % status), text
    assert text.count(b"HTTP/1.1 ") == 2


def test_who_sends_more_and_goes_away_takes_his_job_along(gateway: Gateway) -> None:
    """Also what he sent while it ran, which hides the end of the connection."""
    for more in (GET, b"GET / HT"):
        before = gateway.log_text().count("status=499")
        with connected(gateway) as sock:
            sock.sendall(post("sleep 3"))
            time.sleep(0.2)
            sock.sendall(more)
            time.sleep(0.2)
        deadline = time.monotonic() + 1.5
        while gateway.log_text().count("status=499") == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
