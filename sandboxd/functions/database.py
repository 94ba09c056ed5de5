"""The SQLite database and the one thread that uses it.

Writes that wait at the same moment are committed together, with one fsync (group commit). Where one
of them fails nothing is committed, and all are done once more, each in a savepoint of its own, so
that it takes nothing along. Savepoints are not for the first time: in each SQLite keeps the former
content of every page in memory, which for a thousand rows in a large table is many megabytes.
Reads run between two commits and so see only what is on the disk.

What is durable when: the database is in WAL mode with `synchronous=FULL`, so SQLite calls fsync on
the WAL at each commit, and on its directory when it makes it. A write returns after that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import trio

from sandboxd.errors import HostError
from sandboxd.functions import migrations
from sandboxd.logs import fields
from sandboxd.protocol.errors import BUSY, INTERNAL, LIMIT_EXCEEDED, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_log = logging.getLogger("sandboxd.functions")

T = TypeVar("T")

_MAX_BATCH: Final = 256
_BUSY_MS: Final = 5000
_RETRY_NS: Final = 1_000_000_000
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_SETTINGS: Final = (
    # Only has an effect on a new file, and only before the next one.
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {_BUSY_MS}",
    "PRAGMA temp_store = MEMORY",
    # KiB. The kernel caches the rest of the file: 100,000 rows are as quick as with 8192.
    "PRAGMA cache_size = -2048",
    "PRAGMA journal_size_limit = 67108864",
    # What the file says is data, whoever wrote it.
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)


class _Item(Generic[T]):
    """One thing to do, and what came of it."""

    __slots__ = ("done", "error", "token", "value", "work", "writes")

    def __init__(self, work: Callable[[sqlite3.Connection], T], writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.done = trio.Event()
        self.token = trio.lowlevel.current_trio_token()
        self.value: T | None = None
        self.error: BaseException | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        self.value, self.error = None, None
        try:
            self.value = self.work(connection)
        except Exception as exc:
            self.error = exc


class Database:
    """Owns the connection and the thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Item[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="functions.db", daemon=True)
        self._closed = False

    async def open(self) -> None:
        """Open it, make or migrate it. Raises HostError; nothing is left open then."""
        opening = _Item(lambda _: None, False)
        self._queue.put(opening)
        self._thread.start()
        with trio.CancelScope(shield=True):
            await opening.done.wait()
        if opening.error is not None:
            self._closed = True
            raise opening.error

    async def close(self) -> None:
        """Do what was asked for so far, then close. For a second time: does nothing."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in a transaction; on the disk when this returns. It may be run again, when
        what it did was undone.

        What ``work`` raises undoes it, and is raised here; an error of SQLite as RequestError. Once
        begun it cannot be cancelled.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        item = self._put(work, True)
        with trio.CancelScope(shield=True):
            await item.done.wait()
        return self._result(item)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work``, which changes nothing. Cancelled: nobody waits for it."""
        item = self._put(work, False)
        await item.done.wait()
        return self._result(item)

    def _put(self, work: Callable[[sqlite3.Connection], T], writes: bool) -> _Item[T]:
        if self._closed:
            raise RequestError(INTERNAL, "sandboxd is stopping: functions are closed")
        item = _Item(work, writes)
        self._queue.put(item)
        return item

    def _result(self, item: _Item[T]) -> T:
        if isinstance(item.error, sqlite3.Error):
            raise explain(item.error, self._path) from item.error
        if item.error is not None:
            raise item.error
        return item.value  # type: ignore[return-value]  # It is a T when there is no error.

    # -- in the thread ---------------------------------------------------------------------------

    def _serve(self) -> None:
        first = self._queue.get()
        assert first is not None  # noqa: S101 - `open` put it there.
        try:
            connection = _open(self._path)
        except Exception as exc:
            first.error = exc
            _deliver([first])
            return
        _deliver([first])
        with contextlib.closing(connection):
            ended = False
            while not ended:
                batch, ended = self._collect()
                _run(connection, batch)

    def _collect(self) -> tuple[list[_Item[Any]], bool]:
        """All that waits, at least one; and whether that was the end."""
        item = self._queue.get()
        batch: list[_Item[Any]] = []
        while item is not None:
            batch.append(item)
            if len(batch) == _MAX_BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True


def _run(connection: sqlite3.Connection, batch: list[_Item[Any]]) -> None:
    reads = [item for item in batch if not item.writes]
    for item in reads:
        item.attempt(connection)
    _deliver(reads)
    writes = [item for item in batch if item.writes]
    if not writes:
        return
    failure = _commit(connection, writes)
    if len(writes) > 1 and _is_of_one(failure):
        failure = _commit(connection, writes, apart=True)
        if _is_of_one(failure):
            # One that was too much for the disk must not be the ruin of the others.
            for item in writes:
                _commit(connection, [item])
    _deliver(writes)


def _is_of_one(failure: Exception | None) -> bool:
    """Whether it may be better without one of the writes."""
    return failure is not None and _code(failure) not in _BUSY


def _commit(
    connection: sqlite3.Connection, items: Sequence[_Item[Any]], *, apart: bool = False
) -> Exception | None:
    """One transaction; where they are kept ``apart``, without those that fail. The answer is why it
    failed as a whole, which each of ``items`` has then."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for item in items:
            if apart:
                _attempt_apart(connection, item)
            else:
                item.attempt(connection)
                if item.error is not None:
                    raise item.error
        connection.execute("COMMIT")
    except Exception as exc:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        for item in items:
            item.error = exc
        return exc
    return None


def _attempt_apart(connection: sqlite3.Connection, item: _Item[Any]) -> None:
    """Raises what has undone the whole transaction."""
    connection.execute("SAVEPOINT item")
    item.attempt(connection)
    # After some errors, a full disk among them, SQLite has undone everything.
    if isinstance(item.error, sqlite3.Error) and not connection.in_transaction:
        raise item.error
    if item.error is not None:
        connection.execute("ROLLBACK TO item")
    connection.execute("RELEASE item")


def _deliver(items: list[_Item[Any]]) -> None:
    if not items:
        return
    with contextlib.suppress(trio.RunFinishedError):
        items[0].token.run_sync_soon(_wake, items)


def _wake(items: list[_Item[Any]]) -> None:
    for item in items:
        item.done.set()


def _open(path: Path) -> sqlite3.Connection:
    """Raises HostError."""
    try:
        # SQLite would follow a link, and make a file that everybody can read.
        os.close(os.open(path, _OPEN, 0o600))
        os.chmod(path, 0o600)
    except PermissionError as exc:
        raise HostError(f"{path} must belong to uid {os.geteuid()}: chown it") from exc
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        before = migrations.migrate(connection, migrations.steps())
        if before == 0:
            sync_directory(path.parent)
        return connection
    except BaseException as exc:
        if connection is not None:
            connection.close()
        if isinstance(exc, sqlite3.Error):
            raise HostError(str(explain(exc, path))) from exc
        if isinstance(exc, OSError):
            raise HostError(f"{exc.filename or path}: {exc.strerror}") from exc
        raise


def sync_directory(path: Path) -> None:
    """Make durable what was made in, renamed to or removed from it."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: Exception) -> int:
    """Without what SQLite has extended it by; 0 for an error of something else."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def explain(error: sqlite3.Error, path: Path) -> RequestError:
    """What to tell the client, and the administrator in the log."""
    code = _code(error)
    _log.error("the database failed %s", fields(path=path, why=str(error)))
    if code == sqlite3.SQLITE_FULL:
        text = f"the disk with {path.parent} is full: free some space, or delete executions"
        return RequestError(LIMIT_EXCEEDED, text)
    if code in _DAMAGED:
        text = f"{path} is damaged: stop sandboxd, then restore it from a backup or move it away"
        return RequestError(INTERNAL, text)
    if code in _BUSY:
        text = f"{path} is in use by another program; try again, or stop that"
        return RequestError(BUSY, text, {"retry_after_ns": _RETRY_NS})
    text = f"{path}: {error}: look at the disk, at the rights and at sandboxd's log"
    return RequestError(INTERNAL, text)
