"""Brings the database to the version of this sandboxd: `schema/NNNN.sql`, one after the other.

The database's `user_version` says which of them it has. Each is run in one transaction together
with the change of that number, so a crash leaves either version, never something between.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sandboxd.errors import HostError

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID: Final = 0x53424631
"""In the header of the file: that it is ours."""

SCHEMA: Final = Path(__file__).parent / "schema"


def steps(directory: Path = SCHEMA) -> list[str]:
    """The SQL of every version, from 1 on."""
    files = sorted(directory.glob("*.sql"))
    expected = [f"{number:04}.sql" for number in range(1, len(files) + 1)]
    if [file.name for file in files] != expected:
        raise HostError(f"{directory}: the schema is not complete; install sandboxd again")
    return [file.read_text() for file in files]


def migrate(connection: sqlite3.Connection, scripts: list[str]) -> int:
    """Run those ``scripts`` that the database does not have; answers with the version it had.

    Raises HostError for a database of somebody else or of a later sandboxd, sqlite3.Error when
    something stands in it that no version has made; the database is unchanged then.
    """
    version = _require_ours(connection)
    if version > len(scripts):
        raise HostError(
            f"functions.db has version {version} and this sandboxd knows {len(scripts)}: it was"
            " made by a later one; use that, or a backup from before"
        )
    for number, script in enumerate(scripts[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return version


def _require_ours(connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    empty = version == 0 and owner == 0 and objects == 0
    if not empty and (owner != APPLICATION_ID or version < 1):
        raise HostError("functions.db is a database, but not one of sandboxd; move it away")
    return version
