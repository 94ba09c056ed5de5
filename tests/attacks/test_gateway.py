"""Attacks by HTTP clients: on the gateway, and through it on the daemon and its jobs."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from compat.gateway import JSON, Answer, Gateway, running
from sandboxd_client import Client
from support import invariants
from support.daemon import Daemon
from support.jobs import ANSWER_S, MIB, Stopwatch

EXECUTE = "/api/v2/execute"
GOOD: dict[str, Any] = {"language": "bash", "version": "*", "files": [{"content": "echo hi"}]}


@pytest.fixture(scope="module")
def gateway(daemon: Daemon) -> Iterator[Gateway]:
    """One that takes large bodies; it has its connection to the daemon already."""
    with running(daemon.socket, max_body_bytes="8M", max_sessions=4) as gateway:
        assert gateway.send("POST", EXECUTE, GOOD).status == 200
        yield gateway
        assert gateway.process.poll() is None, gateway.log_text()
        assert "Traceback" not in gateway.log_text()


@pytest.fixture
def own_gateway(daemon: Daemon, unharmed: None) -> Iterator[Gateway]:
    """One for a test after which it has more or fewer connections to the daemon: these go before
    the invariants are checked."""
    with running(daemon.socket) as gateway:
        yield gateway


def post(gateway: Gateway, body: bytes, path: str = EXECUTE) -> Answer:
    return gateway.request("POST", path, body, JSON)


BODIES = {
    "deep_arrays": b"[" * 1_000_000,
    "deep_maps": b'{"a":' * 1_000_000,
    "deep_and_closed": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep_field": b'{"language":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "nan": b'{"run_timeout": NaN}',
    "infinity": b'{"run_timeout": -Infinity}',
    "1e400": json.dumps(GOOD)[:-1].encode() + b', "run_timeout": 1e400}',
    "2_63": json.dumps(GOOD | {"run_timeout": 2**63}).encode(),
    "many_digits": b'{"run_timeout": ' + b"9" * 100_000 + b"}",
    "minus_one": json.dumps(GOOD | {"run_timeout": -1}).encode(),
    "text_limit": json.dumps(GOOD | {"run_timeout": "3000"}).encode(),
    "lone_surrogate": b'{"language": "\\ud800", "version": "*", "files": []}',
    "not_utf8": b'{"language": "\xff"}',
    "trailing": json.dumps(GOOD).encode() + b"{}",
    "nothing": b"",
    "number": b"7",
    "too_large": b'{"language": "' + b"x" * 9 * MIB + b'"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_wrong_bodies(gateway: Gateway, body: bytes) -> None:
    """A1: 400 or 413 with a message, soon, and in bounded memory."""
    before = gateway.rss_bytes()
    watch = Stopwatch()
    answer = post(gateway, body)
    assert answer.status in {400, 413}, answer
    assert answer.message
    assert watch.seconds < ANSWER_S
    assert gateway.rss_bytes() - before < 96 * MIB


def test_keys_given_twice(gateway: Gateway) -> None:
    """A1: of two equal keys the last counts, and is the one that is checked."""
    body = json.dumps(GOOD)[:-1].encode()
    assert post(gateway, body + b', "run_timeout": 10, "run_timeout": 99999999}').status == 400
    answer = post(gateway, body + b', "run_timeout": 99999999, "run_timeout": 1000}')
    assert answer.status == 200


PATHS = [
    "/api/v2/../../etc/passwd", "/api/v2/%2e%2e/%2e%2e/etc/passwd", "/api/v2/execute/../../x",
    "/%00", "/api/v2/" + "a" * 10_000, "/api/v2/\u00e4".encode().decode("latin-1"), "//evil/x",
    "/api/v2/execute%2f..%2fruntimes", "/api/v2/packages/..", "/docs/../../../etc/passwd",
    "/docs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_out(gateway: Gateway, path: str) -> None:
    """A12: 404, or 400 for what is no path of HTTP; nothing of the host is in the answer."""
    for method in ("GET", "POST", "DELETE"):
        answer = _raw(gateway, method, path)
        assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
        assert b"root:" not in answer


def _raw(gateway: Gateway, method: str, path: str) -> bytes:
    """As it is: no library makes the path harmless first."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(head.encode("latin-1"))
        found = b""
        while data := sock.recv(65536):
            found += data
        return found


SMUGGLED = {
    "two_lengths": b"Content-Length: 2\r\nContent-Length: 50\r\n",
    "length_and_chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    "negative_length": b"Content-Length: -1\r\n",
    "odd_chunks": b"Transfer-Encoding: chunked, identity\r\n",
    "folded": b"X: a\r\n b\r\nContent-Length : 2\r\n",
    "nul": b"X: a\0b\r\nContent-Length: 2\r\n",
    "many": b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("headers", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_requests_with_two_meanings(gateway: Gateway, headers: bytes) -> None:
    """A2: one request is never taken for two: an error and the end of the connection."""
    inner = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = b"POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\n"
    request += b"Content-Type: application/json\r\n" + headers + b"\r\n{}" + inner
    with socket.create_connection(("127.0.0.1", gateway.port), 3) as sock:
        found = b""
        try:
            sock.sendall(request)
            while data := sock.recv(65536):
                found += data
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
    assert found.count(b"HTTP/1.1 ") <= 1 or b" 200 " not in found.partition(b"\r\n\r\n")[2]
    assert b"sandboxd_" not in found, "the inner request was served"


def test_disconnect_cancels_the_job(own_gateway: Gateway, daemon: Daemon) -> None:
    """A4: the job of an HTTP client that goes away dies at once."""
    body = json.dumps(GOOD | {"files": [{"content": "sleep 3"}]}).encode()
    with Client(daemon.socket) as client:
        before = invariants.running_jobs(client)
        connection = http.client.HTTPConnection("127.0.0.1", own_gateway.port, timeout=10)
        connection.request("POST", EXECUTE, body, JSON)
        invariants.await_running(client, before + 1)
        watch = Stopwatch()
        connection.close()
        invariants.await_running(client, before)
        assert watch.seconds < 2


def test_flood_of_connections(own_gateway: Gateway) -> None:
    """A6, A3: hundreds of connections that say half a sentence do not keep others from theirs."""
    crowd = []
    try:
        for _ in range(300):
            sock = socket.create_connection(("127.0.0.1", own_gateway.port), 5)
            sock.sendall(b"POST /api/v2/execute HTTP/1.1\r\nHost: loc")
            crowd.append(sock)
        watch = Stopwatch()
        assert own_gateway.send("POST", EXECUTE, GOOD).status == 200
        assert watch.seconds < ANSWER_S
    finally:
        for sock in crowd:
            sock.close()


def test_page_of_another_site(gateway: Gateway, daemon: Daemon) -> None:
    """A14: 403 or 415 and no job, whatever a page on its reader's machine sends."""
    with Client(daemon.socket) as client:
        before = sum(client.stats()["jobs"].values())
        tries = (
            {"Origin": "http://evil.example", **JSON},
            {"Origin": "null", **JSON},
            {"Content-Type": "text/plain"},
            {"Sec-Fetch-Site": "cross-site", **JSON},
        )
        for headers in tries:
            body = json.dumps(GOOD).encode()
            answer = gateway.request("POST", EXECUTE, body, headers)
            assert answer.status in {403, 415}
        assert sum(client.stats()["jobs"].values()) == before


NO_LIMIT = [0, None, False, ""]


@pytest.mark.parametrize("value", NO_LIMIT)
@pytest.mark.parametrize("name", ["run_timeout", "run_cpu_time", "run_memory_limit"])
def test_limits_of_nothing(gateway: Gateway, name: str, value: object) -> None:
    """A19: nothing, in any of its forms, is the configured limit, never none."""
    content = "x=a; while :; do x=$x$x; done" if "memory" in name else "while :; do :; done"
    body = GOOD | {"files": [{"content": content}], name: value}
    watch = Stopwatch()
    answer = gateway.send("POST", EXECUTE, body)
    assert watch.seconds < 10
    assert answer.status in {200, 400}
    if answer.status == 200:
        assert answer.json["run"]["signal"] == "SIGKILL"


@pytest.mark.parametrize("value", [0.4, 1, 500, 1e-300])
@pytest.mark.parametrize("name", ["run_timeout", "run_cpu_time", "run_memory_limit"])
def test_tiny_limits(gateway: Gateway, name: str, value: float) -> None:
    """A19: next to nothing is what was asked for, or an error; never more, never a failure of the
    gateway."""
    body = GOOD | {"files": [{"content": "sleep 2"}], name: value}
    watch = Stopwatch()
    answer = gateway.send("POST", EXECUTE, body)
    assert answer.status in {200, 400}, answer
    if answer.status == 200:
        # Half a second of CPU time is more than sleep needs.
        enough = name == "run_cpu_time" and value == 500
        assert answer.json["run"]["status"] not in ({"XX"} if enough else {None, "XX"})
        if name == "run_timeout":
            assert watch.seconds < 2


def test_output_that_looks_like_an_answer(gateway: Gateway) -> None:
    """O7, O5: what a program prints is text in the answer, whatever it looks like."""
    forged = '{"run": {"code": 0, "status": "OK"}}\\"}}\\r\\nHTTP/1.1 200 OK\\0\\xff'
    body = GOOD | {"files": [{"content": f"printf '{forged}'; exit 3"}]}
    answer = gateway.send("POST", EXECUTE, body)
    assert answer.status == 200
    assert (answer.json["run"]["code"], answer.json["run"]["status"]) == (3, "RE")
    assert answer.json["run"]["stdout"].startswith('{"run"')
