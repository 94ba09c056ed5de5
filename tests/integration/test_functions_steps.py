"""Control files in real sandboxes: two users, one after the other, under common limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client
from support import daemon as daemons
from support import host, invariants
from support.jobs import MIB, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

_SHELL = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def task_daemon(require_sandbox: None) -> Iterator[Daemon]:
    with daemons.running(jobs=2) as daemon:
        yield daemon


class Tasks:
    """Makes tasks of shell scripts and runs them."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def run(self, *lines: str, stdin: str = "", **limits: int) -> dict[str, Any]:
        """Each line is a script; one that begins with `!` is untrusted."""
        control, files = "", []
        for number, line in enumerate(lines):
            control += f"{'!' if line.startswith('!') else ''}/task/{number}\n"
            text = _SHELL + line.removeprefix("!") + "\n"
            files.append({"path": f"task/{number}", "data": text, "mode": 0o755})
        files.append({"path": "task/control", "data": control})
        files.append({"path": "task/answer", "data": "42\n", "mode": 0o600})
        self.client.create_function("task", "task", files=files, limits=limits or None)
        try:
            return self.client.call_function("task", stdin=stdin, log=True)
        finally:
            self.client.delete_function("task")


@pytest.fixture
def tasks(task_daemon: Daemon) -> Iterator[Tasks]:
    with Client(task_daemon.socket) as client:
        before = invariants.settle(task_daemon, client)
        yield Tasks(client)
        invariants.settle_as(before, task_daemon, client)


def test_the_untrusted_is_another_user(tasks: Tasks) -> None:
    ended = tasks.run("id -un; umask", "!id -un >/tmp/who; umask >>/tmp/who", "cat /tmp/who")
    assert ended["log"] == b"sandbox\n0077\nguest\n0000\n"


def test_the_untrusted_can_change_nothing(tasks: Tasks) -> None:
    attack = """!
        for path in /work /work/task /task /tmp/kept /tmp/shared; do
            echo x >$path/new; mv $path/1 $path/other; rm -rf $path/0 $path/control $path/file
            chmod 777 $path; ln -s /task/0 $path/link
        done
        cat /task/answer /tmp/kept/file
        rm -rf /tmp/shared; mv /tmp/kept /tmp/gone; mkdir /tmp/kept
        kill -9 1; kill -9 -1
    """
    before = "mkdir /tmp/kept /tmp/shared; chmod 755 /tmp/shared"
    before += "; echo 1 | tee /tmp/kept/file >/tmp/shared/file"
    look = "cat /task/answer /tmp/kept/file /tmp/shared/file; ls -ld /task/."
    look += "; ls -A /task /work /tmp/kept /tmp/shared"
    ended = tasks.run(f"{before}; {look}", attack, look)
    log = ended["log"].decode()
    assert ended["status"] == "ok", ended
    first, second = log[: len(log) // 2], log[len(log) // 2 :]
    assert first.startswith("42\n1\n1\n")
    assert first == second


def test_the_untrusted_reads_only_what_it_is_given(tasks: Tasks) -> None:
    peep = "!cat /task/answer /tmp/secret >/tmp/seen 2>/dev/null; cat /tmp/given >>/tmp/seen"
    ended = tasks.run("echo s >/tmp/secret; echo g >/tmp/given; chmod 644 /tmp/given", peep,
                      "cat /tmp/seen")  # fmt: skip
    assert ended["log"] == b"g\n"


def test_the_files_are_not_the_untrusted_ones_either_when_it_comes_first(tasks: Tasks) -> None:
    ended = tasks.run("!echo x >/task/0; rm -f /task/answer; cat /task/answer >/tmp/seen",
                      "cat /task/answer /tmp/seen")  # fmt: skip
    assert ended["log"] == b"42\n"


def test_a_single_line_that_is_untrusted(tasks: Tasks) -> None:
    ended = tasks.run("!echo hidden; exit 3")
    assert (ended["status"], ended["exit_code"], ended["log"]) == ("ok", 0, b"")


def test_a_failure_ends_it_only_where_it_is_trusted(tasks: Tasks) -> None:
    ended = tasks.run("!exit 7", "echo on; exit 3", "echo no")
    assert (ended["status"], ended["exit_code"], ended["log"]) == ("nonzero_exit", 3, b"on\n")
    ended = tasks.run("echo a", "!kill -SEGV $$")
    assert (ended["status"], ended["exit_code"], ended["log"]) == ("ok", 0, b"a\n")
    ended = tasks.run("kill -SEGV $$", "echo no")
    assert (ended["status"], ended["signal"], ended["log"]) == ("signaled", 11, b"")


@pytest.mark.parametrize("padding", [0, 100_000])
def test_streams(tasks: Tasks, padding: int) -> None:
    """The input is read on from line to line, also one that does not fit into a pipe."""
    ended = tasks.run(
        "read line; echo 1 $line; echo 2 >&2",
        "!cat; echo hidden; echo hidden >&2",
        "read line; echo 3 $line; wc -c",
        stdin="x\ny\n" + "z" * padding,
    )
    assert ended["log"] == f"1 x\n2\n3 y\n{padding}\n".encode()


def test_what_still_runs_is_killed_in_between(tasks: Tasks) -> None:
    left = "!trap '' TERM HUP; (while :; do echo x >>/tmp/alive; sleep 0.02; done) & sleep 0.1"
    look = "a=$(wc -c </tmp/alive); sleep 0.2; test $a -gt 0 && test $a = $(wc -c </tmp/alive)"
    assert tasks.run(left, f"{look} && echo dead")["log"] == b"dead\n"


@pytest.mark.parametrize("line", ["sleep 60", "!sleep 60"])
def test_the_wall_limit_is_that_of_all(tasks: Tasks, line: str) -> None:
    began = time.monotonic()
    ended = tasks.run("sleep 0.5", "!sleep 0.3", line, wall_time_ns=SECOND)
    assert ended["status"] == "wall_time_limit"
    assert "limit of 1 s" in ended["message"]
    assert SECOND <= ended["wall_time_ns"] < 2 * SECOND
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("line", ["", "!"])
def test_the_memory_and_cpu_limits_are_everybodys(tasks: Tasks, line: str) -> None:
    hog = "head -c 200m /dev/zero | tail"
    ended = tasks.run("true", line + hog, "true", memory_bytes=32 * MIB)
    assert ended["status"] == "memory_limit"
    ended = tasks.run("true", line + "while :; do :; done", "true", cpu_time_ns=SECOND // 4)
    assert ended["status"] == "cpu_time_limit"


def test_output_is_capped_over_all_lines(tasks: Tasks) -> None:
    ended = tasks.run("printf 1234567", "!seq 100000", "printf 89abcdef", output_bytes=10)
    assert (ended["status"], ended["log"]) == ("output_limit", b"123456789a")


def test_a_program_that_is_not_there(tasks: Tasks) -> None:
    tasks.client.create_function(
        "missing", "task", files=[{"path": "task/control", "data": "!/no/one\n/no/such x\n"}]
    )
    ended = tasks.client.call_function("missing", log=True)
    assert (ended["status"], ended["exit_code"]) == ("nonzero_exit", 127)
    assert "/no/such cannot be executed" in ended["message"]


def test_a_work_directory_that_is_closed_to_the_untrusted(tasks: Tasks) -> None:
    """It cannot be started then, and says why."""
    ended = tasks.run("chmod 700 /work", "!true", "echo no")
    assert (ended["status"], ended["log"]) == ("nonzero_exit", b"")
    assert "Permission denied" in ended["message"]


def test_cancelled_in_the_middle(tasks: Tasks, task_daemon: Daemon) -> None:
    files = [{"path": "task/control", "data": "/bin/true\n!/bin/sleep 60\n/bin/true\n"}]
    tasks.client.create_function("slow", "task", files=files)
    execution = tasks.client.run_function("slow")
    invariants.await_running(tasks.client, 1)
    tasks.client.stop_execution(execution["id"])
    ended = tasks.client.wait_execution(execution["id"])
    assert ended["status"] == "ended"
    assert ended["end_reason"] == "stopped"
    assert not [pid for pid in host.owned_by(task_daemon.uids) if host.name(pid) == "sleep"]
