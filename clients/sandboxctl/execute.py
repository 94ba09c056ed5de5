"""`sandboxctl execute`: one source file, compiled if need be, with our stdio passed through."""

from __future__ import annotations

import os

from sandboxctl import exitcodes
from sandboxctl.jobs import (
    carry,
    common_params,
    exit_status,
    input_files,
    read_all,
    read_file,
    report,
    text,
    with_daemon,
)
from sandboxctl.jsonout import print_json
from sandboxctl.options import UsageError
from sandboxd.protocol import status
from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd_client.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio
    from sandboxd_client._connection import Connection

_FROM_STDIN = "-"
# The daemon adds the extension of the language.
_NAME_FROM_STDIN = "main"


def run(command: Command, stdio: Stdio) -> int:
    """Compile and run the file, and return the exit status of the stage that was the last."""
    params = execute_params(command, stdio)

    def act(connection: Connection, stdin: int) -> int:
        return _execute(command, stdio, connection, stdin, params)

    return with_daemon(command, stdio, act)


def execute_params(command: Command, stdio: Stdio) -> dict[str, Any]:
    """Params of `runtime.start` for what was typed. Raises UsageError, OSError."""
    word, path, *args = command.args
    if path == _FROM_STDIN and command["--interactive"]:
        raise UsageError("--interactive cannot go with a source file from stdin")
    language, equals, version = word.partition("=")
    if not language or (equals and not version):
        raise UsageError(f"{word!r} is not LANGUAGE or LANGUAGE=VERSION, such as python=3.x")
    params = common_params(command, stdio, "--interactive")
    params["language"] = language
    if version:
        params["version"] = version
    params["args"] = [text(arg) for arg in args]
    params["run"] = {"limits": command.limits()}
    if limits := _compile_limits(command):
        params["compile"] = {"limits": limits}
    params["files"] = _files(path, command["--file"] or [], stdio)
    return params


def _compile_limits(command: Command) -> dict[str, int]:
    limits = {}
    if command["--compile-time"] is not None:
        limits["cpu_time_ns"] = limits["wall_time_ns"] = command["--compile-time"]
    if command["--compile-memory"] is not None:
        limits["memory_bytes"] = command["--compile-memory"]
    return limits


def _files(path: str, others: list[str], stdio: Stdio) -> list[dict[str, Any]]:
    """The source file first."""
    further = input_files(others)
    if path == _FROM_STDIN:
        name, main = _NAME_FROM_STDIN, {"data": read_all(stdio.stdin)}
    else:
        name, main = os.path.basename(path), read_file(path)
    if name in further:
        raise UsageError(f"--file: {name!r} is the name of the source file, too")
    rest = [
        {"name": other, "source": _is_text(file["data"]), **file} for other, file in further.items()
    ]
    return [{"name": name, **main}, *rest]


def _is_text(data: bytes) -> bool:
    """Whether a further file may be one to compile; the daemon goes by the name then."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _execute(
    command: Command, stdio: Stdio, connection: Connection, stdin: int, params: dict[str, Any]
) -> int:
    raw, stopped_by = _carry(stdio, connection, stdin, params)
    result = Result(raw["run"] or raw["compile"])
    problems = []
    if command["--json"]:
        print_json(stdio, raw)
    else:
        problems = report(command, stdio, result, stopped_by)
        if not raw["run"] and result.status == status.NONZERO_EXIT:
            stdio.err(f"{params['files'][0]['name']} was not compiled, so nothing was run")
    code = exit_status(result, stopped_by)
    return code or (exitcodes.SANDBOXD_FAILED if problems else exitcodes.OK)


def _carry(
    stdio: Stdio, connection: Connection, stdin: int, params: Mapping[str, Any]
) -> tuple[Mapping[str, Any], int]:
    """As `carry`; where there is no such runtime the error says what there is instead."""
    try:
        return carry(stdio, connection, stdin, "runtime.start", params)
    except RequestError as exc:
        if exc.code != NOT_FOUND or not exc.message.endswith("runtime is unknown"):
            raise
        advice = _advice(params["language"], _runtimes(connection))
        raise RequestError(exc.code, f"{exc.message}; {advice}", exc.data) from exc


def _runtimes(connection: Connection) -> list[Mapping[str, Any]]:
    from sandboxd_client._client import Client

    runtimes: list[Mapping[str, Any]] = Client.on(connection).call("runtime.list", {})["runtimes"]
    return runtimes


def _names(runtime: Mapping[str, Any]) -> Sequence[str]:
    return [runtime["language"], *runtime["aliases"]]


def _advice(language: str, runtimes: list[Mapping[str, Any]]) -> str:
    """What to type instead of a runtime that is not there."""
    versions = [runtime["version"] for runtime in runtimes if language in _names(runtime)]
    if versions:
        return f"there is {', '.join(f'{language}={version}' for version in versions)}"
    import difflib

    names = {name: runtime["language"] for runtime in runtimes for name in _names(runtime)}
    near = difflib.get_close_matches(language, names, 3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return "see sandboxctl runtimes, and sandboxctl packages list --available for more"
