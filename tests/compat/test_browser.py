"""A web page must not be able to drive a gateway on its visitor's machine."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from compat.gateway import Answer, running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compat.gateway import Gateway
    from support.daemon import Daemon

PROGRAM = {"language": "bash", "version": "*", "files": [{"content": "echo pwned"}]}
EVIL = "http://evil.example"


def attack(gateway: Gateway, **headers: str) -> Answer:
    return gateway.send(
        "POST", "/api/v2/execute", PROGRAM, **{k.replace("_", "-"): v for k, v in headers.items()}
    )


def refused(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert answer.message
    assert b"pwned" not in answer.body
    assert "access-control-allow-origin" not in answer.headers


def test_a_program_with_none_of_a_browsers_headers_is_served(gateway: Gateway) -> None:
    assert attack(gateway).status == 200


@pytest.mark.parametrize("origin", [EVIL, "null", "https://localhost.evil.example", "http://"])
def test_a_page_of_another_origin_runs_nothing(gateway: Gateway, origin: str) -> None:
    refused(attack(gateway, origin=origin), 403)


def test_a_page_of_another_local_server_runs_nothing(gateway: Gateway) -> None:
    refused(attack(gateway, origin="http://127.0.0.1:3000"), 403)
    refused(attack(gateway, origin=f"http://localhost:{gateway.port}"), 403)


def test_a_page_of_the_gateway_itself_may(gateway: Gateway) -> None:
    assert attack(gateway, origin=gateway.url).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin, cross-site"])
def test_a_browser_that_says_cross_site_runs_nothing(gateway: Gateway, site: str) -> None:
    refused(attack(gateway, sec_fetch_site=site), 403)


def test_what_a_user_typed_or_the_page_itself_sent_runs(gateway: Gateway) -> None:
    assert attack(gateway, sec_fetch_site="none").status == 200
    assert attack(gateway, sec_fetch_site="same-origin").status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:2000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1:2000",
        "[2001:db8::1]:2000",
        "localhost:2000@evil.example",
        "evil.example/127.0.0.1",
        "0",
        "127.1",
        "2130706433",
    ],
)
def test_a_rebound_name_reads_and_runs_nothing(gateway: Gateway, host: str) -> None:
    """DNS rebinding: the browser takes the gateway for a part of the page's own site, so there may
    be no Origin, or one that fits the Host."""
    refused(attack(gateway, host=host), 421)
    refused(attack(gateway, host=host, origin=f"http://{host}"), 421)
    for path in ("/api/v2/runtimes", "/metrics", "/openapi.json", "/docs", "/"):
        assert gateway.get(path, {"host": host}).status == 421, path


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:2000", "localhost.", "127.0.0.1", "127.0.0.2:80", "[::1]:2000"],
)
def test_names_of_this_machine_are_served(gateway: Gateway, host: str) -> None:
    assert gateway.get("/api/v2/runtimes", {"host": host}).status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_what_a_form_can_send_is_refused(gateway: Gateway, kind: str) -> None:
    """The content types that need no preflight."""
    body = json.dumps(PROGRAM).encode()
    answer = gateway.request("POST", "/api/v2/execute", body, {"content-type": kind})
    assert (answer.status, answer.message) == (415, "requests must be of type application/json")


def test_a_preflight_of_an_unknown_origin_is_not_answered(gateway: Gateway) -> None:
    headers = {"origin": EVIL, "access-control-request-method": "POST"}
    answer = gateway.request("OPTIONS", "/api/v2/execute", headers=headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_packages_are_as_safe(gateway: Gateway) -> None:
    package = {"language": "bash", "version": "*"}
    for method in ("POST", "DELETE"):
        answer = gateway.send(method, "/api/v2/packages", package, origin=EVIL)
        refused(answer, 403)
        refused(gateway.send(method, "/api/v2/packages", package, host="evil.example"), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_opens_no_session(gateway: Gateway, headers: Mapping[str, str]) -> None:
    """WebSockets know no same-origin policy: only the server can refuse."""
    status = 421 if "Host" in headers else 403
    head, _, body = _handshake(gateway, {"Host": "localhost", **headers}).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["message"]


def test_a_program_opens_a_session(gateway: Gateway) -> None:
    assert _handshake(gateway, {"Host": "localhost"}).startswith(b"HTTP/1.1 101 ")


def _handshake(gateway: Gateway, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    text = "GET /api/v2/connect HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.sendall(text.encode())
        return sock.recv(4096)


def test_listed_origins_may_use_it_from_a_page(daemon: Daemon) -> None:
    page = "https://play.example"
    with running(daemon.socket, allowed_origins=[page]) as gateway:
        answer = attack(gateway, origin=page)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["vary"] == "origin"
        preflight = gateway.request(
            "OPTIONS",
            "/api/v2/execute",
            headers={"origin": page, "access-control-request-method": "POST"},
        )
        assert preflight.status == 204
        assert "content-type" in preflight.headers["access-control-allow-headers"]
        assert "POST" in preflight.headers["access-control-allow-methods"]
        refused(attack(gateway, origin=EVIL), 403)
        # An error can be read, too.
        bad = gateway.send("POST", "/api/v2/execute", {}, origin=page)
        assert (bad.status, bad.headers["access-control-allow-origin"]) == (400, page)


def test_other_names_have_to_be_allowed(daemon: Daemon) -> None:
    with running(daemon.socket, allowed_hosts=["piston.example"]) as gateway:
        assert gateway.get("/", {"host": "piston.example:80"}).status == 200
        assert gateway.get("/", {"host": "other.example"}).status == 421
        assert attack(gateway, host="piston.example", origin="http://piston.example").status == 200


def test_bound_to_every_address_it_goes_by_any_address_but_no_name(daemon: Daemon) -> None:
    with running(daemon.socket, bind=["0.0.0.0:0"]) as gateway:
        assert gateway.get("/", {"host": "192.0.2.7:2000"}).status == 200
        assert gateway.get("/", {"host": "evil.example"}).status == 421
        refused(attack(gateway, host="192.0.2.7", origin=EVIL), 403)


def test_output_is_never_taken_for_a_page(gateway: Gateway) -> None:
    for path in ("/api/v2/runtimes", "/nothing", "/docs"):
        assert gateway.get(path).headers["x-content-type-options"] == "nosniff"
    policy = gateway.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
