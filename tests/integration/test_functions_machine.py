"""Executions against a model of their life: any calls in any order."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sandboxd_client import Client, RequestError
from support.daemon import Daemon, running

pytestmark = pytest.mark.usefixtures("require_sandbox")

_ENDED = ("normal", "stopped", "cancelled")


class Life:
    """What is known of one execution."""

    def __init__(self, function: str, *, started: bool) -> None:
        self.function = function
        self.started = started
        self.uploaded: bytes | None = None
        self.args: object = None
        self.reason: str | None = None
        """Why it ended, once that is sure."""
        self.deleted = False
        self.function_deleted = False


class Executions(RuleBasedStateMachine):
    daemon: Daemon
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.client = self._stack.enter_context(Client(self.daemon.socket))
        self.lives: dict[str, Life] = {}
        self._define()

    def _define(self) -> None:
        echo = "def main(args, context):\n    print(args)\n    return args\n"
        self.client.create_function("echo", "python", code=echo)
        self.client.create_function(
            "copy",
            "program",
            command=["sh", "-c", "cp in out"],
            inputs=[{"id": "in", "path": "in", "required": True}],
            outputs=[{"id": "out", "path": "out"}],
        )

    def teardown(self) -> None:
        for item in self.client.functions()["functions"]:
            self.client.delete_function(item["name"])
        for row in self.client.executions(limit=1000)["executions"]:
            self.client.delete_execution(row["id"])
        self._stack.close()

    def refused(self, code: str, call: Any, *args: Any) -> None:
        with pytest.raises(RequestError) as caught:
            call(*args)
        assert caught.value.code == code, caught.value

    # -- making them

    @rule(target=ids, function=st.sampled_from(["echo", "copy"]))
    def create(self, function: str) -> Any:
        id = self.client.create_execution(function)["id"]
        self.lives[id] = Life(function, started=False)
        return id

    @rule(target=ids, data=st.binary(max_size=10), start=st.booleans())
    def create_with_input(self, data: bytes, start: bool) -> Any:
        id = self.create("copy")
        self.upload(id, data)
        if start:
            self.start(id, 0)
        return id

    @rule(target=ids, args=st.integers() | st.text(max_size=5) | st.none())
    def run(self, args: object) -> Any:
        id = self.client.run_function("echo", json.dumps(args).encode())["id"]
        self.lives[id] = Life("echo", started=True)
        self.lives[id].args = args
        return id

    @rule(target=ids, calls=st.lists(st.integers(0, 9), max_size=4))
    def run_many(self, calls: list[int]) -> Any:
        ids = self.client.run_function_many("echo", calls)["ids"]
        for id, args in zip(ids, calls, strict=True):
            self.lives[id] = Life("echo", started=True)
            self.lives[id].args = args
        return multiple(*ids)

    # -- what can be done with them

    @rule(id=ids, data=st.binary(max_size=10))
    def upload(self, id: str, data: bytes) -> None:
        life = self.lives[id]
        if life.deleted:
            self.refused("not_found", self.client.upload_input, id, "in", data)
        elif life.started or life.reason or life.function_deleted:
            self.refused("invalid_argument", self.client.upload_input, id, "in", data)
        elif life.function == "echo":
            self.refused("not_found", self.client.upload_input, id, "in", data)
        else:
            assert self.client.upload_input(id, "in", data)["bytes"] == len(data)
            life.uploaded = data

    @rule(id=ids, args=st.integers())
    def start(self, id: str, args: int) -> None:
        life = self.lives[id]
        text = json.dumps(args if life.function == "echo" else None).encode()
        missing = life.function == "copy" and life.uploaded is None
        if life.deleted:
            self.refused("not_found", self.client.start_execution, id, text)
        elif life.started or life.reason or life.function_deleted or missing:
            self.refused("invalid_argument", self.client.start_execution, id, text)
        else:
            self.client.start_execution(id, text)
            life.started, life.args = True, args

    @rule(id=ids)
    def wait(self, id: str) -> None:
        life = self.lives[id]
        if life.deleted:
            self.refused("not_found", self.client.wait_execution, id)
        elif not life.started and not life.reason:
            self.refused("invalid_argument", self.client.wait_execution, id)
        else:
            self.ended(id, self.client.wait_execution(id, log=True))

    @rule(id=ids)
    def stop(self, id: str) -> None:
        if self.lives[id].deleted:
            self.refused("not_found", self.client.stop_execution, id)
        else:
            self.ended(id, self.client.stop_execution(id), "stopped")

    @rule(id=ids)
    def delete(self, id: str) -> None:
        if self.lives[id].deleted:
            self.refused("not_found", self.client.delete_execution, id)
        else:
            self.ended(id, self.client.delete_execution(id), "cancelled")
            self.lives[id].deleted = True

    @rule(id=ids)
    def output(self, id: str) -> None:
        life = self.lives[id]
        if life.deleted:
            self.refused("not_found", self.client.execution_output, id, "out")
        elif not life.started and not life.reason:
            self.refused("invalid_argument", self.client.execution_output, id, "out")
        elif life.reason == "normal" and life.function == "copy":
            assert self.client.execution_output(id, "out")["data"] == life.uploaded

    @rule()
    def delete_the_function(self) -> None:
        self.client.delete_function("copy")
        for life in self.lives.values():
            if life.function == "copy" and not life.started and life.reason is None:
                life.reason = "cancelled"
            if life.function == "copy":
                life.function_deleted = True
        self.client.create_function(
            "copy",
            "program",
            command=["sh", "-c", "cp in out"],
            inputs=[{"id": "in", "path": "in", "required": True}],
            outputs=[{"id": "out", "path": "out"}],
        )

    # -- what must be true of them

    def ended(self, id: str, row: dict[str, Any], reason: str | None = None) -> None:
        """It has ended, perhaps for that reason, and for no other once one is known."""
        life = self.lives[id]
        found = row["end_reason"]
        assert row["status"] == "ended"
        if life.reason is not None:
            assert found == life.reason
        elif life.started:
            assert found in ("normal", reason, "cancelled" if life.function_deleted else reason)
        else:
            assert found == reason
        life.reason = found
        if found == "normal" and life.function == "echo":
            assert json.loads(row["result"]) == life.args
        if "log" in row and found == "normal" and life.function == "echo":
            assert row["log"] == f"{life.args}\n".encode()

    @invariant()
    def all_are_as_known(self) -> None:
        known = {id: life for id, life in self.lives.items() if not life.deleted}
        found = self.client.executions_by_id(list(self.lives))["executions"]
        assert {row["id"] for row in found} == known.keys()
        for row in found:
            life = known[row["id"]]
            if row["status"] == "ended":
                assert row["end_reason"] in _ENDED, row
                self.ended(row["id"], row, life.reason or row["end_reason"])
            elif life.started:
                assert row["submitted_ns"]
            else:
                assert row["status"] == "pending"
            assert life.reason is None or row["status"] == "ended"


def test_any_calls_in_any_order() -> None:
    with running(jobs=2) as daemon:
        Executions.daemon = daemon
        run_state_machine_as_test(
            Executions,
            settings=settings(
                max_examples=35,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
