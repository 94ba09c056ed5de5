"""Databases of every earlier version, and of others, meet this one."""

import sqlite3
from pathlib import Path

import pytest

from sandboxd.errors import HostError
from sandboxd.functions import migrations
from sandboxd.functions.model import Failure, Filter
from sandboxd.functions.store import DATABASE
from sandboxd.protocol.errors import RequestError
from sandboxd.state import State

from .conftest import NOW, TENANT, a_function, an_execution, opened
from .make_database import DATABASES, KEY

VERSION = len(migrations.steps())
EARLIER = sorted(DATABASES.glob("*.sql"))


def load(state: State, dump: Path) -> None:
    connection = sqlite3.connect(state.root / DATABASE)
    connection.executescript(dump.read_text())
    connection.close()
    (state.root / "secret.key").write_bytes(KEY)
    (state.root / "secret.key").chmod(0o600)


def schema(path: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        ).fetchall()
    finally:
        connection.close()


def test_there_is_a_database_of_every_version() -> None:
    assert [path.stem for path in EARLIER] == [f"{n:04}" for n in range(1, VERSION + 1)]


@pytest.mark.parametrize("dump", EARLIER, ids=lambda path: path.stem)
async def test_an_earlier_database_is_brought_up(state: State, tmp_path: Path, dump: Path) -> None:
    load(state, dump)
    async with opened(state) as store:
        sha256 = await store.put_content(b"data")
        function = await store.function(TENANT, "main", "hello")
        assert (function.id, function.kind, function.command) == (1, "program", ("./run",))
        assert (function.context, function.metadata) == ({"token": "secret"}, {"title": "T"})
        assert [file.sha256 for file in function.files] == [sha256]
        assert [port.id for port in function.inputs] == ["in"]
        assert [item.space for item in await store.functions(TENANT)] == ["main", "other"]
        assert [(key.name, key.max_time_ns) for key in await store.keys(TENANT)] == [("k", 5)]
        ended = await store.execution("execution-3")
        assert (ended.status, ended.end_reason, ended.result) == ("ended", "normal", '{"a": 1}')
        assert ended.error == Failure("E", "m")
        assert await store.log("execution-3") == b"\x00log"
        assert [file.sha256 for file in (*ended.inputs, *ended.outputs)] == [sha256] * 2
        assert [one.id for one in await store.unfinished(NOW)] == ["execution-1"]
        assert (await store.execution("execution-2")).end_reason == "interrupted"
        assert len(await store.executions(TENANT, Filter(function_id=1))) == 4
        # What is new goes on counting where the old one stopped.
        assert (await store.add_function(a_function(name="new"))).id == 3
        new = await store.add_execution(an_execution(function))
        assert new.sequence == 5
        assert await store.content(sha256) == b"data"
    fresh = State(tmp_path / "fresh", lock=0)
    for path in (fresh.root, fresh.staging):
        path.mkdir()
    async with opened(fresh):
        pass
    assert schema(state.root / DATABASE) == schema(fresh.root / DATABASE)


# -- the machinery --------------------------------------------------------------------------------

FIRST = f"PRAGMA application_id = {migrations.APPLICATION_ID}; CREATE TABLE a (b);"
SECOND = "INSERT INTO a VALUES (2); ALTER TABLE a ADD COLUMN c;"
BROKEN = "INSERT INTO a VALUES (3, 4); CREATE TABLE a (b); INSERT INTO a VALUES (5, 6);"


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "x.db", isolation_level=None)


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_each_step_is_done_once(connection: sqlite3.Connection) -> None:
    assert migrations.migrate(connection, [FIRST]) == 0
    assert migrations.migrate(connection, [FIRST, SECOND]) == 1
    assert migrations.migrate(connection, [FIRST, SECOND]) == 2
    assert connection.execute("SELECT * FROM a").fetchall() == [(2, None)]
    assert version_of(connection) == 2


def test_a_step_that_fails_changes_nothing(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrations.migrate(connection, [FIRST, SECOND, BROKEN])
    assert not connection.in_transaction
    assert version_of(connection) == 2  # Each step by itself.
    assert connection.execute("SELECT * FROM a").fetchall() == [(2, None)]
    assert migrations.migrate(connection, [FIRST, SECOND, "DROP TABLE a;"]) == 2
    assert version_of(connection) == 3


def test_steps_have_no_gaps(tmp_path: Path) -> None:
    for name in ("0001.sql", "0003.sql"):
        (tmp_path / name).write_text("")
    with pytest.raises(HostError, match="not complete"):
        migrations.steps(tmp_path)
    (tmp_path / "0002.sql").write_text("SELECT 1;")
    assert migrations.steps(tmp_path) == ["", "SELECT 1;", ""]


# -- other files ----------------------------------------------------------------------------------


async def refuses(state: State, *texts: str) -> None:
    before = (state.root / DATABASE).read_bytes()
    with pytest.raises(HostError) as caught:
        async with opened(state):
            pass
    for text in texts:
        assert text in str(caught.value)
    assert (state.root / DATABASE).read_bytes() == before


def made_by(state: State, script: str) -> None:
    connection = sqlite3.connect(state.root / DATABASE)
    connection.executescript(f"PRAGMA journal_mode = WAL; {script}")
    connection.close()


async def test_a_database_of_a_later_version(state: State) -> None:
    made_by(state, f"{FIRST} PRAGMA user_version = {VERSION + 1};")
    await refuses(state, f"has version {VERSION + 1}", "made by a later one")


async def test_a_database_of_somebody_else(state: State) -> None:
    made_by(state, "CREATE TABLE bookmarks (url);")
    await refuses(state, "not one of sandboxd", "move it away")


async def test_a_file_that_is_no_database(state: State) -> None:
    (state.root / DATABASE).write_bytes(b"hello" * 1000)
    (state.root / DATABASE).chmod(0o600)
    await refuses(state, "functions.db is damaged", "restore it from a backup")


async def test_a_link_in_the_place_of_the_database(state: State, tmp_path: Path) -> None:
    (state.root / DATABASE).symlink_to(tmp_path / "target")
    with pytest.raises(HostError, match="Too many levels of symbolic links"):
        async with opened(state):
            pass
    assert not (tmp_path / "target").exists()


async def test_without_the_right_to_write(state: State) -> None:
    reading = State(state.root)
    with pytest.raises(RequestError) as caught:
        async with opened(reading):
            pass
    assert caught.value.code == "permission_denied"
    assert list(state.root.glob("functions.db*")) == []
