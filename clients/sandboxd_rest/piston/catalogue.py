"""Which runtimes there are, as the daemon said a moment ago."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nodesemver
import trio
from msgspec import Struct

from sandboxd.protocol import ranges
from sandboxd_rest.piston.models import RuntimeEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxd_rest.link import Link

# For so long a package that somebody else installed may go unnoticed.
_FRESH_S: Final = 1.0
_MAX_FOUND: Final = 4096


class StageLimits(Struct, frozen=True):
    """Limits of a runtime that differ from the daemon's, by the protocol's names."""

    compile: dict[str, int] = {}
    run: dict[str, int] = {}


class Runtime(Struct, frozen=True):
    """A runtime in the answer of `runtime.list`, as far as it matters here."""

    language: str
    version: str
    compiled: bool
    aliases: list[str] = []
    runtime: str | None = None
    limits: StageLimits = StageLimits()


class Catalogue:
    """The runtimes at one moment."""

    def __init__(self, runtimes: list[Runtime], asked: float) -> None:
        self.runtimes = runtimes
        self.asked = asked
        self.entries = msgspec.json.encode([_entry(runtime) for runtime in runtimes])
        """The answer of /runtimes."""
        self._found: dict[tuple[str, str], Runtime | None] = {}

    def find(self, language: str, version: str) -> Runtime | None:
        """The highest version in the range, by name or alias; None when there is none."""
        key = (language, version)
        if key not in self._found:
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            self._found[key] = self._search(language, version)
        return self._found[key]

    def _search(self, language: str, version: str) -> Runtime | None:
        named = {
            runtime.version: runtime
            for runtime in reversed(self.runtimes)
            if runtime.language == language or language in runtime.aliases
        }
        best = highest(list(named), version)
        return None if best is None else named[best]


def highest(versions: list[str], wanted: str) -> str | None:
    """The highest of `versions` in the range; None for a range that is none."""
    try:
        found = nodesemver.max_satisfying(versions, ranges.tidy(wanted), loose=False)
    except ValueError:
        return None
    return None if found is None else str(found)


def _entry(runtime: Runtime) -> RuntimeEntry:
    other: Any = msgspec.UNSET if runtime.runtime is None else runtime.runtime
    return RuntimeEntry(runtime.language, runtime.version, runtime.aliases, other)


class Runtimes:
    """Keeps a catalogue up to date."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._asking = trio.Lock()
        self._now: Catalogue | None = None

    async def get(self, *, newer_than: float = 0.0) -> Catalogue:
        """The runtimes as they were at most a second ago, and after `newer_than`.

        Raises Refusal when the daemon is down.
        """
        now = self._current(newer_than)
        if now is not None:
            return now
        async with self._asking:
            now = self._current(newer_than)
            if now is None:
                now = self._now = await self._ask()
            return now

    def forget(self) -> None:
        """Something has changed."""
        self._now = None

    def _current(self, newer_than: float) -> Catalogue | None:
        now = self._now
        if now is None or now.asked <= newer_than:
            return None
        return now if time.monotonic() - now.asked <= _FRESH_S else None

    async def _ask(self) -> Catalogue:
        asked = time.monotonic()
        answer: Mapping[str, Any] = await self._link.call(
            lambda client: client.call("runtime.list", {})
        )
        return Catalogue(msgspec.convert(answer["runtimes"], list[Runtime]), asked)

    async def find(self, language: str, version: str) -> Runtime | None:
        """The runtime of a request. What seems not to be there is asked for again."""
        now = await self.get()
        found = now.find(language, version)
        if found is None:
            found = (await self.get(newer_than=now.asked)).find(language, version)
        return found
