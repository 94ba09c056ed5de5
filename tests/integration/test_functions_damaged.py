"""What functions are kept in is damaged: that is said, jobs run all the same, and nothing is lost
that can be restored."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

CODE = "def main(args, context):\n    return [args, context]\n"


@pytest.fixture
def settings() -> Iterator[dict[str, Any]]:
    """Of a daemon that has a function, as the same user and with the same state."""
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    directory.chmod(0o755)
    state = directory / "state"
    with running(state_directory=str(state)) as daemon, Client(daemon.socket) as client:
        client.create_function("hello", "python", code=CODE, context={"token": "secret"})
        client.create_execution("hello")
    yield {"state_directory": str(state), "uid_base": daemon.uids.start}
    shutil.rmtree(directory)


def damage_head(state: Path) -> None:
    with open(state / "functions.db", "r+b") as file:
        file.write(b"\xff" * 64)


def remove_key(state: Path) -> None:
    (state / "secret.key").unlink()


def give_away(state: Path) -> None:
    os.chown(state / "functions.db", 65533, 65533)


def damage_executions(state: Path) -> None:
    """The database can be opened, and functions and keys be read."""
    with contextlib.closing(sqlite3.connect(state / "functions.db")) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'executions_unfinished'"
        ).fetchone()
    with open(state / "functions.db", "r+b") as file:
        file.seek(size * (page - 1))
        file.write(b"\xff" * size)


def damage_row(state: Path) -> None:
    """SQLite has nothing against it."""
    with contextlib.closing(sqlite3.connect(state / "functions.db")) as database:
        database.execute("UPDATE executions SET submitted_ns = 1, limits = '{'")
        assert database.total_changes == 1
        database.commit()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (damage_head, "functions.db is damaged: stop sandboxd"),
        (give_away, "functions.db must belong to uid"),
        (remove_key, "secret.key is missing, and contexts are encrypted with it"),
        (damage_executions, "functions.db is damaged: stop sandboxd"),
        (damage_row, "executions are damaged: "),
    ],
)
def test_jobs_run_all_the_same(
    settings: dict[str, Any], damage: Callable[[Path], None], text: str
) -> None:
    state = Path(settings["state_directory"])
    kept = state.with_name("kept")
    shutil.copytree(state, kept)
    owner = (state / "functions.db").stat()
    damage(state)
    with running(**settings) as daemon, Client(daemon.socket) as client:
        assert client.run(["echo", "works"]).stdout == b"works\n"
        for call in (
            lambda: client.functions(),
            lambda: client.call_function("hello", 1),
            lambda: client.create_key("k", "admin"),
        ):
            with pytest.raises(RequestError) as caught:
                call()
            assert caught.value.code == "internal"
            assert text in str(caught.value)
        log = daemon.log_text()
        assert "functions are not available" in log
        assert "Traceback" not in log
    for name in ("functions.db", "secret.key"):
        shutil.copyfile(kept / name, state / name)
        (state / name).chmod(0o600)
        shutil.chown(state / name, owner.st_uid, owner.st_gid)
    with running(**settings) as daemon, Client(daemon.socket) as client:
        assert client.call_function("hello", 1)["result"] == '[1, {"token": "secret"}]'


def test_what_cannot_be_written_yet_is_there_when_it_can(settings: dict[str, Any]) -> None:
    """It can be opened and read, as on a disk that is full."""
    database = sqlite3.connect(Path(settings["state_directory"]) / "functions.db")
    with contextlib.closing(database):
        database.execute("UPDATE executions SET status = 'running'")
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON executions BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        database.commit()
        with running(**settings) as daemon, Client(daemon.socket) as client:
            with pytest.raises(RequestError) as caught:
                client.functions()
            assert caught.value.code == "internal"
            database.execute("DROP TRIGGER full")
            database.commit()
            deadline = time.monotonic() + 30
            while "functions are available" not in daemon.log_text():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            (execution,) = client.executions()["executions"]
            assert execution["end_reason"] == "interrupted"
            assert client.call_function("hello", 1)["result"] == '[1, {"token": "secret"}]'


def test_an_end_is_stored_when_that_is_possible_again(settings: dict[str, Any]) -> None:
    """Another program has the database, a backup for one, for longer than anybody waits for it."""
    with running(jobs=1, **settings) as daemon, Client(daemon.socket) as client:
        client.create_function("short", "program", command=["sleep", "0.5"])
        id = client.run_function("short")["id"]
        while client.execution(id)["status"] != "running":
            time.sleep(0.01)
        other = sqlite3.connect(
            Path(settings["state_directory"]) / "functions.db", isolation_level=None
        )
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            while "an end was not stored" not in daemon.log_text():
                time.sleep(0.1)
            other.execute("ROLLBACK")
        assert client.wait_execution(id)["end_reason"] == "normal"
