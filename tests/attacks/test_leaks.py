"""Attacks on the next job, or on one beside: whatever one leaves and another could find."""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from sandboxd_client import Client, Result
from support import rootless
from support.daemon import Daemon, running
from support.jobs import MIB, SECOND, job, run, run_ok

PATIENT = {"wall_time_ns": 20 * SECOND}


@pytest.fixture(scope="module")
def single(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon with as few sandboxes as possible, so that one is used again soon."""
    with running(jobs=1) as daemon:
        yield daemon


@pytest.fixture
def one(single: Daemon) -> Iterator[Client]:
    with Client(single.socket) as client:
        yield client


# The kernel's packet counters belong to the network namespace and cannot be set back: SECURITY.md
# says so, and that `fresh` is for those who mind.
PACKETS = "/proc/net/"


def traces(result: Result) -> list[str]:
    """Everything find_traces saw, but for which sandbox it was."""
    assert result.status == "ok", result
    lines = result.stdout.decode().splitlines()
    assert len(lines) > 60
    return [line for line in lines if not line.startswith(("slot=", PACKETS))]


def sandbox_of(result: Result) -> str:
    return next(line for line in result.stdout.decode().splitlines() if line.startswith("slot="))


def made(client: Client) -> int:
    """How many sandboxes were made so far, when none is being made."""
    while (slots := client.stats()["slots"])["preparing"]:
        time.sleep(0.005)
    count: int = slots["slots_made"]
    return count


def in_the_same_sandbox(
    client: Client, first: Result, *args: str, recycled: bool = False
) -> Result:
    """Run find_traces until it meets the sandbox that ``first`` ran in, or its successor."""
    for turn in range(40):
        # One that was made anew after the first job is given to those who want a fresh one.
        mode = "recycled" if recycled or turn % 2 == 0 else "fresh"
        result = run(client, "find_traces", *args, mode=mode)
        if sandbox_of(result) == sandbox_of(first):
            return result
    pytest.fail(f"no job came to the sandbox {sandbox_of(first)} again")


# What of it a sandbox survives.
RECYCLED = {
    "files": True,
    "network": True,
    "settings": True,
    "attributes": False,
    "xattrs": False,
    "cycle": False,
    "ipc": False,
    "ipc_counters": False,
    "all": False,
}


@pytest.mark.parametrize(("what", "recycled"), RECYCLED.items(), ids=RECYCLED.keys())
def test_second_job_in_a_sandbox_finds_nothing(one: Client, what: str, recycled: bool) -> None:
    """X7, X4, X2, D6, N4: a second job in the same sandbox sees exactly what the first job of a
    fresh one sees: files, attributes, IPC objects, sockets, locks, processes, pids, limits, masks,
    counters. What cannot be undone ends the sandbox."""
    probe = ("ipc",) if what.startswith("ipc") else ()
    expected = traces(run(one, "find_traces", *probe, mode="fresh"))
    for _ in range(3):
        before = made(one)
        first = run(one, "leave_traces", what)
        assert first.status == "ok"
        assert traces(in_the_same_sandbox(one, first, *probe, recycled=recycled)) == expected
        if recycled:
            assert made(one) == before, "the sandbox was not used again: nothing was tested"


def test_packet_counters_of_a_fresh_sandbox(one: Client) -> None:
    """X7: in a fresh sandbox nobody's packets were counted, whatever ran before."""
    found = []
    for _ in range(2):
        found.append(packets(run(one, "find_traces", mode="fresh")))
        run(one, "leave_traces", "network")
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_traces_can_be_left_at_all(one: Client) -> None:
    """X7: the attack is real: what the first job does works for itself, as far as it is allowed."""
    found = run_ok(one, "leave_traces")
    for name in ("shm", "sem", "msg", "posix_shm", "abstract", "chmod_/work", "utimes_/work"):
        assert found[name] == "ok", name
    # Without a loopback device the kernel may say that it has no such address.
    assert found["port"] in {"ok", "EADDRNOTAVAIL"}
    # Forbidden rather than cleaned up.
    for name in ("hostname", "domainname", "mount", "keyring", "keyring_user", "sysctl",
                 "sysctl_net", "oom_init", "mq", "flow_label", "flow_label_tcp",
                 "flow_label_high"):  # fmt: skip
        assert found[name] in {"EPERM", "EROFS", "EACCES", "ENOSYS", "ENOENT"}, name


def test_traces_of_a_killed_job(one: Client) -> None:
    """X7: the same when the first job was killed by a limit in the middle of its work."""
    expected = traces(run(one, "find_traces", mode="fresh"))
    script = "./leave_traces; echo $$ > /tmp/pid; while :; do :; done"
    request = job("leave_traces") | {"argv": ["/bin/sh", "-c", script]}
    for limit in ("cpu_time", "wall_time"):
        first = one.run(**request, limits={f"{limit}_ns": SECOND // 8})
        assert first.status == f"{limit}_limit"
        assert traces(in_the_same_sandbox(one, first)) == expected


def test_traces_of_the_first_stage(one: Client) -> None:
    """X7, C-7: between two stages only the work directories stay; processes, sockets, locks and
    settings of the first stage do not reach the second."""
    request = job("find_traces")
    request["files"] |= job("leave_traces")["files"]
    request["compile"] = {"argv": ["./leave_traces"]}
    plain = traces(run(one, "find_traces", mode="fresh"))
    result = one.run(**request)
    assert result.compile.status == "ok"
    assert result.run is not None
    found = traces(result.run)
    same = ("umask", "signal", "rlimit", "nice", "host", "domain", "cwd", "env", "pid", "ppid",
            "sid", "child", "process", "abstract", "port", "flow", "fd", "oom",
            "dumpable")  # fmt: skip

    def settings(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith(same)]

    assert settings(found) == settings(plain)


def test_pid_1_is_hidden(one: Client) -> None:
    """X5, X7: the counters of a sandbox's pid 1 would tell what earlier jobs did."""
    result = one.run(argv=["/bin/sh", "-c", "cat /proc/1/stat /proc/1/status; echo /proc/[0-9]*"])
    assert result.stdout == b"/proc/2\n"


def test_kept_memory_is_not_charged_to_the_next(one: Client) -> None:
    """X7, X4: files and shared memory of the first job are gone, not only hidden: the second has
    the whole disk and the whole memory."""
    limits = {"disk_bytes": 8 * MIB, "memory_bytes": 24 * MIB}
    for _ in range(4):
        found = run_ok(one, "fill_directory", "/dev/shm", limits=limits)
        assert 6 * MIB <= int(found["written"]) <= 8 * MIB


def test_no_vsock_between_jobs(client: Client) -> None:
    """X3: EAFNOSUPPORT."""
    assert run_ok(client, "odd_sockets")["vsock"] == "EAFNOSUPPORT"


def test_no_keyrings(client: Client) -> None:
    """X2: EPERM for every call that makes or reads a key."""
    found = run_ok(client, "deny_syscalls")
    assert {found["add_key"], found["request_key"], found["keyctl"]} == {"EPERM"}


def test_other_jobs_are_invisible(client: Client) -> None:
    """X5: a job sees its own processes only, while its neighbour runs."""
    result = client.run(argv=["/bin/sh", "-c", "echo /proc/[0-9]*"])
    assert result.stdout.split() in ([b"/proc/1", b"/proc/2"], [b"/proc/2"])


def test_inputs_of_other_jobs_are_invisible(client: Client) -> None:
    """X10: only what came with the request is in the work directories."""
    client.run(argv=["true"], files={"secret": b"expected output"})
    for _ in range(6):
        result = client.run(argv=["find", "/work", "/tmp", "/dev/shm", "-mindepth", "1"])
        assert (result.status, result.stdout) == ("ok", b"")


TENANTS = range(65500, 65506)


@rootless.other_users
def test_sandbox_never_passes_to_another_tenant(require_sandbox: None) -> None:
    """X7: the first job of each user is in a sandbox nobody used before; packet counters, which
    are not set back, would show one that was."""
    settings = {"jobs": 1, "socket_mode": 0o666, "allowed_uids": list(TENANTS)}
    with running(**settings) as daemon, Client(daemon.socket) as root:
        unused = packets(run(root, "find_traces", mode="fresh"))
        for uid in TENANTS:
            with connected_as(uid, daemon) as client:
                assert client.info()["tenant"] == uid
                assert packets(run(client, "find_traces")) == unused
                for _ in range(3):
                    used = run(client, "leave_traces", "network")
                    assert used.status == "ok", used


@contextlib.contextmanager
def connected_as(uid: int, daemon: Daemon) -> Iterator[Client]:
    """The kernel notes the peer's credentials when it connects."""
    os.seteuid(uid)
    try:
        client = Client(daemon.socket)
    finally:
        os.seteuid(0)
    with client:
        yield client


def packets(result: Result) -> list[str]:
    lines = result.stdout.decode().splitlines()
    return [line for line in lines if line.startswith(PACKETS)]
