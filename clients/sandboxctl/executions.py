"""`sandboxctl executions`: runs of functions."""

from __future__ import annotations

import os

from sandboxctl import exitcodes
from sandboxctl.arguments import caller, reference, shown_name
from sandboxctl.environments import day, refused
from sandboxctl.jsonout import print_json
from sandboxctl.options import UsageError
from sandboxctl.outcome import print_executions, print_outcomes, status, with_values
from sandboxctl.reach import connect
from sandboxctl.stdio import write_all
from sandboxctl.table import table
from sandboxctl.units import format_time
from sandboxd.protocol.errors import RequestError
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio

_PAGE = 1000
_SHOWN = 100


def run(command: Command, stdio: Stdio) -> int:
    """Do what the word after `executions` says."""
    act = {
        "get": _get,
        "list": _list,
        "wait": _wait,
        "log": _log,
        "output": _output,
        "stop": _stop,
        "delete": _delete,
    }[command.spec.word]
    try:
        return act(command, stdio)
    except RequestError as exc:
        return refused(command, stdio, exc)


def _each(command: Command, stdio: Stdio, method: str, **params: Any) -> list[dict[str, Any]]:
    """The answer for each id that was typed, on one connection."""
    with Client.on(connect(command, stdio)) as client:
        return [
            dict(client.call(method, {"id": id, **params, **caller(stdio)})) for id in command.args
        ]


def _get(command: Command, stdio: Stdio) -> int:
    if command["--wait"]:
        return _wait(command, stdio)
    print_executions(command, stdio, _each(command, stdio, "execution.get"))
    return exitcodes.OK


def _wait(command: Command, stdio: Stdio) -> int:
    return print_outcomes(command, stdio, _each(command, stdio, "execution.wait", log=True))


def _log(command: Command, stdio: Stdio) -> int:
    (info,) = _each(command, stdio, "execution.get", log=True)
    if command["--json"]:
        print_json(stdio, {key: info[key] for key in ("id", "status", "log", "log_truncated")})
    else:
        write_all(stdio.stdout, info["log"])
    return exitcodes.OK


def _output(command: Command, stdio: Stdio) -> int:
    id, output = command.args
    with Client.on(connect(command, stdio)) as client:
        params = {"id": id, "output": output, **caller(stdio)}
        answer = client.call("execution.output", params)
    if command["--output"] is not None:
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(command["--output"], how, 0o666)
        try:
            write_all(fd, answer["data"])
        finally:
            os.close(fd)
    elif command["--json"]:
        print_json(stdio, answer)
    else:
        write_all(stdio.stdout, answer["data"])
    return exitcodes.OK


def _stop(command: Command, stdio: Stdio) -> int:
    infos = _each(command, stdio, "execution.stop")
    if command["--json"]:
        print_executions(command, stdio, infos)
    else:
        stdio.out("".join(f"{info['id']} {status(info)}\n" for info in infos))
    return exitcodes.OK


def _delete(command: Command, stdio: Stdio) -> int:
    infos = _each(command, stdio, "execution.delete")
    if command["--json"]:
        print_executions(command, stdio, infos)
    else:
        stdio.out("".join(f"{info['id']} deleted\n" for info in infos))
    return exitcodes.OK


def _list(command: Command, stdio: Stdio) -> int:
    wanted = command["--limit"] or _SHOWN
    params = _filter(command)
    found: list[dict[str, Any]] = []
    with Client.on(connect(command, stdio)) as client:
        while len(found) < wanted:
            params["limit"] = min(_PAGE, wanted - len(found))
            page = client.call("execution.list", {**params, **caller(stdio)})
            found += page["executions"]
            if page.get("next") is None:
                break
            params["after"] = page["next"]
    if command["--json"]:
        print_json(stdio, {"executions": [with_values(info) for info in found]})
    else:
        stdio.out(_table(found))
    return exitcodes.OK


def _filter(command: Command) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if command["--function"] is not None:
        if command["--space"] is not None:
            raise UsageError("--space cannot go with --function, which is SPACE/NAME")
        params |= reference(command["--function"])
    elif command["--space"] is not None:
        params["space"] = command["--space"]
    if command["--status"] is not None:
        params["status"] = command["--status"]
    return params


def _table(executions: Sequence[Mapping[str, Any]]) -> str:
    if not executions:
        return "There is none; see sandboxctl functions run --help.\n"
    rows = [
        (
            info["id"],
            shown_name(info["space"], info["function"]),
            status(info),
            day(info["created_ns"]),
            format_time(info["wall_time_ns"]) if info["ended_ns"] else "-",
        )
        for info in executions
    ]
    return table(("ID", "FUNCTION", "STATUS", "CREATED", "TIME"), rows)
