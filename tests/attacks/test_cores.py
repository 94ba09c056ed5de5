"""Attacks on a job by the processor it runs on."""

import ctypes
import errno
import os
from collections.abc import Iterator

import pytest

from sandboxd_client import Client, JobHandle
from support import host, invariants
from support.daemon import Daemon, running
from support.jobs import SECOND, job, run_ok
from support.programs import report
from support.warm import python

PR_SCHED_CORE, PR_SCHED_CORE_GET = 62, 0
# Of a kernel that was built without it, and of a machine on which no hardware threads share a core.
UNKNOWN, UNNEEDED = errno.EINVAL, errno.ENODEV
REFUSED = "core_scheduling needs a kernel with CONFIG_SCHED_CORE"

# A cookie of its own for each process would idle more than the job's share.
CREATE = f"""
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl({PR_SCHED_CORE}, 1, 0, 0, 0) == -1
print(errno.errorcode[ctypes.get_errno()])
"""

_libc = ctypes.CDLL(None, use_errno=True)


def cookie(pid: int) -> int:
    """Tasks with different ones are never on one core at the same time. Raises OSError."""
    value = ctypes.c_ulonglong(0)
    if _libc.prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, pid, 0, ctypes.byref(value)):
        raise OSError(ctypes.get_errno(), "prctl")
    return value.value


def trouble() -> int:
    """The errno with which this machine refuses, or 0."""
    try:
        cookie(0)
    except OSError as error:
        return error.errno or 0
    return 0


def test_jobs_do_not_share_a_core(require_sandbox: None) -> None:
    """X6: with core_scheduling = true no two sandboxes run on one core at the same time, nor does
    anything of the host beside one; where the kernel cannot do that sandboxd does not start. Off by
    default (SECURITY.md): it leaves threads idle."""
    if trouble() == UNKNOWN:
        with pytest.raises(RuntimeError, match=REFUSED), running(jobs=1, core_scheduling=True):
            pass
        return
    with running(jobs=2, core_scheduling=True) as daemon, Client(daemon.socket) as client:
        assert client.run(argv=["python3", "-c", CREATE]).stdout == b"EPERM\n"
        waiting = [held(client), held(client)]
        invariants.await_running(client, 2)
        if trouble() != UNNEEDED:
            check_cookies(daemon)
        for started in waiting:
            started.cancel()


def held(client: Client) -> JobHandle:
    return client.start(**job("wait_forever", "pause", limits={"wall_time_ns": 20 * SECOND}))


def programs(daemon: Daemon) -> Iterator[int]:
    tree = host.descendants(daemon.pid)
    yield from (pid for pid in tree if host.name(pid) == "wait_forever")


def check_cookies(daemon: Daemon) -> None:
    first, second = map(cookie, programs(daemon))
    outside = {cookie(pid) for pid in (os.getpid(), daemon.pid, *daemon.helpers())}
    assert first
    assert second
    assert first != second
    assert not outside & {first, second}


CHOOSE = """
import errno, os
print(os.sched_getaffinity(0))
try:
    os.sched_setaffinity(0, range(1024))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_a_processor_of_its_own(require_sandbox: None) -> None:
    """P16: with dedicated_cpus each job runs on one processor, which no other job has, and EPERM is
    the answer to every choice, of another and of its own."""
    cpus = os.sched_getaffinity(0)
    with running(jobs=len(cpus), dedicated_cpus=True) as daemon, Client(daemon.socket) as client:
        waiting = [client.start(**job("show_cpus", stdin_stream=True)) for _ in range(1, len(cpus))]
        invariants.await_running(client, len(waiting))
        tried = run_ok(client, "move_cpus")
        assert (tried.pop("given"), tried.pop("count"), tried.pop("moved")) == ("ok", "1", "0")
        assert set(tried.values()) == {"EPERM"}
        seen = [run_ok(client, "show_cpus")]
        for started in waiting:
            started.close_stdin()
            seen.append(report(started.wait().stdout))
        assert {found["count"] for found in seen} == {"1"}
        assert sorted(int(found["cpu"]) for found in seen) == sorted(cpus)
        given, refused = python(client, CHOOSE).stdout.splitlines()
        assert given in {b"{%d}" % cpu for cpu in cpus}
        assert refused == b"EPERM"


def test_the_stages_keep_the_processor(require_sandbox: None) -> None:
    """P16: with dedicated_cpus no other job gets a job's processor between its stages."""
    cpus = os.sched_getaffinity(0)
    request = job("show_cpus", compile={"argv": ["./show_cpus"]})
    with running(jobs=len(cpus), dedicated_cpus=True) as daemon, Client(daemon.socket) as client:
        others = [client.start(**job("show_cpus")) for _ in range(80)]
        staged = [client.start(**request) for _ in range(20)]
        others += [client.start(**job("show_cpus")) for _ in range(20)]
        for started in staged:
            result = started.wait()
            assert result.run is not None
            assert result.run.stdout == result.compile.stdout
            assert b"count=1\n" in result.run.stdout
        assert {started.wait().status for started in others} == {"ok"}


def test_more_jobs_than_processors(require_sandbox: None) -> None:
    """P16: sandboxd does not start where it would have to break that promise."""
    many = len(os.sched_getaffinity(0)) + 1
    with (
        pytest.raises(RuntimeError, match=r"dedicated_cpus: .* set jobs"),
        running(jobs=many, dedicated_cpus=True),
    ):
        pass
