"""The blocking client against a scripted daemon: order, notifications, descriptors, failures."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.protocol import rpc
from sandboxd_client import (
    Client,
    ConnectionLost,
    DaemonUnreachable,
    LocalProtocolError,
    RequestError,
    find_socket,
)
from support.scripted import RESULT, Peer

Start = Callable[..., str]


def test_run(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params) == ("job.run", {"argv": ["cat"], "stdin": b"x"})
        peer.answer(msgid, RESULT)

    with Client(daemon_with(script)) as client:
        result = client.run(["cat"], stdin=b"x")
    assert (result.ok, result.stdout) == (True, b"out")


def test_an_error_is_raised_and_the_connection_is_as_good_as_before(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        refused = RequestError("invalid_argument", "argv: is required", {"field": "argv"})
        peer.sock.sendall(rpc.encode_error(peer.request()[0], refused))
        peer.answer(peer.request()[0], {"status": "ok"})

    with Client(daemon_with(script)) as client:
        with pytest.raises(RequestError) as caught:
            client.run([])
        assert (caught.value.code, caught.value.data) == ("invalid_argument", {"field": "argv"})
        assert client.health() == {"status": "ok"}


def test_output_is_iterated_in_order_up_to_the_exit(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, params["stream"]) == ("job.start", True)
        peer.notify("job.stage", job="j1", stage="run")  # Even before the answer.
        peer.answer(msgid, {"job": "j1"})
        peer.notify("job.output", job="j1", stream="stdout", data=b"a")
        peer.notify("job.output", job="j1", stream="stderr", data=b"b")
        peer.notify("job.exit", job="j1", result=RESULT)

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stream=True)
        assert job.stage == "run"
        assert list(job) == [("stdout", b"a"), ("stderr", b"b")]
        assert job.wait().ok
        assert list(job) == []


def test_output_that_was_not_looked_at_is_still_there(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        for data in (b"a", b"b", b"c"):
            peer.notify("job.output", job="j1", stream="stdout", data=data)
        peer.notify("job.exit", job="j1", result=RESULT)

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stream=True)
        assert next(iter(job)) == ("stdout", b"a")
        job.wait()
        assert next(iter(job)) == ("stdout", b"b")
        assert list(job) == [("stdout", b"c")]


def test_output_can_be_had_after_wait(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        peer.notify("job.output", job="j1", stream="stdout", data=b"a")
        peer.notify("job.exit", job="j1", result=RESULT)

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stream=True)
        assert job.wait().ok
        assert list(job) == [("stdout", b"a")]


def test_what_comes_during_other_calls_is_kept_for_its_job(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        for token in ("j1", "j2"):
            peer.answer(peer.request()[0], {"job": token})
        msgid, method, params = peer.request()
        assert (method, params) == ("job.write", {"job": "j2", "data": b"in"})
        for token in ("j1", "j2"):
            peer.notify("job.output", job=token, stream="stdout", data=token.encode())
            peer.notify("job.exit", job=token, result=RESULT)
        peer.answer(msgid, {})

    with Client(daemon_with(script)) as client:
        first, second = (client.start(["x"], stream=True, stdin_stream=True) for _ in range(2))
        second.write(b"in")
        assert list(second) == [("stdout", b"j2")]
        assert list(first) == [("stdout", b"j1")]


def test_calls_on_a_job(daemon_with: Start) -> None:
    seen = []

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        for _ in range(5):
            msgid, method, params = peer.request()
            seen.append((method, params))
            peer.answer(msgid, {})
        msgid, method, params = peer.request()
        seen.append((method, params))
        peer.answer(msgid, RESULT)

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stdin_stream=True)
        job.write(b"1")
        job.close_stdin()
        job.signal("SIGINT")
        job.resize(50, 132)
        job.cancel()
        assert job.wait().ok
        assert job.wait().ok, "the result is kept"
        assert list(job) == [], "without stream there is nothing to iterate over"
    assert seen == [
        ("job.write", {"job": "j1", "data": b"1"}),
        ("job.close_stdin", {"job": "j1"}),
        ("job.signal", {"job": "j1", "signal": "SIGINT"}),
        ("job.resize", {"job": "j1", "rows": 50, "columns": 132}),
        ("job.cancel", {"job": "j1"}),
        ("job.wait", {"job": "j1"}),
    ]


def test_a_job_is_cancelled_when_its_block_is_left(daemon_with: Start) -> None:
    methods = []

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        msgid, method, _ = peer.request()
        methods.append(method)
        peer.sock.sendall(rpc.encode_error(msgid, RequestError("not_found", "it has ended")))

    with Client(daemon_with(script)) as client, client.start(["x"]):
        pass
    assert methods == ["job.cancel"]


def test_a_job_that_could_not_be_run_after_all(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        peer.notify("job.exit", job="j1", error={"code": "internal", "message": "m", "data": {}})

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stream=True)
        assert list(job) == []
        with pytest.raises(RequestError, match=r"^m$"):
            job.wait()


def test_a_batch_gives_results_and_errors_in_order(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, len(params["jobs"])) == ("job.batch", 3)
        error = {"code": "busy", "message": "full", "data": {}}
        stages = {"compile": RESULT, "run": None}
        peer.answer(msgid, {"results": [RESULT, {"error": error}, stages]})

    with Client(daemon_with(script)) as client:
        first, second, third = client.batch([{"argv": ["a"]}, {"argv": ["b"]}, {"argv": ["c"]}])
    assert first.ok  # type: ignore[union-attr]
    assert isinstance(second, RequestError)
    assert third.run is None  # type: ignore[union-attr]


def test_descriptors_cannot_be_passed_in_a_batch(daemon_with: Start) -> None:
    with (
        Client(daemon_with(lambda peer: None)) as client,
        pytest.raises(LocalProtocolError, match="batch"),
    ):
        client.batch([{"argv": ["a"], "fds": {"stdin": 0}}])


def test_descriptors_are_passed_with_the_request(daemon_with: Start, tmp_path: Path) -> None:
    stdin = tmp_path / "in"
    stdin.write_text("from the file")

    def script(peer: Peer) -> None:
        msgid, _, params = peer.request()
        assert params["fds"] == {"stdin": 0, "stdout": 1}
        first, second = peer.fds
        os.write(second, os.read(first, 100))
        os.close(first)
        os.close(second)
        peer.answer(msgid, RESULT)

    reader, writer = os.pipe()
    with Client(daemon_with(script)) as client, stdin.open() as file:
        client.run(["cat"], fds={"stdin": file.fileno(), "stdout": writer})
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read() == b"from the file"


def test_a_daemon_that_goes_away(daemon_with: Start) -> None:
    with Client(daemon_with(Peer.request)) as client, pytest.raises(ConnectionLost):
        client.run(["x"])


def test_a_daemon_that_says_why_it_closes(daemon_with: Start) -> None:
    def script(peer: Peer) -> None:
        peer.notify("error", code="busy", message="too many connections", data={})

    with (
        Client(daemon_with(script)) as client,
        pytest.raises(RequestError, match="too many connections"),
    ):
        client.run(["x"], stdin=bytes(10**7))


def test_reads_while_the_daemon_does_not(daemon_with: Start) -> None:
    """The daemon stops reading from a client that does not take its output."""
    output = bytes(4 * 1024 * 1024)

    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"job": "j1"})
        # Sent whole before anything is read: it fits into no socket's buffer.
        peer.notify("job.output", job="j1", stream="stdout", data=output)
        msgid, _, params = peer.request()
        assert len(params["stdin"]) == 10**7
        peer.answer(msgid, RESULT)
        peer.notify("job.exit", job="j1", result=RESULT)

    with Client(daemon_with(script)) as client:
        job = client.start(["x"], stream=True)
        assert client.run(["y"], stdin=bytes(10**7)).ok
        assert list(job) == [("stdout", output)]


UNREACHABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda tmp: tmp / "none", "No such file or directory; is sandboxd running"),
    "a file": (lambda tmp: Path("/etc/passwd"), "Connection refused; is sandboxd running"),
    "too long": (lambda tmp: tmp / ("x" * 200), "too long for a socket"),
}


@pytest.mark.parametrize(("place", "why"), UNREACHABLE.values(), ids=UNREACHABLE.keys())
def test_no_daemon(tmp_path: Path, place: Callable[[Path], Path], why: str) -> None:
    path = str(place(tmp_path))
    with pytest.raises(DaemonUnreachable, match=why) as caught:
        Client(path)
    assert str(caught.value).startswith(f"cannot reach sandboxd at {path}: ")


def test_a_socket_nobody_listens_on(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    with pytest.raises(DaemonUnreachable, match="Connection refused"):
        Client(path)


def test_where_the_daemon_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOXD_SOCKET", raising=False)
    assert find_socket() == "/run/sandboxd/sandboxd.sock"
    monkeypatch.setenv("SANDBOXD_SOCKET", "/x")
    assert find_socket() == "/x"
    assert find_socket("/y") == "/y"


@pytest.mark.parametrize("module", ["sandboxd_client", "sandboxd_client.private", "sandboxctl.run"])
def test_the_blocking_client_imports_nothing_slow(module: str) -> None:
    slow = (
        "trio sandboxd._native msgspec asyncio socket argparse typing dataclasses enum re pathlib"
    )
    if module == "sandboxd_client.private":
        slow = slow.replace(" enum", "")  # By way of signal.
    script = f"import sys, {module}\nprint(*(m for m in {slow.split()!r} if m in sys.modules))"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
