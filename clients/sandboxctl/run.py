"""`sandboxctl run`: one program, with our stdio passed through."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.jobs import (
    carry,
    common_params,
    exit_status,
    input_files,
    report,
    text,
    with_daemon,
)
from sandboxctl.jsonout import print_json
from sandboxd_client.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio
    from sandboxd_client._connection import Connection


def run(command: Command, stdio: Stdio) -> int:
    """Run the program and return its exit status as ours."""
    params = job_params(command, stdio)

    def act(connection: Connection, stdin: int) -> int:
        return _run(command, stdio, connection, stdin, params)

    return with_daemon(command, stdio, act)


def job_params(command: Command, stdio: Stdio) -> dict[str, Any]:
    """Params of `job.start` for what was typed. Raises UsageError, OSError."""
    params = common_params(command, stdio, "--tty")
    params["argv"] = [text(word) for word in command.args]
    params["limits"] = command.limits()
    for option in ("--cwd", "--environment"):
        if command[option] is not None:
            params[option.removeprefix("--")] = command[option]
    if command["--file"]:
        params["files"] = input_files(command["--file"])
    return params


def _usual_environment(connection: Connection) -> dict[str, str | bytes]:
    """What a job gets when it does not say. A request's environment is the whole one, and somebody
    who sets one more variable does not mean to lose PATH."""
    from sandboxd_client._client import Client

    usual: dict[str, str | bytes] = Client.on(connection).info()["env"]
    return usual


def _run(
    command: Command, stdio: Stdio, connection: Connection, stdin: int, params: dict[str, Any]
) -> int:
    if "env" in params:
        params["env"] = _usual_environment(connection) | params["env"]
    raw, stopped_by = carry(stdio, connection, stdin, "job.start", params)
    result = Result(raw)
    problems = []
    if command["--json"]:
        print_json(stdio, raw)
    else:
        problems = report(command, stdio, result, stopped_by)
    code = exit_status(result, stopped_by)
    return code or (exitcodes.SANDBOXD_FAILED if problems else exitcodes.OK)
