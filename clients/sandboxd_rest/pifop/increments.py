"""How far each client has read the log of an execution: for `?stdout=true`.

PIFOP's older clients add up what they get, and nothing in their requests says how much that is. So
the gateway remembers it, for each execution and key: two clients that ask for one execution with
one key each get a part. It is lost with the gateway, and, where very many executions are watched,
with the one that was not asked for the longest: such a client gets the log from its beginning.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import trio

_MOST: Final = 16_384


class Position:
    """Of one client in one log. Hold `lock` from looking at `offset` to changing it."""

    __slots__ = ("lock", "offset")

    def __init__(self) -> None:
        self.offset = 0
        self.lock = trio.Lock()

    def take(self, new: bytes, *, ended: bool) -> bytes:
        """What of `new`, the log from `offset` on, the client gets: as long as there is more to
        come, no part of a character."""
        part = new if ended else new[: whole_characters(new)]
        self.offset += len(part)
        return part


class Positions:
    """Of all clients."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._found: OrderedDict[tuple[str, bytes], Position] = OrderedDict()

    def of(self, id: str, key: str) -> Position:
        """The position of who has `key` in the log of execution `id`: a new one at its beginning
        where none is kept."""
        return self._found.get(_name(id, key)) or Position()

    def keep(self, id: str, key: str, position: Position) -> None:
        """To be called when the daemon knows them: nobody else makes a position be forgotten."""
        name = _name(id, key)
        self._found[name] = position
        self._found.move_to_end(name)
        if len(self._found) > self._most:
            self._found.popitem(last=False)


def _name(id: str, key: str) -> tuple[str, bytes]:
    # Not the secret itself: this stays in memory for long.
    return id, hashlib.sha256(key.encode()).digest()


def whole_characters(data: bytes) -> int:
    """How many bytes of UTF-8 there are without a last character that is not complete."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            need = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return len(data) - back if need > back else len(data)
    return len(data)
