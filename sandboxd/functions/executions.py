"""The life of stored executions: pending → running → ended.

A client's start is stored before it is answered, and so is an end before anybody is told of it. In
between an execution is a `Live` in memory. It waits in a scheduler of its own kind, fair between
tenants and keys as that of the jobs, so that of thousands only a few are jobs at a time; then one
task reads what it needs, runs the job and stores its end.

That it runs is stored after a moment, so that a short one costs one write. One that the daemon's
death hits before that is pending still and is run again: its sandbox has kept nothing of the first
time. One that was noted as running ends as `interrupted`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.engine.scheduler import Scheduler
from sandboxd.functions.ending import Ends
from sandboxd.functions.live import Live
from sandboxd.functions.model import Failure, Outcome
from sandboxd.functions.places import Places
from sandboxd.functions.running import Runner
from sandboxd.logs import fields
from sandboxd.protocol.errors import BUSY, INTERNAL, INVALID_ARGUMENT, NOT_FOUND, RequestError
from sandboxd.protocol.errors import CANCELLED as REFUSED
from sandboxd.protocol.functions import CANCELLED, ERROR, INTERRUPTED, PENDING, STOPPED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from sandboxd.engine.jobs import Engine
    from sandboxd.functions.model import EndReason, Execution, Key
    from sandboxd.functions.registry import Registry
    from sandboxd.functions.store import Store

_log = logging.getLogger("sandboxd.functions")

# Beyond the engine's own places: what is being read, or stored.
_AHEAD: Final = 16
# Rows with so little in them are kept from the start to the run, and need not be read again.
_SMALL_BYTES: Final = 1024
_LARGE_BYTES: Final = 1024 * 1024
_WHOLE_QUEUE: Final = 2**62
_LAST_WORDS_S: Final = 5.0


class Executions:
    """Every execution that was started and has not ended."""

    def __init__(self, engine: Engine, store: Store, registry: Registry, most: int) -> None:
        places = 2 * engine.scheduler.places + _AHEAD
        self.places = Places(most)
        self.stopping = False
        self._engine = engine
        self._store = store
        self._runner = Runner(engine, store, registry)
        self._room = Scheduler(places, _WHOLE_QUEUE, _WHOLE_QUEUE, _WHOLE_QUEUE)
        self._ends = Ends(store, lambda: bool(self._room.waiting))
        self._live: dict[str, Live] = {}
        self._nursery: trio.Nursery | None = None
        # What is being started, and why that is to end at once.
        self._starting: dict[str, EndReason] = {}
        self._deleted_keys: set[int] = set()
        self._tasks = 0
        self._idle = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run executions until cancelled. Nothing may be started before this says that it has
        begun."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._runner.serve)
                nursery.start_soon(self._ends.run)
                self._nursery = nursery
                self._room.resume()
                task_status.started()
        finally:
            self._runner.close()

    def enter_left(self, left: Sequence[Execution]) -> None:
        """Have `run` begin with these, which an earlier daemon has left."""
        for row in left:
            self.places.add(row.tenant)
            self.places.add_key(row.key_id)
            self._enter(row, whole=False)
        if left:
            _log.info("executions go on %s", fields(count=len(left)))

    async def finish(self) -> None:
        """Interrupt what runs. What waits is run by the next daemon. Returns when every end is
        stored."""
        self.pause()
        self._runner.closing = True
        for live in list(self._live.values()):
            if live.job is not None:
                live.end(INTERRUPTED)
                self._engine.cancel(live.job, "sandboxd is shutting down")
        with trio.move_on_after(_LAST_WORDS_S):
            while self._tasks:
                self._idle = trio.Event()
                await self._idle.wait()

    def pause(self) -> None:
        """Begin no more."""
        self.stopping = True
        self._room.pause()

    # -- starting ----------------------------------------------------------------------------

    def reserve(self, tenant: int, key: Key | None, count: int = 1) -> None:
        """Make sure that so many may be started. Raises RequestError `busy`.

        What is not started after all has to be given back by `give_back`.
        """
        if self.stopping:
            raise RequestError(REFUSED, "sandboxd is shutting down; try again in a moment")
        self.places.enter(tenant, count)
        try:
            self.places.enter_key(key, count)
        except RequestError:
            self.places.leave(tenant, count)
            raise

    def give_back(self, tenant: int, key_id: int, count: int = 1) -> None:
        self.places.leave(tenant, count)
        self.places.leave_key(key_id, count)

    async def add(self, rows: Sequence[Execution], client: str = "") -> list[Execution]:
        """Store executions that are started at once. `reserve` has been called for them.

        ``client`` is not stored: what waits when the daemon ends, waits for the next one in the
        tenant's own line.
        """
        with trio.CancelScope(shield=True):  # What is stored must also be run.
            stored = await self._store.add_executions(rows)
            for row in stored:
                self._enter(row, client)
        return stored

    async def start(self, id: str, args: str, stdin: bytes) -> Execution:
        """Start one that is pending. `reserve` has been called for it."""
        if id in self._live or id in self._starting:
            raise wrong_state(PENDING, "it has been started; wait for its end")
        self._starting[id] = ""
        try:
            with trio.CancelScope(shield=True):
                row = await self._store.change_execution(
                    id, PENDING, submitted_ns=time.time_ns(), args=args, stdin=stdin
                )
                self._enter(row)
        finally:
            reason = self._starting.pop(id)
        if reason:
            self.end(self._live[id], reason)
        return row

    def _enter(self, row: Execution, client: str = "", *, whole: bool = True) -> None:
        live = Live(row, self._begin, client)
        sent = len(row.args) + len(row.stdin)
        if whole and sent <= _SMALL_BYTES:
            live.row = row
        live.large = not whole or sent + sum(file.bytes for file in row.inputs) > _LARGE_BYTES
        self._live[row.id] = live
        self._room.submit(live)
        if row.key_id in self._deleted_keys:  # While this was on its way.
            self.end(live, CANCELLED)

    def _begin(self, live: Live) -> None:
        self._spawn(self._execute, live)

    def _spawn(self, task: Callable[[Live], Awaitable[None]], live: Live) -> None:
        if self._nursery is not None:
            self._tasks += 1
            self._nursery.start_soon(task, live)

    # -- asking ------------------------------------------------------------------------------

    def find(self, id: str) -> Live | None:
        """The execution, while it has been started and its end is not stored."""
        return self._live.get(id)

    # -- ending ------------------------------------------------------------------------------

    def end(self, live: Live, reason: EndReason) -> None:
        """Have it end soon, wherever it is; `live.over` is set when that is stored."""
        live.end(reason)
        if live.job is not None and live.job.stage_id and reason == STOPPED:
            self._engine.stop(live.job)
        elif live.job is not None:
            self._engine.cancel(live.job, f"it was {reason}")
        elif self._room.withdraw(live):
            self._spawn(self._never_begun, live)

    def end_all(self, ids: Iterable[str], reason: EndReason) -> None:
        """As `end`, for those of them that have been started."""
        for id in ids:
            live = self._live.get(id)
            if live is not None:
                self.end(live, reason)

    def key_deleted(self, key: Key) -> None:
        """What was made with it and goes on in memory is cancelled; the rest has ended with it."""
        self._deleted_keys.add(key.id)
        for job in self.places.calls(key.id):
            self._engine.cancel(job, "its key was deleted")
        for live in list(self._live.values()):
            if live.key_id == key.id:
                self.end(live, CANCELLED)

    async def end_pending(self, id: str, reason: EndReason) -> Execution:
        """End one that was not started, or is being started at this moment."""
        if id in self._starting:
            self._starting[id] = reason
        ended = await self._store.end_execution(id, unbegun(reason))
        live = self._live.get(id)
        if live is not None:  # It was started before this was stored.
            self.end(live, reason)
            await live.over.wait()
        return ended

    # -- one execution -----------------------------------------------------------------------

    async def _execute(self, live: Live) -> None:
        """The task of one execution that has its turn."""
        try:
            ended = await self._outcome(live)
            if ended is not None:
                await self._store_end(live, ended)
        finally:
            self._room.release(live)
            self._leave(live)

    async def _never_begun(self, live: Live) -> None:
        """The task of one that was to end before it had its turn."""
        try:
            await self._store_end(live, unbegun(live.ending))
        finally:
            self._leave(live)

    def _leave(self, live: Live) -> None:
        self._tasks -= 1
        self.give_back(live.tenant, live.key_id)
        del self._live[live.id]
        live.over.set()
        if not self._tasks:
            self._idle.set()

    async def _outcome(self, live: Live) -> Outcome | None:
        """How it ended; None when it is left for the next daemon to run."""
        try:
            return await self._runner.run(live)
        except RequestError as error:
            if self._runner.closing and not live.began_ns:
                return None
            if live.ending:
                return unbegun(live.ending, error.message)
            failure = Failure("", error.message, kind=error.code)
            return unbegun(ERROR, error.message, failure)
        except Exception:
            return unbegun(ERROR, _mistake(live).message)

    async def _store_end(self, live: Live, ended: Outcome) -> None:
        """Never raises. It keeps its place and tries again until the end is stored."""
        pause_s = 0.0
        while True:
            try:
                live.last = await self._ends.add(live.id, ended)
                return
            except Exception as exc:
                error = exc if isinstance(exc, RequestError) else _mistake(live)
            if not pause_s and error.code != NOT_FOUND:
                _log.error("an end was not stored %s", fields(id=live.id, why=error.message))
            if error.code == NOT_FOUND or self._runner.closing:
                return  # It is gone, or for the next start.
            if error.code != BUSY:  # The disk is full, for one.
                ended = unbegun(ERROR, f"how it ended could not be stored: {error.message}")
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s or 1, 30.0)


def _mistake(live: Live) -> RequestError:
    """Of ours, to be called while it is handled."""
    _log.exception("an execution could not be run %s", fields(id=live.id))
    return RequestError(INTERNAL, "sandboxd made a mistake; see its log")


def unbegun(reason: EndReason, message: str = "", error: Failure | None = None) -> Outcome:
    """The end of one that did not run; ``error`` has the code of why it could not as its kind."""
    return Outcome(end_reason=reason, ended_ns=time.time_ns(), message=message, error=error)


def wrong_state(state: str, what: str) -> RequestError:
    """The error for a call that cannot be in this state; ``what`` says what can."""
    return RequestError(INVALID_ARGUMENT, f"id: the execution is {state}: {what}", {"state": state})
