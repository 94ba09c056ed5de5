"""Attacks from one stage on the next, and on what comes after the last."""

import pytest

from sandboxd_client import Client
from support.jobs import MIB, SECOND, job, run, run_ok

SPOIL = ["chmod 0 /work", "chmod 0400 /work", "mkdir d && chmod 0 d && chmod 0100 /work"]


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_directory_closed_by_the_first_stage(client: Client, spoil: str) -> None:
    """The second stage fails, never runs later: no job of the next request is in its place."""
    program = ["sh", "-c", "echo GHOST; sleep 30; exit 77"]
    result = client.run(argv=program, compile={"argv": ["sh", "-c", spoil]})
    assert result.compile.status == "ok"
    assert result.run is not None
    assert result.run.status != "ok"
    assert result.run.stdout == b""
    for _ in range(6):
        after = client.run(argv=["echo", "normal"], limits={"wall_time_ns": 10 * SECOND})
        assert (after.status, after.stdout) == ("ok", b"normal\n")


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_directory_closed_before_collecting(client: Client, spoil: str) -> None:
    """Files that cannot be collected are missing, and the next job is normal."""
    result = client.run(argv=["sh", "-c", f"echo x > out; {spoil}"], collect=["out"])
    assert result.files == {}
    assert result.files_truncated
    for _ in range(6):
        after = client.run(argv=["echo", "normal"], limits={"wall_time_ns": 10 * SECOND})
        assert (after.status, after.stdout) == ("ok", b"normal\n")


@pytest.mark.parametrize("number", [3, 4, 10, 11, 12, 13, 14, 15, 16, 17])
def test_the_working_directory_is_no_descriptor(client: Client, number: int) -> None:
    """K2: what init holds open is no way out of the tree a job may see."""
    result = client.run(argv=["pwd", "-P"], cwd=f"/proc/self/fd/{number}")
    assert (result.status, result.exit_code) == ("nonzero_exit", 126)
    assert result.stdout == b""


def test_memory_given_back_before_files_are_read(client: Client) -> None:
    """M12: page cache that takes memory's place does not make the memory unused."""
    # Reclaim takes its time on a machine that is busy.
    limits = {"memory_bytes": 64 * MIB, "wall_time_ns": 60 * SECOND, "cpu_time_ns": 60 * SECOND}
    result = run(client, "hide_memory", mode="fresh", limits=limits)
    assert result.status == "ok"
    assert 48 * MIB <= result.memory_bytes <= 64 * MIB + MIB


def test_shared_files_tell_nothing(client: Client) -> None:
    """X5, D12: nobody is told what others do with /usr, and nobody waits for the host's disks."""
    assert run_ok(client, "watch_files") == {
        "inotify": "ENOSYS",
        "dnotify": "EPERM",
        "cachestat": "ENOSYS",
        "sync": "ok",
    }


def test_a_core_limit_stays_what_it_is(client: Client) -> None:
    """D7: a limit of 0 would let the kernel feed a core to a program of the host's root."""
    shell = "ulimit -c; ulimit -c 0 2>/dev/null; echo $?; ulimit -c unlimited 2>/dev/null; echo $?"
    result = client.run(**{**job("exit_code"), "argv": ["bash", "-c", shell]})
    assert result.stdout.split()[1:] == [b"1", b"1"]
