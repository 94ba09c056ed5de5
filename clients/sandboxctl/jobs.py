"""What `run` and `execute` have in common: what goes into a job, and what comes of it."""

from __future__ import annotations

import os

from sandboxctl import exitcodes
from sandboxctl.jsonout import error_map, print_json
from sandboxctl.options import UsageError
from sandboxctl.reach import connect_or_start
from sandboxctl.session import Session
from sandboxd.protocol import status
from sandboxd.protocol.errors import SandboxdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio
    from sandboxd_client._connection import Connection
    from sandboxd_client.result import Result


def common_params(command: Command, stdio: Stdio, tty: str) -> dict[str, Any]:
    """Params that both have, but for the limits; `tty` is the option that asks for a terminal.

    Raises UsageError, OSError.
    """
    params: dict[str, Any] = {"stdin_stream": True}
    for option in ("--collect", "--network", "--mode"):
        if command[option] is not None:
            params[option.removeprefix("--")] = command[option]
    if command["--no-file-locks"]:
        params["file_locks"] = False
    if command["--env"]:
        params["env"] = environment_of(command["--env"])
    if command[tty]:
        if command["--json"] or command["--stdin"]:
            raise UsageError(f"{tty} cannot go with --json or --stdin")
        from sandboxctl.terminal import size

        params["tty"] = size(stdio.stdin)
        del params["stdin_stream"]
    if not command["--json"]:
        params["stream"] = True
    return params


def text(word: str) -> str | bytes:
    """A word of the command line, which need not be UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return os.fsencode(word)
    return word


def environment_of(settings: list[str]) -> dict[str, str | bytes]:
    """The variables of `--env`. Raises UsageError."""
    environment: dict[str, str | bytes] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--env: {setting!r} is not K=V")
        environment[name] = text(value)
    return environment


def input_files(settings: list[str]) -> dict[str, dict[str, Any]]:
    """The files of `--file`: name to data and mode. Raises UsageError, OSError."""
    files: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, name = setting.rpartition("=")
        if not equals:
            path, name = setting, os.path.basename(setting)
        if name in files:
            raise UsageError(f"--file: {name!r} was given twice")
        files[name] = read_file(path)
    return files


def read_file(path: str) -> dict[str, Any]:
    """A file as the protocol has it: data and mode. Raises OSError."""
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        return {"data": file.read(), "mode": mode}


def read_all(fd: int) -> bytes:
    """Everything up to the end."""
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def with_daemon(command: Command, stdio: Stdio, act: Callable[[Connection, int], int]) -> int:
    """`act` on a connection and on where the program's stdin comes from.

    A daemon is started for it where there is none. With `--json` errors of the daemon are JSON.
    """
    path = command["--stdin"]
    stdin = stdio.stdin if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    connection, daemon = connect_or_start(command, stdio)
    try:
        return act(connection, stdin)
    except SandboxdError as exc:
        if not command["--json"]:
            raise
        print_json(stdio, {"error": error_map(exc)})
        return exitcodes.SANDBOXD_FAILED
    finally:
        connection.close()
        if daemon is not None:
            daemon.close()


def carry(
    stdio: Stdio, connection: Connection, stdin: int, method: str, params: Mapping[str, Any]
) -> tuple[Mapping[str, Any], int]:
    """Start the job and carry its bytes; (its result, the signal because of which we cancelled).

    A terminal that the program had is as before when this returns or raises.
    """
    if "tty" not in params or not stdio.is_terminal(stdio.stdin):
        session = Session(connection, stdio, stdin)
        return session.run(method, params), session.stopped_by
    from sandboxctl.terminal import Terminal

    terminal = Terminal(stdio.stdin)
    session = Session(connection, stdio, stdin, terminal)
    try:
        return session.run(method, params), session.stopped_by
    finally:
        terminal.restore()


def report(command: Command, stdio: Stdio, result: Result, stopped_by: int) -> list[str]:
    """Write collected files, and say what the program itself has not said; returns what went wrong
    with the files."""
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
