"""Storing that executions run, of those that have for a moment: most are over by then."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.functions import PENDING, RUNNING

if TYPE_CHECKING:
    from sandboxd.functions.live import Live
    from sandboxd.functions.store import Store

# So long a program has to run until that is stored, and a little longer: some are done together.
_AFTER_S: Final = 0.03
_TOGETHER_S: Final = 0.01


class Notes:
    """Those that began a moment ago, in that order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began: deque[tuple[float, Live, int]] = deque()
        self._more = trio.Event()

    def add(self, live: Live, revision: int) -> None:
        """Its program was started."""
        self._began.append((trio.current_time() + _AFTER_S, live, revision))
        self._more.set()

    async def run(self) -> None:
        """Store what is to be stored, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._began and not self._began[0][1].runs:
                    self._began.popleft()
                if self._began:
                    await trio.sleep_until(self._began[0][0] + _TOGETHER_S)
                else:
                    self._more = trio.Event()
                    await self._more.wait()
                while self._began and self._began[0][0] <= trio.current_time():
                    _, live, revision = self._began.popleft()
                    if live.runs:
                        nursery.start_soon(self._note, live, revision)

    async def _note(self, live: Live, revision: int) -> None:
        with contextlib.suppress(RequestError):  # It was ended, or removed, meanwhile.
            await self._store.change_execution(
                live.id, PENDING, status=RUNNING, started_ns=live.began_ns, revision=revision
            )
