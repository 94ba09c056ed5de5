"""`sandboxctl check`: what this host can do, feature by feature."""

from __future__ import annotations

import os
import sys

from sandboxctl import exitcodes
from sandboxctl.jsonout import print_json
from sandboxctl.reach import connect, named_socket
from sandboxctl.stdio import printable
from sandboxd_client._client import Client
from sandboxd_client.errors import DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio


def run(command: Command, stdio: Stdio) -> int:
    """Ask the daemon, or find out without one; 1 when something required is missing."""
    try:
        connection = connect(command, stdio)
    except DaemonUnreachable:
        if named_socket(command, stdio):
            raise
        return _without_daemon(json="--json" if command["--json"] else "", stdio=stdio)
    with Client.on(connection) as client:
        report = client.check()
    if command["--json"]:
        print_json(stdio, report)
    else:
        stdio.out(text(report))
    return exitcodes.OK if report["ok"] else exitcodes.FAILED


def _without_daemon(json: str, stdio: Stdio) -> int:
    """`sandboxd --check`, with our stdout and stderr."""
    argv = [sys.executable, "-P", "-m", "sandboxd", "--check", *([json] if json else [])]
    pid = os.posix_spawn(
        argv[0],
        argv,
        stdio.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdio.stdout, 1),
            (os.POSIX_SPAWN_DUP2, stdio.stderr, 2),
        ],
    )
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else exitcodes.SIGNALED - code


def text(report: Mapping[str, Any]) -> str:
    """The report for people: a line for each feature, and how to get what is missing."""
    features = report["features"]
    width = max((len(feature["name"]) for feature in features), default=0) + 2
    lines = []
    for feature in features:
        word = "ok" if feature["ok"] else "MISSING" if feature["required"] else "absent"
        lines.append(f"{word.ljust(9)}{feature['name'].ljust(width)}{feature['detail']}".rstrip())
        if not feature["ok"] and feature["hint"]:
            lines.append(f"{'':9}{feature['hint']}")
    lines += [f"weaker than under root: {sentence}" for sentence in report.get("weaker", ())]
    lines.append("Everything that is required is there." if report["ok"] else _missing(features))
    return printable("\n".join(lines)) + "\n"


def _missing(features: list[Mapping[str, Any]]) -> str:
    names = [str(f["name"]) for f in features if f["required"] and not f["ok"]]
    return f"sandboxd cannot serve on this host: {', '.join(names)} missing."
