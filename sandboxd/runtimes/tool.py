"""One runtime file and what is known of its tool: whether it is there, and in which version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.logs import fields
from sandboxd.protocol.errors import RequestError
from sandboxd.runtimes import detect
from sandboxd.runtimes.detect import MISSING, NotDetected, Programs, ToolStamp
from sandboxd.runtimes.runtime import Runtime, from_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandboxd.config import Config
    from sandboxd.engine.jobs import Engine
    from sandboxd.runtimes.cache import Cache
    from sandboxd.runtimes.loader import Loaded

_log = logging.getLogger("sandboxd.runtimes")

# Of a tool that hung or was killed, another attempt is made when somebody asks after this time.
_AGAIN_AFTER_S: Final = 60.0
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class Tool:
    """Knows one runtime, or that it is not there. Looked at each time it is asked for."""

    def __init__(
        self,
        loaded: Loaded,
        config: Config,
        engine: Engine,
        cache: Cache,
        changed: Callable[[Tool], None],
    ) -> None:
        """``changed`` is called when `runtime` has become another one."""
        self.loaded = loaded
        self.file = loaded.file
        self.runtime: Runtime | None = None
        self._config = config
        self._engine = engine
        self._cache = cache
        self._changed = changed
        self._programs = Programs(self.file.version.programs, _path(config, self.file.run.env))
        self._known: ToolStamp | None = None  # None while nothing is known.
        self._again_at = float("inf")
        self._detecting: trio.Event | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it can be asked for by."""
        return (self.file.language, *self.file.aliases)

    def settled(self) -> bool:
        """Whether `runtime` is true of the tool as it is now."""
        return self._stamp() == self._known and self._again_at == float("inf")

    async def settle(self) -> None:
        """Make `runtime` true of the tool as it is now, at most some seconds from now.

        Raises RequestError when the tool could not be run now, as in a queue that is full. Several
        tasks may wait at once, for one detection; one that is cancelled leaves it to the next.
        """
        while True:
            stamp = self._stamp()
            if stamp == self._known and trio.current_time() < self._again_at:
                return
            if self._detecting is not None:
                await self._detecting.wait()
                continue
            self._detecting = trio.Event()
            try:
                await self._find_out(stamp)
            finally:
                self._detecting.set()
                self._detecting = None
            return

    def _stamp(self) -> ToolStamp:
        name = self.file.environment
        if not name:
            return self._programs.stamp()
        try:
            return detect.root_stamp(self._engine.roots.find(name))
        except (RequestError, OSError):
            return MISSING

    async def _find_out(self, stamp: ToolStamp) -> None:
        if stamp == MISSING:
            self._take(stamp, None)
            return
        loaded = self.loaded
        version = self._cache.version(loaded.name, loaded.digest, stamp)
        if version is None:
            try:
                version = await detect.version(self._engine, self._config, self.file)
            except NotDetected as problem:
                self._failed(stamp, problem)
                return
            if self.file.version.command:
                self._cache.put(loaded.name, loaded.digest, stamp, version)
        self._take(stamp, version)

    def _failed(self, stamp: ToolStamp, problem: NotDetected) -> None:
        _log.warning(
            "a runtime is left out %s", fields(language=self.file.language, why=str(problem))
        )
        self._take(stamp, None)
        if problem.passing:
            self._again_at = trio.current_time() + _AGAIN_AFTER_S

    def _take(self, stamp: ToolStamp, version: str | None) -> None:
        """``stamp`` is of before the tool was run: had it changed since, that would be seen."""
        self._known = stamp
        self._again_at = float("inf")  # Only now: an attempt that was given up leaves it due.
        self.runtime = None if version is None else from_file(self.file, version)
        self._changed(self)


def _path(config: Config, env: Mapping[str, str]) -> str:
    return env.get("PATH") or config.env.get("PATH") or _DEFAULT_PATH
