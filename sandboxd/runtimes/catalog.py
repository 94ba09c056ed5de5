"""Every runtime there is: of files, whose tools are looked at at each use, and of packages.

A request finds its runtime by a lookup and one stat for each program of the tool (15 us for a
language of two tools; under load, where the last one looked just before, none). The rest is done
when something has changed, by a task.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

import trio

from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.runtimes import RuntimeInfo, unknown_runtime
from sandboxd.runtimes import loader, plan, versions
from sandboxd.runtimes.tool import Tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxd.config import Config
    from sandboxd.engine.jobs import Engine
    from sandboxd.runtimes.cache import Cache
    from sandboxd.runtimes.loader import Sources
    from sandboxd.runtimes.plan import Plan
    from sandboxd.runtimes.runtime import Runtime

# Choices kept: clients ask for a few dozen, and a hostile one for as many as it likes.
_MOST_CHOSEN: Final = 1024
# A tool is not looked at again so soon after the last time: nothing is installed in less, and the
# version a client is told is that of when its request came, give or take this.
_LOOK_AGAIN_NS: Final = 10_000_000


class Provider(Protocol):
    """Brings runtimes besides those of files: the installed packages."""

    def runtimes(self) -> Iterable[Runtime]:
        """All that are there now. Called when anything has changed; must not block."""


class Catalog:
    """Finds the runtime for a language and a range of versions."""

    def __init__(self, config: Config, engine: Engine, sources: Sources, cache: Cache) -> None:
        self._config = config
        self._engine = engine
        self._sources = sources
        self._cache = cache
        self._providers: list[Provider] = []
        self._loaded = False
        self._tools: dict[str, Tool] = {}  # By the name of the file.
        self._tools_of: dict[str, list[Tool]] = {}  # By language and alias.
        self._plans: list[Plan] | None = None
        self._chosen: dict[tuple[str, str], Plan] = {}
        self._looked: dict[tuple[str, str], int] = {}  # When a choice was last seen to hold.
        self._saving = trio.Lock()

    def add_provider(self, provider: Provider) -> None:
        """Take the runtimes of ``provider``, too. It calls `provided` when they change."""
        self._providers.append(provider)
        self.provided()

    def provided(self) -> None:
        """A provider has other runtimes than before."""
        self._changed()

    # -- asking ------------------------------------------------------------------------------

    def find(self, language: str, version: str) -> Plan | None:
        """The highest version of ``language`` (a name or an alias) in the range ``version``.

        None when that is not known yet: await `settle` and ask again. Raises RequestError
        `not_found`.
        """
        key = (language, version)
        now = time.monotonic_ns()
        if now - self._looked.get(key, -_LOOK_AGAIN_NS) < _LOOK_AGAIN_NS:
            return self._chosen[key]
        if not self._loaded:
            self._load()
        if self._sources.directory_changed():
            return None
        for tool in self._tools_of.get(language, ()):
            if not tool.settled() or loader.changed(tool.loaded.source):
                return None
        try:
            chosen = self.choose(language, version)
        except RequestError:
            if self._sources.changed():  # Another file may have it now.
                return None
            raise
        self._looked[key] = now
        return chosen

    def choose(self, language: str, version: str) -> Plan:
        """As `find`, by what is known. Raises RequestError `not_found`."""
        key = (language, version)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._choose(language, version)
            if len(self._chosen) >= _MOST_CHOSEN:
                self._forget_choices()
            self._chosen[key] = chosen
        return chosen

    async def settle(self, language: str) -> None:
        """Find out what there is of ``language`` now: read files that have changed, run tools
        that have. Takes seconds at most; what fails or hangs is not there.

        Raises RequestError when a tool could not be run now.
        """
        self._reload()
        await self._settle(self._tools_of.get(language, ()))

    async def infos(self) -> list[RuntimeInfo]:
        """All runtimes as they are now, by language and version. Raises as `settle` does."""
        self._reload()
        await self._settle(tuple(self._tools.values()))
        infos = [found.info for found in self._all()]
        return sorted(infos, key=lambda info: (info.language, info.version, info.runtime or ""))

    async def detect_all(self) -> None:
        """Find out everything, one tool after the other so that clients notice nothing of it."""
        self._reload()
        try:
            for tool in tuple(self._tools.values()):
                with contextlib.suppress(RequestError):  # Whoever asks for it tries again.
                    await tool.settle()
        finally:
            if self._cache.dirty:
                self._cache.write()

    # -- what there is -----------------------------------------------------------------------

    def _load(self) -> None:
        self._loaded = True
        before, self._tools = self._tools, {}
        for loaded in self._sources.load():
            tool = before.get(loaded.name)
            if tool is None or tool.loaded.digest != loaded.digest:
                tool = Tool(loaded, self._config, self._engine, self._cache, self._tool_changed)
            tool.loaded = loaded
            self._tools[loaded.name] = tool
        self._tools_of = {}
        for tool in self._tools.values():
            for name in dict.fromkeys(tool.names):
                self._tools_of.setdefault(name, []).append(tool)
        self._cache.keep_only(set(self._tools))
        self._changed()

    def _reload(self) -> None:
        if self._sources.reread() or not self._loaded:
            self._load()

    async def _settle(self, tools: Sequence[Tool]) -> None:
        waiting = [tool for tool in tools if not tool.settled()]
        if not waiting:
            return
        places = trio.CapacityLimiter(self._engine.scheduler.places)
        errors: list[RequestError] = []
        async with trio.open_nursery() as nursery:
            for tool in waiting:
                nursery.start_soon(_settle_one, tool, places, errors)
        await self._save()
        if errors:
            raise errors[0]

    async def _save(self) -> None:
        async with self._saving:
            if self._cache.dirty:
                await trio.to_thread.run_sync(self._cache.write)

    def _tool_changed(self, tool: Tool) -> None:
        self._changed()

    def _changed(self) -> None:
        self._plans = None
        self._forget_choices()

    def _forget_choices(self) -> None:
        self._chosen.clear()
        self._looked.clear()

    def _all(self) -> list[Plan]:
        """Packages first: who installed one wants it, where the host has the same version."""
        if self._plans is None:
            given = [runtime for provider in self._providers for runtime in provider.runtimes()]
            found = [tool.runtime for tool in self._tools.values()]
            self._plans = [
                plan.make(runtime, self._config, self._engine.roots)
                for runtime in (*given, *found)
                if runtime is not None
            ]
        return self._plans

    def _choose(self, language: str, version: str) -> Plan:
        plans: dict[str, Plan] = {}
        for candidate in self._all():
            runtime = candidate.runtime
            if runtime.language == language or language in runtime.aliases:
                plans.setdefault(runtime.version, candidate)
        highest = versions.highest(tuple(plans), version) if plans else None
        if highest is None:
            raise unknown_runtime(language, version)
        return plans[highest]


async def _settle_one(tool: Tool, places: trio.CapacityLimiter, errors: list[RequestError]) -> None:
    async with places:
        try:
            await tool.settle()
        except RequestError as error:
            errors.append(error)
