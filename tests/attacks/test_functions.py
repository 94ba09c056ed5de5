"""Attacks by callers of stored functions: names, keys, states, answers that are none."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import Daemon
from support.jobs import MIB, SECOND

HELLO = "def main(args, context):\n    return args\n"
SLEEP = "import time\ndef main(args, context):\n    time.sleep(60)\n"


class Caller:
    """Calls methods, perhaps with a key."""

    def __init__(self, client: Client, key: str | None = None) -> None:
        self._client = client
        self._key = {} if key is None else {"key": key}

    def __call__(self, method: str, **params: Any) -> Any:
        return self._client.call(method, self._key | params)

    def refused(self, method: str, **params: Any) -> str:
        """The code of the error this must be; its message is for a person."""
        with pytest.raises(RequestError) as caught:
            self(method, **params)
        assert len(caught.value.message) > 10
        assert "Traceback" not in caught.value.message
        return caught.value.code

    def attempt(self, method: str, **params: Any) -> Any:
        """The result, or the RequestError."""
        try:
            return self(method, **params)
        except RequestError as refusal:
            return refusal

    def with_key(self, secret: str) -> "Caller":
        return Caller(self._client, secret)


@pytest.fixture
def call(client: Client) -> Iterator[Caller]:
    """Everything that was made goes again."""
    call = Caller(client)
    yield call
    for key in call("key.list")["keys"]:
        call("key.delete", name=key["name"])
    for execution in call("execution.list")["executions"]:
        call("execution.delete", id=execution["id"])
    for function in call("function.list")["functions"]:
        call("function.delete", space=function["space"], name=function["name"])


def create(call: Caller, name: str, code: str = HELLO, **fields: Any) -> None:
    call("function.create", name=name, kind="python", code=code, **fields)


NO_NAMES = {
    "parent": "..",
    "dot": ".",
    "hidden": ".x",
    "slash": "a/b",
    "climb": "../../etc/passwd",
    "option": "-rf",
    "empty": "",
    "blank": "a b",
    "nul": "a\0b",
    "newline": "a\n",
    "percent": "%2e%2e",
    "letters": "ä",
    "looks_like_a_dot": "\uff0e\uff0e",
    "long": "a" * 65,
    "very_long": "a" * 10_000,
}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES.keys())
def test_names_that_are_paths(call: Caller, daemon: Daemon, name: str) -> None:
    """A12: invalid_argument for a function, a space or a key with such a name, and nothing of it
    on the disk; for one that is looked up not_found does as well."""
    state = Path(daemon.socket).parent / "state"
    before = sorted(path.name for path in state.rglob("*") if path.parent.name != "contents")
    code = {"kind": "python", "code": HELLO}
    assert call.refused("function.create", name=name, **code) == "invalid_argument"
    assert call.refused("function.create", name="f", space=name, **code) == "invalid_argument"
    assert call.refused("key.create", name=name, role="admin") == "invalid_argument"
    for method in ("function.get", "function.delete", "function.call", "execution.create"):
        assert call.refused(method, name=name) in {"invalid_argument", "not_found"}, method
    for method in ("execution.get", "execution.stop", "execution.delete", "execution.start"):
        assert call.refused(method, id=name) in {"invalid_argument", "not_found"}, method
    after = sorted(path.name for path in state.rglob("*") if path.parent.name != "contents")
    assert before == after


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", ".", "", "a\0b", "d/" * 300 + "x", "x/"]
)
def test_paths_of_files_inputs_and_outputs(call: Caller, path: str) -> None:
    """A12, F8: invalid_argument for a file, an input or an output that is not below the work
    directory."""
    program = {"kind": "program", "command": ["true"], "name": "f"}
    files = [{"path": path, "data": b"x"}]
    assert call.refused("function.create", **program, files=files) == "invalid_argument"
    for field in ("inputs", "outputs"):
        places = [{"id": "i", "path": path}]
        assert call.refused("function.create", **program, **{field: places}) == "invalid_argument"


def test_key_of_another_function(call: Caller) -> None:
    """A13: not_found for everything of a function that a key is not for; permission_denied for
    what a key may see and not do; never more than the key says."""
    create(call, "mine")
    create(call, "theirs")
    run = call.with_key(call("key.create", name="run", role="run", function="mine")["secret"])
    master = call.with_key(call("key.create", name="m", role="master", function="mine")["secret"])
    other = call("execution.run", name="theirs", args=1, wait=True)["id"]
    assert run("function.call", name="mine", args=[1])["result"] is not None
    for caller in (run, master):
        for method in ("function.call", "function.get", "execution.create", "execution.run"):
            assert caller.refused(method, name="theirs") == "not_found", method
        for method in ("execution.get", "execution.stop", "execution.delete", "execution.wait"):
            assert caller.refused(method, id=other) == "not_found", method
        denied = {"not_found", "permission_denied"}
        assert caller.refused("key.create", name="k", role="admin") in denied
        assert caller.refused("key.create", name="k", role="run", function="theirs") in denied
        assert caller.refused("key.create", name="k", role="master", function="mine") in denied
        assert caller.refused("function.delete", name="mine") in denied
        assert caller.refused("function.create", name="new", kind="python", code=HELLO) in denied
    assert call("execution.get", id=other)["status"] == "ended"
    assert "code" not in run("function.get", name="mine")


@pytest.mark.parametrize("secret", ["", "x", "admin_" + "A" * 43, "apikey_" + "A" * 43, "é" * 20])
def test_guessed_key(call: Caller, secret: str) -> None:
    """A13: permission_denied, in the same words for every secret that is not known; it is never
    taken for no key at all."""
    create(call, "f")
    guess = call.with_key(secret)
    for method, params in (("function.call", {"name": "f"}), ("function.list", {})):
        with pytest.raises(RequestError) as caught:
            guess(method, **params)
        assert caught.value.code in {"permission_denied", "invalid_argument"}
        assert not secret or secret not in caught.value.message


def test_deleted_key_in_the_middle(call: Caller, daemon: Daemon) -> None:
    """A13: what a deleted key had running ends as cancelled, and the key opens nothing more."""
    create(call, "f", SLEEP)
    run = call.with_key(call("key.create", name="run", role="run", function="f")["secret"])
    running = run("execution.run", name="f")["id"]
    _until(call, running, "running")
    call("key.delete", name="run")
    ended = call("execution.wait", id=running)
    assert (ended["status"], ended["end_reason"]) == ("ended", "cancelled")
    assert run.refused("execution.get", id=running) == "permission_denied"


def _until(call: Caller, execution: str, status: str) -> None:
    deadline = time.monotonic() + 10
    while call("execution.get", id=execution)["status"] != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)


STATES = ("pending", "running", "ended", "deleted")
CALLS = ("execution.start", "execution.stop", "execution.delete", "execution.upload",
         "execution.output", "execution.get")  # fmt: skip


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize("state", STATES)
def test_calls_in_every_state(call: Caller, state: str, method: str) -> None:
    """A20: each call in each state is done, or an error that says what to do: never internal,
    never a job that goes on."""
    program = ["sleep", "60"] if state == "running" else ["true"]
    inputs = {"inputs": [{"id": "i", "path": "in"}], "outputs": [{"id": "o", "path": "out"}]}
    call("function.create", name="f", kind="program", command=program, **inputs)
    execution = call("execution.create", name="f")["id"]
    if state != "pending":
        call("execution.start", id=execution)
    if state == "running":
        _until(call, execution, "running")
    if state in ("ended", "deleted"):
        call("execution.wait", id=execution)
    if state == "deleted":
        call("execution.delete", id=execution)
    params = {"execution.upload": {"input": "i", "data": b"x"}, "execution.output": {"output": "o"}}
    answer = call.attempt(method, id=execution, **params.get(method, {}))
    if isinstance(answer, RequestError):
        gone = state == "deleted"
        assert answer.code in ({"not_found"} if gone else {"not_found", "invalid_argument"})
        assert len(answer.message) > 10
    else:
        assert state != "deleted"


def test_stopped_and_deleted_at_once(call: Caller, daemon: Daemon) -> None:
    """A20: stop, delete and the end of its time at the same moment: one end, no error but
    not_found."""
    create(call, "f", "def main(args, context):\n    import time\n    time.sleep(args)\n")
    codes: list[str] = []

    def attempt(method: str, execution: str) -> None:
        with Client(daemon.socket) as other:
            try:
                other.call(method, {"id": execution})
            except RequestError as refusal:
                codes.append(refusal.code)

    for delay in (0.0, 0.02, 0.1):
        execution = call("execution.run", name="f", args=delay)["id"]
        time.sleep(delay)
        threads = [
            threading.Thread(target=attempt, args=(method, execution))
            for method in ("execution.stop", "execution.delete", "execution.stop")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert call.refused("execution.get", id=execution) == "not_found"
    assert set(codes) <= {"not_found", "invalid_argument"}


def test_function_deleted_while_it_runs(call: Caller) -> None:
    """A20: its execution goes on to its end and stays readable."""
    create(
        call, "f", "def main(args, context):\n    import time\n    time.sleep(0.4)\n    return 7\n"
    )
    execution = call("execution.run", name="f")["id"]
    _until(call, execution, "running")
    call("function.delete", name="f")
    ended = call("execution.wait", id=execution)
    assert (ended["status"], ended["end_reason"]) == ("ended", "normal")
    assert json.loads(ended["result"]) == 7


ANSWERS = {
    "nothing": "exit 0",
    "no_json": "echo nonsense >&3",
    "deep": "head -c 200000 /dev/zero | tr '\\0' '[' >&3",
    "infinite": "echo 1e999 >&3; echo NaN >&3",
    "endless": "exec yes >&3",
    "not_utf8": "printf '\"\\377\"' >&3",
    "two": "echo 1 >&3; echo 2 >&3",
}


@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_that_are_none(call: Caller, script: str) -> None:
    """O7, O5, A1: what is written in the place of a result is a JSON value or an error of the
    function; never the daemon's failure, never without a bound."""
    limits = {"wall_time_ns": 2 * SECOND}
    call("function.create", name="f", kind="json", language="bash", code=script, limits=limits)
    answer = call("function.call", name="f", args={})
    assert answer.get("result") is None, answer
    assert answer["end_reason"] != "error", answer


def test_forged_answer_of_a_python_function(call: Caller) -> None:
    """O7: what a function writes to descriptor 3 by itself cannot be a second answer, and the
    daemon's own words in it are only data."""
    code = (
        "import os\ndef main(args, context):\n"
        '    os.write(3, b\'{"result": "forged", "status": "ok"}\')\n'
        "    return {'status': 'internal_error', 'end_reason': 'error', 'key': 'admin_x'}\n"
    )
    create(call, "f", code)
    answer = call("function.call", name="f", args={})
    assert answer["end_reason"] != "error"
    result = answer.get("result")
    assert result is None or json.loads(result) != "forged"


def test_context_is_never_shown(call: Caller, daemon: Daemon) -> None:
    """K27: a context is given to its function and to nobody else: not in a list, not in an error,
    not in the log, not readable on the disk."""
    secret = "s3cr3t-value-of-a-context"
    create(call, "f", "def main(args, context):\n    raise ValueError\n", context={"token": secret})
    shown = [call("function.get", name="f"), call("function.list"),
             call("function.call", name="f", args={}),
             call("execution.run", name="f", wait=True), call("execution.list")]  # fmt: skip
    assert secret not in repr(shown)
    assert secret not in daemon.log_text()
    for path in (Path(daemon.socket).parent / "state").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_large_arguments(call: Caller) -> None:
    """A1: arguments of many megabytes are taken or refused as what they are; the daemon keeps
    none of them."""
    create(call, "f", "def main(args, context):\n    return len(args)\n")
    answer = call.attempt("function.call", name="f", args="x" * 24 * MIB)
    if isinstance(answer, RequestError):
        assert answer.code in {"invalid_argument", "limit_exceeded"}
    else:
        assert json.loads(answer["result"]) == 24 * MIB or answer["status"] != "ok"
