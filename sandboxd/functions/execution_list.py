"""Lists of executions. Everything here runs in the thread of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from sandboxd.functions.execution_rows import SELECT, execution

if TYPE_CHECKING:
    import sqlite3

    from sandboxd.functions.model import Execution, Filter


def listing(filter: Filter, after: int) -> tuple[str, list[object]]:
    """The statement that lists executions, but for its tenant (first) and its limit (last).

    Each names its index: what the planner would choose depends on what it believes to be stored.
    """
    where, values = ["tenant = ?"], list[object]()
    if filter.status in ("pending", "running"):
        index = "executions_unfinished"
        where.append("status <> 'ended'")
    elif filter.key_id is not None:
        index = "executions_by_key"
    elif filter.function_id is not None:
        index = "executions_by_function"
    elif filter.function is not None:
        index = "executions_by_name"
    else:
        index = "executions_by_tenant" if filter.space is None else "executions_by_space"
    if filter.key_id is not None:
        where.append("key_id <> 0")  # No key has that id, and what uids made has it.
    for name, value in structs.asdict(filter).items():
        if value is not None:
            where.append(f"{name} = ?")
            values.append(value)
    if after:
        where.append("sequence < ?")
        values.append(after)
    statement = (
        f"{SELECT} INDEXED BY {index} WHERE {' AND '.join(where)} ORDER BY sequence DESC LIMIT ?"
    )
    return statement, values


def items(
    connection: sqlite3.Connection, tenant: int, filter: Filter, after: int, limit: int
) -> list[Execution]:
    """Newest first, without what is long."""
    statement, values = listing(filter, after)
    rows = connection.execute(statement, (tenant, *values, limit))
    return [execution(row) for row in rows]
