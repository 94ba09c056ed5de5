"""Which executions are kept: those that have not ended, and of the others the youngest.

Where all tenants together have too much, the one that has most loses its oldest, and is refused
more when it has nothing to lose: nobody can push another's results out, or keep others from having
any. Everything here runs in the thread of the database.
"""

# ruff: noqa: S608 - What is put into statements are conditions from below.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from sandboxd.functions.model import Execution, Retention

STEP: Final = 200
"""How many are removed in one go: others wait meanwhile."""

# 4 MiB.
_PAGES_GIVEN_BACK: Final = 1024

_OLDEST: Final = (
    "SELECT sequence FROM executions INDEXED BY executions_by_end"
    " WHERE tenant = ? AND status = 'ended' AND ended_ns < ? AND sequence <> ?"
    " ORDER BY ended_ns LIMIT ?"
)
# Created, perhaps with inputs, and never started.
_CREATED: Final = (
    "SELECT sequence FROM executions INDEXED BY executions_unfinished"
    " WHERE tenant = ? AND status = 'pending' AND status <> 'ended' AND submitted_ns = 0"
    " ORDER BY sequence LIMIT ?"
)
# The same, for so long that nobody will.
_ABANDONED: Final = (
    "SELECT sequence FROM executions INDEXED BY executions_unfinished"
    " WHERE tenant = ? AND status = 'pending' AND status <> 'ended' AND submitted_ns = 0"
    " AND created_ns < ? LIMIT ?"
)
_ALWAYS: Final = 2**63 - 1


class Removed:
    """How many executions were removed, and the contents that they named."""

    def __init__(self) -> None:
        self.count = 0
        self.contents: set[str] = set()


def steps(retention: Retention, now_ns: int) -> tuple[Callable[[sqlite3.Connection], Removed], ...]:
    """What is to be done from time to time; each until it removes nothing more."""
    return (
        partial(expire_age, before_ns=now_ns - retention.age_ns),
        partial(make_room, retention=retention),
    )


def expire_age(connection: sqlite3.Connection, before_ns: int) -> Removed:
    """Remove at most `STEP` of those that ended, or were abandoned, before that."""
    removed = Removed()
    for (tenant,) in connection.execute("SELECT tenant FROM usage").fetchall():
        left = STEP - removed.count
        rows = connection.execute(_OLDEST, (tenant, before_ns, 0, left)).fetchall()
        _remove(connection, rows, removed)
        left = STEP - removed.count
        rows = connection.execute(_ABANDONED, (tenant, before_ns, left)).fetchall()
        _remove(connection, rows, removed)
    return removed


def make_room(
    connection: sqlite3.Connection, retention: Retention, cause: Execution | None = None
) -> Removed:
    """Remove at most `STEP` where there are too many, or they are too large.

    ``cause`` is what has become more: it stays. What was created and not started goes, too, but
    not of that tenant.
    """
    keep = 0 if cause is None else cause.sequence
    removed = Removed()
    while removed.count < STEP and (surplus := _surplus(connection, retention)):
        column, count = surplus
        wanted = min(count, STEP - removed.count)
        tenant = _most(connection, column)
        rows = connection.execute(_OLDEST, (tenant, _ALWAYS, keep, wanted)).fetchall()
        if not rows and (cause is None or tenant != cause.tenant):
            rows = connection.execute(_CREATED, (tenant, wanted)).fetchall()
        if not rows:
            break
        _remove(connection, rows, removed)
    return removed


def require_room(connection: sqlite3.Connection, retention: Retention, cause: Execution) -> Removed:
    """As `make_room`. Raises RequestError `limit_exceeded` when there is too much all the same, and
    most of it is that tenant's."""
    removed = make_room(connection, retention, cause)
    surplus = _surplus(connection, retention)
    if surplus and _most(connection, surplus[0]) == cause.tenant:
        text = "no more executions can be kept: wait for the end of some, or delete some"
        raise RequestError(LIMIT_EXCEEDED, text)
    return removed


def _surplus(connection: sqlite3.Connection, retention: Retention) -> tuple[str, int] | None:
    """What there is too much of, and how many executions are surely to be removed for it."""
    count, size = connection.execute(
        "SELECT ifnull(sum(executions), 0), ifnull(sum(execution_bytes), 0) FROM usage"
    ).fetchone()
    if count > retention.count:
        return "executions", count - retention.count
    return ("execution_bytes", 1) if size > retention.bytes else None


def _most(connection: sqlite3.Connection, column: str) -> int:
    """The tenant that has most of it."""
    statement = f"SELECT tenant FROM usage ORDER BY {column} DESC LIMIT 1"
    return int(connection.execute(statement).fetchone()[0])


def _remove(connection: sqlite3.Connection, rows: list[tuple[int]], removed: Removed) -> None:
    for (sequence,) in rows:
        named = connection.execute(
            "SELECT sha256 FROM execution_files WHERE sequence = ?", (sequence,)
        )
        removed.contents.update(row[0] for row in named)
        connection.execute("DELETE FROM executions WHERE sequence = ?", (sequence,))
    removed.count += len(rows)


def give_back(connection: sqlite3.Connection) -> None:
    """Pages that are not used any more, to the file system; a part of them each time."""
    # `execute` would do one page: it stops at a row without columns.
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})")
