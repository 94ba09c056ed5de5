"""A process that writes to a store and tells each step, before and after; and the looking after it.

Everything that is written can be computed from its name, so that whoever finds it knows whether it
is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from sandboxd.functions.model import ExecutionFile, Key, Outcome, StoredFile
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError
from sandboxd.state import prepare

from .conftest import TENANT, a_function, an_execution

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxd.functions.model import Execution, Function

WRITERS = 4
MANY = 5
# How far an execution has come.
NONE, ADDED, LOADED, RUNNING, ENDED, DELETED = range(6)


def payload(name: str) -> bytes:
    source = random.Random(name)
    return source.randbytes(source.choice([0, 10, 1000, 30_000]))


# -- the process that is killed -------------------------------------------------------------------


@dataclass
class Writer:
    """One of several in a process. Its name is new in every life."""

    store: Store
    name: str
    out: int
    random: random.Random

    def tell(self, phase: str, what: str, name: str, **more: Any) -> None:
        line = json.dumps({"phase": phase, "what": what, "name": name, **more}) + "\n"
        os.write(self.out, line.encode())  # Shorter than PIPE_BUF: whole or not at all.

    async def run(self) -> None:
        function = await self.revise(None)
        while True:
            what = self.random.random()
            if what < 0.15:
                function = await self.revise(function)
            elif what < 0.25:
                await self.add_many(function)
            elif what < 0.35:
                await self.add_key()
            else:
                await self.execute(function)

    async def revise(self, old: Function | None) -> Function:
        revision = old.revision + 1 if old else 1
        self.tell("begin", "function", self.name, level=revision)
        data = payload(f"{self.name} {revision}")
        sha256 = await self.store.put_content(data)
        changes = {
            "code": f"revision {revision}",
            "context": {"revision": revision},
            "files": (StoredFile("data", 0o644, sha256, len(data)),),
        }
        if old is None:
            new = await self.store.add_function(a_function(name=self.name, **changes))
        else:
            new = await self.store.change_function(TENANT, "main", self.name, changes)
        self.tell("done", "function", self.name, level=revision)
        return new

    async def add_many(self, function: Function) -> None:
        new = [an_execution(function, args='"many"') for _ in range(MANY)]
        ids = [one.id for one in new]
        name = ids[0]
        self.tell("begin", "many", name, level=1, ids=ids)
        await self.store.add_executions(new)
        self.tell("done", "many", name, level=1)

    async def add_key(self) -> None:
        name = uuid.uuid4().hex
        self.tell("begin", "key", name, level=1)
        _, secret = await self.store.add_key(Key(tenant=TENANT, name=name, role="admin"))
        self.tell("done", "key", name, level=1, secret=secret)

    async def execute(self, function: Function) -> None:
        new = an_execution(function, args=json.dumps(self.name))
        steps = {
            ADDED: lambda: self.store.add_execution(new),
            LOADED: lambda: self.load(new.id),
            RUNNING: lambda: self.store.change_execution(new.id, status="running"),
            ENDED: lambda: self.end(new.id),
            DELETED: lambda: self.store.delete_execution(new.id),
        }
        for level in range(ADDED, self.random.randint(ADDED, DELETED) + 1):
            self.tell("begin", "execution", new.id, level=level)
            await steps[level]()
            self.tell("done", "execution", new.id, level=level)

    async def load(self, id: str) -> None:
        await self.store.add_input(id, await self.file(id, "input"))

    async def end(self, id: str) -> None:
        outcome = Outcome(
            end_reason="normal",
            ended_ns=1,
            log=payload(f"{id} log"),
            result=json.dumps(id),
            outputs=(await self.file(id, "output"),),
        )
        await self.store.end_execution(id, outcome)

    async def file(self, id: str, role: str) -> ExecutionFile:
        data = payload(f"{id} {role}")
        return ExecutionFile(role, role, await self.store.put_content(data), len(data))


async def _write_for_ever(directory: Path, seed: int, out: int) -> None:
    state = prepare(str(directory), None, write=True)
    state.clean()
    store = await Store.open(state)
    await store.unfinished(1)
    async with trio.open_nursery() as nursery:
        for number in range(WRITERS):
            source = random.Random(f"{seed} {number}")
            nursery.start_soon(Writer(store, f"f{seed}.{number}", out, source).run)


def live_and_die(directory: Path, seed: int, steps: int, more_s: float) -> list[dict[str, Any]]:
    """Let a process write until it has told so many steps and a moment longer, then kill it; what
    it told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trio.run(_write_for_ever, directory, seed, writing)
        finally:
            os._exit(1)
    os.close(writing)
    told = bytearray()
    try:
        while told.count(b"\n") < steps:
            data = os.read(reading, 65536)
            assert data, "the writer ended by itself"
            told += data
        time.sleep(more_s)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while data := os.read(reading, 65536):
            told += data
        os.close(reading)
    return [json.loads(line) for line in told.splitlines()]


# -- what must be there afterwards ----------------------------------------------------------------


@dataclass
class World:
    """All that was ever told, and what of it was acknowledged."""

    begun: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    done: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    facts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, told: list[dict[str, Any]]) -> set[tuple[str, str]]:
        touched = set()
        for step in told:
            thing = (step["what"], step["name"])
            touched.add(thing)
            (self.begun if step["phase"] == "begin" else self.done)[thing] = step["level"]
            self.facts[thing] |= step
        return touched

    def settle(self, thing: tuple[str, str], found: int) -> None:
        """What was found must be what was acknowledged, or one step that had begun after it."""
        done, begun = self.done[thing], self.begun[thing]
        assert found in (done, begun), f"{thing}: acknowledged {done}, begun {begun}, is {found}"
        self.done[thing] = self.begun[thing] = found

    async def check(self, store: Store, things: set[tuple[str, str]]) -> None:
        checks = {
            "execution": self._execution,
            "function": self._function,
            "key": self._key,
            "many": self._many,
        }
        for thing in sorted(things):
            await checks[thing[0]](store, thing)

    async def _execution(self, store: Store, thing: tuple[str, str]) -> None:
        try:
            found = await store.execution(thing[1])
        except RequestError as exc:
            if exc.code != "not_found":
                raise
            self.settle(thing, DELETED if self.begun[thing] == DELETED else NONE)
            return
        self.settle(thing, _level(found))
        if found.end_reason == "normal":
            assert found.result == json.dumps(found.id)
            assert await store.log(found.id) == payload(f"{found.id} log")
        for role, files in (("input", found.inputs), ("output", found.outputs)):
            for file in files:
                assert await store.content(file.sha256) == payload(f"{found.id} {role}")

    async def _function(self, store: Store, thing: tuple[str, str]) -> None:
        try:
            found = await store.function(TENANT, "main", thing[1])
        except RequestError as exc:
            if exc.code != "not_found":
                raise
            self.settle(thing, NONE)
            return
        self.settle(thing, found.revision)
        assert found.code == f"revision {found.revision}"
        assert found.context == {"revision": found.revision}
        expected = payload(f"{found.name} {found.revision}")
        assert [await store.content(file.sha256) for file in found.files] == [expected]

    async def _key(self, store: Store, thing: tuple[str, str]) -> None:
        secret = self.facts[thing].get("secret")
        if secret is not None:
            found = store.key_by_secret(secret)
            assert found is not None, thing
            assert found.name == thing[1]

    async def _many(self, store: Store, thing: tuple[str, str]) -> None:
        found = await store.executions_by_id(self.facts[thing]["ids"])
        assert len(found) in (0, MANY), thing
        self.settle(thing, 1 if found else 0)


def _level(found: Execution) -> int:
    if found.status == "pending":
        return LOADED if found.inputs else ADDED
    return RUNNING if found.status == "running" else ENDED


async def check_files(store: Store, root: Path) -> None:
    """The database is whole, its sums are right, and the contents are those that rows name."""

    def look(connection: Any) -> list[Any]:
        return [
            connection.execute(statement).fetchall()
            for statement in (
                "PRAGMA integrity_check",
                "PRAGMA foreign_key_check",
                "SELECT ifnull(sum(functions), 0), ifnull(sum(executions), 0),"
                " ifnull(sum(function_bytes), 0), ifnull(sum(execution_bytes), 0) FROM usage",
                "SELECT (SELECT count(*) FROM functions), (SELECT count(*) FROM executions),"
                " (SELECT ifnull(sum(bytes), 0) FROM functions),"
                " (SELECT ifnull(sum(bytes), 0) FROM executions)",
                "SELECT sha256 FROM function_files UNION SELECT sha256 FROM execution_files",
            )
        ]

    whole, foreign, usage, counted, named = await store._database.read(look)
    assert whole == [("ok",)]
    assert foreign == []
    assert usage == counted, (usage, counted)
    files = [path for path in (root / "contents").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {row[0] for row in named}
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
