"""How many executions there may be at once: in all, of a tenant, with a key."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from sandboxd.protocol.errors import BUSY, RequestError

if TYPE_CHECKING:
    from sandboxd.engine.job import Job
    from sandboxd.functions.model import Key

_RETRY_NS: Final = 1_000_000_000


class Places:
    """Counts what was started and has not ended."""

    def __init__(self, most: int) -> None:
        self._most = most
        # One tenant leaves room for the others.
        self._per_tenant = max(1, most * 3 // 4)
        self._all = 0
        self._tenants: Counter[int] = Counter()
        self._keys: Counter[int] = Counter()
        self._calls: dict[int, set[Job]] = {}

    def enter(self, tenant: int, count: int = 1) -> None:
        """Raises RequestError `busy`; else `leave` must be called as often."""
        if self._all + count > self._most:
            raise _busy(f"there are {self._all} executions that have not ended")
        mine = self._tenants[tenant]
        if mine + count > self._per_tenant:
            raise _busy(f"there are {mine} executions of yours that have not ended")
        self.add(tenant, count)

    def add(self, tenant: int, count: int = 1) -> None:
        """As `enter`, for what was promised before."""
        self._all += count
        self._tenants[tenant] += count

    def leave(self, tenant: int, count: int = 1) -> None:
        self._all -= count
        _subtract(self._tenants, tenant, count)

    def enter_key(self, key: Key | None, count: int = 1) -> None:
        """Raises RequestError `busy` when the key has as many as it may."""
        if key is not None:
            self.require_key(key, count)
            self.add_key(key.id, count)

    def require_key(self, key: Key, count: int = 1) -> None:
        """Raises RequestError `busy` when the key has no place for so many."""
        present = self._keys[key.id] if key.max_executions else 0
        if key.max_executions and present + count > key.max_executions:
            raise _busy(
                f"the key {key.name} may have {key.max_executions} executions at once,"
                f" and has {present}"
            )

    def add_key(self, key_id: int, count: int = 1) -> None:
        """As `enter_key`, for what was promised before."""
        if key_id:
            self._keys[key_id] += count

    def leave_key(self, key_id: int, count: int = 1) -> None:
        if key_id:
            _subtract(self._keys, key_id, count)

    def add_call(self, key_id: int, job: Job) -> None:
        """A call that is made with the key and not stored."""
        self._calls.setdefault(key_id, set()).add(job)

    def leave_call(self, key_id: int, job: Job) -> None:
        calls = self._calls.get(key_id, set())
        calls.discard(job)
        if not calls:
            self._calls.pop(key_id, None)

    def calls(self, key_id: int) -> list[Job]:
        """Those that have not ended."""
        return list(self._calls.get(key_id, ()))


def _subtract(counter: Counter[int], which: int, count: int) -> None:
    counter[which] -= count
    if counter[which] <= 0:
        del counter[which]


def _busy(why: str) -> RequestError:
    message = f"{why}; try again in 1 s"
    return RequestError(BUSY, message, {"retry_after_ns": _RETRY_NS})
