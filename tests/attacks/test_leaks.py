"""Attacks on the next job, or on one beside: whatever one leaves and another could find."""

from collections.abc import Iterator

import pytest
from support.daemon import Daemon, running
from support.jobs import MIB, SECOND, job, run, run_ok
from support.programs import report

from sandboxd_client import Client, Result

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


def traces(result: Result) -> tuple[str, list[str]]:
    """Which sandbox it was, and everything find_traces saw in it."""
    assert result.status == "ok", result
    lines = result.stdout.decode().splitlines()
    slot = next(line for line in lines if line.startswith("slot="))
    # What pid 1 has done is its own affair, but goes up with every job: see the test for it.
    return slot, [line for line in lines if not line.startswith(("slot=", "init_"))]


def in_the_same_sandbox(client: Client, first: Result, **fields: object) -> Result:
    """Run find_traces until it meets the sandbox that ``first`` ran in."""
    wanted = next(line for line in first.stdout.decode().splitlines() if line.startswith("slot="))
    for _ in range(20):
        result = run(client, "find_traces", **fields)
        if traces(result)[0] == wanted:
            return result
    pytest.fail(f"no job came to the sandbox {wanted} again")


@pytest.mark.parametrize("what", ["files", "counters", "all"])
def test_second_job_in_a_sandbox_finds_nothing(one: Client, what: str) -> None:
    """X7, X4, X2, D6, N4: a second job in the same sandbox sees exactly what the first job of a
    fresh one sees: files, attributes, IPC objects, sockets, locks, processes, pids, limits, masks,
    counters."""
    expected = traces(run(one, "find_traces", mode="fresh"))[1]
    for _ in range(3):
        first = run(one, "leave_traces", what)
        assert first.status == "ok"
        assert traces(in_the_same_sandbox(one, first))[1] == expected


def test_traces_can_be_left_at_all(one: Client) -> None:
    """X7: the attack is real: what the first job does works for itself, as far as it is allowed."""
    found = run_ok(one, "leave_traces")
    for name in (
        "shm",
        "sem",
        "msg",
        "posix_shm",
        "abstract",
        "port",
        "chmod_/work",
        "utimes_/work",
    ):
        assert found[name] == "ok", name
    # Forbidden rather than cleaned up.
    for name in ("hostname", "domainname", "mount", "keyring", "keyring_user", "sysctl",
                 "sysctl_net", "oom_init", "mq"):  # fmt: skip
        assert found[name] in {"EPERM", "EROFS", "EACCES", "ENOSYS", "ENOENT"}, name


def test_traces_of_a_killed_job(one: Client) -> None:
    """X7: the same when the first job was killed by a limit in the middle of its work."""
    expected = traces(run(one, "find_traces", mode="fresh"))[1]
    script = "./leave_traces; echo $$ > /tmp/pid; while :; do :; done"
    request = job("leave_traces") | {"argv": ["/bin/sh", "-c", script]}
    for limits in ({"cpu_time_ns": SECOND // 10}, {"wall_time_ns": SECOND // 5}):
        first = one.run(**request, limits=limits)
        assert first.status in {"cpu_time_limit", "wall_time_limit"}
        assert traces(in_the_same_sandbox(one, first))[1] == expected


def test_traces_of_the_first_stage(one: Client) -> None:
    """X7, C-7: between two stages only the work directories stay; processes, sockets, locks and
    settings of the first stage do not reach the second."""
    request = job("find_traces")
    request["files"] |= job("leave_traces")["files"]
    request["compile"] = {"argv": ["./leave_traces"]}
    plain = traces(run(one, "find_traces", mode="fresh"))[1]
    result = one.run(**request)
    assert result.compile.status == "ok"
    assert result.run is not None
    found = traces(result.run)[1]
    same = ("umask", "signal", "rlimit", "nice", "host", "domain", "cwd", "env", "pid", "ppid",
            "sid", "child", "process", "abstract", "port", "fd", "oom", "dumpable")  # fmt: skip

    def settings(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith(same)]

    assert settings(found) == settings(plain)


def test_what_pid_1_shows(one: Client) -> None:
    """X5, X7: pid 1 of a sandbox does not tell how many jobs it has seen."""
    fresh = run(one, "find_traces", mode="fresh").stdout.decode()
    assert "init_waited=0:0:0" in fresh or "init_waited" not in fresh
    first = run(one, "burn", "200")
    assert first.status == "ok"
    for _ in range(4):
        again = run(one, "find_traces").stdout.decode()
        waited = [line for line in again.splitlines() if line.startswith("init_waited")]
        assert waited in ([], ["init_waited=0:0:0"])


def test_kept_memory_is_not_charged_to_the_next(one: Client) -> None:
    """X7, X4: files and shared memory of the first job are gone, not only hidden: the second has
    the whole disk and the whole memory."""
    limits = {"disk_bytes": 8 * MIB, "memory_bytes": 24 * MIB}
    for _ in range(4):
        found = run_ok(one, "fill_directory", "/dev/shm", limits=limits)
        assert 6 * MIB <= int(found["written"]) <= 8 * MIB


def test_lock_on_a_shared_file(client: Client) -> None:
    """X1: a lock one job holds on a file of /usr is not seen by another."""
    holder = client.start(**job("lock_shared", "hold", stdin_stream=True, limits=PATIENT))
    found = run_ok(client, "lock_shared")
    holder.close_stdin()
    held = report(holder.wait().stdout)
    assert "ok" not in {held["flock"], found["flock"]} or held["flock"] == found["flock"] == "ok"


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


def test_nothing_is_shared_between_tenants(one: Client) -> None:
    """X7: a sandbox never passes from one user of the daemon to another: the other uid is told by
    the credentials of its connection, not by the request."""
    info = one.info()
    assert info["tenant"] == 0
