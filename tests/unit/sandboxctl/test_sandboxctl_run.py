"""`sandboxctl run` against a scripted daemon: bytes, signals, exit statuses, failures."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxctl import exitcodes
from sandboxctl.__main__ import main
from sandboxctl.collected import write_files
from sandboxctl.jobs import exit_status
from sandboxctl.jsonout import to_json
from sandboxctl.session import Signals
from sandboxctl.stdio import printable
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.status import STATUSES
from sandboxd_client.result import Result
from support.scripted import Peer
from support.world import World

Start = Callable[..., str]
OK = {"status": "ok", "exit_code": 0, "message": ""}

EXIT_STATUS: dict[str, tuple[dict[str, Any], int]] = {
    "ok": ({"exit_code": 0}, 0),
    "nonzero_exit": ({"exit_code": 3}, 3),
    "signaled": ({"signal": 11}, 139),
    "cpu_time_limit": ({}, 124),
    "wall_time_limit": ({}, 124),
    "memory_limit": ({}, 124),
    "output_limit": ({"exit_code": 0}, 124),
    "cancelled": ({}, 125),
    "internal_error": ({}, 125),
}


@pytest.mark.parametrize("status", STATUSES)
def test_exit_status(status: str) -> None:
    fields, code = EXIT_STATUS[status]
    assert exit_status(Result({"status": status, **fields})) == code


def test_exit_status_when_we_cancelled() -> None:
    cancelled = Result({"status": "cancelled"})
    assert exit_status(cancelled, signal.SIGINT) == exitcodes.INTERRUPTED
    assert exit_status(cancelled, signal.SIGTERM) == 143
    assert exit_status(Result({"status": "nonzero_exit", "exit_code": 7}), signal.SIGINT) == 7


def start(peer: Peer, **wanted: object) -> None:
    """Answer a job.start with the token j1."""
    msgid, method, params = peer.request()
    assert method == "job.start"
    for name, value in wanted.items():
        assert params[name] == value
    peer.answer(msgid, {"job": "j1"})


def run(path: str, world: World, *argv: str) -> int:
    return main(["run", "--socket", path, *(argv or ("x",))], world)


def test_bytes_pass_in_both_directions(daemon_with: Start, tmp_path: Path) -> None:
    stdin = os.urandom(200_000)
    world = World(tmp_path, stdin)

    def script(peer: Peer) -> None:
        start(peer, argv=["cat"], stream=True, stdin_stream=True)
        while True:
            msgid, method, params = peer.request()
            peer.answer(msgid, {})
            if method == "job.close_stdin":
                break
            assert method == "job.write"
            peer.notify("job.output", job="j1", stream="stdout", data=params["data"])
            peer.notify("job.output", job="j1", stream="stderr", data=b"\xff\n")
        peer.notify("job.exit", job="j1", result=OK)

    assert run(daemon_with(script), world, "cat") == 0
    assert (tmp_path / "stdout").read_bytes() == stdin
    assert (tmp_path / "stderr").read_bytes() == b"\xff\n" * 4


def test_the_next_piece_of_stdin_waits_for_the_answer(daemon_with: Start, tmp_path: Path) -> None:
    world = World(tmp_path, bytes(200_000))
    offsets = []

    def script(peer: Peer) -> None:
        start(peer)
        for _ in range(2):
            msgid, _, _ = peer.request()
            time.sleep(0.02)
            offsets.append(os.lseek(world.stdin, 0, os.SEEK_CUR))
            peer.answer(msgid, {})
        peer.notify("job.exit", job="j1", result=OK)

    assert run(daemon_with(script), world) == 0
    assert offsets == [65536, 131072]


def test_a_program_that_closes_its_stdin(daemon_with: Start, tmp_path: Path) -> None:
    world = World(tmp_path, bytes(200_000))

    def script(peer: Peer) -> None:
        start(peer)
        refused = RequestError("not_found", "the job has closed its stdin")
        peer.sock.sendall(rpc.encode_error(peer.request()[0], refused))
        peer.notify("job.output", job="j1", stream="stdout", data=b"bye")
        peer.notify("job.exit", job="j1", result=OK)

    assert run(daemon_with(script), world) == 0
    assert world.stdout_text == "bye"
    assert world.stderr_text == ""


def test_stdin_from_a_file_and_stdin_that_is_closed(
    daemon_with: Start, world: World, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("typed")
    seen = []

    def script(peer: Peer) -> None:
        start(peer)
        while True:
            msgid, method, params = peer.request()
            seen.append((method, params.get("data")))
            peer.answer(msgid, {})
            if method == "job.close_stdin":
                break
        peer.notify("job.exit", job="j1", result=OK)

    path = daemon_with(script, script)
    assert run(path, world, "--stdin", str(tmp_path / "in"), "x") == 0
    command = f"{sys.executable} -m sandboxctl run --socket {path} x 0<&- 1>&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command]).returncode == 0
    assert seen == [
        ("job.write", b"typed"),
        ("job.close_stdin", None),
        ("job.close_stdin", None),
    ]


def test_a_variable_is_added_to_the_usual_ones(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        msgid, method, _ = peer.request()
        assert method == "server.info"
        peer.answer(msgid, {"env": {"PATH": "/bin", "LANG": "C"}})
        start(peer, env={"PATH": "/p", "LANG": "C", "A": "1"})
        peer.notify("job.exit", job="j1", result=OK)

    assert run(daemon_with(script), world, "--env", "A=1", "--env", "PATH=/p", "x") == 0


SAID = {
    "memory_limit": ("the program used more memory than 64 MiB", 124),
    "wall_time_limit": ("the program ran longer than 1 s", 124),
    "internal_error": ("the sandbox died", 125),
    "cancelled": ("sandboxd is shutting down", 125),
}


@pytest.mark.parametrize("status", SAID)
def test_one_line_says_why_it_was_stopped(daemon_with: Start, world: World, status: str) -> None:
    message, code = SAID[status]

    def script(peer: Peer) -> None:
        start(peer)
        peer.notify("job.exit", job="j1", result={"status": status, "message": message})

    assert run(daemon_with(script), world) == code
    assert world.stderr_text == f"sandboxctl: {message}\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("the program exited with code 127", ""),
        ("x cannot be executed: No such file", "sandboxctl: x cannot be executed: No such file\n"),
    ],
)
def test_what_cannot_be_executed_is_said(
    daemon_with: Start, world: World, message: str, said: str
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        result = {"status": "nonzero_exit", "exit_code": 127, "message": message}
        peer.notify("job.exit", job="j1", result=result)

    assert run(daemon_with(script), world) == 127
    assert world.stderr_text == said


def test_json_is_the_result(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        msgid, method, params = peer.request()
        assert (method, "stream" in params) == ("job.start", False)
        peer.answer(msgid, {"job": "j1"})
        waiting = 0
        while not waiting:
            msgid, method, _ = peer.request()
            if method == "job.wait":
                waiting = msgid
            else:
                peer.answer(msgid, {})
        result = {**OK, "stdout": "é".encode(), "stderr": b"\xff", "files": {b"\xfe": b"1"}}
        peer.answer(waiting, result)

    assert run(daemon_with(script), world, "--json", "x") == 0
    printed = json.loads(world.stdout_text)
    assert world.stdout_text.count("\n") == 1
    assert printed == {**OK, "stdout": "é", "stderr": {"base64": "/w=="}, "files": {"\udcfe": "1"}}


def test_an_error_is_one_sentence_or_one_object(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        refused = RequestError("limit_exceeded", "limits.memory_bytes: at most 4", {"field": "f"})
        peer.sock.sendall(rpc.encode_error(peer.request()[0], refused))

    path = daemon_with(script, script)
    assert run(path, world) == 125
    assert world.stderr_text == "sandboxctl: limits.memory_bytes: at most 4\n"
    assert run(path, world, "--json", "x") == 125
    assert json.loads(world.stdout_text)["error"] == {
        "code": "limit_exceeded",
        "message": "limits.memory_bytes: at most 4",
        "data": {"field": "f"},
    }


def test_a_daemon_that_goes_away(daemon_with: Start, world: World) -> None:
    assert run(daemon_with(start), world) == 125
    assert world.stderr_text == "sandboxctl: sandboxd closed the connection\n"


def test_a_daemon_that_is_named_must_be_there(world: World, tmp_path: Path) -> None:
    assert run("/nowhere", world) == 125
    assert world.stderr_text.startswith("sandboxctl: cannot reach sandboxd at /nowhere: No such")
    named = World(tmp_path, SANDBOXD_SOCKET="/nowhere/else")
    assert main(["run", "x"], named) == 125
    assert "cannot reach sandboxd at /nowhere/else" in named.stderr_text


@pytest.fixture
def interrupt() -> Iterator[Callable[[int], None]]:
    """Send this process a signal as a terminal would. Afterwards the handlers are as before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
    before = [signal.getsignal(number) for number in numbers]
    yield lambda number: os.kill(os.getpid(), number)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def close_stdin(peer: Peer) -> None:
    msgid, method, _ = peer.request()
    assert method == "job.close_stdin"
    peer.answer(msgid, {})


def test_one_interrupt_reaches_the_program(
    daemon_with: Start, world: World, interrupt: Callable[[int], None]
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        close_stdin(peer)
        interrupt(signal.SIGINT)
        msgid, method, params = peer.request()
        assert (method, params) == ("job.signal", {"job": "j1", "signal": signal.SIGINT})
        peer.answer(msgid, {})
        peer.notify("job.exit", job="j1", result={"status": "nonzero_exit", "exit_code": 9})

    assert run(daemon_with(script), world) == 9


def test_the_second_interrupt_cancels(
    daemon_with: Start, world: World, interrupt: Callable[[int], None]
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        close_stdin(peer)
        interrupt(signal.SIGINT)
        assert peer.request()[1] == "job.signal"
        interrupt(signal.SIGINT)
        assert peer.request()[1] == "job.cancel"
        peer.notify("job.exit", job="j1", result={"status": "cancelled", "message": "cancelled"})

    assert run(daemon_with(script), world) == exitcodes.INTERRUPTED
    assert world.stderr_text == "", "who typed it knows"


def test_the_third_interrupt_does_not_wait_for_a_daemon_that_hangs(
    daemon_with: Start, world: World, interrupt: Callable[[int], None]
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        close_stdin(peer)
        for _ in range(2):
            interrupt(signal.SIGINT)
            peer.request()
        interrupt(signal.SIGINT)
        with pytest.raises(EOFError):
            peer.request()

    assert run(daemon_with(script), world) == exitcodes.INTERRUPTED
    assert world.stderr_text == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_cancels_at_once(
    daemon_with: Start, world: World, interrupt: Callable[[int], None], number: signal.Signals
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        close_stdin(peer)
        interrupt(number)
        assert peer.request()[1] == "job.cancel"
        peer.notify("job.exit", job="j1", result={"status": "cancelled"})

    assert run(daemon_with(script), world) == 128 + number


def test_an_interrupt_before_the_job_has_a_name_is_not_lost(
    daemon_with: Start, world: World, interrupt: Callable[[int], None]
) -> None:
    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        interrupt(signal.SIGINT)
        time.sleep(0.05)
        peer.answer(msgid, {"job": "j1"})
        assert peer.request()[1:] == ("job.signal", {"job": "j1", "signal": signal.SIGINT})
        peer.notify("job.exit", job="j1", result=OK)

    assert run(daemon_with(script), world) == 0


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signals = Signals(signal.SIGINT, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.take() == bytes([signal.SIGTERM])
        assert signals.take() == b""
        signals.close()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_when_nobody_reads_the_job_is_stopped(daemon_with: Start, world: World) -> None:
    reader, world.stdout = os.pipe()
    os.close(reader)

    def script(peer: Peer) -> None:
        start(peer)
        peer.notify("job.output", job="j1", stream="stdout", data=b"x" * 10_000)
        peer.notify("job.output", job="j1", stream="stderr", data=b"still read")
        while peer.request()[1] != "job.cancel":
            pass
        peer.notify("job.exit", job="j1", result={"status": "cancelled"})

    assert run(daemon_with(script), world) == exitcodes.BROKEN_PIPE
    assert world.stderr_text == "still read"


def test_a_slow_reader_holds_the_daemon_back(daemon_with: Start, world: World) -> None:
    """What is not taken from us is not taken from the socket, and all of it arrives."""
    reader, world.stdout = os.pipe()
    chunk = bytes(65536)
    sent = threading.Event()
    blocked = []

    def script(peer: Peer) -> None:
        start(peer)
        peer.sock.settimeout(0.2)
        try:
            for _ in range(200):
                peer.notify("job.output", job="j1", stream="stdout", data=chunk)
        except TimeoutError:
            blocked.append(True)
        sent.set()

    def read() -> None:
        sent.wait(10)
        while os.read(reader, 65536):
            pass
        os.close(reader)

    thread = threading.Thread(target=read)
    thread.start()
    assert run(daemon_with(script), world) == 125  # The script ends without an exit.
    os.close(world.stdout)
    thread.join()
    assert blocked


def test_collected_files_are_written_here(
    daemon_with: Start, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").write_text("mine")

    def script(peer: Peer) -> None:
        start(peer, collect=["**"])
        files = {"d/new": b"1", "old": b"2"}
        peer.notify("job.exit", job="j1", result={**OK, "files": files})

    assert run(daemon_with(script), world, "--collect", "**", "x") == 125
    assert (tmp_path / "d" / "new").read_bytes() == b"1"
    assert (tmp_path / "old").read_text() == "mine"
    assert world.stderr_text == "sandboxctl: old is already here and was not replaced\n"


def test_a_file_that_was_named_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("longer than before")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert write_files({"a": b"new"}, ["a"]) == []
    assert (tmp_path / "a").read_text() == "new"
    assert write_files({"link": b"x"}, ["link"]) == [
        "link could not be written: Too many levels of symbolic links"
    ]
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", "a//b", b"../\xff"])
def test_a_name_cannot_lead_elsewhere(
    name: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (problem,) = write_files({name: b"x"}, ["*"])
    assert "could not be written" in problem
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_messages_do_not_drive_the_terminal() -> None:
    assert printable("a\x1b[31mb\tc\nd") == "a\\x1b[31mb\\tc\nd"
    assert printable("naïve") == "naïve"


@pytest.mark.parametrize("value", [b"", b"text", "é".encode(), [b"\xff"], {"a": (1, None)}])
def test_json_of_values(value: object) -> None:
    assert json.loads(to_json(value)) == json.loads(to_json(value, pretty=True))


def test_no_traceback_for_our_own_mistakes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("sandboxctl.run.job_params", broken)
    assert main(["run", "x"], world) == 125
    assert world.stderr_text == (
        "sandboxctl: this is a mistake in sandboxctl: ZeroDivisionError: oops\n"
    )


@pytest.mark.parametrize("line", ["--help", "run --help", "completion bash"])
def test_a_closed_pipe_is_no_traceback(line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "sandboxctl", *line.split()], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (exitcodes.BROKEN_PIPE, b"")
