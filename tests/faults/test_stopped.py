"""Processes that do not die but stand still: whoever waits for them finds out, without a person."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults import victims
from faults.conftest import ECHO
from faults.leftovers import strays_of
from faults.places import await_gone, running
from sandboxd_client import Client, ConnectionLost, RequestError
from support import host, invariants
from support.jobs import MS, SECOND
from support.service import TEMPLATE

if TYPE_CHECKING:
    from support.daemon import Daemon

PATIENCE = {"helper_timeout_ns": SECOND}
SHORT = {"wall_time_ns": 700 * MS}
WAIT = ["sleep", "30"]


def the(role: str, daemon: Daemon) -> int:
    found = victims.pids(role, daemon, 0)
    assert found, role
    return found[0]


def stop(role: str, daemon: Daemon) -> list[int]:
    """One of them: each costs its ten seconds."""
    found = victims.pids(role, daemon, 0)[:1]
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    return found


def await_true(client: Client, seconds: float) -> None:
    """A job is served within so many seconds."""
    deadline = time.monotonic() + seconds
    while (result := client.run(["true"])).status != "ok":
        assert time.monotonic() < deadline, result
        time.sleep(0.05)


def _run_for_ever(client: Client) -> None:
    while True:
        with contextlib.suppress(RequestError):
            client.run(["true"])


def test_a_worker_that_hangs_with_jobs(where: Path) -> None:
    """It is killed within two and a half helper_timeout_ns, its jobs are told; the next one
    runs."""
    with running(where, **PATIENCE) as daemon, Client(daemon.socket) as client:
        started = client.start(WAIT, limits={"wall_time_ns": 60 * SECOND})
        invariants.await_running(client, 1)
        os.kill(the("worker", daemon), signal.SIGSTOP)
        start = time.monotonic()
        result = started.wait()
        assert result.status == "internal_error"
        assert "run it again" in result.message
        assert 2 <= time.monotonic() - start < 8
        await_true(client, 10)
        assert client.info()["helper"]["starts"] == 2
        assert "hangs, and is killed" in daemon.log_text()


def test_a_worker_that_stood_still_for_a_moment_loses_nothing(where: Path) -> None:
    """Large jobs fill its socket meanwhile."""
    count, data = 24, b"x" * 60_000
    with running(where, jobs=2, helper_timeout_ns=5 * SECOND) as daemon:
        worker = the("worker", daemon)
        with Client(daemon.socket) as client:
            os.kill(worker, signal.SIGSTOP)
            started = [client.start(["/bin/cat"], stdin=data) for _ in range(count)]
            time.sleep(0.5)
            os.kill(worker, signal.SIGCONT)
            assert {(one.wait().status, one.wait().stdout) for one in started} == {("ok", data)}
            assert client.info()["helper"]["starts"] == 1


def test_a_full_socket_of_a_worker_that_hangs(where: Path) -> None:
    """Every job is answered, and the next are served."""
    with running(where, jobs=4, **PATIENCE) as daemon, Client(daemon.socket) as client:
        os.kill(the("worker", daemon), signal.SIGSTOP)
        started = [client.start(["/bin/cat"], stdin=b"x" * 60_000) for _ in range(40)]
        statuses = [one.wait().status for one in started]
        assert set(statuses) == {"internal_error", "ok"}  # Those sent, those that still waited.
        assert statuses.count("internal_error") <= 8
        await_true(client, 10)


def test_a_keeper_that_hangs_when_it_is_needed(where: Path) -> None:
    """sandboxd cannot do without one: it ends, and its next start kills what is left."""
    with running(where, **PATIENCE) as daemon:
        keeper = the("keeper", daemon)
        with Client(daemon.socket) as client:
            client.create_function("echo", "python", code=ECHO)
            kept = client.run_function("echo", 1, wait=True)
            os.kill(keeper, signal.SIGSTOP)
            os.kill(the("worker", daemon), signal.SIGKILL)
            with pytest.raises(ConnectionLost):
                _run_for_ever(client)
        assert daemon.process.wait(10) == 1
        assert re.search(r"^sandboxd: sandbox-helper hangs: ", daemon.log_text(), re.MULTILINE)
        if not TEMPLATE:  # systemd kills what a service leaves.
            assert not host.is_zombie(keeper)
        with running(where) as second, Client(second.socket) as client:
            assert host.is_zombie(keeper)  # Or gone.
            assert host.cgroups(daemon.group) == []
            assert client.execution(kept["id"]) == {k: v for k, v in kept.items() if k != "log"}


def test_the_next_start_kills_a_stopped_keeper_and_worker(where: Path) -> None:
    with running(where) as daemon, Client(daemon.socket) as client:
        client.start(WAIT)
        invariants.await_running(client, 1)
        left = [the("keeper", daemon), the("worker", daemon)]
        for pid in (*left, *victims.pids("init", daemon, 0)):
            os.kill(pid, signal.SIGSTOP)
        daemon.process.kill()
        daemon.process.wait()
        with running(where) as second, Client(second.socket) as other:
            assert all(host.is_zombie(pid) for pid in left)
            assert host.cgroups(daemon.group) == []
            await_true(other, 5)


def test_a_killed_keeper_leaves_nothing(where: Path) -> None:
    """Its worker cleans up, before any next start."""
    with running(where) as daemon, Client(daemon.socket) as client:
        client.start(WAIT)
        invariants.await_running(client, 1)
        os.kill(the("keeper", daemon), signal.SIGKILL)
        assert daemon.process.wait(15) == 1
        await_gone(daemon)
        assert strays_of(daemon) == ()


@pytest.mark.parametrize("role", ["init", "process", "interpreter"])
@pytest.mark.parametrize("idle", [True, False])
def test_a_slot_that_stands_still_is_found_by_the_jobs_deadline(
    where: Path, role: str, idle: bool
) -> None:
    """Be it stopped before the job or during it. It is not used again."""
    job = {"argv": ["sleep", "0.3"]}
    with running(where, limits=SHORT) as daemon, Client(daemon.socket) as client:
        stopped: list[int] = []
        if idle:
            stopped = stop(role, daemon)
        started = [client.start(**job) for _ in range(3)]
        if not idle:
            invariants.await_running(client, 2)
            stopped = stop(role, daemon)
        statuses = {one.wait().status for one in started}
        assert statuses <= {"ok", "wall_time_limit", "internal_error"}
        assert stopped
        await_true(client, 15)
        invariants_end = time.monotonic() + 25
        while any(_alive_and_used(pid, client) for pid in stopped):
            assert time.monotonic() < invariants_end


def _alive_and_used(pid: int, client: Client) -> bool:
    """One that is stopped may wait for ever, if no job comes: here they do come."""
    state = Path(f"/proc/{pid}/stat")
    try:
        stopped = state.read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False
    if stopped:
        client.run(["true"], mode="fresh")
        client.execute("python", files=[{"name": "main.py", "data": ""}])
    return stopped


def test_a_stopped_daemon_goes_on(where: Path) -> None:
    """With the jobs that ended meanwhile."""
    with running(where, jobs=2, **PATIENCE) as daemon, Client(daemon.socket) as client:
        started = [client.start(["sh", "-c", "sleep 0.3; echo end"]) for _ in range(2)]
        invariants.await_running(client, 2)
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(3.5)
        os.kill(daemon.pid, signal.SIGCONT)
        assert [one.wait().stdout for one in started] == [b"end\n"] * 2
        assert client.info()["helper"]["starts"] == 1
