"""What is kept, for how long, and what is not taken away from somebody who still needs it."""

import random
import time

import pytest
import trio

from sandboxd.functions import contents
from sandboxd.functions.model import ExecutionFile, Function, Outcome, Retention, StoredFile
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError
from sandboxd.state import State

from .conftest import NOW, TENANT, a_function, an_execution, opened

DAY = 86_400 * 1_000_000_000
OTHER = TENANT + 1


async def ended(store: Store, function: Function, at: int, log: bytes = b"") -> str:
    new = await store.add_execution(an_execution(function, created_ns=at))
    await store.end_execution(new.id, Outcome(end_reason="normal", ended_ns=at, log=log))
    return new.id


async def ids(store: Store, tenant: int = TENANT) -> list[str]:
    """Oldest first."""
    return [one.id for one in reversed(await store.executions(tenant, limit=1000))]


async def test_by_age(state: State) -> None:
    async with opened(state, Retention(age_ns=DAY)) as store:
        function = await store.add_function(a_function())
        for _ in range(250):  # More than one step.
            await ended(store, function, NOW - DAY - 1)
        young = await ended(store, function, NOW - DAY)
        old = NOW - 2 * DAY
        abandoned = an_execution(function, created_ns=old)
        submitted = an_execution(function, created_ns=old, submitted_ns=old)
        running = an_execution(function, created_ns=old)
        await store.add_executions([abandoned, submitted, running])
        await store.change_execution(running.id, status="running")
        assert await store.expire(NOW) == 251
        assert await ids(store) == [young, submitted.id, running.id]
        assert await store.expire(NOW) == 0


async def test_by_count(state: State) -> None:
    async with opened(state, Retention(count=3)) as store:
        function = await store.add_function(a_function())
        kept = [await ended(store, function, NOW + number) for number in range(6)]
        assert await ids(store) == kept[-3:]
        await store.add_executions([an_execution(function) for _ in range(2)])
        assert (await ids(store))[0] == kept[-1]
        # Those that have not ended are kept, and then there is no room.
        await store.add_execution(an_execution(function))
        with pytest.raises(RequestError) as caught:
            await store.add_execution(an_execution(function))
        assert caught.value.code == "limit_exceeded"
        assert len(await ids(store)) == 3


async def test_by_size(state: State) -> None:
    async with opened(state, Retention(bytes=100_000)) as store:
        function = await store.add_function(a_function())
        kept = [await ended(store, function, NOW + n, b"x" * 30_000) for n in range(6)]
        assert await ids(store) == kept[-3:]
        huge = await ended(store, function, NOW + 9, b"x" * 200_000)
        assert await ids(store) == [huge]  # What has just ended can be read, at least until then.
        await ended(store, function, NOW + 10)
        assert huge not in await ids(store)


async def test_files_count(state: State) -> None:
    async with opened(state, Retention(bytes=100_000)) as store:
        function = await store.add_function(a_function())
        first = await ended(store, function, NOW)
        loaded = await store.add_execution(an_execution(function))
        for name in ("a", "b"):
            data = name.encode() * 60_000
            file = ExecutionFile(name, name, await store.put_content(data), len(data))
            try:
                await store.add_input(loaded.id, file)
            except RequestError as exc:
                assert (exc.code, name) == ("limit_exceeded", "b")  # noqa: PT017
        assert [file.id for file in (await store.execution(loaded.id)).inputs] == ["a"]
        assert await ids(store) == [first, loaded.id]


async def test_who_has_most_loses_first(state: State) -> None:
    async with opened(state, Retention(count=10)) as store:
        mine = await store.add_function(a_function())
        theirs = await store.add_function(a_function(tenant=OTHER))
        kept = [await ended(store, mine, NOW + number) for number in range(3)]
        for number in range(50):
            await ended(store, theirs, NOW + 100 + number)
        assert await ids(store) == kept
        assert len(await ids(store, OTHER)) == 7


async def test_who_fills_it_with_what_is_never_started(state: State) -> None:
    """Nobody else loses anything, and everybody else can go on."""
    async with opened(state, Retention(bytes=100_000)) as store:
        mine = await store.add_function(a_function())
        theirs = await store.add_function(a_function(tenant=OTHER))
        kept = [await ended(store, mine, NOW + number) for number in range(3)]
        loaded: list[str] = []

        async def load() -> None:
            new = await store.add_execution(an_execution(theirs, created_ns=NOW))
            data = random.randbytes(30_000)
            async with store.uploads() as put:
                file = ExecutionFile("in", "in", await put(data), len(data))
                await store.add_input(new.id, file)
            loaded.append(new.id)

        for _ in range(3):
            await load()
        with pytest.raises(RequestError) as caught:
            await load()
        assert caught.value.code == "limit_exceeded"
        assert await ids(store) == kept
        kept += [await ended(store, mine, NOW + 10 + number, b"x" * 10_000) for number in range(3)]
        assert await ids(store) == kept
        assert set(loaded[1:]) <= set(await ids(store, OTHER))
        assert loaded[0] not in await ids(store, OTHER)
        running = await store.add_execution(an_execution(mine))
        await store.change_execution(running.id, status="running")
        assert await store.expire(NOW) == 0


async def test_contents_go_with_what_named_them(store: Store) -> None:
    function = await store.add_function(a_function())
    file = ExecutionFile("in", "in", await store.put_content(b"input"), 5)
    new = await store.add_execution(an_execution(function, inputs=(file,)))
    await store.end_execution(new.id, Outcome(end_reason="normal", ended_ns=1))
    assert await store.expire(NOW) == 1
    with pytest.raises(RequestError, match="there is no content"):
        await store.content(file.sha256)


async def test_contents_of_a_function_go_with_it(store: Store) -> None:
    def files(*names: str) -> tuple[StoredFile, ...]:
        return tuple(StoredFile(name, 0o644, known[name], 3) for name in names)

    known = {name: await store.put_content(name.encode()) for name in ("one", "two", "six")}
    await store.add_function(a_function(files=files("one", "two")))
    await store.change_function(TENANT, "main", "hello", {"files": files("two", "six")})
    assert [await store.content(known[name]) for name in ("two", "six")] == [b"two", b"six"]
    with pytest.raises(RequestError, match="there is no content"):
        await store.content(known["one"])
    await store.delete_function(TENANT, "main", "hello", NOW)
    for sha256 in known.values():
        with pytest.raises(RequestError, match="there is no content"):
            await store.content(sha256)


async def test_what_is_put_and_not_used_yet(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = await store.put_content(b"waiting")
    await store.expire(NOW)
    assert await store.content(sha256) == b"waiting"
    later = time.monotonic() + 3601
    monkeypatch.setattr(contents.time, "monotonic", lambda: later)
    await store.expire(NOW)
    with pytest.raises(RequestError, match="there is no content"):
        await store.content(sha256)


async def test_what_is_put_for_a_request_that_is_refused(store: Store) -> None:
    """It goes at once; but not under another who has put the same."""
    function = await store.add_function(a_function())
    kept: list[str] = []

    async def refused() -> None:
        async with store.uploads() as put:
            kept.extend([await put(b"only here"), await put(b"elsewhere, too")])
            assert await store.put_content(b"elsewhere, too") == kept[1]
            await store.add_function(a_function())

    with pytest.raises(RequestError, match="there is a function"):
        await refused()
    with pytest.raises(RequestError, match="there is no content"):
        await store.content(kept[0])
    assert await store.content(kept[1]) == b"elsewhere, too"
    async with store.uploads() as put:
        file = ExecutionFile("in", "in", await put(b"used"), 4)
        new = await store.add_execution(an_execution(function, inputs=(file,)))
    assert await store.content(file.sha256) == b"used"
    await store.delete_execution(new.id)
    with pytest.raises(RequestError, match="there is no content"):
        await store.content(file.sha256)


async def test_nothing_is_removed_under_somebody_who_writes(state: State) -> None:
    """Eight writers put the same few contents, use and delete them, while all is swept for ever."""
    names = [f"content {number}".encode() for number in range(3)]

    async def write(store: Store, function: Function, seed: int) -> None:
        source = random.Random(seed)
        for _ in range(25):
            data = source.choice(names)
            file = ExecutionFile("in", "in", await store.put_content(data), len(data))
            await trio.sleep(source.choice([0, 0.001]))
            new = await store.add_execution(an_execution(function, inputs=(file,)))
            assert await store.content(file.sha256) == data
            await store.delete_execution(new.id)

    async def sweep(store: Store) -> None:
        while True:
            await store.expire(0)

    async with opened(state) as store:
        function = await store.add_function(a_function())
        async with trio.open_nursery() as sweeping:
            sweeping.start_soon(sweep, store)
            async with trio.open_nursery() as nursery:
                for seed in range(8):
                    nursery.start_soon(write, store, function, seed)
            sweeping.cancel_scope.cancel()
        await store.expire(0)
        assert [path for path in (state.root / "contents").rglob("*") if path.is_file()] == []
