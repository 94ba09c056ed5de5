"""Functions that change while they are made ready."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing
from msgspec import structs

from sandboxd.config import Config
from sandboxd.functions.budget import Budget
from sandboxd.functions.model import StoredFile
from sandboxd.functions.registry import Registry
from sandboxd.protocol.errors import RequestError

from .conftest import NOW, TENANT, a_function, an_execution

if TYPE_CHECKING:
    from sandboxd.functions.store import Store

MIB = 1024 * 1024
NAME = (TENANT, "main", "hello")


async def a_file(store: Store, data: bytes) -> tuple[StoredFile, ...]:
    return (StoredFile("data", 0o644, await store.put_content(data), len(data)),)


async def test_a_file_that_goes_while_it_is_to_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(store, Config(), cast("Any", None), cast("Any", None))
    await store.add_function(a_function(files=await a_file(store, b"old")))
    read = store.content

    async def content(sha256: str) -> bytes:
        monkeypatch.setattr(store, "content", read)
        changes = {"files": await a_file(store, b"new")}
        await store.change_function(*NAME, changes)
        registry.forget(NAME)
        return await read(sha256)

    monkeypatch.setattr(store, "content", content)
    found = await registry.find(NAME)
    assert found.function.revision == 2
    assert next(file.data for file in found.files) == b"new"
    assert registry.kept(NAME) is found


async def test_changes_of_others_keep_nobody_waiting(store: Store) -> None:
    registry = Registry(store, Config(), cast("Any", None), cast("Any", None))
    await store.add_function(a_function(files=await a_file(store, b"data")))

    async def change() -> None:
        while True:
            registry.forget((TENANT + 1, "main", "other"))
            await trio.lowlevel.checkpoint()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            await registry.find(NAME)
            nursery.cancel_scope.cancel()


async def test_what_was_changed_meanwhile_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(store, Config(), cast("Any", None), cast("Any", None))
    await store.add_function(a_function(files=await a_file(store, b"data")))
    read = store.content

    async def content(sha256: str) -> bytes:
        monkeypatch.setattr(store, "content", read)
        data = await read(sha256)
        await store.change_function(*NAME, {"code": "def main(a, b): return 2"})
        registry.forget(NAME)
        return data

    monkeypatch.setattr(store, "content", content)
    assert (await registry.find(NAME)).function.revision == 2


async def test_a_function_that_is_renamed_after_its_execution_was_read(store: Store) -> None:
    registry = Registry(store, Config(), cast("Any", None), cast("Any", None))
    function = await store.add_function(a_function())
    row = await store.add_execution(an_execution(function, submitted_ns=NOW))
    await store.change_function(*NAME, {"name": "renamed"})
    assert (await registry.of(row)).function.name == "renamed"
    await store.add_function(a_function())  # Another one, under the name that it had.
    assert (await registry.of(row)).function.id == function.id
    await store.delete_function(TENANT, "main", "renamed", NOW)
    registry.forget((TENANT, "main", "renamed"))
    with pytest.raises(RequestError, match="there is no function main/renamed"):
        await registry.of(await store.execution(row.id))


async def test_what_is_read_at_once_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = structs.replace(Config(), functions_cache_bytes=4 * MIB)
    registry = Registry(store, config, cast("Any", None), cast("Any", None))
    for n in range(8):
        files = await a_file(store, bytes([n]) * (3 * MIB // 2))
        await store.add_function(a_function(name=f"f{n}", files=files))
    read, now, most = store.content, 0, 0

    async def content(sha256: str) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            return await read(sha256)
        finally:
            now -= 1

    monkeypatch.setattr(store, "content", content)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(registry.find, (TENANT, "main", f"f{n}"))
    assert most == 2


async def test_a_budget() -> None:
    budget = Budget(10)
    done: list[str] = []

    async def enter(thing: str, size: int) -> None:
        await budget.enter(thing, size)
        done.append(thing)

    async with trio.open_nursery() as nursery:
        await enter("a", 6)
        await enter("a", 6)  # The same: no more bytes.
        impatient = trio.CancelScope()

        async def leave_early() -> None:
            with impatient:
                await enter("cancelled", 8)

        for wait in (leave_early, partial(enter, "huge", 99), partial(enter, "b", 1)):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
        assert done == ["a", "a"]
        impatient.cancel()
        budget.leave("a", 6)
        await trio.testing.wait_all_tasks_blocked()
        assert done == ["a", "a"]
        budget.leave("a", 6)
        await trio.testing.wait_all_tasks_blocked()
        assert done == ["a", "a", "huge"]  # Alone, and in its turn.
        budget.leave("huge", 99)
    assert done == ["a", "a", "huge", "b"]
