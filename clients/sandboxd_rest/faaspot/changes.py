"""What came of changes to functions, as executions.

For a client of FaaSpot, making, changing and deleting a function are tasks with an id that it asks
for until they have ended. Here they have ended when they are answered; this remembers them for a
while, so that whoever asks is told so.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import OrderedDict
from typing import Final

from sandboxd_rest.faaspot.models import FaaspotExecution
from sandboxd_rest.faaspot.shapes import SUCCESS, moment

# Some hundred bytes each.
_MOST: Final = 10_000


class Changes:
    """The last changes; nobody sees those of another key."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, tuple[bytes, FaaspotExecution]] = OrderedDict()

    def add(self, key: str, task: str, output: str) -> FaaspotExecution:
        """Remember a change that was made with `key` just now."""
        change = FaaspotExecution(
            uuid=str(uuid.uuid4()),
            name=f"tasks.{task}",
            status=SUCCESS,
            created=moment(time.time_ns()),
            output=output,
        )
        self._by_id[change.uuid] = (_owner(key), change)
        if len(self._by_id) > _MOST:
            self._by_id.popitem(last=False)
        return change

    def get(self, key: str, id: str) -> FaaspotExecution | None:
        """A change of this key's, None when there is none by that id."""
        owner, change = self._by_id.get(id, (b"", None))
        return change if owner == _owner(key) else None


def _owner(key: str) -> bytes:
    """Secrets are not kept."""
    return hashlib.sha256(key.encode()).digest()
