"""API keys: how secrets are made, kept and recognised.

A secret is 256 random bits behind a word that tells people what it is. Only its SHA-256 is kept: of
so much randomness nothing can be guessed, so no slow hash is needed. Keys are looked up in memory
by the first bytes of the hash, and the whole of it is compared in constant time.
"""

# ruff: noqa: S608 - What is put into statements are names of columns.

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from typing import TYPE_CHECKING, Final

from msgspec import structs

from sandboxd.functions.model import Function, Key, Role
from sandboxd.protocol.errors import EXISTS, LIMIT_EXCEEDED, NOT_FOUND, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

WORDS: Final[dict[Role, str]] = {
    "admin": "admin",
    "manage": "token",
    "master": "master",
    "run": "apikey",
}
"""What the secret of a key with that role begins with."""

KEYS_PER_TENANT: Final = 1000
_SECRET_BYTES: Final = 32
# The longest secret is 50 characters; a megabyte is not worth being hashed.
_MAX_SECRET: Final = 128
_PREFIX_BYTES: Final = 8

_COLUMNS: Final = tuple(name for name in Key.__struct_fields__ if name != "id")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)}, id"


def make_secret(role: Role) -> str:
    return f"{WORDS[role]}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def hash_secret(secret: str) -> bytes:
    """What is kept of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class KeyRing:
    """All keys, in memory."""

    def __init__(self, known: Iterable[tuple[Key, bytes]] = ()) -> None:
        self._by_prefix: dict[bytes, list[tuple[bytes, Key]]] = {}
        self._by_id: dict[int, Key] = {}
        for key, digest in known:
            self.add(key, digest)

    def add(self, key: Key, digest: bytes) -> None:
        self._by_prefix.setdefault(digest[:_PREFIX_BYTES], []).append((digest, key))
        self._by_id[key.id] = key

    def remove(self, key_id: int) -> None:
        self._by_id.pop(key_id, None)
        for prefix, entries in self._by_prefix.items():
            if any(key.id == key_id for _, key in entries):
                left = [entry for entry in entries if entry[1].id != key_id]
                self._by_prefix[prefix] = left
                if not left:
                    del self._by_prefix[prefix]
                return

    def rename(self, function: Function) -> None:
        """The function that keys are bound to has another name."""
        for entries in self._by_prefix.values():
            entries[:] = [
                (digest, _renamed(key, function) if key.function_id == function.id else key)
                for digest, key in entries
            ]
            self._by_id.update({key.id: key for _, key in entries})

    def get(self, key_id: int) -> Key | None:
        return self._by_id.get(key_id)

    def find(self, secret: str) -> Key | None:
        """The key with that secret."""
        if len(secret) > _MAX_SECRET:
            return None
        digest = hash_secret(secret)
        found = None
        for known, key in self._by_prefix.get(digest[:_PREFIX_BYTES], ()):
            if hmac.compare_digest(known, digest):
                found = key
        return found


def _renamed(key: Key, function: Function) -> Key:
    return structs.replace(key, function_space=function.space, function_name=function.name)


def add(connection: sqlite3.Connection, key: Key, digest: bytes) -> Key:
    """Raises RequestError: `exists`, `limit_exceeded`."""
    counting = "SELECT count(*) FROM keys WHERE tenant = ?"
    if connection.execute(counting, (key.tenant,)).fetchone()[0] >= KEYS_PER_TENANT:
        text = f"there are {KEYS_PER_TENANT} keys, the most: delete one that is not used any more"
        raise RequestError(LIMIT_EXCEEDED, text)
    marks = ", ".join("?" * (len(_COLUMNS) + 1))
    statement = f"INSERT INTO keys ({', '.join(_COLUMNS)}, hash) VALUES ({marks})"
    values = [getattr(key, name) for name in _COLUMNS]
    try:
        cursor = connection.execute(statement, (*values, digest))
    except sqlite3.IntegrityError:
        text = f"there is a key {key.name} already; choose another name, or delete it first"
        raise RequestError(EXISTS, text) from None
    return structs.replace(key, id=cursor.lastrowid or 0)


def load(connection: sqlite3.Connection) -> list[tuple[Key, bytes]]:
    """Every key, with its hash."""
    rows = connection.execute(f"{_SELECT}, hash FROM keys")
    return [(_key(row[:-1]), row[-1]) for row in rows]


def of_tenant(connection: sqlite3.Connection, tenant: int) -> list[Key]:
    """By name."""
    rows = connection.execute(f"{_SELECT} FROM keys WHERE tenant = ? ORDER BY name", (tenant,))
    return [_key(row) for row in rows]


def delete(connection: sqlite3.Connection, tenant: int, name: str, now_ns: int) -> Key:
    """Remove it and end the pending executions that were made with it. Raises RequestError
    `not_found`."""
    statement = f"{_SELECT} FROM keys WHERE tenant = ? AND name = ?"
    row = connection.execute(statement, (tenant, name)).fetchone()
    if row is None:
        raise RequestError(NOT_FOUND, f"there is no key {name}")
    key = _key(row)
    connection.execute("DELETE FROM keys WHERE id = ?", (key.id,))
    connection.execute(
        "UPDATE executions SET status = 'ended', end_reason = 'cancelled', ended_ns = ?,"
        " message = 'its key was deleted'"
        " WHERE tenant = ? AND key_id = ? AND status = 'pending' AND status <> 'ended'",
        (now_ns, tenant, key.id),
    )
    return key


def _key(row: tuple[object, ...]) -> Key:
    return Key(**dict(zip((*_COLUMNS, "id"), row, strict=True)))  # type: ignore[arg-type]
