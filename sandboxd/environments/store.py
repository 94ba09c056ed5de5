"""The environments that are there: kept on disk, known to the engine, changed one at a time.

On disk one is a directory of the state directory, `environments/<name>/`, with the root file system
in `rootfs/` and `environment.json` beside it. It is made in the staging directory and renamed into
place, and renamed back to be removed; so a name stands for a whole environment or for none.
Other daemons may read the same state directory. Each has a shared lock (flock(2)) on the directory
of each it knows, and the files of none are removed under the lock of another.
"""

import fcntl
import logging
import math
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from sandboxd.engine.aside import OURS
from sandboxd.engine.roots import Roots
from sandboxd.environments import beneath, description, importing
from sandboxd.environments.description import Description
from sandboxd.environments.names import check_name, is_name
from sandboxd.logs import fields
from sandboxd.protocol.errors import (
    BUSY,
    EXISTS,
    INTERNAL,
    LIMIT_EXCEEDED,
    NOT_FOUND,
    RequestError,
)
from sandboxd.state import State
from sandboxd.unpack.remove import empty

_log = logging.getLogger("sandboxd.environments")

# Each may take twice its bounds on the disk while it is made.
_MAX_IMPORTS: Final = 2
_RETRY_NS: Final = 5_000_000_000
_TIMEOUT_S: Final = 3600.0
_ROOT_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Environments:
    """Every environment of this daemon."""

    def __init__(self, state: State, roots: Roots, env: Mapping[str, str]) -> None:
        """``env``: a job's variables by default, which those of an image are added to."""
        self._state = state
        self._roots = roots
        self._env = env
        self._known: dict[str, Description] = {}
        self._locks: dict[str, int] = {}
        self._importing: set[str] = set()
        # Directories that nobody wants any more, for `run`.
        self._unwanted, self._to_remove = trio.open_memory_channel[Path](math.inf)

    def load(self) -> None:
        """Find what is there and make it known to the engine. What is damaged is logged."""
        try:
            names = sorted(os.listdir(self._state.environments))
        except FileNotFoundError:
            return
        except OSError as exc:
            _log.error("environments cannot be read %s", fields(why=exc.strerror))
            return
        for name in names:
            try:
                self._add(_read(self._state.environments / name, name))
            except (OSError, msgspec.MsgspecError, ValueError, RequestError) as exc:
                _log.error("an environment is not usable %s", fields(name=name, why=str(exc)))

    async def run(self) -> None:
        """Remove what nobody wants any more, until cancelled. What is left then is removed by the
        next start."""
        async for path in self._to_remove:
            try:
                await trio.to_thread.run_sync(_remove, path, abandon_on_cancel=True)
            except OSError as exc:
                _log.error("a left-over stays until the next start %s", _why(path, exc))

    def list(self) -> list[Description]:
        """All of them, by name."""
        return [self._known[name] for name in sorted(self._known)]

    async def import_archive(self, name: str, archive: int) -> Description:
        """Make the environment ``name`` of what is read from ``archive``, which this owns.

        Raises RequestError: `invalid_argument` for an archive that is refused, `exists` for a name
        that is taken, also by an import that has begun. Whether it fails or is cancelled, nothing
        is left.
        """
        try:
            self._require_free(check_name(name))
            self._importing.add(name)
            try:
                return await self._import(name, archive)
            finally:
                self._importing.discard(name)
        finally:
            OURS.close((archive,))

    def _require_free(self, name: str) -> None:
        self._state.require_writable()
        if name in self._importing:
            raise RequestError(EXISTS, f"environment {name} is being imported at the moment")
        if os.path.lexists(self._state.environments / name):
            raise RequestError(EXISTS, f"environment {name} is there already; remove it first")
        if len(self._importing) >= _MAX_IMPORTS:
            raise RequestError(
                BUSY,
                f"{_MAX_IMPORTS} imports are being done; wait for one of them",
                {"retry_after_ns": _RETRY_NS},
            )

    async def _import(self, name: str, archive: int) -> Description:
        staged = self._state.staging / f"environment-{secrets.token_hex(8)}"
        directory = -1
        try:
            staged.mkdir()
            directory = os.open(staged, beneath.DIRECTORY)
            os.fchmod(directory, 0o755)
            with trio.move_on_after(_TIMEOUT_S) as scope:
                made = await importing.make(directory, name, archive)
            if scope.cancelled_caught:
                text = f"importing {name} took more than {_TIMEOUT_S:g} s"
                raise RequestError(LIMIT_EXCEEDED, text)
            await self._publish(staged, made)
        except BaseException as exc:
            self._unwanted.send_nowait(staged)
            if isinstance(exc, OSError):
                text = f"cannot import {name}: {exc.strerror or exc}"
                raise RequestError(INTERNAL, text) from exc
            raise
        finally:
            if directory >= 0:
                os.close(directory)
        _log.info("environment imported %s", fields(name=name, files=made.files))
        return made

    async def _publish(self, staged: Path, made: Description) -> None:
        place = self._state.environments / made.name
        await trio.to_thread.run_sync(_rename, staged, place)
        try:
            self._add(made)
        except BaseException:
            place.rename(staged)
            raise

    def _add(self, found: Description) -> None:
        """Make it known. Raises OSError, or RequestError when the engine takes no more."""
        env = {**self._env, **found.defaults.env} if found.defaults.env else {}
        values = tuple(f"{key}={value}".encode() for key, value in env.items())
        lock = os.open(self._state.environments / found.name, beneath.DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            root = os.open(description.ROOT, _ROOT_FLAGS, dir_fd=lock)
            self._roots.add(found.name, root, values)
        except BaseException:
            os.close(lock)
            raise
        self._known[found.name] = found
        self._locks[found.name] = lock

    def remove(self, name: str) -> None:
        """No job can be started in it from now on, and the name is free; its files go when the last
        job that uses it has ended. Raises RequestError: `not_found`."""
        check_name(name)
        self._state.require_writable()
        removed = self._state.staging / f"removed-{secrets.token_hex(8)}"
        try:
            os.rename(self._state.environments / name, removed)
        except FileNotFoundError:
            raise RequestError(NOT_FOUND, f"there is no environment {name}") from None
        except OSError as exc:
            raise RequestError(INTERNAL, f"cannot remove {name}: {exc.strerror}") from exc
        if self._known.pop(name, None) is None:
            self._unwanted.send_nowait(removed)  # It was damaged, and is nobody's.
        else:
            self._roots.remove(name, partial(self._discard, self._locks.pop(name), removed))
        _log.info("environment removed %s", fields(name=name))

    def _discard(self, lock: int, removed: Path) -> None:
        os.close(lock)
        self._unwanted.send_nowait(removed)


def _read(path: Path, name: str) -> Description:
    if not is_name(name):
        raise ValueError("that is no name of an environment")
    directory = os.open(path, beneath.DIRECTORY)
    try:
        found = description.read(directory)
    finally:
        os.close(directory)
    if found.name != name:
        raise ValueError(f"it says that its name is {found.name}")
    return found


def _rename(staged: Path, place: Path) -> None:
    """Both are ours alone and on one file system. Durable when it returns."""
    os.rename(staged, place)
    parent = os.open(place.parent, beneath.DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _remove(path: Path) -> None:
    """Raises OSError: BlockingIOError while another daemon uses it."""
    try:
        directory = os.open(path, beneath.DIRECTORY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        empty(directory)
        path.rmdir()
    finally:
        os.close(directory)


def _why(path: Path, exc: OSError) -> str:
    used = isinstance(exc, BlockingIOError)
    return fields(path=path, why="another sandboxd uses it" if used else exc.strerror)
