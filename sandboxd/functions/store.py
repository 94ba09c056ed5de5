"""The store: everything about functions that outlives the daemon.

What is durable when: contents are on the disk before a row names them (see `contents`), a row is
when the method that wrote it returns (see `database`), the key file before anything is encrypted
with it (see `secrets`). What a crash leaves besides are contents that no row names and files in the
staging directory; the next start removes both.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sandboxd.errors import HostError
from sandboxd.functions import execution_list, execution_rows, function_rows, keys, retention
from sandboxd.functions.contents import Contents, uploads
from sandboxd.functions.database import Database
from sandboxd.functions.execution_rows import ExecutionRows
from sandboxd.functions.function_rows import FunctionRows
from sandboxd.functions.keys import KeyRing, hash_secret, make_secret
from sandboxd.functions.model import (
    Execution,
    ExecutionFile,
    Filter,
    Function,
    FunctionItem,
    Key,
    Kind,
    Outcome,
    Retention,
)
from sandboxd.functions.secrets import open_vault
from sandboxd.protocol.errors import RequestError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from sandboxd.functions.contents import Put
    from sandboxd.functions.retention import Removed
    from sandboxd.state import State

T = TypeVar("T")

DATABASE: Final = "functions.db"
_ALL: Final = Filter()
_KEPT: Final = Retention()


class Store:
    """What a method wrote is on the disk when it returns, and all of it or nothing is there after a
    crash. Cancelling a method does not undo it: it waits for its end.

    Every method raises RequestError: `not_found`, `exists`, `limit_exceeded` when the disk is full,
    `internal` when the database is damaged or cannot be written.
    """

    @classmethod
    async def open(cls, state: State, retention: Retention = _KEPT) -> Store:
        """Open what is in the state directory, which must be writable, or make it.

        Raises HostError when that is damaged, made by a later version, or not to be read.
        """
        state.require_writable()
        database, contents = Database(state.root / DATABASE), Contents(state)
        await database.open()
        try:
            await database.write(lambda _: contents.prepare())
            vault = await database.write(partial(open_vault, state.root, state.staging))
            ring = KeyRing(await database.read(keys.load))
        except BaseException as exc:
            await database.close()
            if isinstance(exc, RequestError):
                raise HostError(str(exc)) from exc
            raise
        return cls(database, contents, FunctionRows(vault, contents), ring, retention)

    def __init__(
        self,
        database: Database,
        contents: Contents,
        functions: FunctionRows,
        ring: KeyRing,
        retention: Retention,
    ) -> None:
        self._database = database
        self._contents = contents
        self._functions = functions
        self._executions = ExecutionRows(contents)
        self._ring = ring
        self._retention = retention

    async def aclose(self) -> None:
        """Finish what was begun and give everything up."""
        await self._database.close()

    # -- functions

    async def add_function(self, function: Function) -> Function:
        """Store it; the answer has its id. `exists` for a name that is taken."""
        stored = await self._write(self._functions.add, function)
        self._contents.unpin(file.sha256 for file in stored.files)
        return stored

    async def change_function(
        self, tenant: int, space: str, name: str, changes: dict[str, Any]
    ) -> Function:
        """Set the fields of `FUNCTION_CHANGES` (a new `name` or `space` renames) and count the
        revision up. `not_found`; `exists` for a new name that is taken."""

        def work(connection: sqlite3.Connection) -> tuple[Function, Function]:
            old = self._functions.get(connection, tenant, space, name)
            return old, self._functions.change(connection, old, changes)

        old, new = await self._database.write(work)
        if (old.space, old.name) != (new.space, new.name):
            self._ring.rename(new)
        if "files" in changes:
            before, after = ({file.sha256 for file in one.files} for one in (old, new))
            self._contents.unpin(after - before)
            await self._discard(before - after)
        return new

    async def function(self, tenant: int, space: str, name: str) -> Function:
        """`not_found`."""
        return await self._read(self._functions.get, tenant, space, name)

    async def functions(
        self,
        tenant: int,
        space: str | None = None,
        kind: Kind | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int = 100,
    ) -> list[FunctionItem]:
        """By (space, name), from the one behind ``after``."""
        return await self._read(function_rows.items, tenant, space, kind, after, limit)

    async def delete_function(
        self, tenant: int, space: str, name: str, now_ns: int
    ) -> tuple[Function, list[str]]:
        """Remove it. Its pending executions end as `cancelled` (their ids are in the answer), the
        others stay; so do its keys, which reach those. `not_found`."""

        def work(connection: sqlite3.Connection) -> tuple[Function, list[str]]:
            function = self._functions.get(connection, tenant, space, name)
            return function, function_rows.delete(connection, function, now_ns)

        function, ended = await self._database.write(work)
        await self._discard(file.sha256 for file in function.files)
        return function, ended

    # -- executions

    async def add_execution(self, execution: Execution) -> Execution:
        """Store it; the answer has its sequence. Its inputs are contents of this store."""
        return (await self.add_executions([execution]))[0]

    async def add_executions(self, executions: Sequence[Execution]) -> list[Execution]:
        """All of them, which are of one tenant, or none."""
        if not executions:
            return []

        def work(connection: sqlite3.Connection) -> tuple[list[Execution], Removed]:
            for one in {one.function_id: one for one in executions}.values():
                execution_rows.require_function(connection, one)
            stored = [self._executions.add(connection, one) for one in executions]
            return stored, retention.require_room(connection, self._retention, stored[-1])

        stored, removed = await self._database.write(work)
        self._contents.unpin(file.sha256 for one in stored for file in one.inputs)
        await self._discard(removed.contents)
        return stored

    async def change_execution(self, id: str, expected: str = "", **changes: Any) -> Execution:
        """Set these: status (`running` from `pending` only), submitted_ns, started_ns, revision,
        args, stdin, limits, metadata, inputs. `not_found`; `invalid_argument` with
        data {"state": …} when it has ended, or is not ``expected``."""
        changed = await self._write(self._executions.change, id, expected, changes)
        if "inputs" in changes:
            self._contents.unpin(file.sha256 for file in changed.inputs)
        return changed

    async def add_input(self, id: str, file: ExecutionFile) -> Execution:
        """Add an input, or replace the one with its id. Only of one that is pending and not
        submitted; else `invalid_argument` with data {"state": …}."""

        def work(connection: sqlite3.Connection) -> tuple[Execution, Execution, Removed]:
            old = self._executions.get(connection, id)
            new = self._executions.add_input(connection, id, file)
            return old, new, retention.require_room(connection, self._retention, new)

        old, new, removed = await self._database.write(work)
        self._contents.unpin([file.sha256])
        await self._discard([*removed.contents, *(file.sha256 for file in old.inputs)])
        return new

    async def end_execution(self, id: str, outcome: Outcome) -> Execution:
        """It has ended. The first end counts: of one that has ended, nothing is changed. Answers
        without what was sent."""
        return (await self.end_executions([(id, outcome)]))[0]

    async def end_executions(self, ends: Sequence[tuple[str, Outcome]]) -> list[Execution]:
        """As `end_execution`: all of them, or none."""

        def work(connection: sqlite3.Connection) -> tuple[list[Execution], Removed]:
            ended = [self._executions.end(connection, id, outcome) for id, outcome in ends]
            return ended, retention.make_room(connection, self._retention, ended[-1])

        ended, removed = await self._database.write(work)
        given = [file.sha256 for _, outcome in ends for file in outcome.outputs]
        self._contents.unpin(given)
        unused = set(given) - {file.sha256 for one in ended for file in one.outputs}
        await self._discard(removed.contents | unused)
        return ended

    async def execution(self, id: str, *, sent: bool = True) -> Execution:
        """`not_found`. Whose it is, is for the caller to look at. ``sent``: with args and stdin."""
        return await self._read(self._executions.get, id, sent)

    async def log(self, id: str, start: int = 0, size: int = -1) -> bytes:
        """What an ended one printed, from byte ``start``; ``size`` -1: all. `not_found`."""
        return await self._read(execution_rows.log, id, start, size)

    async def executions(
        self, tenant: int, filter: Filter = _ALL, after: int = 0, limit: int = 100
    ) -> list[Execution]:
        """Newest first, from the one older than the sequence ``after`` (0: the newest)."""
        return await self._read(execution_list.items, tenant, filter, after, limit)

    async def executions_by_id(self, ids: Sequence[str]) -> list[Execution]:
        """Those that are there, in the order of ``ids``, without what was sent."""
        return await self._read(self._executions.get_many, ids)

    async def delete_execution(self, id: str) -> Execution:
        """Remove it with its files; the answer is its last state. `not_found`."""
        deleted = await self._write(self._executions.delete, id)
        await self._discard(file.sha256 for file in (*deleted.inputs, *deleted.outputs))
        return deleted

    async def unfinished(self, now_ns: int) -> list[Execution]:
        """To be called once, at start: what was running is ended as `interrupted`. Answers with
        what is to be run now, oldest first, without what was sent."""
        await self._write(execution_rows.interrupt, now_ns)
        for names in self._contents.stored():  # A directory at a time: others come in between.
            await self._discard(names)
        ids = await self._read(execution_rows.submitted)
        return await self._read(self._executions.get_many, ids)

    # -- keys

    async def add_key(self, key: Key) -> tuple[Key, str]:
        """The key as stored, and its secret, which nobody can ask for again. `exists`."""
        secret = make_secret(key.role)
        digest = hash_secret(secret)
        stored = await self._write(keys.add, key, digest)
        self._ring.add(stored, digest)
        return stored, secret

    def key_by_secret(self, secret: str) -> Key | None:
        """From memory: no disk, and takes the same time for every wrong secret."""
        return self._ring.find(secret)

    def key(self, key_id: int) -> Key | None:
        """From memory."""
        return self._ring.get(key_id)

    async def keys(self, tenant: int) -> list[Key]:
        """By name."""
        return await self._read(keys.of_tenant, tenant)

    async def delete_key(self, tenant: int, name: str, now_ns: int) -> Key:
        """From when this returns, nobody is let in with it; what it made that is pending has ended
        as `cancelled`. `not_found`."""
        deleted = await self._write(keys.delete, tenant, name, now_ns)
        self._ring.remove(deleted.id)
        return deleted

    # -- contents

    async def put_content(self, data: bytes) -> str:
        """Keep ``data`` for an hour, and while a row names it; answers with its SHA-256."""
        return await self._contents.put(data)

    def uploads(self) -> AbstractAsyncContextManager[Put]:
        """As `put_content`, for what is named before the block ends: when that fails, what was put
        goes at once, so that nobody fills the disk with requests that are refused."""
        return uploads(self._contents, self._discard)

    async def content(self, sha256: str) -> bytes:
        """`not_found` when it is not there; `internal` when it is not what it was."""
        return await self._contents.get(sha256)

    async def expire(self, now_ns: int) -> int:
        """Remove what retention does not keep, and contents nobody names; how many executions."""
        count = 0
        for step in retention.steps(self._retention, now_ns):
            while (removed := await self._database.write(step)).count:
                await self._discard(removed.contents)
                count += removed.count
        await self._discard(self._contents.abandoned())
        await self._read(retention.give_back)
        return count

    async def _discard(self, names: Iterable[str]) -> None:
        """Remove those contents, committed rows permitting. Cancelled: it is done all the same."""
        if wanted := list(names):
            await self._read(self._contents.discard, wanted)

    async def _write(self, work: Callable[..., T], *args: object) -> T:
        return await self._database.write(lambda connection: work(connection, *args))

    async def _read(self, work: Callable[..., T], *args: object) -> T:
        return await self._database.read(lambda connection: work(connection, *args))
