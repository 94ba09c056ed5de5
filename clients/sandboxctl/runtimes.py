"""`sandboxctl runtimes`: the languages that `execute` knows."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.jsonout import print_json
from sandboxctl.reach import connect_or_start
from sandboxctl.table import table
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio


def run(command: Command, stdio: Stdio) -> int:
    """Ask the daemon, or one of our own where there is none, for what it can run here."""
    connection, daemon = connect_or_start(command, stdio)
    try:
        answer = Client.on(connection).call("runtime.list", {})
    finally:
        connection.close()
        if daemon is not None:
            daemon.close()
    if command["--json"]:
        print_json(stdio, answer)
    else:
        stdio.out(text(answer["runtimes"]))
    return exitcodes.OK


def text(runtimes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each."""
    if not runtimes:
        return "No language is installed here; see sandboxctl packages list --available.\n"
    rows = [
        (
            runtime["language"],
            runtime["version"],
            ", ".join(runtime["aliases"]),
            "yes" if runtime["compiled"] else "no",
            _origin(runtime),
        )
        for runtime in runtimes
    ]
    return table(("LANGUAGE", "VERSION", "OTHER NAMES", "COMPILED", "FROM"), rows)


def _origin(runtime: Mapping[str, Any]) -> str:
    if runtime.get("package"):
        return "package"
    environment = runtime.get("environment")
    return f"environment {environment}" if environment else "host"
