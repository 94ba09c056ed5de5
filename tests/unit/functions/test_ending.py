"""Ends that are stored together."""

import pytest
import trio

from sandboxd.functions.ending import Ends
from sandboxd.functions.model import Outcome
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError

from .conftest import NOW, a_function, an_execution

ENDED = Outcome(end_reason="normal", ended_ns=NOW)


async def _commits(store: Store, into: list[str]) -> None:
    def note(statement: str) -> None:
        if statement == "COMMIT":
            into.append(statement)

    await store._database.read(lambda connection: connection.set_trace_callback(note))


async def test_many_cost_few_commits_and_one_that_fails_takes_nobody_along(store: Store) -> None:
    function = await store.add_function(a_function())
    rows = await store.add_executions([an_execution(function) for _ in range(24)])
    ends, commits, failed = Ends(store, lambda: True), list[str](), list[str]()
    await _commits(store, commits)

    async def end(id: str) -> None:
        try:
            assert (await ends.add(id, ENDED)).status == "ended"
        except RequestError as error:
            failed.append(error.code)

    async def all_of(ids: list[str]) -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as ending:
                for id in ids:
                    ending.start_soon(end, id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run)
        await all_of([row.id for row in rows[:12]])
        assert len(commits) <= 3
        await all_of([*(row.id for row in rows[12:]), "nobody"])
        nursery.cancel_scope.cancel()
    assert failed == ["not_found"]
    assert {row.status for row in await store.executions(function.tenant)} == {"ended"}


async def test_one_is_stored_at_once_when_nobody_waits(store: Store) -> None:
    """Nothing runs that could store it later."""
    function = await store.add_function(a_function())
    row = await store.add_execution(an_execution(function))
    ends = Ends(store, lambda: False)
    assert (await ends.add(row.id, ENDED)).status == "ended"
    with pytest.raises(RequestError):
        await ends.add("nobody", ENDED)
