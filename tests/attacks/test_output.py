"""Attacks through output, input and terminals."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client
from support import host
from support.daemon import Daemon
from support.held import HeldPage
from support.jobs import ANSWER_S, KIB, MIB, MS, Stopwatch, job, run, run_ok
from support.programs import report

ALPHABET = bytes(range(ord("a"), ord("a") + 23))


def pattern(size: int) -> bytes:
    """What print_forever prints."""
    return (ALPHABET * (size // 23 + 1))[:size]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("block", [23, 4096, 16 * MIB], ids=["small", "page", "one_huge_write"])
def test_endless_output(client: Client, daemon: Daemon, stream: str, block: int) -> None:
    """O1, O2, O3: output_limit at once; the prefix is exact and exactly as long as allowed."""
    limits = {"output_bytes": 100_001, "memory_bytes": 256 * MIB}
    before = host.resident_bytes(daemon.pid)
    watch = Stopwatch()
    fd = {"stdout": "1", "stderr": "2"}[stream]
    result = run(client, "print_forever", fd, str(block), limits=limits)
    assert result.status == "output_limit"
    assert watch.seconds < ANSWER_S
    printed, other = result.stdout, result.stderr
    truncated, other_truncated = result.stdout_truncated, result.stderr_truncated
    if stream == "stderr":
        printed, other, truncated, other_truncated = other, printed, other_truncated, truncated
    assert printed == pattern(100_001)
    assert (truncated, other, other_truncated) == (True, b"", False)
    assert host.resident_bytes(daemon.pid) - before < 16 * MIB


def test_endless_output_of_a_child(client: Client) -> None:
    """O1: output_limit also when the main process waits and only a child prints."""
    script = "(while :; do echo 0123456789; done) & wait"
    limits = {"output_bytes": 10 * KIB}
    result = client.run(argv=["/bin/sh", "-c", script], limits=limits)
    assert result.status == "output_limit"
    assert result.stdout == (b"0123456789\n" * 1000)[: 10 * KIB]


def test_output_exactly_at_the_limit(client: Client) -> None:
    """O1: as many bytes as allowed are ok, one more is output_limit."""
    limits = {"output_bytes": 5000}
    result = client.run(argv=["head", "-c", "5000", "/dev/zero"], limits=limits)
    assert (result.status, result.stdout_truncated) == ("ok", False)
    assert result.stdout == bytes(5000)
    result = client.run(argv=["head", "-c", "5001", "/dev/zero"], limits=limits)
    assert (result.status, result.stdout_truncated) == ("output_limit", True)
    assert result.stdout == bytes(5000)


def test_slow_output(client: Client, daemon: Daemon) -> None:
    """O4: wall_time_limit with what was printed; neither side burns CPU."""
    before = _trusted_cpu_s(daemon)
    result = run(client, "print_slowly", limits={"wall_time_ns": 300 * MS})
    assert result.status == "wall_time_limit"
    assert 2 <= len(result.stdout) <= 30
    assert set(result.stdout) == {ord(".")}
    assert result.cpu_time_ns < 100 * MS
    assert _trusted_cpu_s(daemon) - before < 0.2


def test_lock_of_the_output(client: Client, daemon: Daemon) -> None:
    """O11: who keeps the lock of a job's output delays nobody but that job; all of it arrives"""
    mark = f"{time.monotonic_ns()}"
    script = f"echo begun; read line; : {mark}; printf end"
    attack = client.start(argv=["/bin/sh", "-c", script], stdin_stream=True)
    with Client(daemon.socket) as other, open(_stream_of(mark, 1), "wb", buffering=0) as pipe:
        with HeldPage() as page:
            with _stopped(_worker(daemon)):  # It is told of a byte, and finds the lock taken.
                pipe.write(b"+")
                page.written_to(pipe.fileno())
            times = [_seconds_of_a_job(other) for _ in range(20)]
        attack.write(b"\n")
    result = attack.wait()
    assert (result.status, result.stdout) == ("ok", b"begun\n+" + bytes(page.size) + b"end")
    assert max(times) < ANSWER_S / 2, times


def test_lock_of_streamed_output(client: Client, daemon: Daemon) -> None:
    """O11: the same where the daemon reads it as it comes."""
    mark = f"{time.monotonic_ns()}"
    script = f"read line; : {mark}; printf end"
    attack = client.start(argv=["/bin/sh", "-c", script], stream=True, stdin_stream=True)
    with Client(daemon.socket) as other, open(_stream_of(mark, 1), "wb", buffering=0) as pipe:
        with HeldPage() as page:
            with _stopped(daemon.pid):
                pipe.write(b"+")
                page.written_to(pipe.fileno())
            times = [_seconds_of_a_job(other) for _ in range(20)]
        attack.write(b"\n")
    assert b"".join(data for _, data in attack) == b"+" + bytes(page.size) + b"end"
    assert max(times) < ANSWER_S / 2, times


def test_lock_of_streamed_input(client: Client, daemon: Daemon) -> None:
    """O11: the same for input that a client sends, which arrives whole."""
    mark = f"{time.monotonic_ns()}"
    script = f": {mark}; sleep 1; exec cat"
    attack = client.start(argv=["/bin/sh", "-c", script], stream=True, stdin_stream=True)
    with Client(daemon.socket) as other, open(_stream_of(mark, 0), "rb", buffering=0) as pipe:
        attack.write(b"taken by somebody else")
        with HeldPage() as page:
            page.read_from(pipe.fileno())
            writer = threading.Thread(target=attack.write, args=(b"whole",))
            writer.start()
            times = [_seconds_of_a_job(other) for _ in range(20)]
        writer.join()
    attack.close_stdin()
    assert b"".join(data for _, data in attack) == b"whole"
    assert max(times) < ANSWER_S / 2, times


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _worker(daemon: Daemon) -> int:
    """The one helper that is another helper's child, and the parent of all that is in slots."""
    tree = host.parents()
    helpers = {pid for pid in host.descendants(daemon.pid) if host.name(pid) == "sandbox-helper"}
    ours = {pid for pid in helpers if tree.get(tree.get(pid, 0)) == daemon.pid}
    assert len(ours) == 1, ours
    return ours.pop()


def _stream_of(mark: str, number: int) -> str:
    """A standard stream of the process that has this among its arguments."""
    end = time.monotonic() + ANSWER_S
    while time.monotonic() < end:
        for pid in host.processes():
            with contextlib.suppress(OSError):
                if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return f"/proc/{pid}/fd/{number}"
        time.sleep(0.01)
    raise AssertionError("the job does not run")


def _seconds_of_a_job(client: Client) -> float:
    watch = Stopwatch()
    assert run(client, "exit_code", "0").status == "ok"
    return watch.seconds


def test_bytes_that_are_no_text(client: Client) -> None:
    """O5, O6: every byte arrives as it was written, whatever it would mean to somebody."""
    result = run(client, "print_binary")
    assert result.status == "ok"
    assert result.stdout == bytes(range(256)) + b"\xed\xa0\x80\x1b[2J\r\xc3" + "€".encode()
    assert result.stderr == b"\0\xff\0"


def test_character_cut_by_the_limit(client: Client) -> None:
    """O6: the prefix is counted in bytes, also where that cuts a character."""
    argv = ["printf", "%s", "€" * 10]
    result = client.run(argv=argv, limits={"output_bytes": 16})
    assert (result.status, result.stdout) == ("output_limit", ("€" * 10).encode()[:16])


def test_forged_verdict(client: Client) -> None:
    """O7: nonzero_exit with code 3, whatever the program says about itself."""
    result = run(client, "print_verdict")
    assert (result.status, result.exit_code) == ("nonzero_exit", 3)
    assert b"status:OK" in result.stdout
    assert result.stdout == result.stderr


@pytest.mark.parametrize("how", [[], ["replace"]], ids=["close", "replace"])
def test_closed_output(client: Client, daemon: Daemon, how: list[str]) -> None:
    """O8: ok with what was printed before; the job goes on until it exits, nobody spins."""
    spent = _trusted_cpu_s(daemon)
    result = run(client, "close_stdio", *how)
    assert (result.status, result.stdout) == ("ok", b"before")
    assert result.wall_time_ns > 290 * MS
    assert _trusted_cpu_s(daemon) - spent < 0.2


def _trusted_cpu_s(daemon: Daemon) -> float:
    ticks = 0
    for pid in (daemon.pid, *daemon.helpers()):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_unread_stdin(client: Client) -> None:
    """O9, O10: ok although 8 MiB of stdin are never read."""
    watch = Stopwatch()
    result = run(client, "exit_early", stdin=b"x" * 8 * MIB)
    assert (result.status, report(result.stdout)) == ("ok", {"left": "ok"})
    assert watch.seconds < ANSWER_S


def test_bent_pipes(client: Client) -> None:
    """O11, O13: O_NONBLOCK, O_ASYNC and pipe sizes change nothing for the trusted side; opening
    stdout for reading gives the job its own data or an error."""
    result = run(client, "bend_stdio", stdin=b"input")
    assert result.status == "ok"
    assert result.stdout == b"end"
    found = report(result.stderr)
    assert found["read_stdout"] in {"EAGAIN:", "EACCES:", "EACCES", "ok:"}


def test_pages_given_to_a_pipe(client: Client) -> None:
    """O12, O13: output is what was in the page when it was read, never what it is changed to
    later; a descriptor cannot be sent through stdio."""
    result = run(client, "splice_pages", stdin=b"input")
    assert result.status == "ok"
    found = report(result.stderr)
    assert {found["pass_stdout"], found["pass_stdin"]} == {"ENOTSOCK"}
    # What tee and splice moved of stdin is there twice where stdin is a pipe.
    assert found["vmsplice"] == found["splice_file"] == "ok"
    pages = result.stdout.replace(b"input", b"")
    assert pages == b"A" * 4096 + b"B" * 4096


def test_terminal_cannot_be_injected_into(client: Client) -> None:
    """O14: TIOCSTI and TIOCLINUX fail, also with the upper half of the request set; no other
    terminal can be opened."""
    started = client.start(**job("inject_terminal", tty=True, stream=True))
    result = started.wait()
    assert result.status == "ok"
    found = report(b"".join(data for _, data in started))
    # Its own terminal is its controlling one already, and the call succeeds without effect.
    assert found["tiocsctty"] == "ok"
    assert found["tioccons"] == "EPERM"
    assert found["tiocsti"] == found["tiocsti_high"] == "EPERM"
    assert found["tioclinux"] == found["tioclinux_high"] == "EPERM"
    assert {found["tty0"], found["console"], found["pts0"], found["ptmx"]} <= {"ENOENT", "EACCES"}


def test_no_terminal_without_asking(client: Client) -> None:
    """O14: without tty there is none, not even the one the daemon was started from."""
    found = run_ok(client, "inject_terminal")
    assert found["tty"] == "ENXIO"
    assert found["tiocsti"] == found["tiocsti_high"] == "EPERM"


def test_logs_of_the_host_are_out_of_reach(client: Client) -> None:
    """O15: no log socket, no terminal, nothing of the kernel's log."""
    found = run_ok(client, "flood_logs")
    assert found["syslog"] == found["syslog_clear"] == "EPERM"
    assert {found["dev_log"], found["journal"], found["kmsg"]} == {"ENOENT"}
    assert found["tty"] == "ENXIO"
    assert found["kmsg_bytes"] == "0"
    assert found["kmsg_write"] in {"EACCES", "EPERM", "EROFS"}
