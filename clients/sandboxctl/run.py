"""`sandboxctl run`: one program, with our stdio passed through."""

from __future__ import annotations

import os

from sandboxctl import exitcodes
from sandboxctl.options import UsageError
from sandboxctl.reach import connect_or_start
from sandboxctl.session import Session
from sandboxd.protocol import status
from sandboxd.protocol.errors import RequestError, SandboxdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio
    from sandboxd_client._connection import Connection
    from sandboxd_client.result import Result


def run(command: Command, stdio: Stdio) -> int:
    """Run the program and return its exit status as ours."""
    params = job_params(command, stdio)
    stdin = _open_stdin(command["--stdin"], stdio)
    connection, daemon = connect_or_start(command, stdio)
    try:
        return _run(command, stdio, connection, params, stdin)
    except SandboxdError as exc:
        if not command["--json"]:
            raise
        _print_json(stdio, {"error": _error_map(exc)})
        return exitcodes.SANDBOXD_FAILED
    finally:
        connection.close()
        if daemon is not None:
            daemon.close()


def job_params(command: Command, stdio: Stdio) -> dict[str, Any]:
    """Params of `job.start` for what was typed. Raises UsageError, OSError."""
    params: dict[str, Any] = {
        "argv": [_text(word) for word in command.args],
        "stdin_stream": True,
        "limits": command.limits(),
    }
    for option in ("--cwd", "--collect", "--network", "--mode"):
        if command[option] is not None:
            params[option.removeprefix("--")] = command[option]
    if command["--env"]:
        params["env"] = _environment(command["--env"])
    if command["--file"]:
        params["files"] = _files(command["--file"])
    if command["--tty"]:
        if command["--json"] or command["--stdin"]:
            raise UsageError("--tty cannot go with --json or --stdin")
        from sandboxctl.terminal import size

        params["tty"] = size(stdio.stdin)
        del params["stdin_stream"]
    if not command["--json"]:
        params["stream"] = True
    return params


def _text(word: str) -> str | bytes:
    """A word of the command line, which need not be UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return os.fsencode(word)
    return word


def _environment(settings: list[str]) -> dict[str, str | bytes]:
    environment: dict[str, str | bytes] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--env: {setting!r} is not K=V")
        environment[name] = _text(value)
    return environment


def _usual_environment(connection: Connection) -> dict[str, str | bytes]:
    """What a job gets when it does not say. A request's environment is the whole one, and somebody
    who sets one more variable does not mean to lose PATH."""
    from sandboxd_client._client import Client

    usual: dict[str, str | bytes] = Client.on(connection).info()["env"]
    return usual


def _files(settings: list[str]) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, name = setting.rpartition("=")
        if not equals:
            path, name = setting, os.path.basename(setting)
        if name in files:
            raise UsageError(f"--file: {name!r} was given twice")
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            files[name] = {"data": file.read(), "mode": mode}
    return files


def _open_stdin(path: str | None, stdio: Stdio) -> int:
    return stdio.stdin if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _run(
    command: Command, stdio: Stdio, connection: Connection, params: dict[str, Any], stdin: int
) -> int:
    if "env" in params:
        params["env"] = _usual_environment(connection) | params["env"]
    terminal = stdio.stdin if command["--tty"] and stdio.is_terminal(stdio.stdin) else None
    session = Session(connection, stdio, stdin, terminal=terminal)
    if terminal is None:
        result = session.run(params)
    else:
        from sandboxctl.terminal import Raw

        with Raw(terminal):
            result = session.run(params)
    from sandboxd_client.result import Result

    assert isinstance(result, Result)  # noqa: S101 - only a job with `compile` has two stages
    problems = _report(command, stdio, result, session.stopped_by)
    code = exit_status(result, session.stopped_by)
    return code or (exitcodes.SANDBOXD_FAILED if problems else exitcodes.OK)


def _report(command: Command, stdio: Stdio, result: Result, stopped_by: int) -> list[str]:
    """Print what is to be printed after the program's own output."""
    if command["--json"]:
        _print_json(stdio, result.raw)
        return []
    problems = []
    if command["--collect"]:
        from sandboxctl.collected import write_files

        problems = write_files(result.files, command["--collect"])
        if result.files_truncated:
            problems.append("not all files could be collected: they are more than the limit")
    for problem in problems:
        stdio.err(problem)
    # What the program said itself is enough when it ended by itself, and who typed Ctrl-C knows.
    if result.status not in (status.OK, status.NONZERO_EXIT) and not stopped_by:
        stdio.err(result.message or result.status.replace("_", " "))
    elif result.exit_code in (126, 127) and " cannot be " in result.message:
        stdio.err(result.message)
    return problems


def _print_json(stdio: Stdio, value: Any) -> None:
    from sandboxctl.jsonout import to_json

    stdio.out(to_json(value, pretty=stdio.is_terminal(stdio.stdout)))


def _error_map(exc: SandboxdError) -> dict[str, object]:
    if isinstance(exc, RequestError):
        return {"code": exc.code, "message": exc.message, "data": exc.data}
    return {"code": "unreachable", "message": str(exc), "data": {}}


def exit_status(result: Result, stopped_by: int = 0) -> int:
    """Our exit status for a result; `stopped_by` is the signal because of which we cancelled."""
    if stopped_by == exitcodes.BROKEN_PIPE - exitcodes.SIGNALED:
        return exitcodes.BROKEN_PIPE  # Whatever stopped it first, nobody was there to read it.
    if result.status in status.LIMIT_STATUSES:
        return exitcodes.LIMIT
    if result.status == status.CANCELLED and stopped_by:
        return exitcodes.SIGNALED + stopped_by
    if result.status == status.SIGNALED and result.signal is not None:
        return exitcodes.SIGNALED + result.signal
    if result.status in (status.OK, status.NONZERO_EXIT) and result.exit_code is not None:
        return result.exit_code
    return exitcodes.SANDBOXD_FAILED
