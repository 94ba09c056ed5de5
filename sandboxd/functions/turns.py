"""What only a few do at once: the others wait, in turn between tenants and between keys of each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from sandboxd.engine.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _Ticket:
    """One that waits, or has its turn; the scheduler's."""

    def __init__(self, tenant: int, line: str) -> None:
        self.tenant = tenant
        self.line = line
        self.size = 0
        self.started_ns = 0
        self.begun = trio.Event()

    def start(self) -> None:
        self.begun.set()


class Turns:
    """Lets ``at_once`` do it; ``waiting`` may wait, so many of them of one tenant."""

    def __init__(self, at_once: int, waiting: int, per_tenant: int) -> None:
        self._scheduler = Scheduler(at_once, waiting, per_tenant, 0)
        self._scheduler.resume()

    @asynccontextmanager
    async def turn(self, tenant: int, line: str) -> AsyncIterator[None]:
        """Wait for a turn, which ends with the block. Raises RequestError `busy`."""
        ticket = _Ticket(tenant, line)
        self._scheduler.submit(ticket)
        try:
            await ticket.begun.wait()
            yield
        finally:
            if not self._scheduler.withdraw(ticket):
                self._scheduler.release(ticket)
