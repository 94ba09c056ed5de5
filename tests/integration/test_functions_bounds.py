"""What requests about functions may cost the daemon, and that nothing runs on unseen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgpack  # type: ignore[import-untyped]
import pytest

from sandboxd_client import Client
from support import host
from support.daemon import Daemon, running
from support.raw import RawConnection
from support.requirements import USER_MODE_LINUX

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    with running(jobs=2, queue_bytes=256 * MIB) as daemon:
        yield daemon


def peak_bytes(daemon: Daemon) -> int:
    """The most memory it ever had."""
    with open(f"/proc/{daemon.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_who_waits_does_not_keep_what_was_sent(daemon: Daemon) -> None:
    with Client(daemon.socket) as client, RawConnection(daemon.socket, 30) as raw:
        client.create_function("sleeper", "program", command=["sleep", "30"])
        stdin = bytes(16 * MIB)
        before = peak_bytes(daemon)
        for msgid in range(20):
            raw.request(msgid, "execution.run", name="sleeper", stdin=stdin, wait=True)
            while len(client.executions()["executions"]) <= msgid:
                time.sleep(0.01)  # Each is stored before the next is sent.
        assert peak_bytes(daemon) - before < 250 * MIB
        began = time.monotonic()
        for row in client.executions()["executions"]:
            client.delete_execution(row["id"])
        most = 30 if USER_MODE_LINUX else 10
        assert time.monotonic() - began < most  # Those that wait for a place end without it.
        assert sorted(raw.message()[1] for _ in range(20)) == list(range(20))


def test_functions_with_much_in_them_do_not_fill_the_memory(require_sandbox: None) -> None:
    with running(jobs=1, functions_cache_bytes=16 * MIB) as own, Client(own.socket) as client:
        for number in range(24):
            files = [{"path": "f", "data": bytes([number]) * (12 * MIB)}]
            client.create_function(f"f{number}", "program", command=["sleep", "30"], files=files)
        before = peak_bytes(own)
        ids = [client.run_function(f"f{number}")["id"] for number in range(24)]
        time.sleep(1)
        assert peak_bytes(own) - before < 64 * MIB
        for id in ids:
            assert client.stop_execution(id)["status"] == "ended"


def test_many_with_much_input_are_shown_without_it(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        client.create_function("true", "program", command=["true"])
        id = client.run_function("true", stdin=bytes(16 * MIB), wait=True)["id"]
        before = peak_bytes(daemon)
        assert len(client.executions_by_id([id] * 60)["executions"]) == 60
        assert peak_bytes(daemon) - before < 64 * MIB


def test_requests_with_too_much_together_are_busy(require_sandbox: None) -> None:
    with running(jobs=1, queue_bytes=2 * MIB) as own, RawConnection(own.socket, 20) as raw:
        files = [{"path": "f", "data": bytes(MIB)}]
        frames = [
            msgpack.packb(
                [0, n, "function.create", [
                    {"name": f"f{n}", "kind": "program", "command": ["true"], "files": files}
                ]]
            )
            for n in range(20)
        ]  # fmt: skip
        raw.send(b"".join(frames))
        answers = [raw.message() for _ in frames]
        codes = {error["code"] for _, _, error, _ in answers if error is not None}
        assert codes <= {"busy"}
        assert any(error is None for _, _, error, _ in answers)
        with Client(own.socket) as client:  # Nothing is left counted.
            client.create_function("last", "program", command=["true"], files=files)


def test_what_is_stopped_while_it_starts_does_not_run_on(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        client.create_function("endless", "program", command=["sleep", "60"])
        for number in range(60):
            id = client.create_execution("endless")["id"]
            start = msgpack.packb([0, 1, "execution.start", [{"id": id}]])
            stop = msgpack.packb([0, 2, "execution.stop", [{"id": id}]])
            with RawConnection(daemon.socket) as raw:
                raw.send(start + stop if number % 2 else stop + start)
                answers = {message[1]: message for message in (raw.message(), raw.message())}
            assert answers[2][3]["status"] == "ended"
        # Every place is free: one more has its turn at once.
        client.create_function("echo", "python", code="def main(args, context): return args\n")
        assert client.run_function("echo", 1, wait=True)["result"] == "1"
        assert "sleep" not in {host.name(pid) for pid in host.descendants(daemon.pid)}
