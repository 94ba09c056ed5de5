"""`sandboxctl environments`: root file systems for jobs."""

from __future__ import annotations

import time

from sandboxctl import exitcodes
from sandboxctl.jsonout import error_map, print_json
from sandboxctl.reach import connect, connect_or_start
from sandboxctl.table import table
from sandboxctl.units import format_size
from sandboxd.protocol.errors import RequestError, SandboxdError
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio


def run(command: Command, stdio: Stdio) -> int:
    """Do what the word after `environments` says."""
    match command.spec.word:
        case "list":
            return _list(command, stdio)
        case "import":
            return _import(command, stdio)
        case _:
            return _remove(command, stdio)


def _list(command: Command, stdio: Stdio) -> int:
    connection, daemon = connect_or_start(command, stdio)
    try:
        answer = Client.on(connection).call("environment.list", {})
    finally:
        connection.close()
        if daemon is not None:
            daemon.close()
    if command["--json"]:
        print_json(stdio, answer)
    else:
        stdio.out(text(answer["environments"]))
    return exitcodes.OK


def text(environments: Sequence[Mapping[str, Any]]) -> str:
    """A line for each."""
    if not environments:
        return "There is none; see sandboxctl environments import --help.\n"
    rows = [
        (
            environment["name"],
            format_size(environment["size_bytes"]),
            day(environment["imported_ns"]),
            environment["source"],
        )
        for environment in environments
    ]
    return table(("NAME", "SIZE", "IMPORTED", "SOURCE"), rows)


def day(ns: int) -> str:
    """A moment, to the minute, as clocks here show it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ns // 10**9))


def _import(command: Command, stdio: Stdio) -> int:
    from sandboxctl.progress import Progress
    from sandboxctl.upload import NoArchive, Source, call_with_archive

    name, path = command.args
    progress = Progress(command, stdio)
    connection = connect(command, stdio)
    try:
        source = Source(path, stdio)
        try:
            answer = call_with_archive(
                connection, "environment.import", {"name": name}, source, progress
            )
        finally:
            source.close()
            progress.clear()
    except (RequestError, NoArchive) as exc:
        return refused(command, stdio, exc)
    finally:
        connection.close()
    if command["--json"]:
        print_json(stdio, answer)
    else:
        size = format_size(answer["size_bytes"])
        stdio.out(f"{answer['name']}: {answer['files']} files, {size}\n")
    return exitcodes.OK


def refused(command: Command, stdio: Stdio, exc: SandboxdError) -> int:
    """Say why it was not done."""
    if command["--json"]:
        print_json(stdio, {"error": error_map(exc)})
    else:
        stdio.err(str(exc))
    return exitcodes.FAILED


def _remove(command: Command, stdio: Stdio) -> int:
    removed = []
    with Client.on(connect(command, stdio)) as client:
        for name in command.args:
            try:
                client.call("environment.remove", {"name": name})
            except RequestError as exc:
                return refused(command, stdio, exc)
            removed.append(name)
            if not command["--json"]:
                stdio.out(f"{name} removed\n")
    if command["--json"]:
        print_json(stdio, {"removed": removed})
    return exitcodes.OK
