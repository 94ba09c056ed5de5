"""What belongs to no wire format: the description, metrics, the log, the process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import JSON, Gateway, NotStarted, running
from support.requirements import CLEAN_ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon


# -- the description -----------------------------------------------------------------------------


def test_the_openapi_document(gateway: Gateway) -> None:
    document = gateway.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    for prefix in ("/api/v2", "/api/v2/piston"):
        for name, methods in {
            "execute": {"post"}, "runtimes": {"get"}, "packages": {"get", "post", "delete"},
        }.items():  # fmt: skip
            assert document["paths"][f"{prefix}/{name}"].keys() == methods
    request = document["components"]["schemas"]["ExecuteRequest"]
    assert request["required"] == ["language", "version", "files"]
    assert {"run_timeout", "compile_cpu_time", "stdin", "args"} <= request["properties"].keys()
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    return (
        [found for item in value for found in _references(item)] if isinstance(value, list) else []
    )


def test_schemathesis_finds_no_difference(gateway: Gateway, tmp_path: Path) -> None:
    """Generated requests, right and wrong ones, against the description."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
            *("--max-examples", "20", "--max-time", "40", "--phases", "examples,coverage,fuzzing"),
            # Formats that want a key have tests of their own.
            *("--exclude-path-regex", "piston|connect|packages|author|^/v1/"),
            *("--seed", "1", "--no-color"),
            # As Piston has it: right types and a language that is not there are 400, and a method
            # that a path does not have is 405 only when the request is said to be JSON.
            *("--exclude-checks", "positive_data_acceptance,unsupported_method"),
            *("--generation-database", "none"),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


class _Assets(HTMLParser):
    """Everything a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "img", "link", "iframe", "object") else []
        self.found += [value or "" for name, value in attrs if name in ("src", "onclick")]
        self.found += [v for n, v in attrs if n == "href" and v and not v.startswith(("#", "/"))]


def test_the_page_needs_nothing_else(gateway: Gateway) -> None:
    answer = gateway.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    text = answer.body.decode()
    for word in ("/api/v2/execute", "ExecuteRequest", "run_timeout", "POST"):
        assert word in text
    parser = _Assets()
    parser.feed(text)
    assert parser.found == []
    assert "url(" not in text
    assert "@import" not in text


# -- metrics and log -----------------------------------------------------------------------------


def test_metrics(gateway: Gateway) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    gateway.run("bash", "exit 1")
    gateway.get("/nothing/of/anybodys/choice")
    answer = gateway.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["sandboxd_up",] == 1
    assert samples["sandboxd_jobs_total", "nonzero_exit"] >= 1
    assert samples["sandboxd_stage_seconds_count", "bash", "nonzero_exit", "run"] >= 1
    key = ("sandboxd_rest_requests_total", "/api/v2/execute", "200", "POST")
    assert samples[key] >= 1
    assert samples["sandboxd_rest_requests_total", "404", "GET", "other"] >= 1
    assert samples["sandboxd_slots", "ready"] >= 0
    assert "/nothing/of" not in answer.body.decode()


def test_the_access_log_has_a_line_each_and_no_secrets(daemon: Daemon) -> None:
    with running(daemon.socket) as gateway:
        gateway.get("/api/v2/runtimes?key=hunter2", {"authorization": "hunter2"})
        body = {"language": "bash", "version": "*", "files": [{"content": "# hunter2"}]}
        gateway.send("POST", "/api/v2/execute", body)
        gateway.get("/%0aforged%1b[31m")
        lines = logged(gateway, 3)
        text = gateway.log_text()
        assert "peer=127.0.0.1 method=GET path=/api/v2/runtimes status=200 ms=" in lines[0]
        assert "method=POST path=/api/v2/execute status=200" in lines[1]
        assert "status=404" in lines[2]
        assert "\x1b" not in text
        assert "hunter2" not in text
    with running(daemon.socket, access_log=False) as gateway:
        gateway.get("/")
        assert "method=" not in gateway.log_text()


def logged(gateway: Gateway, count: int) -> list[str]:
    """So many lines of the access log; each is written when its answer has been."""
    deadline = time.monotonic() + 5
    while True:
        lines = [line for line in gateway.log_text().splitlines() if " method=" in line]
        if len(lines) >= count or time.monotonic() > deadline:
            assert len(lines) == count, lines
            return lines
        time.sleep(0.02)


def test_the_peer_behind_a_proxy(daemon: Daemon) -> None:
    with running(daemon.socket, trusted_proxies=["127.0.0.0/8", "192.0.2.0/24"]) as gateway:
        for header in ("6.6.6.6, 203.0.113.9, 192.0.2.1", "203.0.113.9", "nonsense, 203.0.113.9"):
            gateway.get("/", {"x-forwarded-for": header})
        for line in logged(gateway, 3):
            assert "peer=203.0.113.9 " in line
    with running(daemon.socket) as gateway:
        gateway.get("/", {"x-forwarded-for": "203.0.113.9"})
        assert "peer=127.0.0.1 " in logged(gateway, 1)[0]


# -- the process ---------------------------------------------------------------------------------


def test_a_request_may_end_when_the_gateway_stops(daemon: Daemon) -> None:
    with running(daemon.socket) as gateway:
        gateway.run("bash", "")
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(gateway.execute("bash", "sleep 1; echo done"))
        )
        thread.start()
        time.sleep(0.4)
        os.kill(gateway.process.pid, signal.SIGTERM)
        thread.join()
        assert answers[0].json["run"]["stdout"] == "done\n"
        assert gateway.process.wait(5) == 0
        assert "Traceback" not in gateway.log_text()


def test_an_idle_connection_does_not_keep_it(daemon: Daemon) -> None:
    with running(daemon.socket) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
        connection.request("GET", "/")
        connection.getresponse().read()
        begun = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begun < 5
        connection.close()


def test_it_starts_without_a_daemon(tmp_path: Path) -> None:
    with running(str(tmp_path / "nothing")) as gateway:
        answer = gateway.execute("bash", "")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert gateway.get("/").status == 200
        assert gateway.get("/docs").status == 200
        assert b"sandboxd_up 0.0" in gateway.get("/metrics").body


def test_an_address_in_use(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(NotStarted) as caught:
        Gateway(tmp_path, bind=f"127.0.0.1:{gateway.port}")
    status, text = caught.value.args
    assert status == 1
    assert text.count("\n") == 1, text
    assert "cannot listen on 127.0.0.1:" in text


def test_a_wrong_setting_ends_the_start(tmp_path: Path) -> None:
    for environment, words in (
        ({"PISTON_LIMIT_OVERRIDES": '{"c": {"nonsense": 1}}'}, "nonsense"),
        ({"SANDBOXD_REST_NONSENSE": "1"}, "SANDBOXD_REST_NONSENSE"),
    ):
        with pytest.raises(NotStarted) as caught:
            Gateway(tmp_path, environment=environment)
        (tmp_path / "rest-notify").unlink()
        status, text = caught.value.args
        assert status == 78
        assert words in text
        assert "Traceback" not in text


def test_a_unix_socket_has_no_names(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "rest.sock"
    with running(daemon.socket, bind=[f"unix:{path}"]), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n")
        text = b""
        while data := sock.recv(4096):
            text += data
        assert text.startswith(b"HTTP/1.1 200 ")


def test_tls(daemon: Daemon, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("openssl cannot make a certificate")
    args = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with running(daemon.socket, *args) as gateway:
        context = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{gateway.port}/api/v2/execute"
        body = json.dumps({"language": "bash", "version": "*", "files": [{"content": "echo hi"}]})
        request = urllib.request.Request(url, body.encode(), JSON)
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:  # noqa: S310
            assert json.load(answer)["run"]["stdout"] == "hi\n"
        with (
            socket.create_connection(("127.0.0.1", gateway.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            get = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
            two_ends = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            sock.sendall(get + two_ends)
            text = b""
            while data := sock.recv(4096):
                text += data
        assert text.startswith(b"HTTP/1.1 400 "), text
        assert text.count(b"HTTP/1.1 ") == 1


# -- those who take their time -------------------------------------------------------------------


def test_a_body_that_does_not_come(daemon: Daemon) -> None:
    with running(daemon.socket, body_timeout_ns="300ms") as gateway:
        head = (
            b"POST /api/v2/execute HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
            sock.sendall(head)
            assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_says_nothing(daemon: Daemon) -> None:
    with (
        running(daemon.socket, keep_alive_timeout_ns="300ms") as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), 10) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert sock.recv(4096) == b""


def test_a_client_that_went_away_leaves_no_connection(gateway: Gateway) -> None:
    before = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
    for _ in range(20):
        assert gateway.get("/").status == 200
    deadline = time.monotonic() + 5
    while len(os.listdir(f"/proc/{gateway.process.pid}/fd")) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_does_not_read_loses_its_connection(daemon: Daemon) -> None:
    with running(daemon.socket, write_timeout_ns="1s") as gateway:
        fds = f"/proc/{gateway.process.pid}/fd"
        time.sleep(0.2)
        before = len(os.listdir(fds))
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", gateway.port))
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(20_000):
                    sock.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            deadline = time.monotonic() + 15
            while len(os.listdir(fds)) > before:
                assert time.monotonic() < deadline, "the connection is still there"
                time.sleep(0.1)
        assert gateway.get("/").status == 200
        begun = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begun < 5


def test_what_is_not_http(gateway: Gateway) -> None:
    for data in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"A" * 70_000):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(4096).startswith((b"HTTP/1.1 4", b"")), data
    assert gateway.get("/").status == 200


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandboxd_rest", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=CLEAN_ENVIRONMENT,
    )
    assert done.stdout.startswith("sandboxd-rest ")
