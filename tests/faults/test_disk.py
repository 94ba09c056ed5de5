"""The state directory has no bytes left, no inodes, or may not be written; /tmp may not either."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from faults.conftest import ECHO
from faults.places import filled, mounted, running, seen_by, without_inodes
from sandboxd_client import Client, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from support.daemon import Daemon

SMALL = "size=6m,mode=755"


def define(client: Client) -> None:
    client.create_function("echo", "python", code=ECHO)
    client.create_function("slow", "program", command=["sh", "-c", "sleep 0.4; echo done"])


def ended(client: Client, id: str) -> dict[str, Any]:
    """The execution at its end, which comes within its time."""
    deadline = time.monotonic() + 15
    while (row := dict(client.execution(id, log=True)))["status"] != "ended":
        assert time.monotonic() < deadline, row
        time.sleep(0.02)
    return row


def state(daemon: Daemon, where: Path) -> Path:
    return seen_by(daemon, where / "state")


def test_no_bytes(where: Path) -> None:
    """What is to be kept is refused, with the reason; what is kept can be read; jobs and calls need
    no disk. An execution that ends meanwhile ends when there is room."""
    (where / "state").mkdir()
    around = mounted((where / "state", SMALL))
    with running(where, around) as daemon, Client(daemon.socket) as client:
        define(client)
        kept = client.run_function("echo", "kept", wait=True)
        slow = client.run_function("slow")["id"]
        with filled(state(daemon, where)):
            with pytest.raises(RequestError, match="is full: free some space") as caught:
                client.create_function("more", "python", code=ECHO + "#" * 200_000)
            assert caught.value.code == "limit_exceeded"
            with pytest.raises(RequestError, match="is full: free some space"):
                _run_many(client)
            assert json.loads(client.execution(kept["id"])["result"]) == "kept"
            assert json.loads(client.call_function("echo", 5)["result"]) == 5
            assert client.run(["echo", "on"]).stdout == b"on\n"
            time.sleep(0.5)
        row = ended(client, slow)
        assert (row["end_reason"], row["log"]) in {("normal", b"done\n"), ("error", b"")}, row
        assert client.run_function("echo", 1, wait=True)["end_reason"] == "normal"
        names = {function["name"] for function in client.functions()["functions"]}
        assert names == {"echo", "slow"}
        assert "Traceback" not in daemon.log_text()


def test_no_inodes(where: Path) -> None:
    (where / "state").mkdir()
    around = mounted((where / "state", "size=32m,nr_inodes=600,mode=755"))
    with running(where, around) as daemon, Client(daemon.socket) as client:
        define(client)
        files = [{"path": "data", "data": b"x" * 5000}]
        with without_inodes(state(daemon, where)):
            with pytest.raises(RequestError, match="is full") as caught:
                client.create_function("more", "program", command=["cat", "data"], files=files)
            assert caught.value.code == "limit_exceeded"
            assert client.run(["echo", "on"]).stdout == b"on\n"
        client.create_function("more", "program", command=["cat", "data"], files=files)
        assert ended(client, client.run_function("more")["id"])["log"] == b"x" * 5000
        assert "Traceback" not in daemon.log_text()


def test_start_in_a_full_state_directory(where: Path) -> None:
    """Jobs run; functions say why they do not, and are there as soon as there is room."""
    (where / "state").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL, "none", where / "state"], check=True)
    try:
        with running(where) as daemon, Client(daemon.socket) as client:
            define(client)
            id = client.run_function("echo", "kept", wait=True)["id"]
        with running(where, mounted()) as daemon, Client(daemon.socket) as client:
            pending = client.create_execution("echo")["id"]
            daemon.process.kill()
        with contextlib.ExitStack() as stack:
            room = stack.enter_context(contextlib.ExitStack())
            room.enter_context(filled(where / "state"))
            daemon = stack.enter_context(running(where))
            client = stack.enter_context(Client(daemon.socket))
            assert client.run(["echo", "on"]).stdout == b"on\n"
            with pytest.raises(RequestError, match=r"functions are not available: .* is full"):
                client.functions()
            room.close()
            _await_functions(client)
            assert json.loads(client.execution(id)["result"]) == "kept"
            assert client.execution(pending)["status"] == "pending"
            assert "Traceback" not in daemon.log_text()
    finally:
        subprocess.run(["umount", where / "state"], check=True)


def test_start_on_a_read_only_state_directory(where: Path) -> None:
    """As a file system is after errors of the disk: the start says so."""
    (where / "state").mkdir()
    with (
        pytest.raises(RuntimeError, match=r"sandboxd: state_directory: .*: Read-only file system"),
        running(where, mounted((where / "state", "ro"))),
    ):
        pass


def _run_many(client: Client) -> None:
    for n in range(2000):  # The journal has room for some.
        client.run_function("echo", f"{n}" * 100)


def _await_functions(client: Client) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.functions()
            return
        except RequestError as error:
            if time.monotonic() > deadline:
                raise AssertionError(error.message) from error
        time.sleep(0.1)


def test_read_only_tmp(where: Path) -> None:
    """Nothing of the daemon's or a job's needs the host's /tmp, which jobs do not see."""
    around = mounted(("/tmp", "ro"), ("/dev/shm", "ro"))
    with running(where, around) as daemon, Client(daemon.socket) as client:
        define(client)
        script = "echo x > /tmp/file; cat /tmp/file"
        assert client.run(["sh", "-c", script]).stdout == b"x\n"
        assert client.run(["/bin/cat"], stdin=b"y" * 200_000).stdout == b"y" * 200_000
        assert client.run_function("echo", 1, wait=True)["end_reason"] == "normal"
