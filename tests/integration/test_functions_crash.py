"""The daemon is killed at random moments under load: nothing that was acknowledged is lost, no
execution is stuck, nothing is left over.

`SANDBOXD_TEST_KILLS` says how often (12).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client, ConnectionLost, DaemonUnreachable, RequestError
from support import host
from support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

KILLS = int(os.environ.get("SANDBOXD_TEST_KILLS", "12"))
SETTLED_S = 30.0
CLIENTS = 3
ECHO = "def main(args, context):\n    return args\n"
_LOST = (ConnectionLost, DaemonUnreachable, OSError)


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


class Lives:
    """One daemon after the other, of the same users and with the same state."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.state = directory / "state"
        self._directory = directory
        self._settings = settings | {"state_directory": str(self.state)}
        self._uids = range(0)
        self._count = 0

    def begin(self) -> Daemon:
        own = self._directory / str(self._count)
        own.mkdir()
        self._count += 1
        if self._uids:
            self._settings["uid_base"] = self._uids.start
        daemon = Daemon(self._settings, own)
        self._uids = daemon.uids = self._uids or daemon.uids
        return daemon


class Acknowledged:
    """What the daemon said, by all clients."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.created: set[str] = set()
        self.started: dict[str, Any] = {}  # with the arguments
        self.ended: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.functions: dict[str, int] = {}
        self.keys: dict[str, str] = {}


def load(socket: str, known: Acknowledged, number: int, seed: int) -> None:
    """One client, until it loses the daemon."""
    random_ = random.Random(seed)
    with contextlib.suppress(*_LOST), Client(socket) as client:
        for n in range(100_000):
            step(client, known, random_, f"{number}-{seed}-{n}")


def step(client: Client, known: Acknowledged, random_: random.Random, name: str) -> None:
    kind = random_.randrange(10)
    with contextlib.suppress(RequestError):  # busy
        if kind < 3:
            id = client.run_function("echo", name)["id"]
            known.started[id] = name
        elif kind < 5:
            row = client.run_function("echo", name, wait=True)
            known.started[row["id"]] = name
            known.ended[row["id"]] = row
        elif kind == 5:
            calls = [f"{name}-{n}" for n in range(5)]
            ids = client.run_function_many("echo", calls)["ids"]
            known.started.update(zip(ids, calls, strict=True))
        elif kind == 6:
            id = client.create_execution("slow")["id"]
            known.created.add(id)
            client.upload_input(id, "in", name)
            client.start_execution(id)
            known.started[id] = None
        elif kind == 7:
            client.create_function(name, "program", command=["true"])
            known.functions[name] = 1
        elif kind == 8:
            known.keys[name] = client.create_key(name, "manage")["secret"]
        else:
            id = client.run_function("slow", inputs={"in": name})["id"]
            client.delete_execution(id)
            known.deleted.add(id)


def check(client: Client, known: Acknowledged) -> None:
    """Everything that was acknowledged is there, and comes to its end."""
    deadline = time.monotonic() + SETTLED_S
    rows = {row["id"]: row for row in all_of(client, list(known.started))}
    assert rows.keys() == known.started.keys()
    while unfinished := [row for row in rows.values() if row["status"] != "ended"]:
        assert time.monotonic() < deadline, unfinished[:3]
        time.sleep(0.02)
        rows |= {row["id"]: row for row in all_of(client, [row["id"] for row in unfinished])}
    for id, args in known.started.items():
        row = rows[id]
        assert row["end_reason"] in ("normal", "interrupted"), row
        if row["end_reason"] == "normal" and args is not None:
            assert json.loads(row["result"]) == args
        if row["end_reason"] == "normal" and args is None:
            assert client.execution_output(id, "out")["data"]
    for id, seen in known.ended.items():  # What somebody has seen the end of has that end.
        assert rows[id] == {key: value for key, value in seen.items() if key != "log"}
    assert {row["id"] for row in all_of(client, list(known.created))} == known.created
    assert all_of(client, list(known.deleted)) == []
    for name in known.functions:
        assert client.function(name)["command"] == ["true"]
    for secret in known.keys.values():
        client.functions(key=secret, limit=1)
    # Nor is one stuck of which nobody was told.
    for status in ("running", "pending"):
        while left := [
            row
            for row in client.executions(status=status, limit=1000)["executions"]
            if status == "running" or row["submitted_ns"]
        ]:
            assert time.monotonic() < deadline, left[:3]
            time.sleep(0.02)


def all_of(client: Client, ids: list[str]) -> list[dict[str, Any]]:
    found = []
    for at in range(0, len(ids), 500):
        found += client.executions_by_id(ids[at : at + 500])["executions"]
    return found


def await_gone(daemon: Daemon) -> None:
    """Everything of the daemon is gone without anybody's help."""
    deadline = time.monotonic() + 10
    while host.owned_by(daemon.uids) or host.cgroups(daemon.group):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def define(client: Client) -> None:
    client.create_function("echo", "python", code=ECHO)
    client.create_function(
        "slow",
        "program",
        command=["sh", "-c", "cp in out; sleep 0.1"],
        inputs=[{"id": "in", "path": "in", "required": True}],
        outputs=[{"id": "out", "path": "out"}],
    )


@pytest.mark.timeout(120 + 10 * KILLS)
def test_killed_at_random_moments(directory: Path) -> None:
    seed = random.randrange(2**32)
    random_ = random.Random(seed)
    print(f"seed {seed}")
    known = Acknowledged()
    lives = Lives(directory, jobs=2, executions_queue=300)
    for n in range(KILLS + 1):
        daemon = lives.begin()
        try:
            with Client(daemon.socket) as client:
                if n == 0:
                    define(client)
                check(client, known)
            if n == KILLS:
                break
            threads = [
                threading.Thread(
                    target=load, args=(daemon.socket, known, number, random_.randrange(2**32))
                )
                for number in range(CLIENTS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(random_.uniform(0.05, 0.9))
            os.kill(daemon.pid, signal.SIGKILL)
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
            daemon.process.wait(10)
            await_gone(daemon)
        finally:
            daemon.stop()
    assert len(known.started) > 5 * KILLS
    assert known.ended
    await_gone(daemon)
    assert list((lives.state / "staging").iterdir()) == []


def test_what_runs_at_the_stop_of_the_daemon_is_interrupted(directory: Path) -> None:
    lives = Lives(directory, jobs=1, shutdown_timeout_ns=300_000_000)
    daemon = lives.begin()
    with Client(daemon.socket) as client:
        client.create_function("long", "program", command=["sh", "-c", "echo begun; sleep 60"])
        client.create_function("echo", "python", code=ECHO)
        runs = [client.run_function("long")["id"] for _ in range(2)]
        while client.execution(runs[0], log=True)["log"] != b"begun\n":
            time.sleep(0.01)
        waits = client.run_function_many("echo", list(range(60)))["ids"]
    assert daemon.stop() == 0
    daemon = lives.begin()
    try:
        with Client(daemon.socket) as client:
            first = client.execution(runs[0], log=True)
            assert (first["status"], first["end_reason"]) == ("ended", "interrupted")
            assert first["log"] == b"begun\n"
            for n, id in enumerate(waits):
                client.stop_execution(runs[1])
                assert json.loads(client.wait_execution(id)["result"]) == n
    finally:
        daemon.stop()
