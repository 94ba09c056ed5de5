"""The store: everything about functions that outlives the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxd.state import State


_ALL: Final = Filter()


class Store:
    """What a method wrote is on the disk when it returns, and all of it or nothing is there after a
    crash. Cancelling a method does not undo it: it waits for its end.

    Every method raises RequestError: `not_found`, `exists`, `limit_exceeded` when the disk is full,
    `internal` when the database is damaged or cannot be written.
    """

    @classmethod
    async def open(cls, state: State, retention: Retention | None = None) -> Store:
        """Open what is in the state directory, which must be writable, or make it.

        Raises HostError when that is damaged, made by a later version, or not to be read.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Finish what was begun and give everything up."""
        raise NotImplementedError

    # -- functions

    async def add_function(self, function: Function) -> Function:
        """Store it; the answer has its id. `exists` for a name that is taken."""
        raise NotImplementedError

    async def change_function(
        self, tenant: int, space: str, name: str, changes: dict[str, Any]
    ) -> Function:
        """Set the fields of `FUNCTION_CHANGES` (a new `name` or `space` renames) and count the
        revision up. `not_found`; `exists` for a new name that is taken."""
        raise NotImplementedError

    async def function(self, tenant: int, space: str, name: str) -> Function:
        """`not_found`."""
        raise NotImplementedError

    async def functions(
        self,
        tenant: int,
        space: str | None = None,
        kind: Kind | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int = 100,
    ) -> list[FunctionItem]:
        """By (space, name), from the one behind ``after``."""
        raise NotImplementedError

    async def delete_function(
        self, tenant: int, space: str, name: str, now_ns: int
    ) -> tuple[Function, list[str]]:
        """Remove it. Its pending executions end as `cancelled` (their ids are in the answer), the
        others stay; so do its keys, which reach those. `not_found`."""
        raise NotImplementedError

    # -- executions

    async def add_execution(self, execution: Execution) -> Execution:
        """Store it; the answer has its sequence. Its inputs are contents of this store."""
        raise NotImplementedError

    async def add_executions(self, executions: Sequence[Execution]) -> list[Execution]:
        """All of them or none."""
        raise NotImplementedError

    async def change_execution(self, id: str, expected: str = "", **changes: Any) -> Execution:
        """Set these: status (`running` from `pending` only), submitted_ns, started_ns, revision,
        args, stdin, limits, metadata, inputs. `not_found`; `invalid_argument` with
        data {"state": …} when it has ended, or is not ``expected``."""
        raise NotImplementedError

    async def add_input(self, id: str, file: ExecutionFile) -> Execution:
        """Add an input, or replace the one with its id. Only of one that is pending and not
        submitted; else `invalid_argument` with data {"state": …}."""
        raise NotImplementedError

    async def end_execution(self, id: str, outcome: Outcome) -> Execution:
        """It has ended. The first end counts: of one that has ended, nothing is changed."""
        raise NotImplementedError

    async def execution(self, id: str) -> Execution:
        """`not_found`. Whose it is, is for the caller to look at."""
        raise NotImplementedError

    async def log(self, id: str, start: int = 0, size: int = -1) -> bytes:
        """What an ended one printed, from byte ``start``; ``size`` -1: all. `not_found`."""
        raise NotImplementedError

    async def executions(
        self, tenant: int, filter: Filter = _ALL, after: int = 0, limit: int = 100
    ) -> list[Execution]:
        """Newest first, from the one older than the sequence ``after`` (0: the newest)."""
        raise NotImplementedError

    async def executions_by_id(self, ids: Sequence[str]) -> list[Execution]:
        """Those that are there, complete as `execution` gives them, in the order of ``ids``."""
        raise NotImplementedError

    async def delete_execution(self, id: str) -> Execution:
        """Remove it with its files; the answer is its last state. `not_found`."""
        raise NotImplementedError

    async def unfinished(self, now_ns: int) -> list[Execution]:
        """To be called once, at start: what was running is ended as `interrupted`. Answers with
        those that were submitted and not begun, oldest first: they are to be run now."""
        raise NotImplementedError

    # -- keys

    async def add_key(self, key: Key) -> tuple[Key, str]:
        """The key as stored, and its secret, which nobody can ask for again. `exists`."""
        raise NotImplementedError

    def key_by_secret(self, secret: str) -> Key | None:
        """From memory: no disk, and takes the same time for every wrong secret."""
        raise NotImplementedError

    async def keys(self, tenant: int) -> list[Key]:
        """By name."""
        raise NotImplementedError

    async def delete_key(self, tenant: int, name: str) -> Key:
        """From when this returns, nobody is let in with it. `not_found`."""
        raise NotImplementedError

    # -- contents

    async def put_content(self, data: bytes) -> str:
        """Keep ``data``; answers with its SHA-256. It stays while something stored names it, and
        for an hour until something does."""
        raise NotImplementedError

    async def content(self, sha256: str) -> bytes:
        """`not_found` when it is not there; `internal` when it is not what it was."""
        raise NotImplementedError

    async def expire(self, now_ns: int) -> int:
        """Remove what retention does not keep, and contents nobody names; how many executions."""
        raise NotImplementedError
