"""The packages that are there, and what can be done with them."""

import errno
import logging
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from sandboxd.engine.aside import OURS
from sandboxd.engine.jobs import Engine
from sandboxd.logs import fields
from sandboxd.packages import environment, info
from sandboxd.packages.info import BadInfo
from sandboxd.packages.store import Found, Record, Staged, Store
from sandboxd.packages.use import Use
from sandboxd.protocol.errors import (
    BUSY,
    EXISTS,
    INTERNAL,
    INVALID_ARGUMENT,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    RequestError,
)
from sandboxd.runtimes.catalog import Catalog
from sandboxd.runtimes.runtime import Runtime
from sandboxd.state import State
from sandboxd.unpack.bounds import GIB, Bounds, Options
from sandboxd.unpack.process import ChecksumMismatch, unpack

_log = logging.getLogger("sandboxd.packages")

Key = tuple[str, str]
Progress = Callable[[str, int, int | None], None]
"""Called with a phase of `package.install`, bytes of the archive, and their total if known."""

# The largest of Piston's packages has some GiB. Each takes its archive and its files at once.
BOUNDS: Final = Bounds(archive_bytes=4 * GIB, total_bytes=16 * GIB, members=400_000)
_MAX_AT_ONCE: Final = 2
_TIMEOUT_S: Final = 3600.0
_RETRY_NS: Final = 5_000_000_000


class Package:
    """One installed package."""

    def __init__(self, found: Found, directory: str) -> None:
        """``directory`` is its own inside the sandbox."""
        self.found = found
        self.use = Use()
        self.runtimes = info.runtimes(
            found.info, directory=directory, compiled=found.compiled, env=found.env, use=self.use
        )


class Installation:
    """One that has begun. Whoever wants the same package waits for it."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        self.ended = trio.Event()
        self.done = False
        self.error: RequestError | None = None
        """Neither: who asked for it is gone, and the next one tries."""
        self._waiting: list[Progress] = []
        self._state: tuple[str, int, int | None] = ("wait", 0, None)

    def report(self, phase: str, done: int, total: int | None) -> None:
        """Tell those who wait. Their archives are not read: ``download`` is not for them."""
        self._state = ("wait" if phase == "download" else phase, done, total)
        for progress in self._waiting:
            progress(*self._state)

    async def follow(self, sha256: str, progress: Progress) -> bool:
        """Wait for the end. False when it has none that counts for an archive with ``sha256``,
        which is then to be tried itself. Raises RequestError as it did."""
        self._waiting.append(progress)
        progress(*self._state)
        try:
            await self.ended.wait()
        finally:
            self._waiting.remove(progress)
        if self.error is not None and self.sha256 == sha256:
            raise self.error
        return self.done and self.sha256 == sha256


class Packages:
    """Every installed package; brings their runtimes to the catalog."""

    def __init__(self, state: State, engine: Engine, catalog: Catalog, target: str) -> None:
        """``target`` is where sandboxes see the directory of packages."""
        self._state = state
        self._engine = engine
        self._catalog = catalog
        self._target = target
        self._store = Store(state)
        self._installed: dict[Key, Package] = {}
        self._installing: dict[Key, Installation] = {}
        self._leaving: dict[Key, trio.Event] = {}
        self._locks: list[int] = []  # Of a daemon that only reads; for as long as it lives.
        self._places = trio.CapacityLimiter(_MAX_AT_ONCE)
        # What nobody wants any more, for `run`.
        self._unwanted, self._to_remove = trio.open_memory_channel[Key | Path](math.inf)
        catalog.add_provider(self)

    # -- what is there -----------------------------------------------------------------------

    def load(self) -> None:
        """Find what is installed, and what an interrupted installation left."""
        installed, others = self._store.names()
        for key in installed:
            try:
                if not self._state.writable:
                    self._locks.append(self._store.lock(*key))
                self._add(self._store.find(*key))
            except (BadInfo, OSError) as exc:
                name = "-".join(key)
                _log.error("a package is not usable %s", fields(package=name, why=str(exc)))
        if self._state.writable:
            self._store.tidy()
            for key in others:
                self._leave(key)
        self._catalog.provided()

    async def run(self) -> None:
        """Remove what nobody wants any more, until cancelled. What is left then is removed by the
        next start."""
        async for what in self._to_remove:
            try:
                await trio.to_thread.run_sync(self._remove, what, abandon_on_cancel=True)
            except OSError as exc:
                _log.error(
                    "a left-over stays until the next start %s",
                    fields(what=what, why=exc.strerror),
                )
            if isinstance(what, tuple):
                self._leaving.pop(what).set()

    def _remove(self, what: Key | Path) -> None:
        path = self._store.discard(*what) if isinstance(what, tuple) else what
        if path is not None:
            self._store.remove(path)

    def runtimes(self) -> Iterable[Runtime]:
        """Those of all packages, for the catalog."""
        return [runtime for package in self._installed.values() for runtime in package.runtimes]

    def list(self) -> list[Package]:
        """By language and version."""
        return [self._installed[key] for key in sorted(self._installed)]

    def _add(self, found: Found) -> None:
        key = (found.language, found.version)
        self._installed[key] = Package(found, self._directory(key))

    def _directory(self, key: Key) -> str:
        """Inside the sandbox."""
        return f"{self._target}/{key[0]}/{key[1]}"

    def _leave(self, key: Key) -> None:
        """Have it removed. Until it is, its place is taken."""
        self._leaving[key] = trio.Event()
        self._unwanted.send_nowait(key)

    # -- uninstalling ------------------------------------------------------------------------

    async def uninstall(self, language: str, version: str) -> None:
        """No further job uses it; it is removed when those that do have ended.

        Raises RequestError: `not_found`. Is done to its end when cancelled.
        """
        self._state.require_writable()
        key = (language, version)
        package = self._installed.pop(key, None)
        if package is None:
            raise RequestError(NOT_FOUND, f"{language}-{version} is not installed")
        self._catalog.provided()
        self._leaving[key] = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._store.unmark, language, version)
        except OSError as exc:
            del self._leaving[key]
            self._installed[key] = package
            self._catalog.provided()
            text = f"cannot uninstall {language}-{version}: {exc.strerror}"
            raise RequestError(INTERNAL, text) from exc
        package.use.retire(partial(self._unwanted.send_nowait, key))
        _log.info("package uninstalled %s", fields(language=language, version=version))

    # -- installing --------------------------------------------------------------------------

    async def install(
        self, language: str, version: str, sha256: str, archive: int, progress: Progress
    ) -> None:
        """Install what is read from ``archive``, which this owns.

        Where the same package is being installed already, wait for that and end like it. Raises
        RequestError: `exists`; `invalid_argument` for another checksum and for what is refused.
        When it fails or is cancelled, nothing is left.
        """
        key = (language, version)
        try:
            self._state.require_writable()
            while (running := self._installing.get(key)) is not None:
                if await running.follow(sha256, progress):
                    return
            if key in self._installed:
                raise RequestError(EXISTS, "Already installed")
            await self._install_alone(key, sha256, archive, progress)
        finally:
            OURS.close((archive,))

    async def _install_alone(self, key: Key, sha256: str, archive: int, progress: Progress) -> None:
        installation = self._installing[key] = Installation(sha256)

        def report(phase: str, done: int, total: int | None) -> None:
            progress(phase, done, total)
            installation.report(phase, done, total)

        try:
            with trio.move_on_after(_TIMEOUT_S) as scope:
                await self._install(key, sha256, archive, report)
            if scope.cancelled_caught:
                text = f"installing {'-'.join(key)} took more than {_TIMEOUT_S:g} s"
                raise RequestError(LIMIT_EXCEEDED, text)
        except RequestError as error:
            installation.error = error
            raise
        else:
            installation.done = True
        finally:
            del self._installing[key]
            installation.ended.set()

    async def _install(self, key: Key, sha256: str, archive: int, progress: Progress) -> None:
        if key in self._leaving:
            await self._leaving[key].wait()
        try:
            async with self._places:
                await self._make(key, sha256, archive, progress)
        except OSError as exc:
            text = f"cannot install {'-'.join(key)}: {exc.strerror or exc}"
            if exc.errno == errno.EBUSY:
                raise RequestError(BUSY, text, {"retry_after_ns": _RETRY_NS}) from exc
            raise RequestError(INTERNAL, text) from exc
        except BadInfo as exc:
            raise RequestError(INVALID_ARGUMENT, f"not a package: {exc}") from exc
        _log.info("package installed %s", fields(language=key[0], version=key[1]))
        progress("done", 0, None)

    async def _make(self, key: Key, sha256: str, archive: int, progress: Progress) -> None:
        staged = self._store.stage()
        try:
            record = await self._unpack(key, sha256, archive, staged, progress)
            if self._store.exists(*key):  # Damaged, or it would be known.
                await self._discard(key)
            await trio.to_thread.run_sync(self._store.place, staged, *key)
        finally:
            staged.close()
            self._unwanted.send_nowait(staged.path)
        try:
            progress("environment", 0, None)
            env = await environment.variables(self._engine, self._directory(key))
            await trio.to_thread.run_sync(self._store.complete, *key, env, record)
            self._add(await trio.to_thread.run_sync(self._store.find, *key))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._discard(key)
            raise
        self._catalog.provided()

    async def _unpack(
        self, key: Key, sha256: str, archive: int, staged: Staged, progress: Progress
    ) -> Record:
        try:
            unpacked = await unpack(
                archive,
                staged.tree,
                spool=staged.spool,
                bounds=BOUNDS,
                options=Options(sha256=sha256, prefix=self._directory(key)),
                progress=progress,
            )
        except ChecksumMismatch as exc:
            text = f"Checksum miss-match want: {sha256} got: {exc.got}"
            raise RequestError(INVALID_ARGUMENT, text, {"field": "sha256"}) from exc
        return Record(sha256, unpacked.bytes, unpacked.files)

    async def _discard(self, key: Key) -> None:
        path = await trio.to_thread.run_sync(self._store.discard, *key)
        if path is not None:
            self._unwanted.send_nowait(path)
