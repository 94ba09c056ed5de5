"""Functions that change while they are made ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio

from sandboxd.config import Config
from sandboxd.functions.model import StoredFile
from sandboxd.functions.registry import Registry

from .conftest import TENANT, a_function

if TYPE_CHECKING:
    import pytest

    from sandboxd.functions.store import Store

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
