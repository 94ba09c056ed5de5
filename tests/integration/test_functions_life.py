"""The life of executions on a real daemon: every state and every call, keys, deletions."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import Daemon, running
from support.raw import RawConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

ECHO = "def main(args, context):\n    return args\n"
# Says that it runs, and runs until somebody ends it.
FOREVER = ["sh", "-c", "echo begun; cat in; exec sleep 60"]
STARTED_S = 10


@pytest.fixture(scope="module")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    with running(jobs=2, executions_queue=60) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.socket) as client:
        client.create_function("echo", "python", code=ECHO)
        client.create_function(
            "forever",
            "program",
            command=FOREVER,
            inputs=[{"id": "in", "path": "in"}],
            outputs=[{"id": "out", "path": "in"}],
        )
        yield client
        for item in client.functions(limit=1000)["functions"]:
            client.delete_function(item["name"], space=item["space"])
        for key in client.keys()["keys"]:
            client.delete_key(key["name"])
        for row in client.executions(limit=1000)["executions"]:
            client.delete_execution(row["id"])


def refused(expected: str, call: Any, /, *args: Any, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*args, **fields)
    assert caught.value.code == expected, caught.value
    return caught.value


def await_running(client: Client, id: str, *, said: bytes = b"begun\n", **caller: Any) -> None:
    """Until its program has said so and it is noted."""
    deadline = time.monotonic() + STARTED_S
    while True:
        row = client.execution(id, log=True, **caller)
        if row["status"] == "running" and row["log"].startswith(said):
            return
        assert time.monotonic() < deadline, row
        assert row["status"] != "ended", row
        time.sleep(0.01)


# -- every state and every call --------------------------------------------------------------------


def pending(client: Client) -> str:
    return str(client.create_execution("forever")["id"])


def with_input(client: Client) -> str:
    id = pending(client)
    client.upload_input(id, "in", "data\n")
    return id


def is_running(client: Client) -> str:
    id = with_input(client)
    client.start_execution(id)
    await_running(client, id, said=b"begun\ndata\n")
    return id


def is_queued(client: Client) -> str:
    """Started, and waiting behind others that fill the machine."""
    for _ in range(40):
        client.run_function("forever", inputs={"in": ""})
    return str(client.run_function("forever", inputs={"in": ""})["id"])


def has_ended(client: Client) -> str:
    id = is_running(client)
    client.stop_execution(id)
    return id


def is_deleted(client: Client) -> str:
    id = has_ended(client)
    client.delete_execution(id)
    return id


STATES: dict[str, Callable[[Client], str]] = {
    "pending": pending,
    "uploaded": with_input,
    "queued": is_queued,
    "running": is_running,
    "ended": has_ended,
    "deleted": is_deleted,
}
CALLS: dict[str, Callable[[Client, str], Any]] = {
    "get": lambda client, id: client.execution(id, log=True)["status"],
    "get_many": lambda client, id: len(client.executions_by_id([id])["executions"]),
    "upload": lambda client, id: client.upload_input(id, "in", "new\n")["bytes"],
    "upload unknown": lambda client, id: client.upload_input(id, "no", ""),
    "start": lambda client, id: client.start_execution(id)["status"],
    "output": lambda client, id: client.execution_output(id, "out")["data"],
    "output unknown": lambda client, id: client.execution_output(id, "no"),
    "stop": lambda client, id: client.stop_execution(id)["end_reason"],
    "delete": lambda client, id: client.delete_execution(id)["end_reason"],
}
STATE = "invalid_argument"
GONE = "not_found"
# For each call what it answers in the states as they stand above, or with which code it is refused.
TABLE: dict[str, tuple[Any, ...]] = {
    "get": ("pending", "pending", "pending", "running", "ended", GONE),
    "get_many": (1, 1, 1, 1, 1, 0),
    "upload": (4, 4, STATE, STATE, STATE, GONE),
    "upload unknown": (GONE, GONE, STATE, STATE, STATE, GONE),
    "start": ("pending", "pending", STATE, STATE, STATE, GONE),
    "output": (STATE, STATE, STATE, STATE, b"data\n", GONE),
    "output unknown": (STATE, STATE, STATE, STATE, GONE, GONE),
    "stop": (*("stopped",) * 5, GONE),
    "delete": (*("cancelled",) * 4, "stopped", GONE),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_every_state(client: Client, state: str, call: str) -> None:
    id = STATES[state](client)
    expected = TABLE[call][tuple(STATES).index(state)]
    if expected in (STATE, GONE):
        error = refused(expected, CALLS[call], client, id)
        shown = {"uploaded": "pending", "queued": "pending"}.get(state, state)
        assert expected == GONE or error.data == {"state": shown}
    else:
        assert CALLS[call](client, id) == expected
    if call == "delete":
        refused("not_found", client.execution, id)


@pytest.mark.parametrize("state", STATES)
def test_wait_in_every_state(daemon: Daemon, client: Client, state: str) -> None:
    id = STATES[state](client)
    if state in ("pending", "uploaded"):
        assert refused(STATE, client.wait_execution, id).data == {"state": "pending"}
    elif state == "deleted":
        refused(GONE, client.wait_execution, id)
    else:
        answers: list[Any] = []

        def wait() -> None:
            with Client(daemon.socket) as other:
                answers.append(other.wait_execution(id, log=True))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        assert bool(answers) == (state == "ended")
        client.stop_execution(id)
        thread.join(STARTED_S)
        assert answers[0]["end_reason"] == "stopped"


def test_who_waits_for_one_that_is_deleted_is_told(daemon: Daemon, client: Client) -> None:
    id = is_running(client)
    with Client(daemon.socket) as other:
        thread = threading.Timer(0.2, client.delete_execution, [id])
        thread.start()
        assert other.wait_execution(id)["end_reason"] == "cancelled"
        thread.join()


# -- logs ------------------------------------------------------------------------------------------


def test_the_log_while_it_runs(client: Client) -> None:
    id = is_running(client)
    row = client.execution(id, log=True)
    assert (row["log"], row["log_bytes"], row["started_ns"] > 0) == (b"begun\ndata\n", 11, True)
    assert client.execution(id, log=True, log_from=6)["log"] == b"data\n"
    assert client.execution(id, log=True, log_from=11)["log"] == b""
    assert client.execution(id, log=True, log_from=2**40)["log"] == b""
    assert "log" not in client.execution(id)
    ended = client.stop_execution(id)
    assert (ended["end_reason"], ended["log_bytes"]) == ("stopped", 11)
    assert client.execution(id, log=True, log_from=6)["log"] == b"data\n"


def test_the_log_is_bounded(client: Client) -> None:
    command = ["sh", "-c", "yes 0123456 & yes 0123456 >&2; wait"]
    client.create_function("loud", "program", command=command, limits={"output_bytes": 100_000})
    row = client.run_function("loud", wait=True, log=True)
    assert (row["end_reason"], row["log_truncated"]) == ("output-limit", True)
    assert len(row["log"]) == row["log_bytes"] == 100_000


def test_a_log_of_exactly_the_limit(client: Client) -> None:
    command = ["sh", "-c", "head -c 100000 /dev/zero"]
    client.create_function("exact", "program", command=command, limits={"output_bytes": 100_000})
    row = client.run_function("exact", wait=True)
    assert (row["end_reason"], row["log_truncated"], row["log_bytes"]) == ("normal", False, 100_000)


# -- many ------------------------------------------------------------------------------------------


def test_run_many(client: Client) -> None:
    ids = client.run_function_many("echo", list(range(40)))["ids"]
    assert len(set(ids)) == 40
    for n, id in enumerate(ids):
        assert json.loads(client.wait_execution(id)["result"]) == n
    found = client.executions_by_id([*ids, "none"])["executions"]
    assert [row["id"] for row in found] == ids
    listed = client.executions(space="main", name="echo", status="ended", limit=1000)
    assert [row["id"] for row in listed["executions"]] == ids[::-1]
    assert client.run_function_many("echo", [])["ids"] == []
    error = refused(STATE, client.run_function_many, "echo", [1, b"\xff"])
    assert error.data["field"] == "calls[1]"


def test_a_full_queue(client: Client) -> None:
    ids = client.run_function_many("forever", [None] * 40)["ids"]
    error = refused("busy", client.run_function_many, "echo", [1] * 10)
    assert error.data["retry_after_ns"] > 0
    client.run_function("echo")
    for id in ids:
        client.delete_execution(id)
    client.run_function_many("echo", [1] * 10)


def test_another_key_waits_for_nobodys_thousand(client: Client) -> None:
    keys = [client.create_key(name, "admin")["secret"] for name in ("many", "one")]
    client.create_function("slow", "program", command=["sleep", "0.2"])
    ids = client.run_function_many("slow", [None] * 40, key=keys[0])["ids"]
    began = time.monotonic()
    client.run_function("slow", wait=True, key=keys[1])
    took = time.monotonic() - began
    left = [client.execution(id)["status"] for id in ids]
    assert left.count("pending") >= 5, (took, left)  # It took its turn before them.


def test_a_key_has_one_line_of_the_queue(daemon: Daemon, client: Client) -> None:
    keys = [client.create_key(name, "admin")["secret"] for name in ("many", "one")]
    client.create_function("slow", "program", command=["sleep", "0.2"])
    with RawConnection(daemon.socket, 30) as raw:
        for n in range(40):
            raw.request(n, "function.call", name="slow", key=keys[0], client=f"client-{n}")
        raw.message()  # They are on their way.
        began = time.monotonic()
        client.call_function("slow", key=keys[1])
        assert time.monotonic() - began < 2  # All of them take four seconds.
        for _ in range(39):
            raw.message()


def test_it_goes_on_without_its_client(daemon: Daemon, client: Client) -> None:
    with Client(daemon.socket) as other:
        id = other.run_function("echo", 7)["id"]
    assert json.loads(client.wait_execution(id)["result"]) == 7


# -- deletions -------------------------------------------------------------------------------------


def test_a_function_that_is_deleted_while_it_runs(client: Client) -> None:
    running_id, pending_id = is_running(client), with_input(client)
    client.delete_function("forever")
    assert client.execution(running_id)["status"] == "running"
    assert client.execution(pending_id)["end_reason"] == "cancelled"
    refused("not_found", client.run_function, "forever")
    client.create_function("forever", "program", command=["true"])
    assert client.stop_execution(running_id)["end_reason"] == "stopped"
    assert client.execution(running_id, log=True)["log"] == b"begun\ndata\n"


def test_a_function_that_is_deleted_while_many_wait(client: Client) -> None:
    client.create_function("slow", "program", command=["sleep", "0.3"])
    ids = client.run_function_many("slow", [None] * 30)["ids"]
    client.delete_function("slow")
    reasons = [client.wait_execution(id)["end_reason"] for id in ids]
    assert set(reasons) <= {"normal", "cancelled"}
    assert reasons.count("cancelled") > 10


def test_a_function_that_is_renamed_while_many_wait(client: Client) -> None:
    client.create_function("slow", "program", command=["sleep", "0.05"])
    ids = client.run_function_many("slow", [None] * 20)["ids"]
    client.update_function("slow", new_name="renamed")
    assert {client.wait_execution(id)["end_reason"] for id in ids} == {"normal"}


def test_an_update_is_for_what_begins_after_it(client: Client) -> None:
    id = client.create_execution("echo")["id"]
    client.update_function("echo", code="def main(args, context):\n    return 'new'\n")
    client.start_execution(id, 1)
    row = client.wait_execution(id)
    assert (row["result"], row["revision"]) == ('"new"', 2)


def test_a_key_that_is_deleted_in_the_middle(client: Client) -> None:
    secret = client.create_key("k", "run", function="forever")["secret"]
    by_key = client.run_function("forever", inputs={"in": "data\n"}, key=secret)["id"]
    created = client.create_execution("forever", key=secret)["id"]
    mine = is_running(client)
    await_running(client, by_key)
    client.delete_key("k")
    assert client.wait_execution(by_key)["end_reason"] == "cancelled"
    assert client.execution(created)["end_reason"] == "cancelled"
    assert client.execution(mine)["status"] == "running"
    error = refused("permission_denied", client.execution, by_key, key=secret)
    assert error.message == "key: the key is not known"


# -- keys ------------------------------------------------------------------------------------------


def test_a_key_lowers_the_limits(client: Client) -> None:
    code = (
        "import time\n"
        "def main(args, context):\n"
        "    x = b'x' * args['bytes']\n"
        "    time.sleep(args['seconds'])\n"
        "    return len(x)\n"
    )
    client.create_function("use", "python", code=code, limits={"memory_bytes": 256 << 20})
    secret = client.create_key(
        "small", "run", function="use", max_memory_bytes=48 << 20, max_time_ns=2_000_000_000
    )["secret"]
    for run in (client.call_function, client.run_function):
        more: dict[str, Any] = {} if run == client.call_function else {"wait": True}
        big, slow = {"bytes": 128 << 20, "seconds": 0}, {"bytes": 1, "seconds": 2.5}
        assert run("use", big, **more)["error"] is None
        assert run("use", slow, **more)["end_reason"] == "normal"
        answer = run("use", big, key=secret, limits={"memory_bytes": 512 << 20}, **more)
        assert answer["end_reason"] == "out-of-memory" or answer["error"]["type"] == "MemoryError"
        answer = run("use", slow, key=secret, limits={"wall_time_ns": 5_000_000_000}, **more)
        assert answer["end_reason"] == "timeout"


def test_a_key_lowers_the_limits_of_compiling(client: Client) -> None:
    code = '#include <unistd.h>\nint main(void) { return write(3, "[1]", 3) != 3; }\n'
    client.create_function("f", "json", language="c", code=code)
    # Enough for the program; no C compiler is as fast.
    short = client.create_key("short", "run", function="f", max_time_ns=15_000_000)["secret"]
    long = client.create_key("long", "run", function="f", max_time_ns=9_000_000_000)["secret"]
    for run in (client.call_function, client.run_function):
        more: dict[str, Any] = {} if run == client.call_function else {"wait": True}
        assert run("f", 1, key=long, **more)["result"] == "[1]"
        # A limit that is only asked for is for the program, which needs no more.
        assert run("f", 1, limits={"memory_bytes": 4 << 20}, **more)["result"] == "[1]"
        assert run("f", 1, key=short, **more)["end_reason"] == "timeout"


def test_a_key_has_so_many_at_once(client: Client) -> None:
    secret = client.create_key("two", "run", function="forever", max_executions=2)["secret"]
    ids = [client.run_function("forever", key=secret)["id"] for _ in range(2)]
    error = refused("busy", client.run_function, "forever", key=secret)
    assert "may have 2 executions at once" in error.message
    assert error.data["retry_after_ns"] > 0
    third = client.create_execution("forever", key=secret)["id"]
    refused("busy", client.start_execution, third, key=secret)
    refused("busy", client.call_function, "forever", key=secret)
    refused("busy", client.run_function_many, "forever", [None], key=secret)
    client.run_function("forever")  # Not with the key.
    client.stop_execution(ids[0])
    client.start_execution(third, key=secret)
    refused("busy", client.run_function, "forever", key=secret)


def test_the_places_of_a_key_come_back(daemon: Daemon, client: Client) -> None:
    secret = client.create_key("one", "run", function="echo", max_executions=1)["secret"]
    for n in range(5):
        assert client.call_function("echo", n, key=secret)["result"] == str(n)
        assert client.run_function("echo", n, key=secret, wait=True)["result"] == str(n)
        refused("invalid_argument", client.call_function, "echo", b"{", key=secret)
        refused("invalid_argument", client.run_function, "echo", b"{", key=secret)
    master = client.create_key("m", "master", function="forever", max_executions=1)["secret"]
    with Client(daemon.socket) as other:
        other._connection.send("function.call", {"name": "forever", "key": master}, [])
        time.sleep(0.3)
        refused("busy", client.call_function, "forever", key=master)
    deadline = time.monotonic() + STARTED_S
    while True:  # The call ended with its connection.
        try:
            client.run_function("forever", key=master)
        except RequestError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            break


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "a b", "role": "admin"}, "invalid_argument"),
        ({"name": "k", "role": "root"}, "invalid_argument"),
        ({"name": "k", "role": "run"}, "invalid_argument"),
        ({"name": "k", "role": "master"}, "invalid_argument"),
        ({"name": "k", "role": "admin", "function": "echo"}, "invalid_argument"),
        ({"name": "k", "role": "admin", "space": "main"}, "invalid_argument"),
        ({"name": "k", "role": "manage", "space": "-"}, "invalid_argument"),
        ({"name": "k", "role": "run", "function": "echo", "max_time_ns": -1}, "invalid_argument"),
    ],
)
def test_keys_that_are_refused(client: Client, fields: dict[str, Any], code: str) -> None:
    refused(code, client.call, "key.create", fields)
    assert client.keys()["keys"] == []


def test_a_secret_is_shown_once(daemon: Daemon, client: Client) -> None:
    made = client.create_key("k", "manage", space="main")
    assert made["secret"].startswith("token_")
    assert len(made["secret"]) == 49
    assert "secret" not in client.keys()["keys"][0]
    refused("exists", client.create_key, "k", "admin")
    assert made["secret"] not in daemon.log_text()
    for wrong in ("", "token_", made["secret"] + "x", made["secret"][:-1], "x" * 128):
        refused("permission_denied", client.functions, key=wrong)


def test_a_call_ends_with_its_key(daemon: Daemon, client: Client) -> None:
    client.create_function("sleep", "program", command=["sleep", "60"])
    secret = client.create_key("k", "run", function="sleep")["secret"]
    with Client(daemon.socket) as other:
        thread = threading.Timer(0.3, client.delete_key, ["k"])
        thread.start()
        assert other.call_function("sleep", key=secret)["end_reason"] == "cancelled"
        thread.join()


def test_a_call_has_no_inputs(client: Client) -> None:
    inputs: Any = [{"id": "in", "path": "in", "required": True}]
    client.update_function("forever", inputs=inputs)
    error = refused("invalid_argument", client.call_function, "forever")
    assert "use execution.run" in str(error)


def test_outputs_that_are_too_much_are_said_to_be_missing(require_sandbox: None) -> None:
    settings = {"collect_bytes": 1000, "max_collect_bytes": 1000}
    with running(jobs=1, **settings) as own, Client(own.socket) as client:
        client.create_function(
            "big",
            "program",
            command=["sh", "-c", "head -c 2000 /dev/zero > big"],
            outputs=[{"id": "big", "path": "big"}],
        )
        row = client.run_function("big", wait=True)
        assert (row["outputs"], row["end_reason"]) == ([], "normal")
        assert "some are missing" in row["message"]


def test_results_that_are_too_many_at_once(require_sandbox: None) -> None:
    with running(jobs=1, max_message_bytes=100_000) as own, Client(own.socket) as client:
        code = "def main(args, context):\n    return 'x' * 30_000\n"
        client.create_function("big", "python", code=code)
        ids = client.run_function_many("big", [None] * 5)["ids"]
        for id in ids:
            client.wait_execution(id)
        refused("limit_exceeded", client.executions_by_id, ids)
        assert len(client.executions_by_id(ids[:3])["executions"]) == 3
        assert len(client.executions()["executions"]) == 5
