"""What is stored comes back, alone and among many, and after the next start."""

import hashlib
import os
import stat
import uuid
from pathlib import Path

import pytest
import trio
from msgspec import structs

from sandboxd.functions import execution_list, function_rows, keys
from sandboxd.functions.model import (
    Execution,
    ExecutionFile,
    Failure,
    Filter,
    Function,
    Key,
    Outcome,
    Port,
    StoredFile,
)
from sandboxd.functions.store import Store
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.models import Limits
from sandboxd.state import State

from .conftest import NOW, TENANT, a_function, an_execution, opened

FULL = Outcome(
    end_reason="timeout",
    ended_ns=NOW + 5,
    started_ns=NOW + 4,
    revision=6,
    job_status="wall_time_limit",
    exit_code=None,
    signal=9,
    message="it took too long",
    cpu_time_ns=11,
    wall_time_ns=12,
    memory_bytes=13,
    result='{"a": "\\u0000ä"}',
    error=Failure("ValueError", "no", "File …"),
    log=b"first line\n\x00\xff",
    log_truncated=True,
)


async def a_file(store: Store, data: bytes, id: str = "in", path: str = "in.txt") -> ExecutionFile:
    return ExecutionFile(id, path, await store.put_content(data), len(data))


async def with_everything(store: Store) -> Function:
    sha256 = await store.put_content(b"data")
    return a_function(
        kind="program",
        language="c",
        version=">=10",
        command=("./run", "ä", ""),
        environment="debian",
        env={"A": "1"},
        files=(StoredFile("b/data", 0o755, sha256, 4), StoredFile("a", 0o644, sha256, 4)),
        inputs=(Port("in", "in.txt", "Input", required=True),),
        outputs=(Port("out", "out.txt"),),
        context={"token": "SECRET-VALUE", "n": [1, {"x": None}]},
        limits=Limits(memory_bytes=5),
        metadata={"title": "T", "list": [1]},
    )


async def refused(code: str, what: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await what  # type: ignore[misc]
    assert caught.value.code == code
    return caught.value


# -- functions ------------------------------------------------------------------------------------


async def test_a_function_comes_back_as_it_was(store: Store) -> None:
    wanted = await with_everything(store)
    stored = await store.add_function(wanted)
    assert stored.id > 0
    found = await store.function(TENANT, "main", "hello")
    assert found == stored
    assert {**_as_dict(found), "id": 0} == _as_dict(wanted)


async def test_a_command_that_is_not_text(state: State) -> None:
    command = ("/bin/echo", b"\xff\x00", "\ud7ff", "")
    async with opened(state) as store:
        await store.add_function(a_function(kind="program", code="", command=command))
    async with opened(state) as store:
        assert (await store.function(TENANT, "main", "hello")).command == command


async def test_after_the_next_start(state: State) -> None:
    async with opened(state) as store:
        function = await store.add_function(await with_everything(store))
        execution = await store.add_execution(
            an_execution(function, args="[1]", inputs=(await a_file(store, b"x"),))
        )
        _, secret = await store.add_key(a_key())
        await store.add_key(a_key(name="second"))
    async with opened(state) as store:
        assert await store.function(TENANT, "main", "hello") == function
        assert await store.execution(execution.id) == execution
        assert store.key_by_secret(secret) == (await store.keys(TENANT))[0]
        assert [key.name for key in await store.keys(TENANT)] == ["first", "second"]


async def test_names_are_unique_per_tenant_and_space(store: Store) -> None:
    await store.add_function(a_function())
    await store.add_function(a_function(tenant=TENANT + 1))
    await store.add_function(a_function(space="other"))
    await refused("exists", store.add_function(a_function()))
    await refused("not_found", store.function(TENANT + 2, "main", "hello"))


async def test_a_change_counts_the_revision_and_keeps_the_rest(store: Store) -> None:
    first = await store.add_function(await with_everything(store))
    new = await store.change_function(
        TENANT, "main", "hello", {"code": "x", "context": {"b": 2}, "updated_ns": NOW + 1}
    )
    assert (new.revision, new.code, new.context, new.updated_ns) == (2, "x", {"b": 2}, NOW + 1)
    assert (new.files, new.created_ns, new.id) == (first.files, first.created_ns, first.id)
    assert await store.function(TENANT, "main", "hello") == new
    with pytest.raises(ValueError, match="tenant"):
        await store.change_function(TENANT, "main", "hello", {"tenant": 5})


async def test_a_renamed_function_keeps_its_keys(store: Store) -> None:
    function = await store.add_function(a_function())
    await store.add_function(a_function(name="taken"))
    _, secret = await store.add_key(a_key(role="run", function_id=function.id))
    await refused("exists", store.change_function(TENANT, "main", "hello", {"name": "taken"}))
    await store.change_function(TENANT, "main", "hello", {"name": "new", "space": "s"})
    await refused("not_found", store.function(TENANT, "main", "hello"))
    assert (await store.function(TENANT, "s", "new")).id == function.id
    key = store.key_by_secret(secret)
    assert key is not None
    assert (key.function_space, key.function_name) == ("s", "new")
    assert await store.keys(TENANT) == [key]


async def test_functions_are_listed_in_pages(store: Store) -> None:
    for space, name in (("b", "x"), ("a", "z"), ("a", "y"), ("a", "x")):
        await store.add_function(a_function(space=space, name=name, code="c" * 10_000))
    await store.add_function(a_function(space="a", name="task", kind="task"))
    await store.add_function(a_function(tenant=TENANT + 1))

    def names(found: list[object]) -> list[str]:
        return [f"{one.space}/{one.name}" for one in found]  # type: ignore[attr-defined]

    everything = ["a/task", "a/x", "a/y", "a/z", "b/x"]
    assert names(await store.functions(TENANT)) == everything
    assert names(await store.functions(TENANT, limit=2)) == everything[:2]
    assert names(await store.functions(TENANT, after=("a", "x"), limit=2)) == everything[2:4]
    assert names(await store.functions(TENANT, space="a")) == everything[:4]
    assert names(await store.functions(TENANT, kind="task")) == ["a/task"]
    assert names(await store.functions(TENANT, after=("b", "x"))) == []


async def test_a_deleted_function_cancels_what_waits_and_leaves_the_rest(store: Store) -> None:
    function = await store.add_function(a_function())
    other = await store.add_function(a_function(name="other"))
    waiting, running, ended = [await store.add_execution(an_execution(function)) for _ in "123"]
    unconcerned = await store.add_execution(an_execution(other))
    await store.change_execution(running.id, status="running", started_ns=NOW)
    await store.end_execution(ended.id, FULL)
    _, cancelled = await store.delete_function(TENANT, "main", "hello", NOW + 9)
    assert cancelled == [waiting.id]
    now = await store.execution(waiting.id)
    assert (now.status, now.end_reason, now.ended_ns) == ("ended", "cancelled", NOW + 9)
    assert (await store.execution(running.id)).status == "running"
    assert (await store.execution(ended.id)).end_reason == "timeout"
    assert (await store.execution(unconcerned.id)).status == "pending"
    await refused("not_found", store.add_execution(an_execution(function)))
    assert (await store.add_function(a_function())).id not in (function.id, other.id)


async def test_a_path_given_twice(store: Store) -> None:
    sha256 = await store.put_content(b"data")
    file = StoredFile("a", 0o644, sha256, 4)
    error = await refused("invalid_argument", store.add_function(a_function(files=(file, file))))
    assert str(error) == "files: a is in it twice"
    await refused("not_found", store.function(TENANT, "main", "hello"))


async def test_how_many_functions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_rows, "FUNCTIONS_PER_TENANT", 2)
    monkeypatch.setattr(function_rows, "FUNCTION_BYTES_PER_TENANT", 10_000)
    for name in ("a", "b"):
        await store.add_function(a_function(name=name))
    await refused("limit_exceeded", store.add_function(a_function(name="c")))
    await store.add_function(a_function(name="c", tenant=TENANT + 1))
    big = {"code": "x" * 10_000}
    await refused("limit_exceeded", store.change_function(TENANT, "main", "a", big))
    assert (await store.function(TENANT, "main", "a")).revision == 1
    await store.delete_function(TENANT, "main", "a", NOW)
    await store.add_function(a_function(name="c"))


# -- executions -----------------------------------------------------------------------------------


async def test_an_execution_from_its_creation_to_its_end(store: Store) -> None:
    function = await store.add_function(a_function())
    created = await store.add_execution(
        an_execution(
            function, key="k", key_id=3, limits=Limits(processes=2), metadata={"m": 1}, stdin=b"\0"
        )
    )
    assert await store.execution(created.id) == created
    first = await a_file(store, b"first")
    await store.add_input(created.id, first)
    second = await a_file(store, b"second")
    loaded = await store.add_input(created.id, second)
    assert loaded.inputs == (second,)
    await refused("not_found", store.content(first.sha256))  # Replaced, and nobody's.
    started = await store.change_execution(created.id, "pending", args='"x"', submitted_ns=NOW)
    assert (started.args, started.submitted_ns, started.inputs) == ('"x"', NOW, (second,))
    running = await store.change_execution(
        created.id, "pending", status="running", started_ns=NOW, revision=4
    )
    assert (running.status, running.revision) == ("running", 4)
    output = await a_file(store, b"output", "out", "out.txt")
    ended = await store.end_execution(created.id, _with(FULL, outputs=(output,)))
    for name in FULL.__struct_fields__:
        if name not in ("log", "outputs"):
            assert getattr(ended, name) == getattr(FULL, name), name
    assert (ended.status, ended.outputs, ended.log_bytes) == ("ended", (output,), len(FULL.log))
    assert await store.execution(created.id, sent=False) == ended
    whole = await store.execution(created.id)
    assert whole == structs.replace(ended, args='"x"', stdin=b"\0")
    assert await store.content(output.sha256) == b"output"


async def test_parts_of_the_log(store: Store) -> None:
    function = await store.add_function(a_function())
    id = (await store.add_execution(an_execution(function))).id
    assert await store.log(id) == b""
    await store.end_execution(id, FULL)
    assert await store.log(id) == FULL.log
    assert await store.log(id, 6) == FULL.log[6:]
    assert await store.log(id, 6, 4) == FULL.log[6:10]
    assert await store.log(id, 10_000) == b""
    assert await store.log(id, -5, 3) == FULL.log[:3]
    await refused("not_found", store.log("nobody"))


async def test_the_first_end_counts(store: Store) -> None:
    function = await store.add_function(a_function())
    id = (await store.add_execution(an_execution(function))).id
    ended = await store.end_execution(id, FULL)
    output = await a_file(store, b"late", "late")
    again = Outcome(end_reason="stopped", ended_ns=NOW + 99, outputs=(output,))
    assert await store.end_execution(id, again) == ended
    await refused("not_found", store.content(output.sha256))


async def test_calls_in_the_wrong_state(store: Store) -> None:
    function = await store.add_function(a_function())
    id = (await store.add_execution(an_execution(function))).id
    file = await a_file(store, b"x")
    await store.change_execution(id, submitted_ns=NOW)
    error = await refused("invalid_argument", store.add_input(id, file))
    assert error.data == {"state": "pending"}
    assert "it was started already" in str(error)
    await store.change_execution(id, status="running")
    for what in (
        store.add_input(id, file),
        store.change_execution(id, status="running"),
        store.change_execution(id, "pending", args="1"),
    ):
        assert (await refused("invalid_argument", what)).data == {"state": "running"}
    await store.end_execution(id, FULL)
    for what in (store.add_input(id, file), store.change_execution(id, message="x")):
        error = await refused("invalid_argument", what)
        assert error.data == {"state": "ended"}
        assert "it has ended" in str(error)
    await refused("not_found", store.change_execution("nobody", args=""))
    with pytest.raises(ValueError, match="sequence"):
        await store.change_execution((await _fresh(store, function)).id, sequence=5)


async def test_all_executions_or_none(store: Store) -> None:
    function = await store.add_function(a_function())
    good = [an_execution(function) for _ in range(3)]
    await refused("exists", store.add_executions([*good, good[0]]))
    assert await store.executions(TENANT) == []
    assert await store.add_executions([]) == []
    stored = await store.add_executions(good)
    sequences = [one.sequence for one in stored]
    assert sequences == sorted(set(sequences))
    ids = [good[2].id, "nobody", good[0].id]
    assert [one.id for one in await store.executions_by_id(ids)] == [good[2].id, good[0].id]


async def test_a_content_that_is_not_there(store: Store) -> None:
    function = await store.add_function(a_function())
    missing = ExecutionFile("in", "in", hashlib.sha256(b"never").hexdigest(), 5)
    error = await refused(
        "not_found", store.add_execution(an_execution(function, inputs=(missing,)))
    )
    assert "upload it again" in str(error)
    assert await store.executions(TENANT) == []


async def test_a_deleted_execution_takes_its_files(store: Store) -> None:
    function = await store.add_function(a_function())
    shared = await a_file(store, b"shared")
    one = await store.add_execution(an_execution(function, inputs=(shared,)))
    two = await store.add_execution(an_execution(function, inputs=(shared,)))
    assert await store.delete_execution(one.id) == one
    await refused("not_found", store.delete_execution(one.id))
    assert await store.content(shared.sha256) == b"shared"
    await store.delete_execution(two.id)
    await refused("not_found", store.content(shared.sha256))


FILTERS = [
    Filter(),
    Filter(space="main"),
    Filter(space="main", function="hello"),
    Filter(function_id=1),
    Filter(key_id=7),
    Filter(function_id=1, key_id=7),
    Filter(status="ended"),
    Filter(status="pending"),
    Filter(status="running", space="main", function="hello"),
    Filter(status="running", function_id=2, key_id=7),
    Filter(key_id=0, status="pending"),
    Filter(function_id=0),
]


async def test_lists_of_executions(store: Store) -> None:
    """Every filter gives what filtering everything by hand gives, page by page."""
    functions = [
        await store.add_function(a_function()),
        await store.add_function(a_function(name="other")),
        await store.add_function(a_function(space="s")),
    ]
    for number in range(36):
        new = an_execution(functions[number % 3], key_id=7 * (number % 2), args="[]")
        await store.add_execution(new)
        if number % 4:
            await store.change_execution(new.id, status="running")
        if number % 4 > 1:
            await store.end_execution(new.id, FULL)
    everything = await store.executions(TENANT)
    assert len(everything) == 36
    assert [one.args for one in everything] == [""] * 36
    for filter in FILTERS:
        expected = [one.id for one in everything if _matches(one, filter)]
        assert bool(expected) == (0 not in (filter.function_id, filter.key_id)), filter
        found: list[Execution] = []
        while page := await store.executions(
            TENANT, filter, found[-1].sequence if found else 0, limit=5
        ):
            found += page
        assert [one.id for one in found] == expected, filter
    assert await store.executions(TENANT + 1) == []


def _matches(one: Execution, filter: Filter) -> bool:
    if filter.key_id == 0:
        return False
    return all(
        getattr(filter, name) in (None, getattr(one, name)) for name in Filter.__struct_fields__
    )


@pytest.mark.parametrize("after", [0, 1000])
@pytest.mark.parametrize("filter", FILTERS)
async def test_lists_come_out_of_an_index(store: Store, filter: Filter, after: int) -> None:
    """No scan of the table and no sorting, whatever is asked for."""
    statement, values = execution_list.listing(filter, after)
    plan = await _plan(store, statement, (TENANT, *values, 100))
    assert len(plan) == 1, plan
    assert plan[0].startswith("SEARCH executions USING INDEX executions_"), plan


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT * FROM executions WHERE id = ?", ("x",)),
        ("SELECT * FROM execution_data WHERE sequence = ?", (1,)),
        ("SELECT * FROM execution_files WHERE sequence = ? AND role = 'input'", (1,)),
        ("SELECT 1 FROM execution_files WHERE sha256 = ?", ("x",)),
        ("SELECT 1 FROM function_files WHERE sha256 = ?", ("x",)),
        ("DELETE FROM executions WHERE sequence = ?", (1,)),
        ("SELECT * FROM functions WHERE tenant = ? AND space = ? AND name = ?", (1, "", "")),
    ],
)
async def test_searches_use_an_index(store: Store, statement: str, values: tuple[object]) -> None:
    plan = await _plan(store, statement, values)
    assert [line for line in plan if "SCAN" in line] == []


async def _plan(store: Store, statement: str, values: tuple[object, ...]) -> list[str]:
    rows = await store._database.read(
        lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    )
    return [row[3] for row in rows]


async def test_a_list_of_much_metadata_is_cut(store: Store) -> None:
    for number in range(8):
        metadata = {"much": "x" * 300_000}
        await store.add_function(a_function(name=f"f{number}", metadata=metadata))
    names: list[str] = []
    after = ("", "")
    while items := await store.functions(TENANT, after=after, limit=1000):
        assert len(items) <= 4
        assert [one.cut for one in items] == [False] * 3 + [True] * (len(items) - 3)
        after = (items[-1].space, items[-1].name)
        names += [one.name for one in items]
    assert names == [f"f{number}" for number in range(8)]


async def test_what_was_sent_is_read_only_to_be_run(store: Store) -> None:
    function = await store.add_function(a_function())
    sent = an_execution(function, args='"long"', stdin=b"long")
    one = await store.add_execution(sent)
    assert (await store.execution(one.id)) == one
    shown = structs.replace(one, args="", stdin=b"")
    assert (await store.execution(one.id, sent=False)) == shown
    assert await store.executions_by_id([one.id, one.id]) == [shown, shown]


async def test_what_the_last_life_left(state: State) -> None:
    async with opened(state) as store:
        function = await store.add_function(a_function())
        made = [await store.add_execution(an_execution(function, args="1")) for _ in range(4)]
        created, submitted, running, ended = [one.id for one in made]
        await store.change_execution(submitted, submitted_ns=NOW)
        await store.change_execution(running, status="running", submitted_ns=NOW)
        await store.end_execution(ended, FULL)
        orphan = await store.put_content(b"never used")
    async with opened(state) as store:
        again = await store.unfinished(NOW + 3)
        # All at once they may be much, so without what was sent.
        assert [(one.id, one.args) for one in again] == [(submitted, "")]
        assert (await store.execution(submitted)).args == "1"
        assert (await store.execution(created)).status == "pending"
        now = await store.execution(running)
        assert (now.status, now.end_reason, now.ended_ns) == ("ended", "interrupted", NOW + 3)
        assert (await store.execution(ended)).end_reason == "timeout"
        await refused("not_found", store.content(orphan))
        assert [one.id for one in await store.unfinished(NOW + 4)] == [submitted]


# -- keys -----------------------------------------------------------------------------------------


def a_key(**fields: object) -> Key:
    return Key(**{"tenant": TENANT, "name": "first", "role": "admin", **fields})  # type: ignore[arg-type]


async def test_keys(store: Store) -> None:
    key, secret = await store.add_key(
        a_key(role="manage", space="s", max_memory_bytes=1, max_time_ns=2, max_executions=3)
    )
    assert secret.startswith("token_")
    assert len(secret.partition("_")[2]) == 43
    assert store.key_by_secret(secret) == key
    assert await store.keys(TENANT) == [key]
    assert await store.keys(TENANT + 1) == []
    await refused("exists", store.add_key(a_key()))
    other, _ = await store.add_key(a_key(tenant=TENANT + 1))
    assert other.id != key.id
    await refused("not_found", store.delete_key(TENANT + 2, "first", NOW))
    assert await store.delete_key(TENANT, "first", NOW) == key
    assert store.key_by_secret(secret) is None
    assert (await store.add_key(a_key()))[0].id not in (key.id, other.id)


async def test_a_deleted_key_takes_along_what_waits(state: State) -> None:
    async with opened(state) as store:
        function = await store.add_function(a_function())
        key, _ = await store.add_key(a_key())
        other, _ = await store.add_key(a_key(name="other"))
        ids = []
        for maker in (key, key, other):
            new = an_execution(function, key_id=maker.id, submitted_ns=NOW)
            ids.append((await store.add_execution(new)).id)
        await store.change_execution(ids[0], status="running", started_ns=NOW)
        await store.delete_key(TENANT, "first", NOW + 1)
        rows = await store.executions_by_id(ids)
        assert [row.status for row in rows] == ["running", "ended", "pending"]
        assert (rows[1].end_reason, rows[1].ended_ns) == ("cancelled", NOW + 1)
        assert rows[1].message == "its key was deleted"
    async with opened(state) as store:  # As after a crash: nobody has told anybody anything.
        assert [one.id for one in await store.unfinished(NOW + 2)] == [ids[2]]


@pytest.mark.parametrize("change", [str.upper, lambda s: s[:-1], lambda s: s + "x", lambda _: ""])
async def test_a_secret_that_is_nearly_right(store: Store, change: object) -> None:
    _, secret = await store.add_key(a_key())
    assert store.key_by_secret(change(secret)) is None  # type: ignore[operator]
    for hostile in ("\0", "\udc80", "x" * 10_000_000):
        assert store.key_by_secret(hostile) is None


async def test_how_many_keys(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_PER_TENANT", 1)
    await store.add_key(a_key())
    await refused("limit_exceeded", store.add_key(a_key(name="second")))
    await store.add_key(a_key(tenant=TENANT + 1))


async def test_no_secret_is_on_the_disk_or_in_a_text(state: State) -> None:
    async with opened(state) as store:
        function = await store.add_function(await with_everything(store))
        key, secret = await store.add_key(a_key())
        assert "SECRET-VALUE" not in repr(function)
        assert secret not in repr(key)
        _require_nowhere(state.root, secret)
        _require_nowhere(state.root, "SECRET-VALUE")
    _require_nowhere(state.root, secret)
    _require_nowhere(state.root, "SECRET-VALUE")


def _require_nowhere(root: Path, text: str) -> None:
    files = [path for path in root.rglob("*") if path.is_file()]
    assert root / "functions.db" in files
    for path in files:
        assert text.encode() not in path.read_bytes(), path


# -- the files ------------------------------------------------------------------------------------


async def test_nobody_else_reads_the_files(state: State) -> None:
    old = os.umask(0)
    try:
        async with opened(state) as store:
            function = await store.add_function(await with_everything(store))
            await store.add_execution(an_execution(function))
            await store.put_content(b"x")
            made = [
                *state.root.glob("functions.db*"),
                *(state.root / "contents").rglob("*"),
                state.root / "contents",
                state.root / "secret.key",
            ]
            assert {"functions.db", "functions.db-wal"} <= {path.name for path in made}
            for path in made:
                mode = stat.S_IMODE(path.lstat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), path
    finally:
        os.umask(old)
    assert list(state.staging.iterdir()) == []


async def test_equal_contents_are_one_file(store: Store, state: State) -> None:
    first, second = await store.put_content(b"same"), await store.put_content(b"same")
    assert first == second == hashlib.sha256(b"same").hexdigest()
    files = [path for path in (state.root / "contents").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [first]


async def test_a_damaged_content(store: Store, state: State) -> None:
    sha256 = await store.put_content(b"good")
    (state.root / "contents" / sha256[:2] / sha256).write_bytes(b"evil")
    error = await refused("internal", store.content(sha256))
    assert "damaged" in str(error)
    assert await store.put_content(b"good") == sha256
    assert await store.content(sha256) == b"good"
    for name in ("", "..", "../../functions.db", "A" * 64, sha256 + "0"):
        await refused("not_found", store.content(name))


# -- many at a time -------------------------------------------------------------------------------


async def test_one_that_fails_takes_nobody_along(store: Store) -> None:
    """All of these are committed together."""
    function = await store.add_function(a_function())
    twice = str(uuid.uuid4())
    outcomes: list[str] = []

    async def add(id: str) -> None:
        try:
            await store.add_execution(an_execution(function, id=id))
            outcomes.append("stored")
        except RequestError as exc:
            outcomes.append(exc.code)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(add, twice if number % 10 == 0 else str(uuid.uuid4()))
    assert outcomes.count("exists") == 9
    assert outcomes.count("stored") == 91
    assert len(await store.executions(TENANT, limit=1000)) == 91


async def test_waiting_writes_are_committed_together(store: Store) -> None:
    function = await store.add_function(a_function())
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await store._database.read(lambda connection: connection.set_trace_callback(count))
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(store.add_execution, an_execution(function))
    assert 1 <= commits < 50


async def test_cancelling_does_not_undo(store: Store) -> None:
    function = await store.add_function(a_function())
    new = an_execution(function)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.add_execution, new)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert (await store.execution(new.id)).id == new.id
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.add_execution(an_execution(function))
    assert scope.cancelled_caught
    assert len(await store.executions(TENANT)) == 1


async def test_after_the_end(state: State) -> None:
    async with opened(state) as store:
        pass
    await store.aclose()
    await refused("internal", store.functions(TENANT))


async def _fresh(store: Store, function: Function) -> Execution:
    return await store.add_execution(an_execution(function))


def _as_dict(value: Function) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _with(outcome: Outcome, **changes: object) -> Outcome:
    fields = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    return Outcome(**fields | changes)
