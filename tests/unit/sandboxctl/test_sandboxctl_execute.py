"""`sandboxctl execute` and `runtimes` against a scripted daemon."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxctl.__main__ import main
from sandboxctl.commands import parse
from sandboxctl.execute import execute_params
from sandboxctl.options import UsageError
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import RequestError
from support.scripted import Peer
from support.world import World

Start = Callable[..., str]
OK = {"status": "ok", "exit_code": 0, "message": ""}
FAILED = {"status": "nonzero_exit", "exit_code": 1, "message": "the program exited with code 1"}
RUNTIMES = [
    {"language": "c", "version": "12.2.0", "aliases": ["gcc"], "compiled": True, "package": False,
     "file_name": "main.c", "extensions": [".c"], "limits": {}},
    {"language": "python", "version": "3.11.2", "aliases": ["py", "python3"], "compiled": False,
     "package": False, "file_name": "main.py", "extensions": [".py"], "limits": {}},
    {"language": "lua", "version": "5.4.6", "aliases": [], "compiled": False, "package": True,
     "limits": {}, "extensions": []},
    {"language": "ruby", "version": "3.1.2", "aliases": ["rb"], "compiled": False, "package": False,
     "environment": "bookworm", "limits": {}, "extensions": []},
]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "prog.c"
    path.write_text("int main(){}")
    path.chmod(0o644)
    return str(path)


def params(line: str, world: World) -> dict[str, Any]:
    return execute_params(parse(["execute", *line.split(" ")]), world)


def test_what_is_asked_of_the_daemon(world: World, source: str) -> None:
    assert params(f"c {source}", world) == {
        "language": "c",
        "args": [],
        "files": [{"name": "prog.c", "data": b"int main(){}", "mode": 0o644}],
        "run": {"limits": {}},
        "stdin_stream": True,
        "stream": True,
    }
    asked = params(
        f"--memory 64M --compile-time 2s --compile-memory 1G --env A=1 --network loopback"
        f" --mode fresh --collect o c=12.x {source} -x --json",
        world,
    )
    assert (asked["language"], asked["version"]) == ("c", "12.x")
    assert asked["args"] == ["-x", "--json"]
    assert asked["run"] == {"limits": {"memory_bytes": 2**26}}
    assert asked["compile"] == {
        "limits": {"cpu_time_ns": 2 * 10**9, "wall_time_ns": 2 * 10**9, "memory_bytes": 2**30}
    }
    assert asked["env"] == {"A": "1"}
    assert (asked["network"], asked["mode"], asked["collect"]) == ("loopback", "fresh", ["o"])
    assert "stream" not in params(f"--json c {source}", world)


def test_arguments_need_not_be_utf8(world: World, source: str) -> None:
    command = parse(["execute", "c", source, "\udcff", "é"])
    assert execute_params(command, world)["args"] == [b"\xff", "é"]


def test_further_files(world: World, source: str, tmp_path: Path) -> None:
    (tmp_path / "util.c").write_text("int u;")
    (tmp_path / "data").write_bytes(b"\xff")
    asked = params(f"--file {tmp_path}/util.c --file {tmp_path}/data=d/x c {source}", world)
    files = [(file["name"], file.get("source", True)) for file in asked["files"]]
    assert files == [("prog.c", True), ("util.c", True), ("d/x", False)]
    with pytest.raises(UsageError, match=r"'prog\.c' is the name of the source file"):
        params(f"--file {tmp_path}/data=prog.c c {source}", world)


@pytest.mark.parametrize("word", ["=1", "c=", "="])
def test_a_language_that_is_none(world: World, source: str, word: str) -> None:
    with pytest.raises(UsageError, match="is not LANGUAGE or LANGUAGE=VERSION"):
        params(f"{word} {source}", world)


@pytest.mark.parametrize("other", ["--json", "--stdin /dev/null"])
def test_a_terminal_goes_with_neither_json_nor_stdin(world: World, source: str, other: str) -> None:
    with pytest.raises(UsageError, match="--interactive cannot go with"):
        params(f"--interactive {other} c {source}", world)


def test_a_terminal_and_a_source_from_stdin_contradict(world: World) -> None:
    with pytest.raises(UsageError, match="cannot go with a source file from stdin"):
        params("-i c -", world)


@pytest.mark.parametrize("path", ["/nowhere/x.c", "/tmp"])
def test_a_source_that_cannot_be_read(world: World, path: str) -> None:
    assert main(["execute", "--socket", "/nowhere", "c", path], world) == 125
    assert world.stderr_text.startswith(f"sandboxctl: {path}: ")
    assert world.stderr_text.count("\n") == 1


def start(peer: Peer) -> dict[str, Any]:
    msgid, method, asked = peer.request()
    assert method == "runtime.start"
    peer.answer(msgid, {"job": "j1", "language": "c", "version": "12.2.0"})
    return dict(asked)


def ended(peer: Peer, **stages: object) -> None:
    result = {"language": "c", "version": "12.2.0", "run": None, **stages}
    peer.notify("job.exit", job="j1", result=result)


def execute(path: str, world: World, *argv: str) -> int:
    return main(["execute", "--socket", path, *argv], world)


def test_what_the_compiler_says_goes_to_stderr(
    daemon_with: Start, world: World, source: str
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        peer.notify("job.stage", job="j1", stage="compile")
        peer.notify("job.output", job="j1", stream="stdout", data=b"note\n")
        peer.notify("job.output", job="j1", stream="stderr", data=b"warning\n")
        peer.notify("job.stage", job="j1", stage="run")
        peer.notify("job.output", job="j1", stream="stdout", data=b"out\n")
        ended(peer, compile=OK, run={**FAILED, "exit_code": 4})

    assert execute(daemon_with(script), world, "c", source) == 4
    assert world.stdout_text == "out\n"
    assert world.stderr_text == "note\nwarning\n"


COMPILE_ENDS = {
    "failed": (FAILED, 1, "prog.c was not compiled, so nothing was run"),
    "other code": ({**FAILED, "exit_code": 101}, 101, "prog.c was not compiled"),
    "limit": ({"status": "memory_limit", "message": "the compiler used too much"}, 124,
              "the compiler used too much"),
    "signal": ({"status": "signaled", "signal": 11, "message": "a signal"}, 139, "a signal"),
    "sandboxd": ({"status": "internal_error", "message": "the sandbox died"}, 125,
                 "the sandbox died"),
}  # fmt: skip


@pytest.mark.parametrize(("result", "code", "said"), COMPILE_ENDS.values(), ids=COMPILE_ENDS)
def test_a_compiler_that_fails(
    daemon_with: Start,
    world: World,
    source: str,
    result: dict[str, Any],
    code: int,
    said: str,
) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        peer.notify("job.stage", job="j1", stage="compile")
        ended(peer, compile=result)

    assert execute(daemon_with(script), world, "c", source) == code
    assert world.stderr_text.startswith(f"sandboxctl: {said}")
    assert world.stderr_text.count("\n") == 1


def test_a_runtime_without_a_compiler(daemon_with: Start, world: World, source: str) -> None:
    def script(peer: Peer) -> None:
        start(peer)
        peer.notify("job.stage", job="j1", stage="run")
        ended(peer, run=FAILED)

    assert execute(daemon_with(script), world, "python", source) == 1
    assert world.stderr_text == "", "that was the program itself"


def test_json_is_the_answer(daemon_with: Start, world: World, source: str) -> None:
    answer = {"language": "c", "version": "12.2.0", "compile": OK, "run": {**OK, "stdout": b"hi"}}

    def script(peer: Peer) -> None:
        assert "stream" not in start(peer)
        while True:
            msgid, method, _ = peer.request()
            peer.answer(msgid, answer if method == "job.wait" else {})
            if method == "job.wait":
                break

    assert execute(daemon_with(script), world, "--json", "c", source) == 0
    printed = json.loads(world.stdout_text)
    assert printed == {**answer, "run": {**OK, "stdout": "hi"}}


def test_a_source_from_stdin(daemon_with: Start, tmp_path: Path) -> None:
    """All of stdin is the source, so the program's is empty."""
    world = World(tmp_path, b"print(1)")
    asked = []

    def script(peer: Peer) -> None:
        asked.append(start(peer)["files"])
        msgid, method, _ = peer.request()
        assert method == "job.close_stdin"
        peer.answer(msgid, {})
        ended(peer, run=OK)

    assert execute(daemon_with(script), world, "py", "-") == 0
    assert asked == [[{"name": "main", "data": b"print(1)"}]]


ADVICE = {
    "pyton": "did you mean python or python3?",
    "rubby": "did you mean ruby?",
    "python=9": "there is python=3.11.2",
    "py=9": "there is py=3.11.2",
    "whitespace": "see sandboxctl runtimes, and sandboxctl packages list --available for more",
}


@pytest.mark.parametrize(("language", "advice"), ADVICE.items(), ids=ADVICE.keys())
def test_a_runtime_that_is_not_there(
    daemon_with: Start, world: World, source: str, language: str, advice: str
) -> None:
    def script(peer: Peer) -> None:
        msgid, _, _ = peer.request()
        error = RequestError("not_found", "x-* runtime is unknown")
        peer.sock.sendall(rpc.encode_error(msgid, error))
        msgid, method, _ = peer.request()
        assert method == "runtime.list"
        peer.answer(msgid, {"runtimes": RUNTIMES})

    path = daemon_with(script, script)
    assert execute(path, world, language, source) == 125
    assert world.stderr_text == f"sandboxctl: x-* runtime is unknown; {advice}\n"
    assert execute(path, world, "--json", language, source) == 125
    error = json.loads(world.stdout_text)["error"]
    assert (error["code"], error["message"].partition("; ")[2]) == ("not_found", advice)


def test_runtimes(daemon_with: Start, world: World, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        msgid, method, asked = peer.request()
        assert (method, asked) == ("runtime.list", {})
        peer.answer(msgid, {"runtimes": RUNTIMES})

    path = daemon_with(script, script)
    assert main(["runtimes", "--socket", path], world) == 0
    assert world.stdout_text.splitlines() == [
        "LANGUAGE  VERSION  OTHER NAMES  COMPILED  FROM",
        "c         12.2.0   gcc          yes       host",
        "python    3.11.2   py, python3  no        host",
        "lua       5.4.6                 no        package",
        "ruby      3.1.2    rb           no        environment bookworm",
    ]
    os.truncate(tmp_path / "stdout", 0)
    os.lseek(world.stdout, 0, os.SEEK_SET)
    assert main(["runtimes", "--json", "--socket", path], world) == 0
    assert json.loads(world.stdout_text) == {"runtimes": RUNTIMES}


def test_no_runtime_at_all(daemon_with: Start, world: World) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request()[0], {"runtimes": []})

    assert main(["runtimes", "--socket", daemon_with(script)], world) == 0
    assert world.stdout_text.startswith("No language is installed here; see sandboxctl packages")
