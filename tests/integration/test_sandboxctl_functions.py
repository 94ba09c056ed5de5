"""`sandboxctl functions`, `executions` and `keys` as a person types them, with the real daemon."""

import json
import os
import re
import signal
import subprocess
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd_client import Client
from support.daemon import Daemon, running
from support.requirements import CLEAN_ENVIRONMENT
from support.terminal import COMMAND

Ctl = Callable[..., "subprocess.CompletedProcess[str]"]
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
HELLO = """\
def main(args, context):
    print("in the log")
    return "Hello {0}".format(args["name"])
"""
ECHO = "def main(args, context):\n    return {'args': args, 'context': context}\n"
CONTEXT = 'access_key_is = "XYZ"\nsecret_access_key = "123"\n'
SLOW = "import time\ndef main(args, context):\n    print('begun', flush=True)\n    time.sleep(60)\n"
PROGRAM = """\
command = "sh -c 'cat in.txt in.txt > out.txt; echo done'"
[[inputs]]
id = "in"
path = "in.txt"
[[outputs]]
id = "out"
path = "out.txt"
"""


@pytest.fixture(scope="module")
def keeper(require_sandbox: None) -> Iterator[Daemon]:
    """A daemon whose functions are these tests' own."""
    with running(jobs=2, socket_mode=0o666) as daemon:
        yield daemon
        assert daemon.process.poll() is None, daemon.log_text()


@pytest.fixture
def ctl(keeper: Daemon, tmp_path: Path) -> Iterator[Ctl]:
    """sandboxctl with that daemon, in a directory with some files: its words, or a line as it is
    typed to a shell."""
    for name, text in {
        "hello.py": HELLO,
        "echo.py": ECHO,
        "slow.py": SLOW,
        "context": CONTEXT,
        "function.toml": PROGRAM,
        "in.txt": "text\n",
    }.items():
        (tmp_path / name).write_text(text)
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "sandboxctl").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    (bin / "sandboxctl").chmod(0o755)
    path = f"{bin}:{CLEAN_ENVIRONMENT['PATH']}"
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": keeper.socket, "PATH": path}

    def ctl_(*argv: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        options = {"input": "", "timeout": 60, "env": environment, "cwd": tmp_path} | options
        options["env"] = environment | options.pop("variables", {})
        typed = len(argv) == 1 and " " in argv[0]
        words = ["bash", "-c", *argv] if typed else ["sandboxctl", *argv]
        return subprocess.run(words, capture_output=True, text=True, **options)

    yield ctl_
    with Client(keeper.socket) as client:
        for function in client.functions()["functions"]:
            client.delete_function(function["name"], space=function["space"])
        for execution in client.executions()["executions"]:
            client.delete_execution(execution["id"])
        for key in client.keys()["keys"]:
            client.delete_key(key["name"])


def ok(done: "subprocess.CompletedProcess[str]") -> str:
    """What it printed."""
    assert done.returncode == 0, done
    return done.stdout


def failed(done: "subprocess.CompletedProcess[str]", code: int = 1) -> str:
    """The one sentence that it said, without a traceback of ours."""
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    return done.stderr


# -- the command lines of FaaSpot's documentation, as typed ---------------------------------------


def test_create_and_run_as_documented(ctl: Ctl) -> None:
    assert ok(ctl("sandboxctl functions create hello --file hello.py")) == "hello created\n"
    done = ctl('sandboxctl functions run hello --parameters "name=user1" --wait')
    assert (ok(done), done.stderr) == ("Hello user1\n", "in the log\n")


def test_the_template_as_documented(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "FILE_PATH").write_text("def main(args, context):\n    return ''\n")
    ok(ctl("sandboxctl functions create FUNCTION_NAME --file FILE_PATH --wait"))
    line = 'sandboxctl functions run FUNCTION_NAME -p "param_1=value_1, param_2=value_2" --wait'
    assert ok(ctl(line)) == "\n"


def test_parameters_and_context_as_documented(ctl: Ctl) -> None:
    ok(ctl("sandboxctl functions create echo --file echo.py --context-file context --wait"))
    line = 'sandboxctl functions run echo -p "param_1=value_1, param_2=value_2" --wait'
    assert json.loads(ok(ctl(line))) == {
        "args": {"param_1": "value_1", "param_2": "value_2"},
        "context": {"access_key_is": "XYZ", "secret_access_key": "123"},
    }


@pytest.mark.parametrize("substitution", ["UUID=`{}`", "UUID=$({})"])
def test_the_id_of_an_execution_as_documented(ctl: Ctl, substitution: str) -> None:
    ok(ctl("sandboxctl functions create hello --file hello.py"))
    line = substitution.format('sandboxctl functions run hello --parameters "name=user1"')
    out = ok(ctl(f"{line}\necho $UUID; sandboxctl executions get $UUID"))
    assert re.match(rf"({UUID})\nid +\1\nfunction +hello, revision 1\nstatus +[a-z]+", out)
    out = ok(ctl(f"{line}\nsandboxctl executions get $UUID --wait"))
    assert out == "Hello user1\n"


def test_a_bulk_run_as_documented(ctl: Ctl) -> None:
    ok(ctl("sandboxctl functions create FUNCTION_NAME --file echo.py"))
    line = 'sandboxctl functions run_bulk FUNCTION_NAME -p "k1=v1, k2=v2" -p "k3=v3, k4=v4"'
    ids = ok(ctl(line)).splitlines()
    assert [bool(re.fullmatch(UUID, id)) for id in ids] == [True, True]
    out = ok(ctl("executions", "wait", *ids))
    args = [json.loads(text)["args"] for text in out.splitlines()]
    assert args == [{"k1": "v1", "k2": "v2"}, {"k3": "v3", "k4": "v4"}]


def test_delete_as_documented(ctl: Ctl) -> None:
    ok(ctl("sandboxctl functions create FUNCTION_NAME --file echo.py"))
    assert ok(ctl("sandboxctl functions delete FUNCTION_NAME")) == "FUNCTION_NAME deleted\n"
    assert "There is none" in ok(ctl("functions", "list"))


# -- functions -----------------------------------------------------------------------------------


def test_what_there_is_to_see_of_a_function(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "shop/echo", "-f", "echo.py", "-c", "context", "--memory", "64M"))
    shown = ok(ctl("functions", "get", "shop/echo"))
    assert re.search(r"^name +shop/echo$", shown, re.MULTILINE)
    assert re.search(r"^context +access_key_is, secret_access_key$", shown, re.MULTILINE)
    assert shown.endswith(f"code\n{ECHO}")
    info = json.loads(ok(ctl("functions", "get", "shop/echo", "--json")))
    assert (info["code"], info["limits"]["memory_bytes"]) == (ECHO, 64 * 2**20)
    assert "XYZ" not in shown + json.dumps(info)
    ok(ctl("functions", "create", "hello", "--file", "hello.py"))
    assert [line.split()[:4] for line in ok(ctl("functions", "list")).splitlines()] == [
        ["NAME", "KIND", "LANGUAGE", "REVISION"],
        ["hello", "python", "-", "1"],
        ["shop/echo", "python", "-", "1"],
    ]
    listed = json.loads(ok(ctl("functions", "list", "--space", "shop", "--json")))["functions"]
    assert [function["name"] for function in listed] == ["echo"]


def test_a_command_that_is_not_utf8(ctl: Ctl, keeper: Daemon) -> None:
    with Client(keeper.socket) as client:
        client.create_function("odd", "program", command=["echo", b"\xff"])
    assert r"echo \udcff" in ok(ctl("functions", "get", "odd"))
    info = json.loads(ok(ctl("functions", "get", "odd", "--json")))
    assert info["command"] == ["echo", {"base64": "/w=="}]


def test_updates(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "f", "--file", "hello.py"))
    assert ok(ctl("functions", "update", "f", "--file", "echo.py", "-c", "context")) == (
        "f updated\n"
    )
    ok(ctl("functions", "update", "f", "-n", "g", "--wait"))
    assert json.loads(ok(ctl("functions", "run", "g", "-w")))["context"]["access_key_is"] == "XYZ"
    assert "there is no function" in failed(ctl("functions", "get", "f"))
    assert "what is to change?" in failed(ctl("functions", "update", "g"), 2)


def test_code_and_context_from_stdin(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "a", "--file", "-", input=ECHO))
    ok(ctl("functions", "update", "a", "--context-file", "-", input="K = v"))
    assert json.loads(ok(ctl("functions", "run", "a", "-w")))["context"] == {"K": "v"}


def test_another_language(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import json, os, sys\ncall = json.load(sys.stdin)\nprint('log')\n"
        "os.write(int(os.environ['SANDBOXD_RESULT_FD']), json.dumps(call['args']).encode())\n"
    )
    ok(ctl("functions", "create", "j", "--language", "python=3.x", "--file", "main.py"))
    done = ctl("functions", "run", "j", "--args", "[1, {}]", "--wait")
    assert (ok(done), done.stderr) == ("[1, {}]\n", "log\n")


def test_a_program_with_inputs_and_outputs(ctl: Ctl, tmp_path: Path) -> None:
    ok(ctl("functions", "create", "ada/twice", "--config", "function.toml"))
    done = ctl("functions", "run", "ada/twice", "--input", "in=in.txt", "--json", "--wait")
    info = json.loads(ok(done))
    assert [output["id"] for output in info["outputs"]] == ["out"]
    assert ok(ctl("executions", "output", info["id"], "out")) == "text\ntext\n"
    ok(ctl("executions", "output", info["id"], "out", "-o", "copy"))
    assert (tmp_path / "copy").read_text() == "text\ntext\n"
    assert ok(ctl("executions", "log", info["id"])) == "done\n"
    shown = ok(ctl("executions", "get", info["id"]))
    assert re.search(r"^status +ended, normal$", shown, re.MULTILINE)
    assert re.search(r"^outputs +out \(10 B\)$", shown, re.MULTILINE)
    # What has no result shows what it printed.
    assert ok(ctl("functions", "run", "ada/twice", "--input", "in=in.txt", "-w")) == "done\n"
    assert "'no'" in failed(ctl("executions", "output", info["id"], "no"))


@pytest.mark.parametrize(
    ("argv", "args"),
    [
        (["-p", "a=1"], {"a": "1"}),
        (["-p", "a=1,b=2", "-p", "c=3"], {"a": "1", "b": "2", "c": "3"}),
        (["--parameters=text=one, two, k = v "], {"text": "one, two", "k": "v"}),
        (["-p", "a=b=c"], {"a": "b=c"}),
        (["-p", "empty="], {"empty": ""}),
        ([], {}),
        (["--args", "[1, 2.5, null]"], [1, 2.5, None]),
        (["--args", '"é"'], "é"),
        (["--args", "-"], {"from": "stdin"}),
    ],
)
def test_arguments(ctl: Ctl, argv: list[str], args: object) -> None:
    ok(ctl("functions", "create", "echo", "--file", "echo.py"))
    out = ok(ctl("functions", "run", "echo", "--wait", *argv, input='{"from": "stdin"}'))
    assert json.loads(out)["args"] == args


@pytest.mark.parametrize(
    ("value", "shown"),
    [("None", "null"), ("'é\\n'", "é\n"), ("[1, 'a']", '[1, "a"]'), ("True", "true"), ("''", "")],
)
def test_results(ctl: Ctl, value: str, shown: str) -> None:
    code = f"def main(args, context):\n    return {value}\n"
    ok(ctl("functions", "create", "f", "--file", "-", input=code))
    assert ok(ctl("functions", "run", "f", "--wait")) == f"{shown}\n"


def test_a_function_that_fails(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "hello", "--file", "hello.py"))
    done = ctl("functions", "run", "hello", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "in the log"
    assert "Traceback" in done.stderr
    assert '    return "Hello {0}".format(args["name"])' in lines
    assert lines[-1] == "sandboxctl: hello: KeyError: 'name'"
    done = ctl("functions", "run", "hello", "--wait", "--json")
    info = json.loads(done.stdout)
    assert (done.returncode, info["result"], info["error"]["type"]) == (1, None, "KeyError")
    shown = ok(ctl("executions", "get", info["id"]))
    assert re.search(r"^status +ended, failed$", shown, re.MULTILINE)
    assert re.search(r"^error +KeyError: 'name'$", shown, re.MULTILINE)


def test_a_function_that_takes_too_long(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "slow", "--file", "slow.py", "--wall-time", "500ms"))
    done = ctl("functions", "run", "slow", "--wait")
    assert done.returncode == 1
    assert "longer than its limit" in done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["functions", "create", "x"], 2, "what is its code?"),
        (["functions", "create", "x", "--file", "missing"], 1, "missing: No such file"),
        (["functions", "create", "--file", "echo.py"], 2, "which function?"),
        (["functions", "create", "a/b/c", "--file", "echo.py"], 2, "'a/b/c' is not NAME"),
        (["functions", "create", "-", "--file", "echo.py"], 1, "name"),
        (["functions", "create", "x", "--file", "echo.py", "-c", "echo.py"], 1, "echo.py: line 1"),
        (["functions", "create", "x", "--file", "in.txt"], 1, "main"),
        (["functions", "create", "x", "--file", "broken.py"], 1, "line 2"),
        (["functions", "create", "x", "--file", "bytes"], 1, "bytes: byte 0 is not UTF-8"),
        (["functions", "create", "x", "--config", "echo.py"], 1, "echo.py"),
        (["functions", "create", "x", "--file", "echo.py", "--env", "x"], 2, "--env"),
        (["functions", "run", "nobody"], 1, "there is no function"),
        (["functions", "run", "echo", "-p", "x"], 2, "--parameters: 'x' is not like"),
        (["functions", "run", "echo", "-p", "=x"], 2, "--parameters: '=x' is not like"),
        (["functions", "run", "echo", "--args", "{"], 1, "args"),
        (["functions", "run", "echo", "--args", "1", "-p", "a=1"], 2, "cannot go together"),
        (["functions", "run", "echo", "--input", "x"], 2, "'x' is not ID=FILE"),
        (["functions", "run_bulk", "echo"], 2, "with which arguments?"),
        (["functions", "delete", "nobody"], 1, "there is no function"),
        (["functions"], 2, ""),
        (["functions", "rum"], 2, "did you mean run?"),
        (["executions", "get", "no-id"], 1, "no-id"),
        (["executions", "get"], 2, "which execution?"),
        (["executions", "list", "--function", "a", "--space", "b"], 2, "--space"),
        (["executions", "list", "--status", "over"], 2, "--status"),
        (["keys", "create", "k"], 2, "what may it do?"),
        (["keys", "create", "k", "--role", "run"], 1, "function"),
        (["keys", "create", "k", "--role", "run", "--function", "nobody"], 1, "nobody"),
        (["keys", "delete", "nobody"], 1, "nobody"),
    ],
)
def test_what_makes_no_sense(
    ctl: Ctl, tmp_path: Path, argv: list[str], code: int, words: str
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "broken.py").write_text("def main(args, context):\n    return (\n")
    ok(ctl("functions", "create", "echo", "--file", "echo.py"))
    done = ctl(*argv)
    assert words in failed(done, code)
    if words:
        assert done.stdout == ""
    assert ok(ctl("executions", "list")).startswith("There is none")


def test_errors_as_json(ctl: Ctl) -> None:
    done = ctl("functions", "get", "nobody", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "not_found"


# -- executions ----------------------------------------------------------------------------------


def test_the_life_of_an_execution(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "slow", "--file", "slow.py"))
    id = ok(ctl("functions", "run", "slow")).strip()
    while "begun" not in ok(ctl("executions", "log", id)):
        pass
    listed = ok(ctl("executions", "list", "--status", "running", "-d", "slow"))
    assert listed.splitlines()[1].split()[:3] == [id, "slow", "running"]
    assert ok(ctl("executions", "stop", id)) == f"{id} ended, stopped\n"
    done = ctl("executions", "wait", id)
    assert done.returncode == 1
    assert "begun" in done.stderr
    info = json.loads(ok(ctl("executions", "get", id, "--json")))
    assert info["end_reason"] == "stopped"
    assert ok(ctl("executions", "delete", id)) == f"{id} deleted\n"
    assert id in failed(ctl("executions", "get", id))


def test_an_interrupt_while_waiting(ctl: Ctl, keeper: Daemon, tmp_path: Path) -> None:
    ok(ctl("functions", "create", "slow", "--file", "slow.py"))
    argv = [*COMMAND, "functions", "run", "slow", "--wait"]
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": keeper.socket}
    with (
        Client(keeper.socket) as client,
        subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process,
    ):
        while not client.executions(status="running")["executions"]:
            time.sleep(0.01)
        time.sleep(0.2)  # Until it waits: nothing tells.
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        (id,) = (execution["id"] for execution in client.executions()["executions"])
        assert f"sandboxctl executions stop {id}" in process.stderr.read()
        assert client.execution(id)["status"] == "running"


def test_a_list_has_pages(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "echo", "--file", "echo.py"))
    ids = ok(
        ctl("functions", "run_bulk", "echo", *[word for _ in range(120) for word in ("-p", "")])
    )
    newest = list(reversed(ids.splitlines()))
    listed = [line.split()[0] for line in ok(ctl("executions", "list")).splitlines()[1:]]
    assert sorted(listed) == sorted(newest[:100])
    listed = json.loads(ok(ctl("executions", "list", "--limit", "3", "--json")))["executions"]
    assert len(listed) == 3
    assert len(ok(ctl("executions", "list", "--limit", "1500")).splitlines()) == 121


# -- keys ----------------------------------------------------------------------------------------


def test_keys(ctl: Ctl) -> None:
    ok(ctl("functions", "create", "hello", "--file", "hello.py"))
    argv = ["--role", "run", "--function", "hello", "--max-memory", "64M", "--max-time", "2s"]
    secret = ok(ctl("keys", "create", "shop", *argv, "--max-executions", "2")).strip()
    assert re.fullmatch(r"apikey_[A-Za-z0-9_-]{43}", secret)
    listed = ok(ctl("keys", "list"))
    assert listed.splitlines()[1].split()[:8] == [
        "shop", "run", "hello", "64.0", "MiB", "2", "s", "2",
    ]  # fmt: skip
    assert secret not in listed + ok(ctl("keys", "list", "--json"))
    with_key = {"variables": {"SANDBOXD_KEY": secret}}
    out = ok(ctl("functions", "run", "hello", "-p", "name=x", "--wait", **with_key))
    assert out == "Hello x\n"
    for argv in (["functions", "delete", "hello"], ["keys", "create", "k", "--role", "admin"]):
        failed(ctl(*argv, **with_key))
    assert ok(ctl("keys", "delete", "shop")) == "shop deleted\n"
    assert "key" in failed(ctl("functions", "run", "hello", "-p", "name=x", **with_key))


def test_a_key_of_a_space(ctl: Ctl) -> None:
    line = "TOKEN=$(sandboxctl keys create laptop --role manage --space shop); "
    ok(ctl(f"{line} SANDBOXD_KEY=$TOKEN sandboxctl functions create shop/f --file echo.py"))
    assert ok(ctl("keys", "list")).splitlines()[1].split()[:3] == ["laptop", "manage", "shop/"]
    assert json.loads(ok(ctl("keys", "list", "--json")))["keys"][0]["space"] == "shop"


def test_what_a_terminal_would_obey(ctl: Ctl, keeper: Daemon, tmp_path: Path) -> None:
    code = "def main(args, context):\n    return '\\x1b]0;title\\x07'\n"
    ok(ctl("functions", "create", "f", "--file", "-", input=code))
    assert ok(ctl("functions", "run", "f", "--wait")) == "\x1b]0;title\x07\n"
    source = "# \x1b]0;title\x07\x9b\ndef main(args, context):\n\treturn 1\n"
    ok(ctl("functions", "create", "g", "--file", "-", input=source))
    assert source in ok(ctl("functions", "get", "g"))
    environment = CLEAN_ENVIRONMENT | {"SANDBOXD_SOCKET": keeper.socket}
    for words, shown in ((("run", "f", "--wait"), b"title"), (("get", "g"), b"\treturn 1\n")):
        reader, writer = os.openpty()
        tty.setraw(writer)
        argv = [*COMMAND, "functions", *words]
        subprocess.run(argv, stdout=writer, env=environment, timeout=60, check=True)
        os.close(writer)
        text = os.read(reader, 1000)
        assert b"\x1b" not in text
        assert b"\x9b" not in text
        assert shown in text
        os.close(reader)
