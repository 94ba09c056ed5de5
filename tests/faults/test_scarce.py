"""No processes, no memory, no descriptors, no cgroup: whoever asks is told, and it passes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faults import victims
from faults.conftest import ECHO
from faults.load import connect
from faults.places import cgroup, entered, running
from sandboxd_client import Client, ConnectionLost, RequestError
from support import host
from support.jobs import MIB
from support.rlimits import limits, set_soft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.daemon import Daemon

V1 = Path("/sys/fs/cgroup/pids").exists()
OTHER = 70001
# A request of 8 MiB that lacks its last byte.
LARGE = b"\x94\x00\x01\xa7job.run\x91\xc6\x00\x80\x00\x00" + bytes(8 * MIB - 1)


def limit_files(controller: str) -> tuple[str, str]:
    """The file of the limit, and that of what is used."""
    if controller == "pids":
        return "pids.max", "pids.current"
    return (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if V1
        else ("memory.max", "memory.current")
    )


def outcome(client: Client, **more: Any) -> str:
    """The status of a job, or the code of a refusal; either has words."""
    try:
        result = client.run(["true"], **more)
    except RequestError as error:
        return error.code if error.message else "no words"
    assert result.status == "ok" or result.message
    return result.status


def await_ok(client: Client, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while (found := outcome(client, mode="fresh")) != "ok":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_no_processes(where: Path) -> None:
    """Slots cannot be made, nor threads: what needs them says so, and works again when they can."""
    with cgroup("pids") as group, running(where, entered(group)) as daemon:
        with Client(daemon.socket) as client:
            client.create_function("echo", "python", code=ECHO)
            limit, used = (group / name for name in limit_files("pids"))
            # Too few for all the slots there are: what is used up is not made again.
            limit.write_text(str(int(used.read_text()) - 8))
            found = {outcome(client, mode="fresh") for _ in range(8)}
            assert found & {"internal_error", "internal"}, found
            limit.write_text("max")
            await_ok(client)
            assert client.run_function("echo", 1, wait=True)["end_reason"] == "normal"
        assert "Traceback" not in daemon.log_text()


def test_no_memory_for_the_daemon(where: Path) -> None:
    """The kernel kills it, or the helper: what was acknowledged is there at the next start."""
    with cgroup("memory") as group:
        limit, used = (group / name for name in limit_files("memory"))
        with running(where, entered(group)) as daemon:
            with Client(daemon.socket) as client:
                client.create_function("echo", "python", code=ECHO)
                kept = [client.run_function("echo", n)["id"] for n in range(20)]
                limit.write_text(str(int(used.read_text()) + 8 * MIB))
                _hold_large_messages(daemon)
                limit.write_text("-1" if V1 else "max")
            alive = daemon.process.poll() is None
        with running(where, entered(group)) as second, Client(second.socket) as client:
            rows = client.executions_by_id(kept)["executions"]
            assert {row["id"] for row in rows} == set(kept)
            for id in kept:
                row = client.wait_execution(id)
                assert row["end_reason"] in ("normal", "interrupted") or row["message"], row
            assert host.cgroups(daemon.group) == []
        assert not alive or "Traceback" not in daemon.log_text()


def _hold_large_messages(daemon: Daemon) -> None:
    """As many as it takes, each without its last byte."""
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(60)]
    with contextlib.suppress(OSError):
        for sock in crowd:
            sock.settimeout(5)
            sock.connect(daemon.socket)
            sock.sendall(LARGE)
    for sock in crowd:
        sock.close()


@pytest.fixture
def daemon(where: Path) -> Iterator[Daemon]:
    with running(where, socket_mode=0o666, max_connections=200) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log_text()


@pytest.mark.parametrize("role", ["daemon", "worker"])
def test_no_descriptors(daemon: Daemon, role: str) -> None:
    """Jobs that need some are told; jobs run again as soon as there are some."""
    pid = victims.pids(role, daemon, 0)[0]
    before, _ = limits(pid, resource.RLIMIT_NOFILE)
    with Client(daemon.socket) as client:
        assert outcome(client) == "ok"
        set_soft(pid, resource.RLIMIT_NOFILE, 3)
        data = b"x" * 100_000  # Travels in a file.
        found = set()
        for _ in range(4):
            found.add(outcome(client, stdin=data, mode="fresh"))
        assert found & {"internal_error", "internal", "busy"}, found
        with contextlib.suppress(
            FileNotFoundError
        ):  # A worker that gets no descriptor starts over.
            set_soft(pid, resource.RLIMIT_NOFILE, before)
        await_ok(client)
        assert client.run(["/bin/cat"], stdin=data).stdout == data


def test_no_descriptor_for_what_a_job_has_printed(daemon: Daemon) -> None:
    """They are used up while it runs, so that its output, a file by itself, cannot come."""
    before, _ = limits(daemon.pid, resource.RLIMIT_NOFILE)
    printing = ["sh", "-c", "read go; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"]
    reader, writer = os.pipe()
    with Client(daemon.socket) as client:
        started = client.start(printing, fds={"stdin": reader})
        set_soft(daemon.pid, resource.RLIMIT_NOFILE, 3)
        os.write(writer, b"go\n")
        result = started.wait()
        assert (result.status, result.stdout) == ("internal_error", b"")
        assert result.message
        set_soft(daemon.pid, resource.RLIMIT_NOFILE, before)
        await_ok(client)
        assert len(client.run(printing, stdin=b"go\n").stdout) == 1_000_000
    os.close(reader)
    os.close(writer)


def test_ten_thousand_connections(where: Path) -> None:
    """One user gets no more than a share of them; others are served, and so is this one later."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_500:
        pytest.skip(f"this process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd: list[socket.socket] = []
    try:
        with (
            running(where, socket_mode=0o666, max_connections_per_uid=100) as daemon,
            Client(daemon.socket) as first,
        ):
            for _ in range(10_000):
                crowd.append(socket.socket(socket.AF_UNIX))
                _connect_patiently(crowd[-1], daemon.socket)
            assert first.run(["true"]).status == "ok"
            with connect(daemon.socket, OTHER) as other:
                assert other.run(["true"]).status == "ok"
            assert first.stats()["connections"] <= 101
            assert b"too many connections; close some" in crowd[5_000].recv(4096)
            for sock in crowd:
                sock.close()
            _await_connection(daemon)
            assert "Traceback" not in daemon.log_text()
    finally:
        for sock in crowd:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _connect_patiently(sock: socket.socket, path: str) -> None:
    """The backlog is long, but not as long: it blocks."""
    sock.connect(path)
    sock.settimeout(20)


def _await_connection(daemon: Daemon) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(RequestError, ConnectionLost), Client(daemon.socket) as client:
            assert client.run(["true"]).status == "ok"
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _empty(group: Path) -> None:
    """Moves what is in a cgroup to its parent, as an administrator's script may, and removes it."""
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (group.parent.parent / "cgroup.procs").write_text(pid)
    group.rmdir()


@pytest.mark.skipif(not V1, reason="with cgroup v2 the parent is no place for processes")
def test_slots_cgroups_that_are_removed(daemon: Daemon) -> None:
    """Their slots are given up: no job runs without its limits."""
    with Client(daemon.socket) as client:
        assert outcome(client) == "ok"
        for path in host.cgroups(daemon.group):
            if path.name.startswith("slot-"):
                with contextlib.suppress(OSError):  # It may be made anew at this moment.
                    _empty(path)
        statuses = [outcome(client) for _ in range(6)]
        assert set(statuses) <= {"ok", "internal_error"}, statuses
        await_ok(client)
        hog = ["python3", "-c", "x = bytearray(200 << 20); print(len(x))"]
        assert client.run(hog, limits={"memory_bytes": 64 * MIB}).status == "memory_limit"


def test_the_daemons_cgroup_that_is_removed(where: Path) -> None:
    """Only a start can make it again: sandboxd ends with a sentence, and the next one serves."""
    with running(where) as daemon:
        with contextlib.suppress(ConnectionLost, RequestError), Client(daemon.socket) as client:
            assert outcome(client) == "ok"
            _remove_groups(daemon)
            while True:
                outcome(client, mode="fresh")
        assert daemon.process.wait(15) == 1
        assert "the cgroup was removed while it was in use: /" in daemon.log_text()
    with running(where) as daemon, Client(daemon.socket) as client:
        assert outcome(client) == "ok"


def _remove_groups(daemon: Daemon) -> None:
    """One hierarchy is enough. As often as it takes: the helper makes slots meanwhile."""
    deadline = time.monotonic() + 10
    top = host.cgroups(daemon.group)[0]
    while top.exists():
        assert time.monotonic() < deadline
        for path in (*top.glob("slot-*"), top):
            with contextlib.suppress(OSError):
                for pid in (path / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                path.rmdir()
