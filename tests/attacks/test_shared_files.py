"""Attacks on files that every job sees, and through them."""

from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client, JobHandle, RequestError
from support.daemon import running
from support.jobs import SECOND, job, run_ok
from support.programs import report
from support.warm import python, wait_for_interpreters

LOCKS = ("flock", "read_lock", "read_lock_waiting", "look", "process_read_lock",
         "process_read_lock_waiting", "process_look", "write_lock")  # fmt: skip


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


def held(client: Client, **options: Any) -> tuple[JobHandle, dict[str, str]]:
    """A job that has locked a file all jobs see, as far as it may, and how far that is."""
    limits = {"wall_time_ns": 20 * SECOND}
    request = job("lock_shared", "hold", "/usr/bin/env", limits=limits)
    holder = client.start(**request, stdin_stream=True, stream=True, **options)
    output = b""
    for _, data in holder:
        output += data
        if b"lease=" in output:
            break
    return holder, report(output)


def test_locks_are_denied_on_request(client: Client) -> None:
    """X1: with file_locks: false, ENOLCK for every lock and every look at one, and only for these:
    whoever asks for it can neither tell nor be told anything by a lock that another job holds. It
    is off by default (SECURITY.md), because programs lock their own files."""
    holder, free = held(client)
    assert free["flock"] == free["read_lock"] == free["process_read_lock"] == "ok"
    seen = run_ok(client, "lock_shared", "try", "/usr/bin/env")
    assert seen["flock"] == "EAGAIN", "without a channel there is nothing to close"
    beside = run_ok(client, "lock_shared", "try", "/usr/bin/env", file_locks=False)
    holder.close_stdin()
    assert holder.wait().status == "ok"
    alone = run_ok(client, "lock_shared", "try", "/usr/bin/env", file_locks=False)
    assert beside == alone
    assert {alone[name] for name in LOCKS} == {"ENOLCK"}
    assert alone["other_command"] == "ok"
    assert run_ok(client, "lock_shared", "try", "/usr/bin/env")["flock"] == "ok"


LOCKING = """
import errno, fcntl
for lock in fcntl.flock, fcntl.lockf:
    try:
        lock(open("own", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("ok")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def test_locks_are_denied_by_the_configuration(require_sandbox: None) -> None:
    """X1: with file_locks = false nobody can lock a file, nor ask to; a program that runs in an
    interpreter that waited cannot either, and the next one may if the configuration lets it."""
    with running(jobs=1, file_locks=False) as daemon, Client(daemon.socket) as client:
        found = run_ok(client, "lock_shared", "try", "/usr/bin/env")
        assert {found[name] for name in LOCKS} == {"ENOLCK"}
        with pytest.raises(RequestError) as caught:
            client.run(argv=["true"], file_locks=True)
        assert (caught.value.code, caught.value.data) == (
            "invalid_argument",
            {"field": "file_locks"},
        )
        assert python(client, LOCKING).stdout == b"ENOLCK\nENOLCK\n"
    with running(jobs=1) as daemon, Client(daemon.socket) as client:
        assert python(client, LOCKING, file_locks=False).stdout == b"ENOLCK\nENOLCK\n"
        wait_for_interpreters(client)
        assert python(client, LOCKING).stdout == b"ok\nok\n"
