"""The load: each kind at its own pace, however long the answers take."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed

from sandboxd_client import ConnectionLost, DaemonUnreachable, RequestError
from soak.kinds import Wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soak.kinds import Kind

# Nothing here takes so long, unless it hangs.
_PATIENCE_S = 60.0
# Of one kind at the same time. More are not begun, and that is a failure.
_MOST = 50
_KEPT_FAILURES = 100
_FAILURES = (
    Wrong, RequestError, ConnectionLost, DaemonUnreachable, OSError, ValueError, LookupError,
    trio.TooSlowError, trio.BrokenResourceError, ConnectionClosed,
)  # fmt: skip


class Load:
    """Runs the kinds and notes how long each took."""

    def __init__(self, kinds: Sequence[Kind], scale: float) -> None:
        self.failures: list[str] = []
        self.failed = 0
        self.done = 0
        self._kinds = kinds
        self._scale = scale
        self._taken: dict[str, list[int]] = {kind.name: [] for kind in kinds}
        self._present: dict[str, int] = {kind.name: 0 for kind in kinds}

    async def once(self) -> None:
        """Each kind, one after the other."""
        for kind in self._kinds:
            await self._once(kind)

    async def run(self) -> None:
        """Until cancelled; then what was begun is still finished."""
        async with trio.open_nursery() as begun:
            try:
                async with trio.open_nursery() as nursery:
                    for kind in self._kinds:
                        nursery.start_soon(self._pace, kind, begun)
            finally:
                begun.cancel_scope.shield = True

    async def _pace(self, kind: Kind, begun: trio.Nursery) -> None:
        period = 1.0 / (kind.rate * self._scale)
        due = trio.current_time() + period * random.random()
        while True:
            await trio.sleep_until(due)
            due += period
            if self._present[kind.name] < _MOST:
                begun.start_soon(self._once, kind)
            else:
                self._fail(kind, f"{_MOST} of it have not ended")

    async def _once(self, kind: Kind) -> None:
        self._present[kind.name] += 1
        began = time.monotonic_ns()
        try:
            with trio.fail_after(_PATIENCE_S):
                await kind.once()
        except* _FAILURES as group:
            self._fail(kind, "; ".join(map(_text, _leaves(group))))
        else:
            self._taken[kind.name].append(time.monotonic_ns() - began)
        finally:
            self.done += 1
            self._present[kind.name] -= 1

    def _fail(self, kind: Kind, why: str) -> None:
        self.failed += 1
        if len(self.failures) < _KEPT_FAILURES:
            self.failures.append(f"{kind.name}: {why}"[:600])

    def taken(self) -> dict[str, list[int]]:
        """How long those took, in ns, that have ended since this was asked for last."""
        taken, self._taken = self._taken, {kind.name: [] for kind in self._kinds}
        return taken


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for inner in group.exceptions:
        found += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return found


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
