"""Whatever is done with executions, in whatever order: the store answers as a simple model does."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.functions.model import ExecutionFile, Outcome
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError
from sandboxd.state import prepare

from .conftest import NOW, TENANT, a_function, an_execution

if TYPE_CHECKING:
    from sandboxd.functions.model import Execution, Function
    from sandboxd.state import State

FUNCTIONS = ("f", "g")
IDS = tuple("abcd")
WORDS = st.tuples(
    st.sampled_from(
        ["add", "add", "load", "submit", "run", "run", "end", "end", "delete", "drop", "restart"]
    ),
    st.sampled_from(IDS),
    st.sampled_from(FUNCTIONS),
)
SUBMITTED = "pending and submitted"


@dataclass
class Known:
    """What the model remembers of one execution."""

    function: str
    function_id: int
    state: str = "pending"
    reason: str = ""
    inputs: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return "pending" if self.state == SUBMITTED else self.state


@dataclass
class Model:
    state: State
    store: Store
    functions: dict[str, Function] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)

    async def do(self, what: str, id: str, name: str) -> None:
        expected = self.expect(what, id, name)
        found, data = "ok", {}
        try:
            await getattr(self, f"do_{what}")(id, name)
        except RequestError as exc:
            found, data = exc.code, exc.data
        assert found == expected, (what, id, self.known.get(id))
        assert data == ({"state": self.known[id].status} if found == "invalid_argument" else {})

    def expect(self, what: str, id: str, name: str) -> str:
        one = self.known.get(id)
        if what == "restart":
            return "ok"
        if what == "drop":
            return "ok" if name in self.functions else "not_found"
        if what == "add":
            return "exists" if one else "ok"
        if one is None:
            return "not_found"
        allowed = {
            "load": ("pending",),
            "submit": ("pending", SUBMITTED),
            "run": ("pending", SUBMITTED),
            "end": ("pending", SUBMITTED, "running", "ended"),
            "delete": ("pending", SUBMITTED, "running", "ended"),
        }[what]
        return "ok" if one.state in allowed else "invalid_argument"

    async def do_add(self, id: str, name: str) -> None:
        if name not in self.functions:
            self.functions[name] = await self.store.add_function(a_function(name=name))
        function = self.functions[name]
        await self.store.add_execution(an_execution(function, id=id))
        self.known[id] = Known(name, function.id)

    async def do_load(self, id: str, name: str) -> None:
        data = name.encode() * 100
        sha256 = await self.store.put_content(data)
        await self.store.add_input(id, ExecutionFile(name, name, sha256, len(data)))
        kept = tuple(other for other in self.known[id].inputs if other != name)
        self.known[id].inputs = (*kept, name)

    async def do_submit(self, id: str, name: str) -> None:
        await self.store.change_execution(id, "pending", submitted_ns=NOW, args="1")
        self.known[id].state = SUBMITTED

    async def do_run(self, id: str, name: str) -> None:
        await self.store.change_execution(id, status="running")
        self.known[id].state = "running"

    async def do_end(self, id: str, name: str) -> None:
        await self.store.end_execution(
            id, Outcome(end_reason="stopped", ended_ns=NOW, log=id.encode())
        )
        if self.known[id].state != "ended":
            self.known[id].state, self.known[id].reason = "ended", "stopped"

    async def do_delete(self, id: str, name: str) -> None:
        await self.store.delete_execution(id)
        del self.known[id]

    async def do_drop(self, id: str, name: str) -> None:
        _, ended = await self.store.delete_function(TENANT, "main", name, NOW)
        number = self.functions.pop(name).id
        cancelled = {
            id
            for id, one in self.known.items()
            if one.function_id == number and one.status == "pending"
        }
        assert set(ended) == cancelled
        for id in cancelled:
            self.known[id].state, self.known[id].reason = "ended", "cancelled"

    async def do_restart(self, id: str, name: str) -> None:
        await self.store.aclose()
        self.store = await Store.open(self.state)
        again = [one.id for one in await self.store.unfinished(NOW)]
        assert set(again) == {id for id, one in self.known.items() if one.state == SUBMITTED}
        for one in self.known.values():
            if one.state == "running":
                one.state, one.reason = "ended", "interrupted"

    async def compare(self) -> None:
        listed = await self.store.executions(TENANT)
        assert {one.id for one in listed} == set(self.known)
        found: dict[str, Execution] = {
            one.id: one for one in await self.store.executions_by_id(list(self.known))
        }
        for id, one in self.known.items():
            assert (found[id].status, found[id].end_reason) == (one.status, one.reason)
            assert found[id].function == one.function
            assert tuple(file.id for file in found[id].inputs) == one.inputs
            for file in found[id].inputs:
                assert await self.store.content(file.sha256) == file.id.encode() * 100
            assert await self.store.log(id) == (id.encode() if one.reason == "stopped" else b"")
        names = [item.name for item in await self.store.functions(TENANT)]
        assert names == sorted(self.functions)
        used = {file.sha256 for one in found.values() for file in one.inputs}
        kept = {path.name for path in (self.state.root / "contents").glob("*/*")}
        assert used <= kept
        assert len(kept - used) <= len(FUNCTIONS)  # Put for an upload that was refused.


@settings(max_examples=25, deadline=None)
@given(words=st.lists(WORDS, min_size=5, max_size=40))
def test_any_order(words: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_play, directory, words)


async def _play(directory: str, words: list[tuple[str, str, str]]) -> None:
    state = prepare(directory, None, write=True)
    model = Model(state, await Store.open(state))
    try:
        for word in words:
            await model.do(*word)
        await model.compare()
        await model.do("restart", "", "")
        await model.compare()
    finally:
        await model.store.aclose()
        state.close()
