"""How the interpreters of warm slots start, under settings that make it hard."""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.engine import wire
from sandboxd_client import Client
from support import host
from support.daemon import Daemon, running
from support.jobs import MIB
from support.warm import python, started, wait_for_interpreters


@pytest.mark.parametrize("limits", [{"processes": 1}, {"memory_bytes": 4 * MIB}])
def test_interpreters_start_whatever_the_usual_limits(
    require_sandbox: None, limits: dict[str, int]
) -> None:
    with running(jobs=1, warm_slots=2, limits=limits) as daemon, Client(daemon.socket) as client:
        wait_for_interpreters(client)
        more = {"limits": {"memory_bytes": 64 * MIB, "processes": 2}}
        assert python(client, "print(1)", run=more).stdout == b"1\n"


def test_a_locale_that_python_chose(require_sandbox: None) -> None:
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    with running(jobs=1, warm_slots=2, env=env) as daemon, Client(daemon.socket) as client:
        source = "import sys\nprint(dict(os.environ), sys.stdout.encoding, '\xe4')\n"
        mine, plain = python(client, source), started(client, source)
        assert (mine.stdout, mine.stderr) == (plain.stdout, plain.stderr)


def test_many_variables(require_sandbox: None) -> None:
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | {f"V{i}": str(i) for i in range(40)}
    with running(jobs=1, warm_slots=2, env=env) as daemon, Client(daemon.socket) as client:
        assert python(client, "print(os.environ['V39'])").stdout == b"39\n"


@pytest.fixture
def customised() -> Iterator[Path]:
    """A directory in which the interpreter finds what it runs first."""
    # Not on a tmpfs, whose files are no page cache that can go.
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-", dir="/opt") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _customised(directory: Path, **more: Any) -> contextlib.AbstractContextManager[Daemon]:
    path = str(directory)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": path}
    return running(jobs=1, warm_slots=2, env=env, readonly=["/usr", path], **more)


def test_an_interpreter_that_cannot_start_is_not_tried_all_the_time(
    require_sandbox: None, customised: Path
) -> None:
    (customised / "sitecustomize.py").write_text("x = b'x' * (1 << 30)\n")
    with (
        _customised(customised, limits={"memory_bytes": 32 * MIB}) as daemon,
        Client(daemon.socket) as client,
    ):
        made = client.stats()["slots"]["slots_made"]
        time.sleep(1)
        assert client.stats()["slots"]["slots_made"] - made < 10
        assert client.run(["true"]).status == "ok"


def _interpreters(daemon: Daemon) -> list[int]:
    """Also those that only start; not their copies, which are the job's user."""
    found = []
    for pid in host.owned_by(daemon.uids):
        with contextlib.suppress(OSError):
            is_root = (host.effective_uid(pid) - daemon.uids.start) % wire.SLOT_UIDS == 0
            if is_root and os.readlink(f"/proc/{pid}/exe").startswith("/usr/bin/python"):
                found.append(pid)
    return found


def test_an_interpreter_that_is_killed_while_it_starts_is_started_again(
    require_sandbox: None, customised: Path
) -> None:
    (customised / "sitecustomize.py").write_text("import time\ntime.sleep(0.4)\n")
    with _customised(customised) as daemon, Client(daemon.socket) as client:
        wait_for_interpreters(client)
        killed: set[int] = set()
        deadline = time.monotonic() + 20
        while len(killed) < 4:  # Both, and those that start in their place.
            assert time.monotonic() < deadline
            for pid in set(_interpreters(daemon)) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.01)
        wait_for_interpreters(client)
        assert python(client, "print(1)").stdout == b"1\n"


def test_what_an_interpreter_read_to_start_gives_no_memory(
    require_sandbox: None, customised: Path
) -> None:
    big = customised / "big"
    with open(big, "wb") as file:
        file.write(os.urandom(64 * MIB))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    (customised / "sitecustomize.py").write_text(f"len(open({str(big)!r}, 'rb').read())\n")
    with (
        _customised(customised, limits={"memory_bytes": 256 * MIB}) as daemon,
        Client(daemon.socket) as client,
    ):
        source = "x = bytearray(90 << 20)\nx[::4096] = b'x' * (90 << 8)\n"
        for _ in range(2):  # Whichever of the interpreters was the first to read it.
            result = python(client, source, run={"limits": {"memory_bytes": 64 * MIB}})
            assert result.status == "memory_limit", result
            assert result.memory_bytes > 60 * MIB
