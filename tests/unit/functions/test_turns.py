"""Who waits for a turn, and who has one."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from sandboxd.functions.turns import Turns
from sandboxd.protocol.errors import BUSY, RequestError


class People:
    """Those that ask for turns, and end them when the test says so."""

    def __init__(self, turns: Turns, nursery: trio.Nursery) -> None:
        self.inside: list[str] = []
        self._turns = turns
        self._nursery = nursery
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ends: dict[str, trio.Event] = {}

    async def come(self, name: str, tenant: int, line: str = "") -> None:
        self._nursery.start_soon(self._stay, name, tenant, line)
        await trio.testing.wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await trio.testing.wait_all_tasks_blocked()

    async def cancel(self, name: str) -> None:
        self._scopes[name].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def _stay(self, name: str, tenant: int, line: str) -> None:
        self._ends[name] = trio.Event()
        with trio.CancelScope() as self._scopes[name]:
            async with self._turns.turn(tenant, line):
                self.inside.append(name)
                await self._ends[name].wait()


async def test_tenants_and_their_keys_take_turns(nursery: trio.Nursery) -> None:
    people = People(Turns(1, 8, 8), nursery)
    for name, tenant, line in (
        ("a1", 1, ""), ("a2", 1, ""), ("a3", 1, ""), ("a4", 1, "key"), ("b", 2, "")
    ):  # fmt: skip
        await people.come(name, tenant, line)
    for name in ("a1", "a2", "b", "a4"):
        assert people.inside[-1] == name
        await people.end(name)
    assert people.inside == ["a1", "a2", "b", "a4", "a3"]
    await people.end("a3")


async def test_who_goes_away_takes_no_turn_along(nursery: trio.Nursery) -> None:
    people = People(Turns(1, 8, 8), nursery)
    for name in ("one", "two", "three", "four"):
        await people.come(name, 1)
    await people.cancel("two")
    await people.cancel("one")
    assert people.inside == ["one", "three"]
    await people.end("three")
    assert people.inside == ["one", "three", "four"]
    await people.end("four")
    await people.come("five", 1)
    assert people.inside[-1] == "five"
    await people.end("five")


async def test_only_so_many_wait(nursery: trio.Nursery) -> None:
    turns = Turns(1, 3, 2)
    people = People(turns, nursery)
    for name in ("in", "first", "second"):
        await people.come(name, 1)
    with pytest.raises(RequestError, match="your share") as caught:
        await turns.turn(1, "").__aenter__()
    assert caught.value.code == BUSY
    assert caught.value.data["retry_after_ns"]
    await people.come("other", 2)
    with pytest.raises(RequestError, match="the queue is full"):
        await turns.turn(3, "").__aenter__()
    await people.end("in")
    await people.come("third", 1)
    for name in ("first", "other", "second", "third"):
        assert people.inside[-1] == name
        await people.end(name)
