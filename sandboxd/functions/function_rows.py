"""Functions in the database. Everything here runs in its thread."""

# ruff: noqa: S608 - What is put into statements are names of columns.

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, structs

from sandboxd.functions.model import FUNCTION_CHANGES, Function, FunctionItem, Port, StoredFile
from sandboxd.protocol.errors import EXISTS, LIMIT_EXCEEDED, NOT_FOUND, RequestError, invalid
from sandboxd.protocol.models import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxd.functions.contents import Contents
    from sandboxd.functions.secrets import Vault

FUNCTIONS_PER_TENANT: Final = 10_000
FUNCTION_BYTES_PER_TENANT: Final = 4 * 1024 * 1024 * 1024

# Of metadata in one list, as JSON: as values it may be some dozen times as much.
_LIST_BYTES: Final = 1024 * 1024

_ITEM: Final = (
    "tenant", "space", "name", "kind", "language", "version", "environment",
    "revision", "created_ns", "updated_ns",
)  # fmt: skip
_WRITTEN: Final = (*_ITEM, "bytes", "metadata", "definition", "context", "code")
_SELECT: Final = (
    f"SELECT id, {', '.join(_ITEM)}, metadata, definition, context, code FROM functions"
    " WHERE tenant = ? AND space = ? AND name = ?"
)
_SELECT_ITEM: Final = f"SELECT id, {', '.join(_ITEM)}, metadata FROM functions"
_INSERT: Final = (
    f"INSERT INTO functions ({', '.join(_WRITTEN)}) VALUES ({', '.join('?' * len(_WRITTEN))})"
)
_UPDATE: Final = (
    f"UPDATE functions SET {', '.join(f'{name} = ?' for name in _WRITTEN)} WHERE id = ?"
)


class _Bytes(Struct, frozen=True):
    """What is no text, in JSON."""

    base64: bytes


class _Definition(Struct, frozen=True, omit_defaults=True):
    """What nobody searches for."""

    command: tuple[str | _Bytes, ...] = ()
    env: dict[str, str] = {}
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    limits: Limits = Limits()


class FunctionRows:
    """Reads and writes functions, with their secrets and their files."""

    def __init__(self, vault: Vault, contents: Contents) -> None:
        self._vault = vault
        self._contents = contents

    def get(self, connection: sqlite3.Connection, tenant: int, space: str, name: str) -> Function:
        """Raises RequestError `not_found`."""
        row = connection.execute(_SELECT, (tenant, space, name)).fetchone()
        if row is None:
            raise RequestError(NOT_FOUND, f"there is no function {space}/{name}")
        number, *item, metadata, definition, context, code = row
        rest = msgspec.json.decode(definition, type=_Definition)
        return Function(
            **dict(zip(_ITEM, item, strict=True)),
            **structs.asdict(rest)
            | {"command": tuple([_from_json(part) for part in rest.command])},
            id=number,
            metadata=msgspec.json.decode(metadata),
            context=self._open(context, tenant, number),
            code=code.decode(),
            files=_files(connection, number),
        )

    def add(self, connection: sqlite3.Connection, function: Function) -> Function:
        """Raises RequestError: `exists`, `limit_exceeded`, `invalid_argument`."""
        try:
            # The context is sealed for the row, which has no number before.
            cursor = connection.execute(_INSERT, self._values(function, b""))
        except sqlite3.IntegrityError as exc:
            raise _taken(function) from exc
        stored = structs.replace(function, id=cursor.lastrowid or 0)
        self._add_files(connection, stored.id, stored.files)
        if stored.context:
            connection.execute(_UPDATE, (*self._values(stored), stored.id))
        _require_room(connection, stored.tenant)
        return stored

    def change(
        self, connection: sqlite3.Connection, old: Function, changes: dict[str, Any]
    ) -> Function:
        """Raises as `add`."""
        unknown = set(changes) - FUNCTION_CHANGES
        if unknown:
            raise ValueError(f"no field of a function that can be changed: {unknown}")
        new = structs.replace(old, **changes, revision=old.revision + 1)
        try:
            connection.execute(_UPDATE, (*self._values(new), new.id))
        except sqlite3.IntegrityError as exc:
            raise _taken(new) from exc
        if new.files != old.files:
            connection.execute("DELETE FROM function_files WHERE function_id = ?", (new.id,))
            self._add_files(connection, new.id, new.files)
        if (new.space, new.name) != (old.space, old.name):
            connection.execute(
                "UPDATE keys SET function_space = ?, function_name = ? WHERE function_id = ?",
                (new.space, new.name, new.id),
            )
            # What is still to be run looks for its function by name.
            connection.execute(
                "UPDATE executions SET space = ?, function = ?"
                " WHERE tenant = ? AND function_id = ? AND status <> 'ended'",
                (new.space, new.name, new.tenant, new.id),
            )
        _require_room(connection, new.tenant)
        return new

    def _values(self, function: Function, context: bytes | None = None) -> tuple[Any, ...]:
        definition = msgspec.json.encode(
            _Definition(
                command=tuple([_for_json(part) for part in function.command]),
                env=function.env,
                inputs=function.inputs,
                outputs=function.outputs,
                limits=function.limits,
            )
        ).decode()
        metadata = msgspec.json.encode(function.metadata).decode()
        code = function.code.encode()
        sealed = self._seal(function) if context is None else context
        size = len(code) + len(definition) + len(metadata) + len(sealed or b"")
        size += sum(file.bytes for file in function.files)
        item = (getattr(function, name) for name in _ITEM)
        return (*item, size, metadata, definition, sealed or None, code)

    def _seal(self, function: Function) -> bytes:
        if not function.context:
            return b""
        plain = msgspec.json.encode(function.context)
        return self._vault.encrypt(plain, _row(function.tenant, function.id))

    def _open(self, sealed: bytes | None, tenant: int, number: int) -> dict[str, Any]:
        if not sealed:
            return {}
        plain = self._vault.decrypt(sealed, _row(tenant, number))
        return msgspec.json.decode(plain, type=dict[str, Any])

    def _add_files(
        self, connection: sqlite3.Connection, number: int, files: Sequence[StoredFile]
    ) -> None:
        for file in files:
            self._contents.require(file.sha256, file.bytes)
            try:
                connection.execute(
                    "INSERT INTO function_files (function_id, path, mode, sha256, bytes)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (number, file.path, file.mode, file.sha256, file.bytes),
                )
            except sqlite3.IntegrityError as exc:
                raise invalid("files", f"{file.path} is in it twice") from exc


def items(
    connection: sqlite3.Connection,
    tenant: int,
    space: str | None,
    kind: str | None,
    after: tuple[str, str],
    limit: int,
) -> list[FunctionItem]:
    """By (space, name). The last one is `cut` where their metadata are too much together."""
    where, values = "tenant = ? AND (space, name) > (?, ?)", [tenant, *after]
    if space is not None:
        where, values = f"{where} AND space = ?", [*values, space]
    if kind is not None:
        where, values = f"{where} AND kind = ?", [*values, kind]
    statement = f"{_SELECT_ITEM} WHERE {where} ORDER BY space, name LIMIT ?"
    found: list[FunctionItem] = []
    size = 0
    for number, *item, metadata in connection.execute(statement, (*values, limit)):
        size += len(metadata)
        found.append(
            FunctionItem(
                id=number,
                metadata=msgspec.json.decode(metadata),
                cut=size > _LIST_BYTES,
                **dict(zip(_ITEM, item, strict=True)),
            )
        )
        if found[-1].cut:
            break
    return found


def has_contexts(connection: sqlite3.Connection) -> bool:
    """Whether anything is encrypted."""
    statement = "SELECT EXISTS (SELECT 1 FROM functions WHERE context IS NOT NULL)"
    return bool(connection.execute(statement).fetchone()[0])


def delete(connection: sqlite3.Connection, function: Function, now_ns: int) -> list[str]:
    """Answers with the ids of executions that have ended with it."""
    connection.execute("DELETE FROM functions WHERE id = ?", (function.id,))
    rows = connection.execute(
        "UPDATE executions SET status = 'ended', end_reason = 'cancelled', ended_ns = ?,"
        " message = 'its function was deleted'"
        " WHERE tenant = ? AND function_id = ? AND status = 'pending' AND status <> 'ended'"
        " RETURNING id",
        (now_ns, function.tenant, function.id),
    )
    return [str(row[0]) for row in rows]


def _files(connection: sqlite3.Connection, number: int) -> tuple[StoredFile, ...]:
    statement = (
        "SELECT path, mode, sha256, bytes FROM function_files WHERE function_id = ? ORDER BY rowid"
    )
    return tuple(StoredFile(*row) for row in connection.execute(statement, (number,)))


def _for_json(part: str | bytes) -> str | _Bytes:
    return _Bytes(part) if isinstance(part, bytes) else part


def _from_json(part: str | _Bytes) -> str | bytes:
    return part.base64 if isinstance(part, _Bytes) else part


def _row(tenant: int, number: int) -> str:
    return f"function {number} of uid {tenant}"


def _taken(function: Function) -> RequestError:
    return RequestError(
        EXISTS,
        f"there is a function {function.space}/{function.name} already; update it, delete it or"
        " choose another name",
    )


def _require_room(connection: sqlite3.Connection, tenant: int) -> None:
    count, size = connection.execute(
        "SELECT functions, function_bytes FROM usage WHERE tenant = ?", (tenant,)
    ).fetchone()
    if count > FUNCTIONS_PER_TENANT:
        text = f"there are {FUNCTIONS_PER_TENANT} functions, the most: delete some"
        raise RequestError(LIMIT_EXCEEDED, text)
    if size > FUNCTION_BYTES_PER_TENANT:
        text = f"functions may have {FUNCTION_BYTES_PER_TENANT} bytes together: delete some"
        raise RequestError(LIMIT_EXCEEDED, text)
