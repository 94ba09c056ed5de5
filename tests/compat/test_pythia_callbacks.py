"""Asynchronous executions: whom results are posted to, and whom never."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from compat.gateway import running
from compat.pythia_tasks import Listener, Pythia, listening
from support import daemon as daemons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compat.gateway import Answer
    from support.daemon import Daemon

ALLOWED = {
    "callback_hosts": ["127.0.0.1", "localhost", "slow.example:99"],
    "callback_private": True,
    "callback_timeout_ns": "3s",
    "callback_attempts": 3,
}


@pytest.fixture(scope="module")
def callback_daemon(require_sandbox: None) -> Iterator[Daemon]:
    with daemons.running(jobs=3) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pythia(callback_daemon: Daemon) -> Iterator[Pythia]:
    with running(callback_daemon.socket, pythia=ALLOWED) as gateway:
        yield Pythia(gateway)
        assert "Traceback" not in gateway.log_text()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def ask(
    pythia: Pythia, taskid: str, callback: str, query: str = "async=true", **headers: str
) -> Answer:
    body = {"tid": taskid, "input": "x\n", "callback": callback}
    return pythia.gateway.send("POST", f"/api/execute?{query}", body, **headers)


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_a_result_is_posted(pythia: Pythia, listener: Listener, value: str) -> None:
    taskid = pythia.script("cat")
    url = f"http://127.0.0.1:{listener.port}/took?id=5"
    answer = ask(pythia, taskid, url, f"async={value}")
    assert (answer.status, answer.body) == (200, b"")
    ((path, headers, body),) = listener.wait()
    assert path == "/took?id=5"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{listener.port}"
    assert json.loads(body) == {"tid": taskid, "status": "success", "output": "x\n"}


def test_by_the_task_s_path_and_a_name(pythia: Pythia, listener: Listener) -> None:
    taskid = pythia.script("echo Start; sleep 20", limits={"time": 1})
    path = f"/api/tasks/{taskid}/execute?async=1"
    answer = pythia.gateway.send("POST", path, {"callback": f"http://localhost:{listener.port}/"})
    assert (answer.status, answer.body) == (200, b"")
    ((_, _, body),) = listener.wait()
    assert json.loads(body) == {"tid": taskid, "status": "timeout", "output": "Start\n"}


def test_a_malformed_task_is_posted(pythia: Pythia, listener: Listener) -> None:
    taskid = pythia.task(None)
    assert ask(pythia, taskid, f"http://127.0.0.1:{listener.port}/").status == 200
    ((_, _, body),) = listener.wait()
    assert json.loads(body)["status"] == "fatal"


def test_what_could_not_be_executed_is_posted(listener: Listener) -> None:
    """Whoever waits for the callback is told, also that the daemon took no more."""
    with (
        daemons.running(jobs=1, executions_queue=2) as daemon,
        running(daemon.socket, pythia=ALLOWED) as gateway,
    ):
        pythia = Pythia(gateway)
        taskid = pythia.script("sleep 0.5")
        url = f"http://127.0.0.1:{listener.port}/"
        assert [ask(pythia, taskid, url).status for _ in range(8)] == [200] * 8
        results = [json.loads(body) for _, _, body in listener.wait(8)]
        assert {result["tid"] for result in results} == {taskid}
        statuses = [result["status"] for result in results]
        assert set(statuses) == {"success", "error"}, results


def test_it_is_tried_again(pythia: Pythia, listener: Listener) -> None:
    listener.statuses = [503, 429]
    taskid = pythia.script("true")
    assert ask(pythia, taskid, f"http://127.0.0.1:{listener.port}/").status == 200
    assert len({body for _, _, body in listener.wait(3)}) == 1


def test_it_is_tried_only_so_often(pythia: Pythia, listener: Listener) -> None:
    listener.statuses = [500] * 9
    first = pythia.script("true")
    assert ask(pythia, first, f"http://127.0.0.1:{listener.port}/").status == 200
    listener.wait(3)
    wait_for_log(pythia, "a result was not taken")
    assert listener.count == 3


def test_what_is_refused_is_not_tried_again(pythia: Pythia, listener: Listener) -> None:
    listener.statuses = [404]
    taskid = pythia.script("true")
    assert ask(pythia, taskid, f"http://127.0.0.1:{listener.port}/gone").status == 200
    listener.wait()
    wait_for_log(pythia, "HTTP status 404")
    assert listener.count == 1


def test_a_redirection_is_not_followed(pythia: Pythia, listener: Listener) -> None:
    with listening() as other:
        listener.statuses = [307]
        listener.location = f"http://127.0.0.1:{other.port}/"
        taskid = pythia.script("true")
        assert ask(pythia, taskid, f"http://127.0.0.1:{listener.port}/").status == 200
        listener.wait()
        wait_for_log(pythia, "HTTP status 307")
        assert (listener.count, other.count) == (1, 0)


def wait_for_log(pythia: Pythia, words: str) -> None:
    deadline = time.monotonic() + 20
    while words not in pythia.gateway.log_text():
        assert time.monotonic() < deadline, pythia.gateway.log_text()
        time.sleep(0.05)


def test_slow_ones_hold_up_nobody(pythia: Pythia, listener: Listener) -> None:
    listener.hold.clear()
    taskid = pythia.script("true")
    url = f"http://127.0.0.1:{listener.port}/"
    assert [ask(pythia, taskid, url).status for _ in range(10)] == [200] * 10
    begun = time.monotonic()
    assert pythia.execute(taskid)["status"] == "success"
    with listening() as quick:
        assert ask(pythia, taskid, f"http://127.0.0.1:{quick.port}/").status == 200
        quick.wait()
    assert time.monotonic() - begun < 3  # One attempt may take so long.
    listener.hold.set()
    listener.wait(10)


def test_https(callback_daemon: Daemon, tmp_path: Path) -> None:
    """With a certificate that the gateway trusts, for the name in the URL."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    settings = ALLOWED | {"callback_attempts": 1}
    trusted = {"SSL_CERT_FILE": str(certificate)}
    with (
        listening(tls) as listener,
        running(callback_daemon.socket, pythia=settings, environment=trusted) as gateway,
    ):
        pythia = Pythia(gateway)
        taskid = pythia.script("cat")
        assert ask(pythia, taskid, f"https://127.0.0.1:{listener.port}/").status == 200
        wait_for_log(pythia, "a result was not taken")
        assert ask(pythia, taskid, f"https://localhost:{listener.port}/").status == 200
        ((_, headers, body),) = listener.wait()
        assert headers["Host"] == f"localhost:{listener.port}"
        assert json.loads(body)["output"] == "x\n"
        assert "Traceback" not in gateway.log_text()


def test_there_are_only_so_many(callback_daemon: Daemon, listener: Listener) -> None:
    """And of them half from one address."""
    settings = ALLOWED | {"max_callbacks": 4}
    proxied = {"trusted_proxies": ["127.0.0.1"]}
    with running(callback_daemon.socket, pythia=settings, **proxied) as gateway:
        pythia = Pythia(gateway)
        listener.hold.clear()  # They end when that is told.
        taskid = pythia.script("true")
        url = f"http://127.0.0.1:{listener.port}/"
        addresses = ["192.0.2.1"] * 3 + ["192.0.2.2"] * 3 + ["192.0.2.3"]
        answers = [
            ask(pythia, taskid, url, **{"x-forwarded-for": address}) for address in addresses
        ]
        assert [answer.status for answer in answers] == [200, 200, 503, 200, 200, 503, 503]
        assert answers[2].headers["retry-after"]
        listener.hold.set()
        listener.wait(4)


# -- where none goes -----------------------------------------------------------------------------


def test_nowhere_by_default(callback_daemon: Daemon, listener: Listener) -> None:
    with running(callback_daemon.socket) as gateway:
        pythia = Pythia(gateway)
        taskid = pythia.script("true")
        for host in (f"127.0.0.1:{listener.port}", "example.org", "93.184.216.34"):
            answer = ask(pythia, taskid, f"http://{host}/")
            assert (answer.status, answer.body) == (400, b"")
            assert "callback_hosts" in answer.headers["sandboxd-message"]


PRIVATE = [
    "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1]",
    "0.0.0.0", "[::]", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",  # noqa: S104
    "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]",
    "[fec0::1]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255", "localhost.",
]  # fmt: skip


def test_not_to_private_addresses(callback_daemon: Daemon, listener: Listener) -> None:
    settings: dict[str, Any] = {"callback_hosts": ["*"]}
    with running(callback_daemon.socket, pythia=settings) as gateway:
        pythia = Pythia(gateway)
        taskid = pythia.script("true")
        for host in PRIVATE:
            answer = ask(pythia, taskid, f"http://{host}:{listener.port}/")
            assert (answer.status, answer.body) == (400, b""), host
            why = answer.headers["sandboxd-message"]
            assert "not public" in why or "no address" in why, (host, why)
        assert listener.count == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/x",
        "//127.0.0.1/", "127.0.0.1", "x", "http://", "http:///x", "http://evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://u:p@127.0.0.1/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/",
        "http://127.0.0.1\\@evil.example/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1.evil.example/", "http://[::1/", "http://127.0.0.1/" + "x" * 3000,
        "http://slow.example/", "http://é.example/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(pythia: Pythia, url: str) -> None:
    taskid = pythia.script("true")
    answer = ask(pythia, taskid, url)
    assert (answer.status, answer.body) == (400, b""), answer
    assert "callback" in answer.headers["sandboxd-message"]


def test_a_name_without_an_address(pythia: Pythia) -> None:
    answer = ask(pythia, pythia.script("true"), "http://slow.example:99/")
    assert answer.status in (400, 503)
    assert "address" in answer.headers["sandboxd-message"]


def test_the_end_of_the_gateway_ends_what_it_waits_for(callback_daemon: Daemon) -> None:
    with running(callback_daemon.socket, pythia=ALLOWED) as gateway, listening() as listener:
        pythia = Pythia(gateway)
        taskid = pythia.script("sleep 20")
        assert ask(pythia, taskid, f"http://127.0.0.1:{listener.port}/").status == 200
        begun = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begun < 10
        assert listener.count == 0
