"""The clock is set back and forward while executions wait, run and are kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults.conftest import ECHO
from faults.places import running
from sandboxd_client import Client
from support.clock import shifted_clock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with shifted_clock() as variables:
        yield variables


@pytest.mark.parametrize("suffix", ["", ".ahead"], ids=["an_hour_back", "a_day_ahead"])
def test_executions_of_a_daemon_whose_clock_is_set(
    where: Path, environment: dict[str, str], suffix: str
) -> None:
    """They run, end in their time, and are kept; also by a daemon that starts then."""
    mark = Path(environment["SHIFTED_CLOCK"] + suffix)
    with running(where, environment=environment) as daemon, Client(daemon.socket) as client:
        client.create_function("echo", "python", code=ECHO)
        client.create_function("slow", "program", command=["sh", "-c", "sleep 0.4; echo done"])
        kept = client.run_function("echo", "kept", wait=True)["id"]
        secret = client.create_key("mine", "manage")["secret"]
        slow = client.run_function("slow")["id"]
        waits = client.run_function_many("echo", list(range(10)))["ids"]
        mark.touch()
        start = time.monotonic()
        assert client.wait_execution(slow, log=True)["log"] == b"done\n"
        results = [json.loads(client.wait_execution(id)["result"]) for id in waits]
        assert results == list(range(10))
        assert time.monotonic() - start < 10
        pending = client.create_execution("echo")["id"]
        daemon.process.kill()
    with running(where, environment=environment) as daemon, Client(daemon.socket) as client:
        assert json.loads(client.execution(kept)["result"]) == "kept"
        assert client.execution(pending)["status"] == "pending"
        client.functions(key=secret)
        mark.unlink()
        assert client.run_function("echo", 1, wait=True)["end_reason"] == "normal"
        assert "Traceback" not in daemon.log_text()
