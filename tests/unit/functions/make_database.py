"""Writes `databases/NNNN.sql`: a database as the present version makes it, filled, as SQL.

    .venv/bin/python tests/unit/functions/make_database.py

To be run once for each version, when it is finished: later ones are tested against it.
"""

import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from functions.conftest import NOW, TENANT, a_function, an_execution, opened
from sandboxd.functions import migrations
from sandboxd.functions.model import ExecutionFile, Failure, Key, Outcome, Port, StoredFile
from sandboxd.state import State, prepare

DATABASES = Path(__file__).with_name("databases")
KEY = bytes(range(32))


def dump(path: Path) -> Iterator[str]:
    """The whole database; `iterdump` leaves out what is in the header of the file."""
    connection = sqlite3.connect(path)
    try:
        for name in ("application_id", "user_version"):
            yield f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};\n"
        yield from (f"{line}\n" for line in connection.iterdump())
    finally:
        connection.close()


async def fill(state: State) -> None:
    """A little of everything. Contents are not in the dump: their bytes are their names' source."""
    key = state.root / "secret.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    async with opened(state) as store:
        sha256 = await store.put_content(b"data")
        function = await store.add_function(
            a_function(
                kind="program",
                command=("./run",),
                env={"A": "1"},
                files=(StoredFile("data", 0o755, sha256, 4),),
                inputs=(Port("in", "in.txt", required=True),),
                context={"token": "secret"},
                metadata={"title": "T"},
            )
        )
        await store.add_function(a_function(space="other", code="def main(args, context): ..."))
        await store.add_key(
            Key(tenant=TENANT, name="k", role="run", function_id=function.id, max_time_ns=5)
        )
        file = ExecutionFile("in", "in.txt", sha256, 4)
        new = [
            an_execution(function, id=f"execution-{number}", args="[1]", inputs=(file,))
            for number in range(4)
        ]
        await store.add_executions(new)
        await store.change_execution(new[1].id, submitted_ns=NOW)
        await store.change_execution(new[2].id, status="running", started_ns=NOW)
        await store.end_execution(
            new[3].id,
            Outcome(
                end_reason="normal",
                ended_ns=NOW,
                result='{"a": 1}',
                error=Failure("E", "m"),
                log=b"\x00log",
                outputs=(ExecutionFile("out", "out.txt", sha256, 4),),
            ),
        )


def main() -> None:
    version = len(migrations.steps())
    with tempfile.TemporaryDirectory() as directory:
        state = prepare(directory, None, write=True)
        trio.run(fill, state)
        state.close()
        DATABASES.mkdir(exist_ok=True)
        path = DATABASES / f"{version:04}.sql"
        path.write_text("".join(dump(state.root / "functions.db")))
    print(path)


if __name__ == "__main__":
    main()
