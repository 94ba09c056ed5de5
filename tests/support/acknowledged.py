"""What a daemon acknowledged of functions and executions, and the proof that it kept its word."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from sandboxd_client import RequestError

if TYPE_CHECKING:
    import random
    from collections.abc import Container

    from sandboxd_client import Client

SETTLED_S = 30.0
ECHO = "def main(args, context):\n    return args\n"


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


def check(client: Client, known: Acknowledged, hit: Container[str] = ()) -> dict[str, Any]:
    """Everything that was acknowledged is there, and comes to its end. Returns the executions.

    `hit`: what a job's status may be besides ok, because something was done to it."""
    deadline = time.monotonic() + SETTLED_S
    rows = {row["id"]: row for row in all_of(client, list(known.started))}
    assert rows.keys() == known.started.keys()
    while unfinished := [row for row in rows.values() if row["status"] != "ended"]:
        assert time.monotonic() < deadline, unfinished[:3]
        time.sleep(0.02)
        rows |= {row["id"]: row for row in all_of(client, [row["id"] for row in unfinished])}
    for id, args in known.started.items():
        row = rows[id]
        if row["job_status"] in hit:
            continue
        assert row["end_reason"] in ("normal", "interrupted"), row
        if row["end_reason"] == "normal" and args is not None:
            assert json.loads(row["result"]) == args
        whole = row["job_status"] == "ok" or not hit
        if row["end_reason"] == "normal" and args is None and whole:
            assert client.execution_output(id, "out")["data"]
    for id, seen in known.ended.items():  # What somebody has seen the end of has that end.
        assert rows[id] == {key: value for key, value in seen.items() if key != "log"}
    assert {row["id"] for row in all_of(client, list(known.created))} == known.created
    assert all_of(client, list(known.deleted)) == []
    for name in known.functions:
        assert client.function(name)["command"] == ["true"]
    for secret in known.keys.values():
        client.functions(key=secret, limit=1)
    await_no_other(client, deadline)
    return rows


def await_no_other(client: Client, deadline: float) -> None:
    """Nor is one stuck of which nobody was told."""
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


def define(client: Client) -> None:
    client.create_function("echo", "python", code=ECHO)
    client.create_function(
        "slow",
        "program",
        command=["sh", "-c", "cp in out && sleep 0.1"],
        inputs=[{"id": "in", "path": "in", "required": True}],
        outputs=[{"id": "out", "path": "out"}],
    )
