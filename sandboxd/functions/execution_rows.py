"""Executions in the database. Everything here runs in its thread."""

# ruff: noqa: S608 - What is put into statements are names of columns.

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import structs

from sandboxd.functions.model import Execution, ExecutionFile, Failure, Outcome
from sandboxd.protocol.errors import EXISTS, INVALID_ARGUMENT, NOT_FOUND, RequestError
from sandboxd.protocol.models import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxd.functions.contents import Contents

# What a row takes beside its data, for retention.
_ROW_BYTES: Final = 512

_PLAIN: Final = (
    "id", "tenant", "space", "function", "function_id", "revision", "status", "end_reason",
    "created_ns", "submitted_ns", "started_ns", "ended_ns", "key", "key_id", "job_status",
    "exit_code", "signal", "message", "cpu_time_ns", "wall_time_ns", "memory_bytes", "log_bytes",
)  # fmt: skip
_COLUMNS: Final = (*_PLAIN, "log_truncated", "limits", "metadata", "sequence")
SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM executions"
_INSERT: Final = (
    f"INSERT INTO executions ({', '.join(_COLUMNS[:-1])}, bytes)"
    f" VALUES ({', '.join('?' * len(_COLUMNS))})"
)
# length() of a BLOB does not read it.
_COUNT_BYTES: Final = (
    f"UPDATE executions SET bytes = {_ROW_BYTES} + length(metadata)"
    " + (SELECT length(args) + length(stdin) + ifnull(length(error), 0)"
    "    + ifnull(length(result), 0) + length(log) FROM execution_data WHERE sequence = ?1)"
    " + (SELECT ifnull(sum(bytes), 0) FROM execution_files WHERE sequence = ?1)"
    " WHERE sequence = ?1"
)
_CHANGED: Final = frozenset(
    {"status", "submitted_ns", "started_ns", "revision", "message", "limits", "metadata"}
)
_CHANGED_DATA: Final = frozenset({"args", "stdin"})
_ENDED: Final = (
    "end_reason", "ended_ns", "job_status", "exit_code", "signal", "message", "cpu_time_ns",
    "wall_time_ns", "memory_bytes", "log_truncated",
)  # fmt: skip
_HAS_FILES: Final = (
    "EXISTS (SELECT 1 FROM execution_files WHERE execution_files.sequence = executions.sequence)"
)
# Each statement gives the other thread its turn, which costs more than most of them.
_END: Final = (
    "UPDATE executions SET status = 'ended', "
    + ", ".join(f"{name} = ?" for name in _ENDED)
    + ", log_bytes = ?, started_ns = ifnull(?, started_ns), revision = ifnull(?, revision)"
    ", bytes = bytes + ? WHERE id = ? AND status <> 'ended'"
    f" RETURNING {', '.join(_COLUMNS)}, {_HAS_FILES}"
)
_DATA: Final = ("x'', x''", "args, stdin")
_WHOLE: Final = tuple(
    f"SELECT {', '.join(_COLUMNS)}, {_HAS_FILES}, {columns}, error, result"
    " FROM executions JOIN execution_data USING (sequence) WHERE id = ?"
    for columns in _DATA
)
"""Without and with what was sent."""

_limits_decoder: Final = msgspec.json.Decoder(Limits)
_metadata_decoder: Final = msgspec.json.Decoder()

_FileRole = Literal["input", "output"]


class ExecutionRows:
    """Reads and writes executions with their files."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def get(self, connection: sqlite3.Connection, id: str, sent: bool = True) -> Execution:
        """Complete, but without `args` and `stdin` where not ``sent``. Raises RequestError
        `not_found`."""
        row = _whole(connection, id, sent)
        if row is None:
            raise _unknown(id)
        return row

    def get_many(self, connection: sqlite3.Connection, ids: Iterable[str]) -> list[Execution]:
        """Those that are there, without `args` and `stdin`."""
        found = (_whole(connection, id, sent=False) for id in ids)
        return [row for row in found if row is not None]

    def add(self, connection: sqlite3.Connection, new: Execution) -> Execution:
        """Of a function that `require_function` has found. Raises RequestError `exists`."""
        args = new.args.encode()
        metadata = _json(new.metadata)
        size = _ROW_BYTES + len(metadata) + len(args) + len(new.stdin)
        size += sum(file.bytes for file in new.inputs)
        plain = (getattr(new, name) for name in _PLAIN)
        values = (*plain, new.log_truncated, _json(new.limits), metadata, size)
        try:
            cursor = connection.execute(_INSERT, values)
        except sqlite3.IntegrityError as exc:
            raise RequestError(EXISTS, f"there is an execution {new.id} already") from exc
        sequence = cursor.lastrowid or 0
        connection.execute(
            "INSERT INTO execution_data (sequence, args, stdin, log) VALUES (?, ?, ?, ?)",
            (sequence, args, new.stdin, b""),
        )
        self._add_files(connection, sequence, "input", new.inputs)
        return structs.replace(new, sequence=sequence)

    def change(
        self, connection: sqlite3.Connection, id: str, expected: str, changes: dict[str, Any]
    ) -> Execution:
        """Raises RequestError: `not_found`, `invalid_argument` for a wrong state."""
        old = _row(connection, id)
        if old.status == "ended" or (expected and old.status != expected):
            raise wrong_state(old)
        if changes.get("status") == "running" and old.status != "pending":
            raise wrong_state(old)
        changes = dict(changes)
        inputs = changes.pop("inputs", None)
        data = {name: changes.pop(name) for name in _CHANGED_DATA & changes.keys()}
        _set(connection, "executions", old.sequence, changes, _CHANGED)
        _set(connection, "execution_data", old.sequence, data, _CHANGED_DATA)
        if inputs is not None:
            connection.execute(
                "DELETE FROM execution_files WHERE sequence = ? AND role = 'input'",
                (old.sequence,),
            )
            self._add_files(connection, old.sequence, "input", inputs)
        if data or inputs is not None or "metadata" in changes:
            connection.execute(_COUNT_BYTES, (old.sequence,))
        return self.get(connection, id)

    def add_input(self, connection: sqlite3.Connection, id: str, file: ExecutionFile) -> Execution:
        """Raises RequestError: `not_found`, `invalid_argument` for a wrong state."""
        old = _row(connection, id)
        if old.status != "pending" or old.submitted_ns:
            raise wrong_state(old)
        connection.execute(
            "DELETE FROM execution_files WHERE sequence = ? AND role = 'input' AND id = ?",
            (old.sequence, file.id),
        )
        self._add_files(connection, old.sequence, "input", (file,))
        connection.execute(_COUNT_BYTES, (old.sequence,))
        return self.get(connection, id)

    def end(self, connection: sqlite3.Connection, id: str, outcome: Outcome) -> Execution:
        """As it is then, without `args` and `stdin`. Raises RequestError `not_found`."""
        error = None if outcome.error is None else msgspec.json.encode(outcome.error)
        result = None if outcome.result is None else outcome.result.encode()
        size = len(error or b"") + len(result or b"") + len(outcome.log)
        size += sum(file.bytes for file in outcome.outputs)
        values = [getattr(outcome, name) for name in _ENDED]
        values += (len(outcome.log), outcome.started_ns, outcome.revision, size, id)
        changed = connection.execute(_END, values).fetchall()
        if not changed:
            return self.get(connection, id, sent=False)
        *plain, has_inputs = changed[0]
        row = execution(tuple(plain))
        connection.execute(
            "UPDATE execution_data SET error = ?, result = ?, log = ? WHERE sequence = ?",
            (error, result, outcome.log, row.sequence),
        )
        inputs = _files(connection, row.sequence)[0] if has_inputs else ()
        self._add_files(connection, row.sequence, "output", outcome.outputs)
        return structs.replace(
            row,
            error=outcome.error,
            result=outcome.result,
            inputs=inputs,
            outputs=outcome.outputs,
        )

    def delete(self, connection: sqlite3.Connection, id: str) -> Execution:
        """Raises RequestError `not_found`."""
        old = self.get(connection, id)
        connection.execute("DELETE FROM executions WHERE sequence = ?", (old.sequence,))
        return old

    def _add_files(
        self,
        connection: sqlite3.Connection,
        sequence: int,
        role: _FileRole,
        files: Sequence[ExecutionFile],
    ) -> None:
        for file in files:
            self._contents.require(file.sha256, file.bytes)
            connection.execute(
                "INSERT INTO execution_files (sequence, role, id, path, sha256, bytes)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (sequence, role, file.id, file.path, file.sha256, file.bytes),
            )


def wrong_state(row: Execution) -> RequestError:
    """What was asked for cannot be done (any more)."""
    state = "submitted" if _is_submitted(row) else row.status
    advice = {
        "pending": "it has not begun: start it first",
        "submitted": "it was started already: wait for its end, or stop it",
        "running": "it runs: wait for its end, or stop it",
        "ended": "it has ended: create a new one",
    }[state]
    text = f"execution {row.id} is {row.status}; {advice}"
    return RequestError(INVALID_ARGUMENT, text, {"state": row.status})


def _is_submitted(row: Execution) -> bool:
    return row.status == "pending" and row.submitted_ns > 0


def log(connection: sqlite3.Connection, id: str, start: int, size: int) -> bytes:
    """Raises RequestError `not_found`."""
    sequence = _row(connection, id).sequence
    with connection.blobopen("execution_data", "log", sequence, readonly=True) as blob:
        start = min(max(start, 0), len(blob))
        blob.seek(start)
        return blob.read(len(blob) - start if size < 0 else size)


def interrupt(connection: sqlite3.Connection, now_ns: int) -> None:
    """What was running is so no more."""
    connection.execute(
        "UPDATE executions SET status = 'ended', end_reason = 'interrupted', ended_ns = ?,"
        " message = 'sandboxd was stopped while it ran'"
        " WHERE status = 'running' AND status <> 'ended'",
        (now_ns,),
    )


def submitted(connection: sqlite3.Connection) -> list[str]:
    """Ids of those that are to be run, oldest first."""
    rows = connection.execute(
        "SELECT id FROM executions INDEXED BY executions_unfinished"
        " WHERE status = 'pending' AND status <> 'ended' AND submitted_ns > 0 ORDER BY sequence"
    )
    return [str(row[0]) for row in rows]


def _row(connection: sqlite3.Connection, id: str) -> Execution:
    row = connection.execute(f"{SELECT} WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise _unknown(id)
    return execution(row)


def _unknown(id: str) -> RequestError:
    return RequestError(NOT_FOUND, f"there is no execution {id[:64]}; it may have expired")


def _whole(connection: sqlite3.Connection, id: str, sent: bool) -> Execution | None:
    """With all that is stored of it but its log."""
    row = connection.execute(_WHOLE[sent], (id,)).fetchone()
    if row is None:
        return None
    *plain, has_files, args, stdin, error, result = row
    found = execution(tuple(plain))
    inputs, outputs = _files(connection, found.sequence) if has_files else ((), ())
    return structs.replace(
        found,
        args=args.decode(),
        stdin=stdin,
        error=None if error is None else msgspec.json.decode(error, type=Failure),
        result=None if result is None else result.decode(),
        inputs=inputs,
        outputs=outputs,
    )


def execution(row: tuple[Any, ...]) -> Execution:
    """Of a row of `SELECT`."""
    *plain, log_truncated, limits, metadata, sequence = row
    return Execution(
        **dict(zip(_PLAIN, plain, strict=True)),
        log_truncated=bool(log_truncated),
        limits=_limits_decoder.decode(limits),
        metadata=_metadata_decoder.decode(metadata),
        sequence=sequence,
    )


def _files(
    connection: sqlite3.Connection, sequence: int
) -> tuple[tuple[ExecutionFile, ...], tuple[ExecutionFile, ...]]:
    """Inputs and outputs."""
    rows = connection.execute(
        "SELECT role, id, path, sha256, bytes FROM execution_files WHERE sequence = ?"
        " ORDER BY rowid",
        (sequence,),
    ).fetchall()
    inputs, outputs = (
        tuple([ExecutionFile(*row[1:]) for row in rows if row[0] == role])
        for role in ("input", "output")
    )
    return inputs, outputs


def require_function(connection: sqlite3.Connection, new: Execution) -> None:
    """Raises RequestError `not_found` when the function of a new one is not there any more."""
    statement = "SELECT EXISTS (SELECT 1 FROM functions WHERE id = ? AND tenant = ?)"
    values = (new.function_id, new.tenant)
    if not connection.execute(statement, values).fetchone()[0]:
        text = f"there is no function {new.space}/{new.function}; it was deleted meanwhile"
        raise RequestError(NOT_FOUND, text)


def _set(
    connection: sqlite3.Connection,
    table: str,
    sequence: int,
    changes: dict[str, Any],
    allowed: Iterable[str],
) -> None:
    if not changes.keys() <= set(allowed):
        raise ValueError(f"cannot be changed in {table}: {sorted(changes.keys() - set(allowed))}")
    if changes:
        assignments = ", ".join(f"{name} = ?" for name in changes)
        values = [_value(name, value) for name, value in changes.items()]
        statement = f"UPDATE {table} SET {assignments} WHERE sequence = ?"
        connection.execute(statement, (*values, sequence))


def _value(name: str, value: Any) -> Any:
    if name in ("limits", "metadata"):
        return _json(value)
    return value.encode() if name == "args" else value


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
