"""Everything about functions that lives as long as the daemon."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.errors import HostError
from sandboxd.functions.executions import Executions
from sandboxd.functions.model import Retention
from sandboxd.functions.registry import Registry
from sandboxd.functions.requests import Requests
from sandboxd.functions.store import Store
from sandboxd.logs import fields
from sandboxd.protocol.errors import INTERNAL, PERMISSION_DENIED, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxd.config import Config
    from sandboxd.engine.jobs import Engine
    from sandboxd.functions.model import Execution
    from sandboxd.runtimes.catalog import Catalog
    from sandboxd.state import State

_log = logging.getLogger("sandboxd.functions")

_EXPIRE_EVERY_S: Final = 60.0
# The disk may have room again.
_REOPEN_S: Final = 5.0


class Opened:
    """What there is while the store is open."""

    def __init__(
        self,
        store: Store,
        left: Sequence[Execution],
        config: Config,
        engine: Engine,
        runtimes: Catalog,
    ) -> None:
        """``left``: what an earlier daemon has left to be run."""
        self.store = store
        self.registry = Registry(store, config, engine.roots, runtimes)
        self.executions = Executions(engine, store, self.registry, config.executions_queue)
        self.executions.enter_left(left)


class Functions:
    """The functions of all tenants, their executions and keys."""

    def __init__(self, config: Config, state: State, engine: Engine, runtimes: Catalog) -> None:
        self.config = config
        self.engine = engine
        self.runtimes = runtimes
        self.state = state
        self.requests = Requests(config.queue_bytes)
        self._store: Store | None = None
        self._opened: Opened | None = None
        self._problem = "functions are not available"

    @property
    def opened(self) -> Opened:
        """Raises RequestError where there are no functions here: `permission_denied`; `internal`
        when what is stored cannot be opened."""
        if self._opened is None:
            if not self.config.functions:
                raise RequestError(
                    PERMISSION_DENIED, "functions are turned off: functions in sandboxd.toml"
                )
            self.state.require_writable()
            raise RequestError(INTERNAL, self._problem)
        return self._opened

    async def open(self) -> None:
        """Open the store, where this daemon may write it.

        What is damaged there, or has no room, is no reason not to run jobs: it is logged, and every
        method of functions says it, until `run` has opened it after all.
        """
        if self._wanted:
            self._opened = await self._try_to_open()

    @property
    def _wanted(self) -> bool:
        return self.config.functions and self.state.writable

    async def _try_to_open(self) -> Opened | None:
        config = self.config
        retention = Retention(
            config.executions_age_ns, config.executions_bytes, config.executions_count
        )
        try:
            self._store = await Store.open(self.state, retention)
            left = await _unfinished(self._store)
        except HostError as exc:
            problem = f"functions are not available: {exc}"
            if problem != self._problem:
                _log.error("functions are not available %s", fields(why=str(exc)))
            self._problem = problem
            return None
        return Opened(self._store, left, config, self.engine, self.runtimes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run executions, and remove old ones, until cancelled. Nobody may use this before it says
        that it has begun. A store that could not be opened is tried again for ever."""
        opened = self._opened
        late = opened is None
        if late:
            task_status.started()
        while opened is None:
            if not self._wanted:
                return
            await trio.sleep(_REOPEN_S)
            opened = await self._try_to_open()
        async with trio.open_nursery() as nursery:
            await nursery.start(opened.executions.run)
            if late:
                self._opened = opened
                _log.info("functions are available")
            else:
                task_status.started()
            await self._expire(opened.store)

    async def _expire(self, store: Store) -> None:
        while True:
            try:
                removed = await store.expire(time.time_ns())
                if removed:
                    _log.debug("executions expired %s", fields(count=removed))
            except RequestError as error:
                _log.error("executions do not expire %s", fields(why=error.message))
            await trio.sleep(_EXPIRE_EVERY_S)

    def pause(self) -> None:
        """Begin no more executions."""
        if self._opened is not None:
            self._opened.executions.pause()

    async def finish(self) -> None:
        """End what runs; see `Executions.finish`."""
        if self._opened is not None:
            await self._opened.executions.finish()

    async def aclose(self) -> None:
        """Close the store. Nobody may use it any more."""
        self._opened = None
        if self._store is not None:
            await self._store.aclose()


async def _unfinished(store: Store) -> list[Execution]:
    """The first write, and the first look at executions: a store that could be opened may have no
    room for the one, and be damaged where the other reads. Raises HostError, and closes it then."""
    try:
        return await store.unfinished(time.time_ns())
    except Exception as exc:  # Of rows that are not what was written, it may be any.
        await store.aclose()
        known = isinstance(exc, RequestError)
        raise HostError(str(exc) if known else f"executions are damaged: {exc!r}") from exc
