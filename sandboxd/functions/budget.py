"""Bytes of memory that only so many have at once; the others wait, in the order they came."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Hashable


class Budget:
    """Those that use the same thing have its bytes together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._users: dict[Hashable, int] = {}
        self._waiting: deque[tuple[Hashable, int, trio.Event]] = deque()

    async def enter(self, thing: Hashable, size: int) -> None:
        """Wait for room for the thing; `leave` must be called with the same. One that is larger
        than all may be together has to be alone. Cancelled: there is nothing to leave."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if thing in self._users or (not self._waiting and self._fits(size)):
            self._add(thing, size)
            return
        entry = (thing, size, trio.Event())
        self._waiting.append(entry)
        try:
            await entry[2].wait()
        except trio.Cancelled:
            if entry[2].is_set():
                self.leave(thing, size)
            else:
                self._waiting.remove(entry)
                self._admit()
            raise

    def leave(self, thing: Hashable, size: int) -> None:
        self._users[thing] -= 1
        if not self._users[thing]:
            del self._users[thing]
            self._bytes -= size
            self._admit()

    def _fits(self, size: int) -> bool:
        return not self._bytes or self._bytes + size <= self._most

    def _add(self, thing: Hashable, size: int) -> None:
        if thing not in self._users:
            self._bytes += size
        self._users[thing] = self._users.get(thing, 0) + 1

    def _admit(self) -> None:
        while self._waiting:
            thing, size, ready = self._waiting[0]
            if thing not in self._users and not self._fits(size):
                return
            self._waiting.popleft()
            self._add(thing, size)
            ready.set()
