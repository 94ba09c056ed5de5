"""Functions on a real daemon: what they are given, what they answer, what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from sandboxd_client import Client, ConnectionLost, RequestError
from sandboxd_client.aio import TrioClient
from support.daemon import Daemon, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("require_sandbox")

ECHO = "def main(args, context):\n    return args\n"


@pytest.fixture(scope="module")
def daemon(require_sandbox: None) -> Iterator[Daemon]:
    limits = {"wall_time_ns": 5_000_000_000, "cpu_time_ns": 5_000_000_000}
    with running(jobs=2, limits=limits, result_bytes=100_000) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.socket) as client:
        yield client
        for item in client.functions(limit=1000)["functions"]:
            client.delete_function(item["name"], space=item["space"])
        for key in client.keys()["keys"]:
            client.delete_key(key["name"])


def refused(expected: str, call: Any, /, *args: Any, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*args, **fields)
    assert caught.value.code == expected, caught.value
    return caught.value


def define(client: Client, code: str, **fields: Any) -> None:
    client.create_function("f", "python", code=code, **fields)


# -- what they are given and answer ----------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 2**63, 1.5, "", "ä\n\u2028", [], [1, [2]], {}, {"a": {"b": None}}],
)
def test_values_come_back(client: Client, value: object) -> None:
    define(client, ECHO)
    answer = client.call_function("f", value)
    assert json.loads(answer["result"]) == value
    assert (answer["end_reason"], answer["error"]) == ("normal", None)


def test_json_text_is_passed_as_it_is(client: Client) -> None:
    define(client, "def main(args, context):\n    return [args, str(args)]\n")
    huge = 10**400
    assert json.loads(client.call_function("f", str(huge).encode())["result"]) == [huge, str(huge)]


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b'{} , "context": {}', b"\xff", b"[" * 10_000])
def test_what_is_no_json_text(client: Client, text: bytes) -> None:
    define(client, ECHO)
    assert refused("invalid_argument", client.call_function, "f", text).data["field"] == "args"


def test_what_is_no_json_value(client: Client) -> None:
    define(client, ECHO)
    for value in ([b"x"], {1: b"x"}, [float("nan")], [float("inf")]):
        error = refused("invalid_argument", client.call_function, "f", value)
        assert error.message.startswith("args: is no JSON value: ")


def test_the_context_is_for_the_function_only(client: Client) -> None:
    define(
        client, "def main(args, context):\n    return context\n", context={"K": "s3cret", "N": [1]}
    )
    assert json.loads(client.call_function("f")["result"]) == {"K": "s3cret", "N": [1]}
    assert client.function("f")["context"] == ["K", "N"]
    assert "s3cret" not in repr(client.function("f")) + repr(client.functions())
    run = client.run_function("f", wait=True)
    without_result = {**run, "result": None}
    assert "s3cret" not in repr(without_result)


def test_what_it_prints_is_its_log(client: Client) -> None:
    define(
        client,
        "import sys\n"
        "def main(args, context):\n"
        "    print('one', flush=True)\n"
        "    print('two', file=sys.stderr, flush=True)\n"
        "    print('three')\n"
        "    return sys.stdin.read()\n",
    )
    answer = client.call_function("f", log=True)
    # Of two streams at once the order is that in which they are read; in the other there is one.
    assert sorted(answer["log"].split()) == [b"one", b"three", b"two"]
    assert answer["result"] == '""'
    assert "log" not in client.call_function("f")
    run = client.run_function("f", wait=True, log=True)
    assert (run["log"], run["log_bytes"]) == (b"one\ntwo\nthree\n", 14)


def test_environment_variables_and_files(client: Client) -> None:
    define(
        client,
        "import os, helper\n"
        "def main(args, context):\n"
        "    return [os.environ['A'], os.environ['PATH'] != '', helper.VALUE]\n",
        env={"A": "b=c"},
        files=[{"path": "helper.py", "data": "VALUE = 42\n"}],
    )
    assert json.loads(client.call_function("f")["result"]) == ["b=c", True, 42]
    (file,) = client.function("f")["files"]
    assert (file["path"], file["mode"], file["bytes"]) == ("helper.py", 0o644, 11)


def test_nothing_is_left_for_the_next_call(client: Client) -> None:
    define(
        client,
        "import os\n"
        "seen = []\n"
        "def main(args, context):\n"
        "    seen.append(1)\n"
        "    left = sorted(set(os.listdir('/work') + os.listdir('/tmp')) - {'function.py'})\n"
        "    open('/work/left', 'w').close(); open('/tmp/left', 'w').close()\n"
        "    return [left, len(seen)]\n",
    )
    for _ in range(5):
        assert json.loads(client.call_function("f")["result"]) == [[], 1]


# -- errors of a call, each as documented ----------------------------------------------------------

ERRORS = {
    "exception": ("def main(a, c):\n    return f()\ndef f():\n    return 1 / 0\n",
                  "exception", "ZeroDivisionError", "division by zero"),
    "when it is loaded": ("raise KeyError('k')\n", "exception", "KeyError", "'k'"),
    "exit": ("import sys\ndef main(a, c):\n    sys.exit(3)\n", "exception", "SystemExit", "3"),
    "syntax": ("def main(a, c:\n    pass\n", "syntax", "SyntaxError", "line 1: "),
    "no main": ("x = 1\n", "no_main", "NameError", "define main(args, context)"),
    "main is no function": ("main = 3\n", "no_main", "NameError", "main is no function"),
    "one argument": ("def main(a):\n    pass\n", "signature", "TypeError", "main(args, context)"),
    "a set": ("def main(a, c):\n    return {1}\n", "not_json", "TypeError", "no JSON value"),
    "NaN": ("def main(a, c):\n    return float('nan')\n", "not_json", "ValueError", "no JSON"),
    "a surrogate": ("def main(a, c):\n    return '\\ud800'\n",
                    "not_json", "UnicodeEncodeError", "no JSON"),
    "coroutine": ("async def main(a, c):\n    pass\n", "not_json", "TypeError", "coroutine"),
    "too large": ("def main(a, c):\n    return 'x' * 200_000\n", "too_large", "", "100000 bytes"),
    "killed itself": ("import os\ndef main(a, c):\n    os._exit(5)\n", "no_result", "", "code 5"),
    "a signal": ("import os\ndef main(a, c):\n    os.kill(os.getpid(), 9)\n",
                 "no_result", "", "signal 9"),
    "closed its result": ("import os\ndef main(a, c):\n    os.close(3)\n", "no_result", "", ""),
    "forged": ("import os\ndef main(a, c):\n    os.write(3, b'{\"result\": 1')\n",
               "not_json", "", "no JSON value"),
    "another answer": ("import os\ndef main(a, c):\n    os.write(3, b'[]'); os._exit(0)\n",
                       "not_json", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_a_call(client: Client, name: str) -> None:
    code, kind, type_, message = ERRORS[name]
    define(client, code, check=False)
    for answer in (client.call_function("f"), client.run_function("f", wait=True)):
        error = answer["error"]
        assert (answer["result"], error["kind"], error["type"]) == (None, kind, type_), error
        assert message in error["message"]
        assert answer["end_reason"] == "normal"
        assert "sandboxd" not in error["traceback"]


def test_a_traceback_starts_at_the_users_code(client: Client) -> None:
    define(client, ERRORS["exception"][0])
    assert client.call_function("f")["error"]["traceback"].splitlines()[:4] == [
        "Traceback (most recent call last):",
        '  File "/work/function.py", line 2, in main',
        "    return f()",
        "           ^^^",
    ]


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        ("def main(a, c):\n    while True: pass\n", "timeout", "cpu_time_limit"),
        ("import time\ndef main(a, c):\n    time.sleep(60)\n", "timeout", "wall_time_limit"),
        ("def main(a, c):\n    x = bytearray(1 << 30)\n    return len(x)\n", "exception", "ok"),
        ("def main(a, c):\n    while True: print('x' * 1000)\n", "output-limit", "output_limit"),
    ],
)
def test_limits_end_a_call(client: Client, code: str, reason: str, status: str) -> None:
    # On a busy machine a program that computes waits longer than it computes.
    wall = 500_000_000 if status == "wall_time_limit" else 30_000_000_000
    cpu = 300_000_000 if status == "cpu_time_limit" else 5_000_000_000
    limits: Any = {"cpu_time_ns": cpu, "wall_time_ns": wall,
                   "memory_bytes": 128 << 20, "output_bytes": 50_000}  # fmt: skip
    define(client, code, limits=limits)
    for answer in (client.call_function("f", log=True), client.run_function("f", wait=True)):
        if reason == "exception":  # Out of memory: killed, or told so first.
            assert answer["end_reason"] == "out-of-memory" or (
                answer["error"]["type"] == "MemoryError"
            ), answer
            continue
        ended = answer["job_status"] if "job_status" in answer else answer["status"]
        assert (answer["end_reason"], ended, answer["result"]) == (reason, status, None)
        assert answer["error"] is None


def test_a_large_argument_and_a_large_result(client: Client) -> None:
    define(client, "def main(args, context):\n    return [len(args), args[:90_000]]\n")
    answer = client.call_function("f", "x" * 5_000_000)
    assert json.loads(answer["result"]) == [5_000_000, "x" * 90_000]


def test_100_mb_of_arguments(daemon: Daemon, client: Client) -> None:
    define(client, ECHO)
    with Client(daemon.socket) as other, pytest.raises((RequestError, ConnectionLost, Exception)):
        other.call_function("f", "x" * 100_000_000)
    assert json.loads(client.call_function("f", 1)["result"]) == 1


# -- other languages and programs ------------------------------------------------------------------

SHELL = """
read -r call
echo "was told $call"
printf '{"length": %s, "fd": %s}' "${#call}" "$SANDBOXD_RESULT_FD" >&3
"""


def test_another_language(client: Client) -> None:
    client.create_function("f", "json", language="bash", code=SHELL, context={"k": 1})
    call = '{"args":[1],"context":{"k":1}}'
    answer = client.call_function("f", [1], log=True)
    assert json.loads(answer["result"]) == {"length": len(call), "fd": 3}, answer
    assert answer["log"] == f"was told {call}\n".encode()
    run = client.run_function("f", [1], wait=True, log=True)
    assert (run["result"], run["log"]) == (answer["result"], answer["log"])


def test_a_compiled_language(client: Client) -> None:
    code = '#include <unistd.h>\nint main(void) { return write(3, "[1]", 3) != 3; }\n'
    client.create_function("f", "json", language="c", code=code)
    assert client.call_function("f")["result"] == "[1]"
    client.update_function("f", code="int main(void) { return x; }\n")
    for answer in (
        client.call_function("f", log=True),
        client.run_function("f", wait=True, log=True),
    ):
        assert answer["error"]["kind"] == "syntax"
        assert b"undeclared" in answer["log"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [("true", "no_result"), ("printf '{' >&3", "not_json"), ("printf '1 2' >&3", "not_json"),
     ("head -c 200000 /dev/zero | tr '\\0' 1 >&3", "too_large"), ("exit 3", "no_result")],
)  # fmt: skip
def test_results_that_are_none(client: Client, code: str, kind: str) -> None:
    client.create_function("f", "json", language="bash", code=code)
    assert client.call_function("f")["error"]["kind"] == kind


def test_a_language_that_is_not_there(client: Client) -> None:
    refused("not_found", client.create_function, "f", "json", language="no-such", code="x")
    error = refused(
        "not_found", client.create_function, "f", "json", language="bash", version="99", code="x"
    )
    assert error.message == "bash-99 runtime is unknown"


def test_a_program_with_inputs_and_outputs(client: Client) -> None:
    client.create_function(
        "f",
        "program",
        command=["sh", "-c", "tr a-z A-Z < in/text > out.txt; cp fixed copy; echo hi; exit 3"],
        files=[{"path": "fixed", "data": b"\x00\xff", "mode": 0o600}],
        inputs=[{"id": "text", "path": "in/text", "required": True}, {"id": "o", "path": "other"}],
        outputs=[{"id": "up", "path": "out.txt"}, {"id": "copy", "path": "copy"},
                 {"id": "never", "path": "never"}],
    )  # fmt: skip
    run = client.run_function("f", inputs={"text": "abc"}, wait=True, log=True)
    assert (run["end_reason"], run["exit_code"], run["log"]) == ("normal", 3, b"hi\n")
    assert (run["result"], run["error"]) == (None, None)
    assert [(file["id"], file["bytes"]) for file in run["outputs"]] == [("up", 3), ("copy", 2)]
    found = client.execution_output(run["id"], "copy")
    assert found == {"id": "copy", "path": "copy", "data": b"\x00\xff"}
    assert client.execution_output(run["id"], "up")["data"] == b"ABC"
    assert "left no 'never'" in str(
        refused("not_found", client.execution_output, run["id"], "never")
    )


def test_a_command_that_is_not_utf8(daemon: Daemon, client: Client) -> None:
    command = [b"/bin/echo", b"-n", "\u00e4", b"\xff\xe4"]
    shown = ["/bin/echo", "-n", "\u00e4", b"\xff\xe4"]
    client.create_function("f", "program", command=command)
    assert client.function("f")["command"] == shown
    run = client.run_function("f", wait=True, log=True)
    assert run["log"] == b"\xc3\xa4 \xff\xe4"
    assert client.update_function("f", command=[*command, b"\xfe"])["command"] == [*shown, b"\xfe"]
    assert client.call_function("f", log=True)["log"].endswith(b" \xfe")
    assert "Traceback" not in daemon.log_text()


@pytest.mark.parametrize(
    "after",
    [
        "00000000000000000001999999999999999999999",
        "9223372036854775808",
        "9" * 19,
        "9" * 256,
        "0",
        "",
        "-1",
        "1 ",
        "\u0661",
        "\u00b2",
    ],
)
def test_pages_of_executions_that_are_none(daemon: Daemon, client: Client, after: str) -> None:
    assert refused("invalid_argument", client.executions, after=after).data == {"field": "after"}
    client.executions(after=str(2**63 - 1))
    assert "Traceback" not in daemon.log_text()


def test_an_output_is_a_file_and_no_pattern(client: Client) -> None:
    client.create_function(
        "f",
        "program",
        command=["sh", "-c", "echo 1 > 'a[1]*'; echo 2 > a1; ln -s /etc/passwd link"],
        outputs=[{"id": "x", "path": "a[1]*"}, {"id": "l", "path": "link"}],
    )
    run = client.run_function("f", wait=True)
    assert [file["path"] for file in run["outputs"]] == ["a[1]*"]
    assert client.execution_output(run["id"], "x")["data"] == b"1\n"


# -- definitions ----------------------------------------------------------------------------------

GOOD = {"name": "f", "kind": "python", "code": ECHO}
BAD_DEFINITIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "invalid_argument", "name: must be 1 to 64 letters"),
    ({"name": "x" * 65}, "invalid_argument", "name"),
    ({"name": "x" * 66}, "invalid_argument", "name"),
    ({"name": ".x"}, "invalid_argument", "name"),
    ({"name": "-x"}, "invalid_argument", "name"),
    ({"name": "a/b"}, "invalid_argument", "name"),
    ({"name": "a\n"}, "invalid_argument", "name"),
    ({"name": "ä"}, "invalid_argument", "name"),
    ({"space": "a b"}, "invalid_argument", "space"),
    ({"kind": "java"}, "invalid_argument", "kind: 'java' is not one of"),
    ({"code": None}, "invalid_argument", "code: is required"),
    ({"code": "def main(a, c:"}, "invalid_argument", "code: line 1: "),
    ({"code": "x = 1"}, "invalid_argument", "code: there is no main"),
    ({"code": "def main(a): 1"}, "invalid_argument", "code: line 1: main is called with two"),
    ({"code": "async def main(a, c): 1"}, "invalid_argument", "code: line 1: main is a coroutine"),
    ({"code": "x = '\0'"}, "invalid_argument", "code: "),
    ({"code": "(" * 100_000}, "invalid_argument", "code: "),
    ({"language": "c"}, "invalid_argument", "language: is not for functions of the kind python"),
    ({"command": ["x"]}, "invalid_argument", "command: is not for"),
    ({"surprise": 1}, "invalid_argument", "surprise: there is no such field"),
    ({"environment": "no-such"}, "not_found", "environment: there is no 'no-such'"),
    ({"env": {"a=b": "c"}}, "invalid_argument", "env: 'a=b' cannot be the name"),
    ({"context": {"a": b"x"}}, "invalid_argument", "context: is no JSON value"),
    ({"metadata": {"a": "x" * 300_000}}, "invalid_argument", "metadata: must be at most"),
    ({"limits": {"memory_bytes": 1 << 50}}, "limit_exceeded", "limits.memory_bytes"),
    ({"files": [{"path": "../x", "data": ""}]}, "invalid_argument", "must not have"),
    ({"files": [{"path": "/x", "data": ""}]}, "invalid_argument", "must be relative"),
    ({"files": [{"path": "function.py", "data": ""}]}, "invalid_argument", "files[0].path"),
    ({"files": [{"path": "a", "data": 1}]}, "invalid_argument", "files[0].data"),
    ({"files": [{"path": "a", "data": ""}] * 2}, "invalid_argument", "'a' is the path of two"),
    ({"files": [{"path": "a", "data": ""}, {"path": "a/b", "data": ""}]}, "invalid_argument",
     "both a file and a directory"),
    ({"files": [{"path": "a", "data": b"x" * (70 << 20)}]}, "refused", ""),
    ({"inputs": [{"id": "a", "path": "a"}, {"id": "a", "path": "b"}]}, "invalid_argument",
     "inputs: 'a' is the id of two"),
    ({"inputs": [{"id": "a", "path": "a"}, {"id": "b", "path": "a"}]}, "invalid_argument",
     "inputs: 'a' is the path of two"),
    ({"inputs": [{"id": "a b", "path": "a"}]}, "invalid_argument", "inputs[0].id"),
    ({"outputs": [{"id": "a", "path": "../a"}]}, "invalid_argument", "outputs[0].path"),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(BAD_DEFINITIONS)))
def test_definitions_that_are_refused(daemon: Daemon, client: Client, index: int) -> None:
    fields, code, text = BAD_DEFINITIONS[index]
    with Client(daemon.socket) as own:
        if code == "refused":  # A message too long for this daemon ends the connection.
            with pytest.raises(Exception, match=r"longer|lost|closed|reset|pipe|large|message"):
                own.call("function.create", GOOD | fields)
        else:
            error = refused(code, own.call, "function.create", GOOD | fields)
            assert text in str(error)
    assert client.functions()["functions"] == []


def test_a_name_that_is_taken(client: Client) -> None:
    define(client, ECHO)
    refused("exists", define, client, ECHO)
    client.create_function("f", "python", space="other", code=ECHO)
    client.create_function("g", "python", code=ECHO)
    refused("exists", client.update_function, "g", new_name="f")


def test_update(client: Client) -> None:
    define(client, "def main(a, c):\n    return [1, c]\n", context={"k": 1})
    assert json.loads(client.call_function("f")["result"]) == [1, {"k": 1}]
    changed = client.update_function("f", code="def main(a, c):\n    return [2, c]\n")
    assert (changed["revision"], changed["context"]) == (2, ["k"])
    assert json.loads(client.call_function("f")["result"]) == [2, {"k": 1}]
    refused("invalid_argument", client.update_function, "f", code="def main(")
    client.update_function("f", context={})
    assert json.loads(client.call_function("f")["result"]) == [2, {}]
    assert client.update_function("f", new_name="g")["name"] == "g"
    refused("not_found", client.call_function, "f")
    assert json.loads(client.call_function("g")["result"]) == [2, {}]
    client.update_function("g", kind="program", command=["true"])
    assert client.function("g")["code"] == ""
    assert client.call_function("g")["status"] == "ok"


def test_a_file_that_is_the_code_of_another_kind(client: Client) -> None:
    files = [{"path": name, "data": "import other"} for name in ("function.py", "other.py")]
    client.create_function("f", "program", command=["true"], files=files)
    changed = client.update_function("f", kind="python", code=ECHO)
    assert [file["path"] for file in changed["files"]] == ["other.py"]
    assert client.call_function("f", [1])["result"] == "[1]"


def test_list_page_by_page(client: Client) -> None:
    for space in ("main", "other"):
        for name in ("a", "b", "c"):
            client.create_function(name, "program", space=space, command=["true"])
    found, after = [], {}
    while True:
        page = client.functions(limit=2, **after)
        found += [(item["space"], item["name"]) for item in page["functions"]]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert found == [(space, name) for space in ("main", "other") for name in ("a", "b", "c")]
    assert len(client.functions(space="other")["functions"]) == 3
    assert client.functions(kind="json")["functions"] == []
    refused("invalid_argument", client.functions, after="x")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("function.get", {"name": "none"}),
        ("function.update", {"name": "none"}),
        ("function.delete", {"name": "none"}),
        ("function.call", {"name": "none"}),
        ("execution.create", {"name": "none"}),
        ("execution.run", {"name": "none"}),
        ("execution.run_many", {"name": "none", "calls": [1]}),
        ("execution.get", {"id": "none"}),
        ("execution.start", {"id": "none"}),
        ("execution.wait", {"id": "none"}),
        ("execution.stop", {"id": "none"}),
        ("execution.delete", {"id": "none"}),
        ("execution.output", {"id": "none", "output": "x"}),
        ("execution.upload", {"id": "none", "input": "x", "data": ""}),
        ("key.delete", {"name": "none"}),
        ("key.create", {"name": "k", "role": "run", "function": "none"}),
    ],
)
def test_what_is_not_there(client: Client, method: str, params: dict[str, Any]) -> None:
    refused("not_found", client.call, method, params)


def test_without_functions(require_sandbox: None) -> None:
    with running(jobs=1, functions=False) as daemon, Client(daemon.socket) as client:
        error = refused("permission_denied", client.functions)
        assert error.message == "functions are turned off: functions in sandboxd.toml"
        assert client.run(["true"]).ok


def test_without_a_writable_state_directory(daemon: Daemon) -> None:
    state = str(daemon.log.parent / "state")
    with running(jobs=1, state_directory=state) as second, Client(second.socket) as client:
        error = refused("permission_denied", client.functions)
        assert error.message.startswith(f"this sandboxd cannot write {state}")


async def test_the_client_for_trio(daemon: Daemon, client: Client) -> None:
    async with await TrioClient.connect(daemon.socket) as other:
        await other.create_function("t", "python", code=ECHO)
        answers: dict[int, Any] = {}

        async def call(n: int) -> None:
            answers[n] = await other.call_function("t", n)

        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(call, n)
        assert {n: answer["result"] for n, answer in answers.items()} == {
            n: str(n) for n in range(10)
        }
        row = await other.run_function("t", 3, wait=True)
        assert (await other.execution(row["id"]))["result"] == "3"
        with pytest.raises(RequestError):
            await other.delete_function("none")


def test_what_a_kind_would_never_see_is_refused(client: Client) -> None:
    define(client, ECHO)
    client.create_function("p", "program", command=["cat"])
    for call in (client.call_function, client.run_function):
        assert refused("invalid_argument", call, "f", stdin="x").data == {"field": "stdin"}
        assert refused("invalid_argument", call, "p", [1]).data == {"field": "args"}
        call("p", {})
    assert client.call_function("p", stdin="abc", log=True)["log"] == b"abc"
    run = client.run_function("p", stdin=b"\xff" * 100_000, wait=True, log=True)
    assert run["log"] == b"\xff" * 100_000
    error = refused("invalid_argument", client.run_function_many, "p", [None, 1])
    assert error.data == {"field": "calls[1]"}
    id = client.create_execution("p")["id"]
    assert refused("invalid_argument", client.start_execution, id, [1]).data == {"field": "args"}
    client.start_execution(id, stdin="now")
    assert client.wait_execution(id, log=True)["log"] == b"now"
