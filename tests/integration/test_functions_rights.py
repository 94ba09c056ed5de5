"""Who may do what, cell by cell of the table in docs/authorisation.md, on a real daemon."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import Daemon, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

PAGE = Path(__file__).parents[2] / "docs" / "authorisation.md"
WHO = ("uid", "admin", "manage", "master", "run")
TENANT = 4_000_000  # Whom root acts for; nobody has this uid.
OTHER = 4_000_001


def cells() -> dict[tuple[str, str], str]:
    found = {}
    for line in PAGE.read_text().splitlines():
        columns = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(columns) != len(WHO) + 1:
            continue
        for action in re.findall(r"`([a-z.]+)`", columns[0]):
            found |= {(action, who): cell for who, cell in zip(WHO, columns[1:], strict=True)}
    return found


CELLS = cells()
FUNCTIONS = {"f": "main", "g": "main", "h": "other"}
# The executions that there are: of which function, and with which key it was made.
EXECUTIONS = {
    "f by uid": "f",
    "f by run": "f",
    "f by another": "f",
    "g by uid": "g",
    "h by uid": "h",
}


@pytest.fixture(scope="module")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    with running(jobs=2) as daemon:
        yield daemon


class World:
    """Functions, keys and executions of one tenant, made anew for each test."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.mine: dict[str, Any] = {"tenant": TENANT}
        for name, space in FUNCTIONS.items():
            client.create_function(
                name, "program", space=space, command=["true"], outputs=[{"id": "o", "path": "o"}],
                inputs=[{"id": "i", "path": "i"}], **self.mine,
            )  # fmt: skip
        self.keys = {
            "admin": self.key("admin", "admin"),
            "manage": self.key("manage", "manage", space="main"),
            "master": self.key("master", "master", function="f"),
            "run": self.key("run", "run", function="f"),
            "another": self.key("another", "run", function="f"),
        }

    def key(self, name: str, role: str, **fields: Any) -> str:
        return str(self.client.create_key(name, role, **fields, **self.mine)["secret"])

    def caller(self, who: str) -> dict[str, Any]:
        return self.mine if who == "uid" else {"key": self.keys[who]}

    def execution(self, which: str, *, ended: bool) -> str:
        name, maker = EXECUTIONS[which], which.rpartition(" ")[2]
        caller = self.caller(maker)
        if ended:
            row = self.client.run_function(name, space=FUNCTIONS[name], wait=True, **caller)
        else:
            row = self.client.create_execution(name, space=FUNCTIONS[name], **caller)
        return str(row["id"])

    def clear(self) -> None:
        for tenant in (TENANT, OTHER):
            for item in self.client.functions(tenant=tenant)["functions"]:
                self.client.delete_function(item["name"], space=item["space"], tenant=tenant)
            for row in self.client.executions(tenant=tenant, limit=1000)["executions"]:
                self.client.delete_execution(row["id"], tenant=tenant)
            for key in self.client.keys(tenant=tenant)["keys"]:
                self.client.delete_key(key["name"], tenant=tenant)


@pytest.fixture
def world(daemon: Daemon) -> Iterator[World]:
    with Client(daemon.socket) as client:
        world = World(client)
        yield world
        world.clear()


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except RequestError as error:
        return error.code
    return "yes"


# -- functions -------------------------------------------------------------------------------------

ON_FUNCTIONS: dict[str, Callable[[Client, str, str, dict[str, Any]], Any]] = {
    "function.update": lambda c, name, space, who: c.update_function(
        name, space=space, metadata={"x": 1}, **who
    ),
    "function.delete": lambda c, name, space, who: c.delete_function(name, space=space, **who),
    "function.get": lambda c, name, space, who: c.function(name, space=space, **who)["command"],
    "function.info": lambda c, name, space, who: c.function(name, space=space, **who)["name"],
    "function.call": lambda c, name, space, who: c.call_function(name, space=space, **who),
    "execution.create": lambda c, name, space, who: c.create_execution(name, space=space, **who),
}


def sees_function(who: str, name: str) -> bool:
    return who in ("uid", "admin") or name == "f" or (who == "manage" and name == "g")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("action", ON_FUNCTIONS)
def test_functions(world: World, action: str, who: str) -> None:
    cell = CELLS[action, who]
    for name, space in FUNCTIONS.items():
        if not sees_function(who, name):
            expected = "not_found"
        else:
            expected = "permission_denied" if cell == "no" else "yes"
        if expected == "permission_denied" and action == "function.get":
            answer = world.client.function(name, space=space, **world.caller(who))
            assert not {"code", "command", "context", "env", "files"} & answer.keys()
            continue
        found = outcome(
            lambda name=name, space=space: ON_FUNCTIONS[action](
                world.client, name, space, world.caller(who)
            )
        )
        assert found == expected, name


@pytest.mark.parametrize("who", WHO)
def test_function_create(world: World, who: str) -> None:
    cell = CELLS["function.create", who]
    for space in ("main", "other", "new"):
        allowed = cell == "yes" or (cell == "its space" and space == "main")
        found = outcome(
            lambda space=space: world.client.create_function(
                "new", "program", space=space, command=["true"], **world.caller(who)
            )
        )
        assert found == ("yes" if allowed else "permission_denied"), space


@pytest.mark.parametrize("who", WHO)
def test_function_list(world: World, who: str) -> None:
    cell = CELLS["function.list", who]
    if cell == "no":
        assert outcome(lambda: world.client.functions(**world.caller(who))) == "permission_denied"
        return
    listed = world.client.functions(**world.caller(who))["functions"]
    assert {item["name"] for item in listed} == {
        name for name in FUNCTIONS if sees_function(who, name)
    }


# -- executions ------------------------------------------------------------------------------------

ON_PENDING: dict[str, Callable[[Client, str, dict[str, Any]], Any]] = {
    "execution.upload": lambda c, id, who: c.upload_input(id, "i", "x", **who),
    "execution.start": lambda c, id, who: c.start_execution(id, **who),
    "execution.stop": lambda c, id, who: c.stop_execution(id, **who),
    "execution.delete": lambda c, id, who: c.delete_execution(id, **who),
    "execution.get": lambda c, id, who: c.execution(id, **who),
}
ON_ENDED: dict[str, Callable[[Client, str, dict[str, Any]], Any]] = {
    "execution.log": lambda c, id, who: c.execution(id, log=True, **who),
    "execution.wait": lambda c, id, who: c.wait_execution(id, **who),
}


def sees_execution(who: str, which: str) -> bool:
    if who == "run":
        return which == "f by run"
    return sees_function(who, EXECUTIONS[which])


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("action", [*ON_PENDING, *ON_ENDED])
def test_executions(world: World, action: str, who: str) -> None:
    assert CELLS[action, who] != "no"
    call = (ON_PENDING | ON_ENDED)[action]
    for which in EXECUTIONS:
        id = world.execution(which, ended=action in ON_ENDED)
        found = outcome(lambda id=id: call(world.client, id, world.caller(who)))
        assert found == ("yes" if sees_execution(who, which) else "not_found"), which


@pytest.mark.parametrize("who", WHO)
def test_execution_output(world: World, who: str) -> None:
    """There is none, which only who sees the execution is told."""
    for which in EXECUTIONS:
        id = world.execution(which, ended=True)
        with pytest.raises(RequestError) as caught:
            world.client.execution_output(id, "o", **world.caller(who))
        seen = "it has left" in str(caught.value)
        assert (caught.value.code, seen) == ("not_found", sees_execution(who, which)), which


@pytest.mark.parametrize("who", WHO)
def test_execution_lists(world: World, who: str) -> None:
    ids = {which: world.execution(which, ended=False) for which in EXECUTIONS}
    seen = {ids[which] for which in EXECUTIONS if sees_execution(who, which)}
    caller = world.caller(who)
    listed = world.client.executions(**caller)["executions"]
    assert {row["id"] for row in listed} == seen
    asked = world.client.executions_by_id(list(ids.values()), **caller)["executions"]
    assert {row["id"] for row in asked} == seen
    by_name = world.client.executions(space="main", name="g", **caller)["executions"]
    assert {row["id"] for row in by_name} == seen & {ids["g by uid"]}


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("role", ["admin", "manage", "master", "run"])
def test_key_create(world: World, role: str, who: str) -> None:
    cell = CELLS["key.create", who]
    for name, space in FUNCTIONS.items() if role in ("master", "run") else (("", ""),):
        fields: dict[str, Any] = {"space": space, "function": name} if name else {}
        found = outcome(
            lambda fields=fields, name=name: world.client.create_key(
                f"new{name}", role, **fields, **world.caller(who)
            )
        )
        if cell == "yes" or (cell == "`run` keys" and (role, name) == ("run", "f")):
            assert found == "yes"
        elif name and not sees_function(who, name):
            assert found in ("not_found", "permission_denied")
        else:
            assert found == "permission_denied"


@pytest.mark.parametrize("who", WHO)
def test_key_list_and_delete(world: World, who: str) -> None:
    cell, caller = CELLS["key.list", who], world.caller(who)
    assert cell == CELLS["key.delete", who]
    if cell == "no":
        assert outcome(lambda: world.client.keys(**caller)) == "permission_denied"
        assert outcome(lambda: world.client.delete_key("another", **caller)) == "permission_denied"
        return
    seen = {"run", "another"} if cell == "`run` keys" else set(world.keys)
    assert {key["name"] for key in world.client.keys(**caller)["keys"]} == seen
    for name in sorted(world.keys, key=lambda name: name == who):  # Its own one last.
        found = outcome(lambda name=name: world.client.delete_key(name, **caller))
        assert found == ("yes" if name in seen else "not_found"), name


def test_a_key_allows_no_more_than_the_one_it_was_made_with(world: World) -> None:
    world.client.create_key("m", "admin", max_executions=3, max_time_ns=5, **world.mine)
    small = world.client.create_key(
        "small", "master", function="f", max_executions=3, max_time_ns=50, **world.mine
    )["secret"]
    made = world.client.create_key(
        "made", "run", function="f", max_executions=9, max_time_ns=0, max_memory_bytes=7, key=small
    )
    assert (made["max_executions"], made["max_time_ns"], made["max_memory_bytes"]) == (3, 50, 7)


def test_a_key_learns_nothing_of_functions_out_of_its_reach(daemon: Daemon, world: World) -> None:
    """Not even that one cannot be run."""
    world.client.create_function(
        "damaged", "program", space="other", command=["true"],
        files=[{"path": "f", "data": "there is no other content as this one"}], **world.mine,
    )  # fmt: skip
    for path in (Path(daemon.socket).parent / "state" / "contents").glob("*/*"):
        path.write_bytes(b"damaged")
    for run in (world.client.call_function, world.client.run_function):
        assert outcome(lambda run=run: run("damaged", space="other", **world.mine)) == "internal"
        for who in ("manage", "master", "run"):
            with pytest.raises(RequestError) as caught:
                run("damaged", space="other", **world.caller(who))
            assert (caught.value.code, caught.value.message) == (
                "not_found",
                "there is no function other/damaged",
            )


# -- tenants ---------------------------------------------------------------------------------------


def test_nobody_reaches_another_tenant(world: World) -> None:
    world.client.create_function("f", "program", command=["false"], tenant=OTHER)
    id = world.client.create_execution("f", tenant=OTHER)["id"]
    for who in WHO:
        caller = world.caller(who)
        assert outcome(lambda caller=caller: world.client.execution(id, **caller)) == "not_found"
        assert world.client.call_function("f", **caller)["exit_code"] == 0
        if who != "uid":
            wrong = {**caller, "tenant": OTHER}
            assert outcome(lambda w=wrong: world.client.function("f", **w)) == "permission_denied"


def test_the_table_is_complete() -> None:
    tested = {*ON_FUNCTIONS, *ON_PENDING, *ON_ENDED, "function.create", "function.list"}
    tested |= {"execution.output", "execution.list", "key.create", "key.list", "key.delete"}
    assert {action for action, _ in CELLS} == tested
