"""Storing how executions ended: together, while many more wait for their turn.

An end that is stored alone costs a commit, and both threads a turn. While others wait nobody loses
by a moment, since there are places beyond those of the engine; when none waits an end is stored at
once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxd.functions.model import Execution, Outcome
    from sandboxd.functions.store import Store

_PATIENCE_S: Final = 0.01
_TOGETHER: Final = 12


class _End:
    """One end; `stored` is what came of it, None where that is to be tried again alone."""

    __slots__ = ("done", "id", "outcome", "stored")

    def __init__(self, id: str, outcome: Outcome) -> None:
        self.id = id
        self.outcome = outcome
        self.done = trio.Event()
        self.stored: Execution | None = None


class Ends:
    """Those that are to be stored."""

    def __init__(self, store: Store, others_wait: Callable[[], bool]) -> None:
        self._store = store
        self._others_wait = others_wait
        self._ends: list[_End] = []
        self._some = trio.Event()
        self._enough = trio.Event()

    async def add(self, id: str, outcome: Outcome) -> Execution:
        """As `Store.end_execution`."""
        if not self._others_wait():
            return await self._store.end_execution(id, outcome)
        end = _End(id, outcome)
        self._ends.append(end)
        self._some.set()
        if len(self._ends) >= _TOGETHER:
            self._enough.set()
        await end.done.wait()
        if end.stored is not None:
            return end.stored
        # What is wrong with one must not be with the others.
        return await self._store.end_execution(id, outcome)

    async def run(self) -> None:
        """Store them, until cancelled; then those that are here are not stored."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._some.wait()
                with trio.move_on_after(_PATIENCE_S):
                    await self._enough.wait()
                ends, self._ends = self._ends, []
                self._some, self._enough = trio.Event(), trio.Event()
                nursery.start_soon(self._put, ends)

    async def _put(self, ends: list[_End]) -> None:
        try:
            with contextlib.suppress(Exception):  # Each is tried alone then, and says what it is.
                stored = await self._store.end_executions([(end.id, end.outcome) for end in ends])
                for end, row in zip(ends, stored, strict=True):
                    end.stored = row
        finally:
            for end in ends:
                end.done.set()
