"""The blocking client and the real daemon: what tests/integration/test_job_*.py do not touch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd_client import Client, ConnectionLost, Result, private
from sandboxd_client._connection import Connection
from support import host
from support.daemon import Daemon
from support.jobs import SECOND


def test_large_requests_and_answers(client: Client) -> None:
    data = os.urandom(3 << 20)
    limits = {"output_bytes": 8 << 20, "disk_bytes": 32 << 20, "file_size_bytes": 32 << 20}
    result = client.run(["cat", "in"], files={"in": data}, limits=limits)
    assert result.stdout == data, result
    result = client.run(["cat"], stdin=data, limits=limits)
    assert result.stdout == data


def test_a_large_request_while_output_waits(client: Client) -> None:
    """The daemon stops reading from a client with output pending; the client must read on."""
    limits = {"output_bytes": 64 << 20, "wall_time_ns": 60 * SECOND}
    with client.start(["head", "-c", "20000000", "/dev/zero"], stream=True, limits=limits) as job:
        assert client.run(["wc", "-c"], stdin=bytes(10_000_000)).stdout == b"10000000\n"
        assert sum(len(data) for _, data in job) == 20_000_000
        assert job.wait().ok


def test_nonsense_is_answered_and_ends_the_connection(daemon: Daemon) -> None:
    connection = Connection(daemon.socket)
    connection._socket.sendall(b"\x94\x00\x01\xc1")
    with pytest.raises(Exception, match=r"refused the message: byte 0xc1"):
        list(connection.receive())
    with pytest.raises(ConnectionLost):
        list(connection.receive())
    connection.close()


def _runs(pid: int) -> bool:
    """Whether there is more of a process than a zombie that init has not come to yet."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_private_daemon(require_sandbox: None) -> None:
    with private.Daemon() as daemon, Client(daemon.socket) as client:
        family = [daemon.pid, *host.descendants(daemon.pid)]
        result = client.run(["echo", "hi"])
        assert isinstance(result, Result)
        assert (result.status, result.stdout) == ("ok", b"hi\n")
        assert Path(daemon.socket).parent.stat().st_mode & 0o777 == 0o700
    assert not Path(daemon.socket).parent.exists()
    assert [pid for pid in family if _runs(pid)] == []


def test_a_private_daemon_that_cannot_start(require_sandbox: None) -> None:
    with pytest.raises(private.DaemonNotStarted) as caught:
        private.Daemon(["--config", "/nowhere.toml"])
    assert "/nowhere.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_in_the_current_directory_is_not_our_daemon(
    require_sandbox: None, tmp_path: Path
) -> None:
    (tmp_path / "sandboxd.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "trio.py").write_text("raise SystemExit('not ours')")
    script = (
        "from sandboxd_client.private import Daemon\n"
        "from sandboxd_client import Client\n"
        "with Daemon() as daemon, Client(daemon.socket) as client:\n"
        "    print(client.run(['true']).status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("ok\n", "")
