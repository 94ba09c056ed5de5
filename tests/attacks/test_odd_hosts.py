"""Daemons that are started in an odd state, and hosts that change under them."""

import contextlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client, RequestError
from support import rootless
from support.clock import shifted_clock
from support.daemon import Daemon, running, take_uids
from support.jobs import MS, SECOND, Stopwatch, job, run
from support.programs import report
from support.requirements import CLEAN_ENVIRONMENT
from support.rlimits import set_soft

# Before the daemon reads its configuration, in the process that becomes it.
ODD = {
    "no_descriptors": lambda: [os.close(fd) for fd in (0, 1, 2)],
    "no_directory": lambda: _leave_a_removed_directory(),
    "open_umask": lambda: os.umask(0),
    "closed_umask": lambda: os.umask(0o777),
    "blocked_signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    "ignored_signals": lambda: [
        signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGALRM, signal.SIGHUP)
    ],
    "small_files": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    "small_stack": lambda: resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 4 << 20)),
    "many_descriptors": lambda: [os.set_inheritable(os.open("/", os.O_RDONLY), True)] * 40,
    "odd_priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 7),
}


def _leave_a_removed_directory() -> None:
    os.chdir(tempfile.mkdtemp(prefix="sandboxd-test-gone-", dir="/tmp"))
    os.rmdir(os.getcwd())


@contextlib.contextmanager
def started_oddly(change: Callable[[], Any]) -> Iterator[str]:
    """The socket of a daemon that begins in this state."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    reader, writer = os.pipe()
    variables = {"SANDBOXD_READY_FD": str(writer), "SANDBOXD_STATE_DIRECTORY": f"{directory}/state"}
    command = [sys.executable, "-m", "sandboxd", "--socket", f"{directory}/s", "--jobs", "1"]
    account = rootless.Account(take_uids(), directory) if rootless.ACTIVE else None
    process = subprocess.Popen(
        account.command(*command) if account else command,
        env=CLEAN_ENVIRONMENT | (account.environment if account else {}) | variables,
        pass_fds=(writer,),
        stderr=subprocess.DEVNULL,
        preexec_fn=change,
        cwd="/",
    )
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as ready:
            assert ready.read() == b"READY\n"
        yield f"{directory}/s"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if account:
            account.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("state", ODD)
def test_started_in_an_odd_state(client: Client, state: str) -> None:
    """K30: the daemon starts and serves as ever, and nothing of how it was started reaches a job:
    no descriptor, directory, mask, signal or limit."""
    expected = report(run(client, "show_job").stdout)
    with started_oddly(ODD[state]) as path, Client(path) as odd:
        assert stat.S_IMODE(os.stat(path).st_mode) == (0o600 if rootless.ACTIVE else 0o660)
        # A hard limit that is lower than a job's holds for the job as well.
        own = dict.fromkeys(("fsize", "stack"), "")
        assert report(run(odd, "show_job").stdout) | own == expected | own
        shell = "umask; grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l"
        found = odd.run(argv=["/bin/sh", "-c", shell]).stdout
        assert found == client.run(argv=["/bin/sh", "-c", shell]).stdout
        limits = {"wall_time_ns": 200 * MS}
        assert run(odd, "wait_forever", "pause", limits=limits).status == "wall_time_limit"


@pytest.fixture(scope="module")
def clock() -> Iterator[dict[str, str]]:
    with shifted_clock() as environment:
        yield environment


@pytest.mark.parametrize("suffix", ["", ".ahead"], ids=["an_hour_back", "a_day_ahead"])
def test_clock_that_is_set(require_sandbox: None, clock: dict[str, str], suffix: str) -> None:
    """A17: the clock is set during a job: limits and times are as ever, waiting jobs are served."""
    mark = Path(clock["SHIFTED_CLOCK"] + suffix)
    with running(jobs=1, environment=clock) as daemon, Client(daemon.socket) as client:
        assert "clock.so" in Path(f"/proc/{daemon.pid}/maps").read_text()
        watch = Stopwatch()
        limits = {"wall_time_ns": 600 * MS}
        started = client.start(**job("wait_forever", "pause"), limits=limits)
        waiting = client.start(argv=["sleep", "0.3"])
        time.sleep(0.2)
        mark.touch()
        try:
            result = started.wait()
            assert result.status == "wall_time_limit"
            assert 600 * MS <= result.wall_time_ns < 4 * SECOND
            result = waiting.wait()
            assert result.status == "ok"
            assert 300 * MS <= result.wall_time_ns < 4 * SECOND
            assert client.health()["uptime_ns"] < 60 * SECOND
            assert watch.seconds < 8
        finally:
            mark.unlink()


def _allow_file_bytes(daemon: Daemon, most: int) -> None:
    """As a full disk, for this daemon alone: none of its files may grow beyond `most`."""
    set_soft(daemon.pid, resource.RLIMIT_FSIZE, most)


def test_full_disk(require_sandbox: None) -> None:
    """A17: where the state directory takes no more bytes, what needs the disk says so and leaves
    nothing; jobs need no disk and run on."""
    code = "def main(args, context):\n    return 1\n"
    with running(jobs=1) as daemon, Client(daemon.socket) as client:
        _allow_file_bytes(daemon, 0)
        with pytest.raises(RequestError) as caught:
            client.call("function.create", {"name": "f", "kind": "python", "code": code})
        assert caught.value.code in {"internal", "limit_exceeded", "busy"}, caught.value
        assert len(caught.value.message) > 10
        assert client.run(argv=["echo", "on"]).stdout == b"on\n"
        assert client.call("function.list", {})["functions"] == []
        _allow_file_bytes(daemon, resource.RLIM_INFINITY)
        client.call("function.create", {"name": "f", "kind": "python", "code": code})
        assert client.call("function.call", {"name": "f", "args": {}})["result"] is not None
        assert "Traceback" not in daemon.log_text()


def test_state_directory_that_cannot_be_made(require_sandbox: None) -> None:
    """A17: a place for state that cannot be written is one sentence that names it, at the start."""
    with (
        pytest.raises(RuntimeError, match="state_directory: /proc/nowhere: No such file"),
        running(jobs=1, state_directory="/proc/nowhere"),
    ):
        pass
