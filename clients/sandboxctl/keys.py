"""`sandboxctl keys`: who else may use functions."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.arguments import caller, reference, shown_name
from sandboxctl.environments import day, refused
from sandboxctl.jsonout import print_json
from sandboxctl.options import UsageError
from sandboxctl.reach import connect
from sandboxctl.table import table
from sandboxctl.units import format_size, format_time
from sandboxd.protocol.errors import RequestError
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio

_LIMITS = {
    "--max-memory": "max_memory_bytes",
    "--max-time": "max_time_ns",
    "--max-executions": "max_executions",
}


def run(command: Command, stdio: Stdio) -> int:
    """Do what the word after `keys` says."""
    act = {"create": _create, "list": _list, "delete": _delete}[command.spec.word]
    try:
        return act(command, stdio)
    except RequestError as exc:
        return refused(command, stdio, exc)


def _create(command: Command, stdio: Stdio) -> int:
    params = _params(command)
    with Client.on(connect(command, stdio)) as client:
        key = client.call("key.create", {**params, **caller(stdio)})
    if command["--json"]:
        print_json(stdio, key)
    else:
        stdio.out(f"{key['secret']}\n")
        if stdio.is_terminal(stdio.stdout):
            stdio.err("keep it: it is not shown again")
    return exitcodes.OK


def _params(command: Command) -> dict[str, Any]:
    if command["--role"] is None:
        raise UsageError("what may it do? --role admin|manage|master|run")
    params: dict[str, Any] = {"name": command.args[0], "role": command["--role"]}
    if command["--function"] is not None:
        if command["--space"] is not None:
            raise UsageError("--space cannot go with --function, which is SPACE/NAME")
        function = reference(command["--function"])
        params |= {"space": function["space"], "function": function["name"]}
    elif command["--space"] is not None:
        params["space"] = command["--space"]
    params |= {
        field: command[option] for option, field in _LIMITS.items() if command[option] is not None
    }
    return params


def _list(command: Command, stdio: Stdio) -> int:
    with Client.on(connect(command, stdio)) as client:
        answer = client.call("key.list", caller(stdio))
    if command["--json"]:
        print_json(stdio, answer)
    else:
        stdio.out(_table(answer["keys"]))
    return exitcodes.OK


def _table(keys: Sequence[Mapping[str, Any]]) -> str:
    if not keys:
        return "There is none; see sandboxctl keys create --help.\n"
    rows = [
        (
            key["name"],
            key["role"],
            _reach(key),
            format_size(key["max_memory_bytes"]) if key["max_memory_bytes"] else "-",
            format_time(key["max_time_ns"]) if key["max_time_ns"] else "-",
            str(key["max_executions"] or "-"),
            day(key["created_ns"]),
        )
        for key in keys
    ]
    return table(("NAME", "ROLE", "FOR", "MEMORY", "TIME", "EXECUTIONS", "CREATED"), rows)


def _reach(key: Mapping[str, Any]) -> str:
    """What it is for."""
    if key["function"]:
        return shown_name(key["space"], key["function"])
    return f"{key['space']}/" if key["space"] else "everything"


def _delete(command: Command, stdio: Stdio) -> int:
    with Client.on(connect(command, stdio)) as client:
        for name in command.args:
            client.call("key.delete", {"name": name, **caller(stdio)})
            if not command["--json"]:
                stdio.out(f"{name} deleted\n")
    if command["--json"]:
        print_json(stdio, {"deleted": list(command.args)})
    return exitcodes.OK
