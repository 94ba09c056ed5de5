"""Executions for people: what they gave, and how they are."""

from __future__ import annotations

from sandboxctl import exitcodes
from sandboxctl.arguments import shown_name
from sandboxctl.environments import day
from sandboxctl.jsonout import print_json
from sandboxctl.stdio import printable, write_all
from sandboxctl.units import format_size, format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio


def succeeded(info: Mapping[str, Any]) -> bool:
    """Whether it has ended as it should."""
    if info["end_reason"] != "normal" or info["error"]:
        return False
    return info["result"] is not None or info["job_status"] == "ok"


def print_outcomes(command: Command, stdio: Stdio, infos: Sequence[Mapping[str, Any]]) -> int:
    """What executions that have ended gave: the result on stdout, what else they printed and what
    went wrong on stderr. Of a program that has no result, what it printed is that."""
    if command["--json"]:
        print_executions(command, stdio, infos)
    else:
        for info in infos:
            _print_outcome(stdio, info)
    return exitcodes.OK if all(map(succeeded, infos)) else exitcodes.FAILED


def _print_outcome(stdio: Stdio, info: Mapping[str, Any]) -> None:
    log = info.get("log") or b""
    if not succeeded(info):
        write_all(stdio.stderr, log)
        error = info["error"] or {}
        if error.get("traceback"):
            write_all(stdio.stderr, _shown(stdio, stdio.stderr, error["traceback"]).encode())
        stdio.err(f"{shown_name(info['space'], info['function'])}: {problem(info)}")
    elif info["result"] is None:
        write_all(stdio.stdout, log)
    else:
        write_all(stdio.stderr, log)
        stdio.out(_shown(stdio, stdio.stdout, _result_text(info["result"])) + "\n")


def _shown(stdio: Stdio, fd: int, text: str) -> str:
    """`text` as it is for a program, and without what a terminal would obey for a person."""
    return printable(text) if stdio.is_terminal(fd) else text


def _result_text(result: str) -> str:
    """A text as it is, anything else as JSON."""
    if not result.startswith('"'):
        return result
    import json

    value = json.loads(result)
    return value if isinstance(value, str) else result


def problem(info: Mapping[str, Any]) -> str:
    """Why an execution has no result."""
    error = info["error"]
    if error:
        return f"{error['type']}: {error['message']}" if error["type"] else str(error["message"])
    return str(info["message"] or info["end_reason"])


def print_executions(command: Command, stdio: Stdio, infos: Sequence[Mapping[str, Any]]) -> None:
    """How they are: one JSON object, or lines for a person."""
    if command["--json"]:
        shown = [with_values(info) for info in infos]
        print_json(stdio, shown[0] if len(command.args) == 1 else {"executions": shown})
    else:
        stdio.out("\n".join(text(info) for info in infos))


def with_values(info: Mapping[str, Any]) -> dict[str, Any]:
    """An execution whose `result` is the JSON value, not its text."""
    import json

    shown = dict(info)
    if shown["result"] is not None:
        shown["result"] = json.loads(shown["result"])
    return shown


def text(info: Mapping[str, Any]) -> str:
    """A line for each thing there is to say."""
    name = shown_name(info["space"], info["function"])
    rows = [
        ("id", info["id"]),
        ("function", f"{name}, revision {info['revision']}"),
        ("status", status(info)),
        ("created", day(info["created_ns"])),
    ]
    if info["ended_ns"]:
        rows.append(("used", _used(info)))
    rows += [
        (kind, ", ".join(f"{file['id']} ({format_size(file['bytes'])})" for file in info[kind]))
        for kind in ("inputs", "outputs")
        if info[kind]
    ]
    if info["log_bytes"]:
        rows.append(("log", format_size(info["log_bytes"])))
    if info["result"] is not None:
        rows.append(("result", info["result"]))
    elif info["status"] == "ended" and not succeeded(info):
        rows.append(("error", problem(info)))
    return "".join(f"{left.ljust(10)}{printable(right)}\n" for left, right in rows)


def status(info: Mapping[str, Any]) -> str:
    """`ended, timeout`; how one ended that should have ended otherwise is told apart."""
    if info["status"] != "ended":
        return str(info["status"])
    failed = info["end_reason"] == "normal" and not succeeded(info)
    return f"ended, {'failed' if failed else info['end_reason']}"


def _used(info: Mapping[str, Any]) -> str:
    wall, cpu = format_time(info["wall_time_ns"]), format_time(info["cpu_time_ns"])
    return f"{wall}, CPU time {cpu}, memory {format_size(info['memory_bytes'])}"
