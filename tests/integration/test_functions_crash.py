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
from typing import TYPE_CHECKING

import pytest

from sandboxd_client import Client, ConnectionLost, DaemonUnreachable
from support.acknowledged import ECHO, Acknowledged, check, define, step
from support.lives import Lives, await_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

KILLS = int(os.environ.get("SANDBOXD_TEST_KILLS", "12"))
CLIENTS = 3
_LOST = (ConnectionLost, DaemonUnreachable, OSError)


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def load(socket: str, known: Acknowledged, number: int, seed: int) -> None:
    """One client, until it loses the daemon."""
    random_ = random.Random(seed)
    with contextlib.suppress(*_LOST), Client(socket) as client:
        for n in range(100_000):
            step(client, known, random_, f"{number}-{seed}-{n}")


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
