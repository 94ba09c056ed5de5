"""The installed service under a real systemd: units, socket activation, watchdog, restart, stop.

Run by `make test-vm` in a virtual machine; it starts and stops services of the machine it is on.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client

SOCKET = "/run/sandboxd/sandboxd.sock"
CGROUP = Path("/sys/fs/cgroup/sandboxd.slice/sandboxd.service")
START_TIMEOUT_S = 60.0


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{journal()}"
    return done.stdout.strip()


def journal() -> str:
    command = ["journalctl", "-u", "sandboxd", "--no-pager", "-n", "40", "-o", "cat"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def property_of(unit: str, name: str) -> str:
    return run("systemctl", "show", "--value", "-p", name, unit)


def main_pid() -> int:
    return int(property_of("sandboxd.service", "MainPID"))


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def processes() -> dict[int, str]:
    """Every process of the service by its name."""
    found = {}
    for file in CGROUP.glob("**/cgroup.procs"):
        for pid in file.read_text().split():
            found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


def keeper() -> int:
    """The helper's first process: the daemon's child that serves."""
    children = Path(f"/proc/{main_pid()}/task/{main_pid()}/children").read_text().split()
    (found,) = (
        int(pid) for pid in children if b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return found


def wait_for_new_start(previous: int) -> None:
    """Wait until systemd has started the service again and it is ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        state = property_of("sandboxd.service", "ActiveState")
        if state == "active" and main_pid() not in (0, previous):
            return
        assert time.monotonic() < deadline, f"the service is {state}\n{journal()}"
        time.sleep(0.1)


@pytest.fixture
def service() -> Iterator[None]:
    run("systemctl", "start", "sandboxd.service")
    yield
    run("systemctl", "stop", "sandboxd.service", "sandboxd.socket")
    # A test that lets it fail must not use up the next one's starts.
    subprocess.run(["systemctl", "reset-failed"], check=True)


@pytest.mark.usefixtures("service")
def test_a_job_runs_within_its_limits() -> None:
    with Client(SOCKET) as client:
        result = client.run(["/bin/sh", "-c", "echo $((6 * 7))"])
        assert (result.status, result.stdout) == ("ok", b"42\n")
        eater = "x = bytearray(1 << 30)"
        result = client.run(["/usr/bin/python3", "-c", eater], limits={"memory_bytes": 64 << 20})
        assert result.status == "memory_limit"
        assert result.memory_source == "memory.peak"
        result = client.run(["/bin/sh", "-c", "while :; do :; done"], limits={"cpu_time_ns": 10**8})
        assert result.status == "cpu_time_limit"


@pytest.mark.usefixtures("service")
def test_an_oom_kill_of_a_job_does_not_stop_the_service() -> None:
    before = main_pid()
    with Client(SOCKET) as client:
        for _ in range(3):
            client.run(
                ["/usr/bin/python3", "-c", "x = bytearray(1 << 30)"],
                limits={"memory_bytes": 64 << 20},
            )
    assert property_of("sandboxd.service", "ActiveState") == "active"
    assert main_pid() == before


@pytest.mark.usefixtures("service")
def test_the_daemon_has_no_privilege_and_the_helper_only_its_own() -> None:
    daemon = status_of(main_pid())
    assert daemon["CapEff"] == daemon["CapPrm"] == daemon["CapBnd"] == "0" * 16
    assert daemon["NoNewPrivs"] == "1"
    assert int(daemon["Uid"].split()[0]) == int(run("id", "-u", "sandboxd"))
    bounding = int(status_of(keeper())["CapBnd"], 16)
    for forbidden in (16, 17, 19, 22, 39):  # module, rawio, ptrace, boot, bpf
        assert not bounding >> forbidden & 1


@pytest.mark.usefixtures("service")
def test_no_seccomp_filter_of_the_unit_reaches_a_job() -> None:
    assert status_of(main_pid())["Seccomp_filters"] == "0"
    with Client(SOCKET) as client:
        result = client.run(["/bin/grep", "Seccomp_filters", "/proc/self/status"])
    assert result.stdout.split() == [b"Seccomp_filters:", b"1"]


@pytest.mark.usefixtures("service")
def test_all_processes_are_in_delegated_groups() -> None:
    names = sorted(set(processes().values()))
    assert "sandboxd" in " ".join(names)
    assert not (CGROUP / "cgroup.procs").read_text()
    assert main_pid() in map(int, (CGROUP / "supervisor/cgroup.procs").read_text().split())


def test_socket_activation_starts_the_service_and_keeps_the_socket() -> None:
    run("systemctl", "start", "sandboxd.socket")
    try:
        assert property_of("sandboxd.service", "ActiveState") == "inactive"
        inode = os.stat(SOCKET).st_ino
        with Client(SOCKET) as client:
            assert client.run(["/bin/true"]).status == "ok"
        assert property_of("sandboxd.service", "ActiveState") == "active"
        run("systemctl", "restart", "sandboxd.service")
        assert os.stat(SOCKET).st_ino == inode
        with Client(SOCKET) as client:
            assert client.run(["/bin/true"]).status == "ok"
    finally:
        run("systemctl", "stop", "sandboxd.socket", "sandboxd.service")
    assert not Path(SOCKET).exists()


@pytest.mark.usefixtures("service")
def test_a_dead_daemon_is_started_again_and_leaves_nothing() -> None:
    before = main_pid()
    with Client(SOCKET) as client:
        client.run(["/bin/true"])
        os.kill(before, signal.SIGKILL)
    wait_for_new_start(before)
    assert [group.name for group in CGROUP.glob("sandboxd-*")] == [f"sandboxd-{main_pid()}"]
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"


@pytest.mark.usefixtures("service")
def test_a_dead_keeper_ends_in_a_new_start() -> None:
    before = main_pid()
    os.kill(keeper(), signal.SIGKILL)
    wait_for_new_start(before)
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"


def test_a_daemon_that_hangs_is_killed_by_the_watchdog() -> None:
    drop_in = Path("/run/systemd/system/sandboxd.service.d/watchdog.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=3s\n")
    run("systemctl", "daemon-reload")
    try:
        run("systemctl", "start", "sandboxd.service")
        before = main_pid()
        time.sleep(5)  # longer than the watchdog waits: the daemon does answer it
        assert main_pid() == before
        os.kill(before, signal.SIGSTOP)
        wait_for_new_start(before)
        assert "watchdog" in journal().lower()
    finally:
        run("systemctl", "stop", "sandboxd.service", "sandboxd.socket")
        drop_in.unlink()
        run("systemctl", "daemon-reload")


def test_the_daemon_gets_the_time_it_asks_for_to_end() -> None:
    """systemd's own limit is for those who do not ask."""
    drop_in = Path("/run/systemd/system/sandboxd.service.d/stop.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nTimeoutStopSec=2s\n")
    run("systemctl", "daemon-reload")
    try:
        run("systemctl", "start", "sandboxd.service")
        with Client(SOCKET) as client:
            job = client.start(["/bin/sh", "-c", "echo begun; sleep 5; echo done"], stream=True)
            assert next(iter(job)) == ("stdout", b"begun\n")
            run("systemctl", "stop", "sandboxd.service")
            assert job.wait().status == "ok"
        assert property_of("sandboxd.service", "Result") == "success"
    finally:
        run("systemctl", "stop", "sandboxd.service", "sandboxd.socket")
        drop_in.unlink()
        run("systemctl", "daemon-reload")


def test_a_stop_leaves_no_process_and_no_cgroup() -> None:
    run("systemctl", "start", "sandboxd.service")
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"
    start = time.monotonic()
    run("systemctl", "stop", "sandboxd.service", "sandboxd.socket")
    assert time.monotonic() - start < 10.0
    assert not CGROUP.exists()
    assert not Path(SOCKET).exists()
    assert property_of("sandboxd.service", "Result") == "success"
    left = subprocess.run(["pgrep", "-a", "sandbox"], capture_output=True, text=True, check=False)
    assert not left.stdout


@pytest.mark.usefixtures("service")
def test_the_socket_is_for_its_group_only() -> None:
    state = os.stat(SOCKET)
    assert state.st_mode & 0o777 == 0o660
    group = int(run("getent", "group", "sandboxd").split(":")[2])
    assert state.st_gid == group
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({SOCKET!r})"
    refused = subprocess.run(
        ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "python3", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in refused.stderr
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(SOCKET)


@pytest.mark.usefixtures("service")
def test_the_log_is_in_the_journal() -> None:
    assert "sandboxd" in run("journalctl", "-u", "sandboxd", "--no-pager", "-o", "short")
