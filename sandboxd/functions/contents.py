"""Files of functions and executions, each once, under the SHA-256 of its bytes.

What is durable when: `put` writes to the staging directory, calls fsync on the file, renames it to
`contents/ab/<sha256>` and calls fsync on that directory; only then may a row name it. A crash thus
leaves contents that nobody names, never a row without its content, nor half of one.

What nobody names is removed by the thread of the database, which is the only one that makes rows,
and not while it is pinned: from before `put` looks for it until a row names it, or for an hour.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.errors import HostError
from sandboxd.functions.database import sync_directory
from sandboxd.logs import fields
from sandboxd.protocol.errors import INTERNAL, LIMIT_EXCEEDED, NOT_FOUND, RequestError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from sandboxd.state import State

    Put = Callable[[bytes], Awaitable[str]]

_log = logging.getLogger("sandboxd.functions")

_PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_PINNED_S: Final = 3600.0
_WRITERS: Final = 4
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_NAMED: Final = (
    "SELECT EXISTS (SELECT 1 FROM function_files WHERE sha256 = ?1)"
    " OR EXISTS (SELECT 1 FROM execution_files WHERE sha256 = ?1)"
)


class Contents:
    """The directory of contents, and what is pinned."""

    def __init__(self, state: State) -> None:
        self._root = state.root / "contents"
        self._staging = state.staging
        self._lock = threading.Lock()
        self._pins: dict[str, list[float]] = {}
        # Found when they were read: they have the right size, and are to be written again.
        self._damaged: set[str] = set()
        self._writers = trio.CapacityLimiter(_WRITERS)

    def prepare(self) -> None:
        """Make the directories. Blocks. Raises HostError."""
        try:
            for path in (self._root, *(self._root / prefix for prefix in _PREFIXES)):
                with contextlib.suppress(FileExistsError):
                    path.mkdir(0o700)
            os.chmod(self._root, 0o700)
            sync_directory(self._root)
            sync_directory(self._root.parent)
        except OSError as exc:
            raise HostError(f"{exc.filename or self._root}: {exc.strerror}") from exc

    async def put(self, data: bytes) -> str:
        """Keep ``data`` and pin it; durable when this returns. Raises RequestError:
        `limit_exceeded` for a full disk, `internal`. Cannot be cancelled once begun."""
        return await trio.to_thread.run_sync(self._put, data, limiter=self._writers)

    async def get(self, sha256: str) -> bytes:
        """Raises RequestError: `not_found`; `internal` when it is not what was put there."""
        return await trio.to_thread.run_sync(self._get, sha256, abandon_on_cancel=True)

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise RequestError(NOT_FOUND, "that is no content: a content is named by its SHA-256")
        return self._root / sha256[:2] / sha256

    def _put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with self._lock:
            self._pins.setdefault(sha256, []).append(time.monotonic() + _PINNED_S)
        try:
            if sha256 in self._damaged or not _is_there(path, len(data)):
                self._write(data, path)
                self._damaged.discard(sha256)
            # Also for what another writer has just renamed, and not yet made durable.
            sync_directory(path.parent)
        except OSError as exc:
            self.unpin([sha256])
            raise _explain(exc, self._root) from exc
        return sha256

    def _write(self, data: bytes, path: Path) -> None:
        staged = self._staging / f"content-{secrets.token_hex(8)}"
        fd = os.open(staged, _NEW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            os.rename(staged, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise
        finally:
            os.close(fd)

    def _get(self, sha256: str) -> bytes:
        try:
            with open(os.open(self._path(sha256), _READ), "rb", buffering=0) as file:
                data = file.readall()
        except FileNotFoundError:
            raise RequestError(NOT_FOUND, f"there is no content {sha256}") from None
        except OSError as exc:
            raise _explain(exc, self._root) from exc
        if hashlib.sha256(data).hexdigest() != sha256:
            self._damaged.add(sha256)
            _log.error("a content is damaged %s", fields(sha256=sha256))
            raise RequestError(INTERNAL, f"the stored content {sha256} is damaged; upload it again")
        return data

    def unpin(self, names: Iterable[str]) -> None:
        """A row names each of ``names`` now, or never will: one pin less for each."""
        with self._lock:
            for sha256 in names:
                pins = self._pins.get(sha256)
                if pins:
                    pins.pop(0)
                    if not pins:
                        del self._pins[sha256]

    def abandoned(self) -> list[str]:
        """What was put and not named for so long that it is pinned no more."""
        now = time.monotonic()
        with self._lock:
            return [sha256 for sha256, pins in self._pins.items() if pins[-1] < now]

    # -- in the thread of the database -----------------------------------------------------------

    def require(self, sha256: str, size: int) -> None:
        """Raises RequestError `not_found` when a row must not name it: it is not there."""
        if not _is_there(self._path(sha256), size):
            text = f"the content {sha256} is not stored (any more): upload it again"
            raise RequestError(NOT_FOUND, text)

    def discard(self, connection: sqlite3.Connection, names: Iterable[str]) -> None:
        """Remove those of ``names`` that no row names. The rows must be committed."""
        for sha256 in names:
            with self._lock:
                self._forget_old_pins(sha256)
            if connection.execute(_NAMED, (sha256,)).fetchone()[0]:
                continue
            with self._lock:
                if sha256 not in self._pins:
                    self._remove(sha256)

    def _forget_old_pins(self, sha256: str) -> None:
        left = [pin for pin in self._pins.get(sha256, ()) if pin > time.monotonic()]
        if left:
            self._pins[sha256] = left
        else:
            self._pins.pop(sha256, None)

    def _remove(self, sha256: str) -> None:
        try:
            os.unlink(self._path(sha256))
        except FileNotFoundError:
            pass
        except OSError as exc:
            _log.error("a content was not removed %s", fields(sha256=sha256, why=exc.strerror))

    def stored(self) -> Iterator[list[str]]:
        """The names of all that is there, a directory at a time."""
        for prefix in _PREFIXES:
            try:
                found = os.listdir(self._root / prefix)
            except OSError as exc:
                _log.error("contents cannot be read %s", fields(prefix=prefix, why=exc.strerror))
                continue
            yield [name for name in found if _SHA256.fullmatch(name)]


@contextlib.asynccontextmanager
async def uploads(
    contents: Contents, discard: Callable[[list[str]], Awaitable[None]]
) -> AsyncIterator[Put]:
    """See `Store.uploads`."""
    held: list[str] = []

    async def put(data: bytes) -> str:
        held.append(await contents.put(data))
        return held[-1]

    try:
        yield put
    except BaseException:
        contents.unpin(held)
        with trio.CancelScope(shield=True):
            await discard(held)
        raise


def _is_there(path: Path, size: int) -> bool:
    try:
        return os.stat(path, follow_symlinks=False).st_size == size
    except FileNotFoundError:
        return False


def _explain(error: OSError, root: Path) -> RequestError:
    _log.error("a content failed %s", fields(why=error.strerror, path=error.filename or root))
    if error.errno in _FULL:
        text = f"the disk with {root} is full: free some space, or delete executions"
        return RequestError(LIMIT_EXCEEDED, text)
    return RequestError(INTERNAL, f"{root}: {error.strerror}")
