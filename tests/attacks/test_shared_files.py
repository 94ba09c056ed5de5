"""Attacks on files that every job sees, and through them."""

from pathlib import Path

import pytest

from sandboxd_client import Client
from support.jobs import SECOND, job, run_ok
from support.programs import report

LOCKS = ("flock", "read_lock", "write_lock", "lease")


def test_read_only_file_cannot_be_written(client: Client, extra_directory: Path) -> None:
    """K22, K8: neither by opening it, nor through a shared page (Dirty Pipe) or a private one
    (Dirty COW): the host's file is as before. It is the kernel that must hold: keep it current."""
    victim = extra_directory / "readable"
    before = victim.stat()
    found = run_ok(client, "race_read_only", "/data/readable", mounts=["data"])
    assert found["pwned"] == "no"
    assert found["read_write"] in {"EROFS", "EACCES"}
    assert found["shared_mapping"] == "EACCES"
    assert victim.read_text() == "of the administrator"
    assert victim.stat().st_mtime_ns == before.st_mtime_ns


def test_leases_and_write_locks(client: Client) -> None:
    """X1: EACCES for leases, EBADF for locks that need a file open for writing."""
    found = run_ok(client, "lock_shared", "try", "/usr/bin/env")
    assert found["lease"] in {"EACCES", "EPERM"}
    assert found["write_lock"] == "EBADF"


@pytest.mark.xfail(
    reason="not promised (SECURITY.md): flock below /usr is seen by jobs that run beside it"
)
def test_locks_are_not_seen_by_others(client: Client) -> None:
    """X1: a lock that one job holds on a shared file is not seen by another."""
    limits = {"wall_time_ns": 20 * SECOND}
    holder = client.start(**job("lock_shared", "hold", "/usr/bin/env"), stdin_stream=True,
                          stream=True, limits=limits)  # fmt: skip
    output = b""
    for _, data in holder:
        output += data
        if b"lease=" in output:
            break
    alone = report(output)
    assert alone["flock"] == "ok"
    beside = run_ok(client, "lock_shared", "try", "/usr/bin/env")
    holder.close_stdin()
    assert holder.wait().status == "ok"
    assert beside == alone
