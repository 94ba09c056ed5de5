"""`sandboxctl` as a person uses it: real processes, real terminals, the real daemon."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import DEFAULT_SOCKET, Client
from support import host
from support.daemon import Daemon
from support.jobs import Stopwatch
from support.requirements import CLEAN_ENVIRONMENT, need_readable_tree
from support.terminal import COMMAND, Terminal

Open = Callable[..., Terminal]


def sandboxctl(daemon: Daemon, *argv: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": daemon.socket}
    options = {"input": b"", "env": environment, "timeout": 60} | options
    if "stdin" in options:
        del options["input"]
    return subprocess.run([*COMMAND, *argv], capture_output=True, **options)


def said(done: "subprocess.CompletedProcess[bytes]") -> tuple[int, bytes, bytes]:
    return done.returncode, done.stdout, done.stderr


def test_output_and_exit_status_pass_through(daemon: Daemon) -> None:
    script = "printf 'a\\377\\0b'; printf err >&2; exit 3"
    done = sandboxctl(daemon, "run", "--", "sh", "-c", script)
    assert said(done) == (3, b"a\xff\0b", b"err")


STOPPED = {
    "wall time": (["--wall-time", "200ms", "sleep", "9"], "ran longer than its limit of 200 ms"),
    "CPU time": (
        ["--cpu-time", "100ms", "sh", "-c", "while :; do :; done"],
        "used more CPU time than its limit of 100 ms",
    ),
    "memory": (
        ["--memory", "32M", "python3", "-c", "bytearray(99 << 20)"],
        "used more memory than its limit of 32 MiB",
    ),
    "output": (["--output", "1K", "yes"], "printed more than its limit of 1 KiB"),
}


@pytest.mark.parametrize(("argv", "why"), STOPPED.values(), ids=STOPPED.keys())
def test_a_limit_is_124_and_one_line(daemon: Daemon, argv: list[str], why: str) -> None:
    done = sandboxctl(daemon, "run", *argv)
    assert done.returncode == 124
    assert done.stderr.decode() == f"sandboxctl: the program {why}\n"


def test_a_signal_is_128_and_its_number(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "run", "sh", "-c", "kill -SEGV $$")
    assert done.returncode == 139
    assert done.stderr == b"sandboxctl: the program was ended by signal 11 (SIGSEGV)\n"


def test_what_cannot_be_executed(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "run", "no-such-program")
    assert (done.returncode, done.stdout) == (127, b"")
    assert done.stderr.startswith(b"sandboxctl: no-such-program cannot be executed: No such file")
    assert done.stderr.count(b"\n") == 1
    assert sandboxctl(daemon, "run", "/etc/passwd").returncode == 126


def test_what_the_daemon_refuses(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "run", "--memory", "1000T", "true")
    assert done.returncode == 125
    assert done.stderr.startswith(b"sandboxctl: limits.memory_bytes: ")


def test_stdin_is_streamed(daemon: Daemon, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    assert said(sandboxctl(daemon, "run", "cat", input=data)) == (0, data, b"")
    (tmp_path / "in").write_bytes(data)
    done = sandboxctl(daemon, "run", "--stdin", str(tmp_path / "in"), "cat")
    assert said(done) == (0, data, b"")
    assert said(sandboxctl(daemon, "run", "cat", stdin=subprocess.DEVNULL)) == (0, b"", b"")


def test_a_program_that_does_not_read_its_stdin(daemon: Daemon) -> None:
    data = bytes(700_000)
    assert said(sandboxctl(daemon, "run", "sh", "-c", "exit 4", input=data)) == (4, b"", b"")


def test_answers_come_while_stdin_is_open(daemon: Daemon) -> None:
    """A conversation, one line at a time: nothing waits for the end of stdin or for more bytes."""
    with subprocess.Popen(
        [*COMMAND, "run", "--socket", daemon.socket, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=CLEAN_ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_pipeline_that_ends_early(daemon: Daemon) -> None:
    watch = Stopwatch()
    line = f"{' '.join(COMMAND)} run yes | head -c 5; echo ${{PIPESTATUS[0]}}"
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": daemon.socket}
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=environment)
    assert (done.stdout, done.stderr) == (b"y\ny\ny141\n", b"")
    assert watch.seconds < 4


def test_files_environment_and_directory(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("#!/bin/sh\npwd; echo $A $HOME; cat data; echo $0 > out")
    (tmp_path / "main.sh").chmod(0o755)
    (tmp_path / "x").write_text("content\n")
    done = sandboxctl(
        daemon, "run", "--file", "main.sh", "--file", "x=d/data", "--env", "A=1 2", "--cwd", "d",
        "--collect", "d/o*", "../main.sh", cwd=tmp_path,
    )  # fmt: skip
    assert said(done) == (0, b"/work/d\n1 2 /work\ncontent\n", b"")
    assert (tmp_path / "d" / "out").read_text() == "../main.sh\n"


@pytest.mark.parametrize("mode", ["fresh", "recycled"])
def test_network_and_mode(daemon: Daemon, mode: str) -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.fileno() > 0)"
    done = sandboxctl(
        daemon, "run", "--mode", mode, "--network", "loopback", "python3", "-c", script
    )
    assert said(done) == (0, b"True\n", b"")


def test_json(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "run", "--json", "--", "sh", "-c", "cat; printf '\\377' >&2; exit 2",
                      input="é".encode())  # fmt: skip
    assert (done.returncode, done.stderr) == (2, b"")
    result = json.loads(done.stdout)
    assert (result["status"], result["exit_code"]) == ("nonzero_exit", 2)
    assert (result["stdout"], result["stderr"]) == ("é", {"base64": "/w=="})
    assert result["wall_time_ns"] > 0
    assert result["memory_bytes"] > 0
    done = sandboxctl(daemon, "run", "--json", "--wall-time", "100ms", "sleep", "9")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (124, "wall_time_limit")
    done = sandboxctl(daemon, "run", "--json", "--memory", "1000T", "true")
    assert done.returncode == 125
    assert json.loads(done.stdout)["error"]["code"] == "limit_exceeded"


@pytest.fixture
def terminals(daemon: Daemon) -> Iterator[Open]:
    """Open a terminal with `sandboxctl run ...` in it."""
    with contextlib.ExitStack() as stack:

        def open_(*argv: str) -> Terminal:
            return stack.enter_context(Terminal("run", "--socket", daemon.socket, *argv))

        yield open_


WAITS = "trap 'echo got; exit 7' INT; echo ready; while :; do sleep 0.02; done"
IGNORES = "trap 'echo got' INT; echo ready; while :; do sleep 0.02; done"


def test_ctrl_c_reaches_the_program(terminals: Open) -> None:
    terminal = terminals("sh", "-c", WAITS)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 7
    terminal.until(b"got")


def test_the_second_ctrl_c_cancels(terminals: Open) -> None:
    terminal = terminals("sh", "-c", IGNORES)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    terminal.until(b"got")
    assert terminal.process.poll() is None
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert b"Traceback" not in terminal.seen


def test_sigterm_cancels(terminals: Open) -> None:
    terminal = terminals("sh", "-c", IGNORES)
    terminal.until(b"ready")
    terminal.process.terminate()
    assert terminal.end() == 128 + signal.SIGTERM


def test_a_terminal_of_its_own(terminals: Open) -> None:
    """--tty: its size and its changes, keys as they are typed, and everything put back after."""
    script = "trap 'stty size' WINCH; stty size; echo ready; while ! read x; do :; done; echo =$x="
    terminal = terminals("--tty", "sh", "-c", script)
    terminal.until(b"30 100\r\nready\r\n")
    assert terminal.is_raw
    terminal.resize(50, 132)
    terminal.until(b"50 132\r\n")
    terminal.type(b"typed\r")
    terminal.until(b"=typed=")
    assert terminal.end() == 0
    assert terminal.is_as_before


def test_ctrl_c_in_a_terminal_of_its_own(terminals: Open) -> None:
    terminal = terminals("--tty", "sh", "-c", IGNORES)
    terminal.until(b"ready")
    for times in (1, 2, 3):
        terminal.type(b"\x03")
        terminal.until(b"got\r\n" * times if times == 1 else b"got")
        time.sleep(0.1)
    assert terminal.process.poll() is None, "there it is a key like others"
    terminal.process.terminate()
    assert terminal.end() == 143
    assert terminal.is_as_before


def test_status(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "status")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = dict(line.split(None, 1) for line in done.stdout.decode().splitlines())
    assert lines["sandboxd"].endswith(", ok")
    assert "running" in lines["queue"]
    assert "ready" in lines["slots"]
    report = json.loads(sandboxctl(daemon, "status", "--json").stdout)
    assert report["health"]["status"] == "ok"
    assert report["info"]["name"] == "sandboxd"
    assert report["stats"]["queue"]["capacity"] > 0


def test_check(daemon: Daemon) -> None:
    done = sandboxctl(daemon, "check")
    assert (done.returncode, done.stderr) == (0, b""), done.stdout.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[-1] == "Everything that is required is there."
    report = json.loads(sandboxctl(daemon, "check", "--json").stdout)
    assert report["ok"] is True
    names = [feature["name"] for feature in report["features"]]
    assert len(names) > 10
    for name in names:
        assert any(f" {name} " in f"{line} " for line in lines)


@pytest.mark.parametrize("command", [["run", "true"], ["status"], ["check"]], ids=lambda c: c[0])
def test_a_named_daemon_that_is_not_there(daemon: Daemon, command: list[str]) -> None:
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": "/nowhere"}
    done = sandboxctl(daemon, *command, env=environment)
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"sandboxctl: cannot reach sandboxd at /nowhere: No such file")


def test_a_user_without_permission(daemon: Daemon) -> None:
    need_readable_tree()
    line = [*COMMAND, "run", "--socket", daemon.socket, "true"]
    mode = os.stat(daemon.socket).st_mode & 0o777
    if mode & 0o002:
        pytest.skip(f"the socket of the tests is open to everybody ({mode:o})")
    done = subprocess.run(line, capture_output=True, user=65534, group=65534, extra_groups=[],
                          env=CLEAN_ENVIRONMENT)  # fmt: skip
    assert done.returncode == 125
    assert b"Permission denied; ask the administrator" in done.stderr
    assert done.stderr.count(b"\n") == 1


# A daemon for one call.


@pytest.fixture
def alone(require_sandbox: None) -> dict[str, str]:
    """The environment of somebody on a machine without a daemon."""
    if os.path.exists(DEFAULT_SOCKET):
        pytest.skip(f"a daemon listens at {DEFAULT_SOCKET}")
    return CLEAN_ENVIRONMENT


def test_without_a_daemon_a_private_one_runs_the_program(
    alone: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run([*COMMAND, "run", "--", "sh", "-c", "cat; exit 3"], input=b"hello",
                          capture_output=True, env=alone | {"TMPDIR": str(tmp_path)})  # fmt: skip
    assert said(done) == (3, b"hello", b"")
    assert list(tmp_path.iterdir()) == []


def test_the_private_daemon_ends_even_when_we_are_killed(alone: dict[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "--", "sh", "-c", "echo ready; sleep 60"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=alone,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        family = host.descendants(process.pid)
        ends = []
        for pid in family:
            with contextlib.suppress(ProcessLookupError):  # What makes a slot ends by itself.
                ends.append(os.pidfd_open(pid))
        assert len(ends) >= 4, "the daemon, the keeper, the worker, a slot"
        directory = _directory_of(family)
        process.kill()
    deadline = time.monotonic() + 10
    for end in ends:
        readable, _, _ = select.select([end], [], [], max(0, deadline - time.monotonic()))
        os.close(end)
        assert readable, "a process of the private daemon lives on"
    # Nobody is left who could remove it.
    for name in ("s", "log"):
        (directory / name).unlink(missing_ok=True)
    directory.rmdir()


def _directory_of(family: list[int]) -> Path:
    for pid in family:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"--private" in argv:
            return Path(os.fsdecode(argv[argv.index(b"--socket") + 1])).parent
    raise AssertionError("there is no private daemon")


def test_somebody_without_privilege_is_told_so(alone: dict[str, str]) -> None:
    need_readable_tree()
    done = subprocess.run([*COMMAND, "run", "true"], capture_output=True, env=alone, user=65534,
                          group=65534, extra_groups=[])  # fmt: skip
    assert done.returncode == 125
    assert done.stderr.startswith(
        b"sandboxctl: no sandboxd listens at /run/sandboxd/sandboxd.sock,"
        b" and a private one did not start: "
    )
    assert done.stderr.count(b"\n") == 1


def test_check_without_a_daemon(alone: dict[str, str]) -> None:
    done = subprocess.run([*COMMAND, "check", "--json"], capture_output=True, env=alone)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True


# Time.


def cpu_seconds(argv: list[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


STARTS = [
    "--help",
    "run --help",
    "run --socket {} true",
    "execute --socket {} bash /dev/null",
    "environments list --socket {}",
]


@pytest.mark.parametrize("arguments", STARTS)
def test_starting_costs_less_than_twice_the_interpreter(
    daemon: Daemon, arguments: str, tmp_path: Path
) -> None:
    """Interleaved, and the best of each: what else the machine does must not decide. Compiled
    modules are kept, as everywhere, whatever the tests' own environment says."""
    environment = CLEAN_ENVIRONMENT | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code = "import sys; from sandboxctl.__main__ import main; sys.exit(main())"
    ours = [sys.executable, "-c", code, *arguments.format(daemon.socket).split()]
    floor = [sys.executable, "-c", "pass"]
    for argv in (floor, ours):
        cpu_seconds(argv, environment)
    pairs = [(cpu_seconds(floor, environment), cpu_seconds(ours, environment)) for _ in range(25)]
    ratio = min(own for _, own in pairs) / min(least for least, _ in pairs)
    assert ratio < 2, f"{ratio:.2f}"


def test_the_same_daemon_serves_both(daemon: Daemon) -> None:
    """What the command line ran is in the counts the client sees."""
    with Client(daemon.socket) as client:
        before = client.stats()["jobs"].get("nonzero_exit", 0)
        sandboxctl(daemon, "run", "false")
        assert client.stats()["jobs"]["nonzero_exit"] == before + 1
