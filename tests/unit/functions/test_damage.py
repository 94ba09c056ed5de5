"""A full disk, a damaged database, another program: each said clearly, and nobody else harmed."""

# ruff: noqa: ASYNC230 - A test may wait for its files.

import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from sandboxd.errors import HostError
from sandboxd.functions.model import StoredFile
from sandboxd.functions.store import DATABASE, Store
from sandboxd.protocol.errors import RequestError
from sandboxd.state import State

from .conftest import TENANT, a_function, an_execution, opened


async def refused(code: str, what: object) -> str:
    with pytest.raises(RequestError) as caught:
        await what  # type: ignore[misc]
    assert caught.value.code == code
    return str(caught.value)


async def pages(store: Store, more: int) -> None:
    """Let the database have so many more pages: then SQLite finds the disk full."""

    def limit(connection: sqlite3.Connection) -> None:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {count + more}").fetchall()

    await store._database.read(limit)


async def test_a_full_disk(store: Store) -> None:
    function = await store.add_function(a_function())
    await pages(store, 2)
    text = await refused(
        "limit_exceeded", store.add_function(a_function(name="b", code="x" * 10**5))
    )
    assert "is full: free some space" in text
    await refused("not_found", store.function(TENANT, "main", "b"))
    assert await store.function(TENANT, "main", "hello") == function
    await pages(store, 1000)
    await store.add_function(a_function(name="b", code="x" * 10**5))


async def test_one_that_is_too_much_for_the_disk(store: Store) -> None:
    """It is committed together with others, which have room."""
    function = await store.add_function(a_function())
    await pages(store, 20)
    outcomes: list[str] = []

    async def add(args: str) -> None:
        try:
            await store.add_execution(an_execution(function, args=args))
            outcomes.append("stored")
        except RequestError as exc:
            outcomes.append(exc.code)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(add, "x" * 200_000 if number == 3 else "1")
    assert sorted(outcomes) == ["limit_exceeded"] + ["stored"] * 7
    assert len(await store.executions(TENANT)) == 7


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to make a file larger, as it refuses where the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_content_that_does_not_fit(store: Store, state: State) -> None:
    """Python has SIGXFSZ ignored, so a write gives an error."""
    with largest_file(100_000):
        text = await refused("limit_exceeded", store.put_content(b"x" * 200_000))
        assert "is full: free some space" in text
        sha256 = await store.put_content(b"small")
    assert list(state.staging.iterdir()) == []
    files = [path.name for path in (state.root / "contents").rglob("*") if path.is_file()]
    assert files == [sha256]


async def test_a_damaged_page(state: State) -> None:
    """Found when it is read: an error of that request, and of no other."""
    async with opened(state) as store:
        function = await store.add_function(a_function())
        big = await store.add_execution(an_execution(function, args="x" * 100_000))
        small = await store.add_execution(an_execution(function))
        (root,) = await store._database.read(
            lambda connection: connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'execution_data'"
            ).fetchone()
        )
    with open(state.root / DATABASE, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with opened(state) as store:
        text = await refused("internal", store.execution(big.id))
        assert "functions.db is damaged: stop sandboxd" in text
        assert [one.id for one in await store.executions(TENANT)] == [small.id, big.id]
        assert await store.function(TENANT, "main", "hello") == function
        await store.add_function(a_function(name="another"))


@pytest.mark.parametrize("at", [0, 16, 100])
async def test_a_damaged_head(state: State, at: int) -> None:
    async with opened(state) as store:
        await store.add_function(a_function())
    with open(state.root / DATABASE, "r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 64)
    with pytest.raises(HostError, match="is damaged: stop sandboxd") as caught:
        async with opened(state):
            pass
    assert "move it away" in str(caught.value)


async def test_another_program_writes(store: Store) -> None:
    await store._database.read(
        lambda connection: connection.execute("PRAGMA busy_timeout = 100").fetchall()
    )
    other = sqlite3.connect(store._database._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    text = await refused("busy", store.add_function(a_function()))
    assert "in use by another program" in text
    outcomes: list[str] = []

    async def add(name: str) -> None:
        await refused("busy", store.add_function(a_function(name=name)))
        outcomes.append(name)

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(add, f"f{number}")
    assert len(outcomes) == 100
    assert time.monotonic() - began < 3  # They wait together, not one after the other.
    assert await store.functions(TENANT) == []
    other.execute("ROLLBACK")
    other.close()
    await store.add_function(a_function())


async def test_contents_that_cannot_be_made(state: State) -> None:
    (state.root / "contents").write_text("in the way")
    with pytest.raises(HostError, match="contents"):
        async with opened(state):
            pass


# -- what is durable, and when --------------------------------------------------------------------


async def test_a_content_is_on_the_disk_before_it_has_its_name(
    store: Store, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the power does: fsync of the file, the name, fsync of the directory."""
    steps: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        steps.append(("fsync", str(path.relative_to(state.root))))
        fsync(fd)

    def noted_rename(source: Path, target: Path) -> None:
        steps.append(("rename", str(target.relative_to(state.root))))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    sha256 = await store.put_content(b"data")
    directory = f"contents/{sha256[:2]}"
    (first, staged), *rest = steps
    assert first == "fsync"
    assert staged.startswith("staging/content-")
    assert rest == [("rename", f"{directory}/{sha256}"), ("fsync", directory)]
    steps.clear()
    # Another writer may have been on its way between the last two: its name is made durable, too.
    assert await store.put_content(b"data") == sha256
    assert steps == [("fsync", directory)]


async def test_the_database_syncs_each_commit(store: Store) -> None:
    def look(connection: sqlite3.Connection) -> list[object]:
        return [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "foreign_keys", "auto_vacuum")
        ]

    assert await store._database.read(look) == [2, "wal", 1, 2]


async def test_a_missing_content_is_not_named(store: Store, state: State) -> None:
    sha256 = await store.put_content(b"data")
    (state.root / "contents" / sha256[:2] / sha256).unlink()
    file = StoredFile("a", 0o644, sha256, 4)
    assert "upload it again" in await refused(
        "not_found", store.add_function(a_function(files=(file,)))
    )


async def test_disk_is_given_back(store: Store, state: State) -> None:
    function = await store.add_function(a_function())
    new = await store.add_execution(an_execution(function, args="x" * 3_000_000))

    async def size() -> int:
        await store._database.read(
            lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
        return (state.root / DATABASE).stat().st_size

    assert await size() > 3_000_000
    await store.delete_execution(new.id)
    await store.expire(0)
    assert await size() < 500_000
