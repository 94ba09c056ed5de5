"""`sandboxctl functions`: stored code."""

from __future__ import annotations

import os

from sandboxctl import exitcodes
from sandboxctl.arguments import caller, merged, parse_parameters, reference, shown_name
from sandboxctl.environments import day, refused
from sandboxctl.jobs import environment_of, read_all
from sandboxctl.jsonout import print_json
from sandboxctl.options import UsageError
from sandboxctl.outcome import print_outcomes
from sandboxctl.reach import connect
from sandboxctl.stdio import printable
from sandboxctl.table import table
from sandboxd.protocol.errors import RequestError
from sandboxd_client._client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandboxctl.options import Command
    from sandboxctl.stdio import Stdio

_STDIN = "-"


class BadFile(Exception):
    """A file that cannot be used; the text says which and why."""


def run(command: Command, stdio: Stdio) -> int:
    """Do what the word after `functions` says."""
    act = {
        "create": _create,
        "update": _update,
        "get": _get,
        "list": _list,
        "delete": _delete,
        "run": _run,
        "run_bulk": _run_bulk,
    }[command.spec.word]
    try:
        return act(command, stdio)
    except BadFile as exc:
        stdio.err(str(exc))
        return exitcodes.FAILED
    except RequestError as exc:
        return refused(command, stdio, exc)


def _call(command: Command, stdio: Stdio, method: str, params: Mapping[str, Any]) -> Any:
    with Client.on(connect(command, stdio)) as client:
        return client.call(method, {**params, **caller(stdio)})


# -- create, update ------------------------------------------------------------------------------


def _create(command: Command, stdio: Stdio) -> int:
    fields = _fields(command, stdio)
    if not fields.keys() & {"code", "command", "kind"}:
        raise UsageError("what is its code? --file FILE, or --config FILE")
    fields.setdefault("kind", "json" if fields.get("language") else "python")
    info = _call(command, stdio, "function.create", {**fields, **_named(command, fields)})
    return _done(command, stdio, info, "created")


def _update(command: Command, stdio: Stdio) -> int:
    fields = _fields(command, stdio)
    if command["--new-name"] is not None:
        fields["new_name"] = command["--new-name"]
    if not fields:
        raise UsageError("what is to change? --file FILE, --context-file FILE, --new-name NAME ...")
    info = _call(command, stdio, "function.update", {**fields, **_named(command, fields)})
    return _done(command, stdio, info, "updated")


def _named(command: Command, fields: Mapping[str, Any]) -> dict[str, str]:
    """The name that was typed; a file may say in which space, where that was not."""
    word: str = command.args[0]
    space = fields.get("space")
    return reference(f"{space}/{word}" if space and "/" not in word else word)


def _done(command: Command, stdio: Stdio, info: Mapping[str, Any], what: str) -> int:
    if command["--json"]:
        print_json(stdio, info)
    else:
        stdio.out(f"{shown_name(info['space'], info['name'])} {what}\n")
    return exitcodes.OK


def _fields(command: Command, stdio: Stdio) -> dict[str, Any]:
    """Fields of a function: those of `--config`, and over them what was typed. Raises UsageError,
    BadFile, OSError."""
    fields: dict[str, Any] = {}
    if command["--config"] is not None:
        fields |= _configured(command["--config"])
    if command["--file"] is not None:
        fields["code"] = _text(command["--file"], stdio)
    if command["--context-file"] is not None:
        fields["context"] = _context(command["--context-file"], stdio)
    if command["--language"] is not None:
        language, _, version = command["--language"].partition("=")
        fields |= {"language": language, "version": version or "*"}
    if command["--environment"] is not None:
        fields["environment"] = command["--environment"]
    if command["--env"]:
        fields["env"] = {**fields.get("env", {}), **environment_of(command["--env"])}
    if command.limits():
        fields["limits"] = {**fields.get("limits", {}), **command.limits()}
    return fields


def _configured(path: str) -> dict[str, Any]:
    from sandboxctl.function_file import BadFunctionFile, read_function_file

    try:
        return dict(read_function_file(path))
    except BadFunctionFile as exc:
        raise BadFile(str(exc)) from exc


def _context(path: str, stdio: Stdio) -> dict[str, str]:
    from sandboxd_client.contextfile import BadContext, parse_context

    try:
        return parse_context(_text(path, stdio))
    except BadContext as exc:
        raise BadFile(f"{path}: {exc}") from exc


def _text(path: str, stdio: Stdio) -> str:
    try:
        return _bytes(path, stdio).decode()
    except UnicodeDecodeError as exc:
        raise BadFile(f"{path}: byte {exc.start} is not UTF-8") from exc


def _bytes(path: str, stdio: Stdio) -> bytes:
    if path == _STDIN:
        return read_all(stdio.stdin)
    with open(path, "rb") as file:
        return file.read()


# -- get, list, delete ---------------------------------------------------------------------------


def _get(command: Command, stdio: Stdio) -> int:
    info = _call(command, stdio, "function.get", reference(command.args[0]))
    if command["--json"]:
        print_json(stdio, info)
    else:
        stdio.out(text(info, terminal=stdio.is_terminal(stdio.stdout)))
    return exitcodes.OK


def text(info: Mapping[str, Any], *, terminal: bool) -> str:
    """What there is to say about a function, and its code: on a terminal without what that would
    obey."""
    language = " ".join(word for word in (info["language"], info["version"]) if word)
    rows = [
        ("name", shown_name(info["space"], info["name"])),
        ("kind", f"{info['kind']}, {language}" if language else info["kind"]),
        ("command", " ".join(map(os.fsdecode, info.get("command") or ()))),
        ("created", day(info["created_ns"])),
        ("updated", f"{day(info['updated_ns'])}, revision {info['revision']}"),
        ("runs in", info["environment"]),
        ("env", ", ".join(f"{key}={value}" for key, value in info.get("env", {}).items())),
        ("context", ", ".join(info.get("context", ()))),
        ("files", ", ".join(file["path"] for file in info.get("files", ()))),
        ("inputs", ", ".join(f"{port['id']} ({port['path']})" for port in info["inputs"])),
        ("outputs", ", ".join(f"{port['id']} ({port['path']})" for port in info["outputs"])),
    ]
    lines = "".join(f"{left.ljust(9)}{printable(right)}\n" for left, right in rows if right)
    code = info.get("code")
    if code and terminal:
        code = "\t".join(map(printable, code.split("\t")))
    return f"{lines}code\n{code.rstrip()}\n" if code else lines


def _list(command: Command, stdio: Stdio) -> int:
    params: dict[str, Any] = {"limit": 1000}
    if command["--space"] is not None:
        params["space"] = command["--space"]
    found: list[dict[str, Any]] = []
    with Client.on(connect(command, stdio)) as client:
        while True:
            page = client.call("function.list", {**params, **caller(stdio)})
            found += page["functions"]
            if page.get("next") is None:
                break
            params["after"] = page["next"]
    if command["--json"]:
        print_json(stdio, {"functions": found})
    else:
        stdio.out(_table(found))
    return exitcodes.OK


def _table(functions: Sequence[Mapping[str, Any]]) -> str:
    if not functions:
        return "There is none; see sandboxctl functions create --help.\n"
    rows = [
        (
            shown_name(info["space"], info["name"]),
            info["kind"],
            info["language"] or "-",
            str(info["revision"]),
            day(info["updated_ns"]),
        )
        for info in functions
    ]
    return table(("NAME", "KIND", "LANGUAGE", "REVISION", "UPDATED"), rows)


def _delete(command: Command, stdio: Stdio) -> int:
    wanted = [reference(word) for word in command.args]
    with Client.on(connect(command, stdio)) as client:
        for name in wanted:
            client.call("function.delete", {**name, **caller(stdio)})
            if not command["--json"]:
                stdio.out(f"{shown_name(**name)} deleted\n")
    if command["--json"]:
        print_json(stdio, {"deleted": [shown_name(**name) for name in wanted]})
    return exitcodes.OK


# -- run -----------------------------------------------------------------------------------------


def _run(command: Command, stdio: Stdio) -> int:
    params = _run_params(command, stdio)
    with Client.on(connect(command, stdio)) as client:
        info = client.call("execution.run", {**params, **caller(stdio)})
        if not command["--wait"]:
            return _started(command, stdio, info)
        wait = {"id": info["id"], "log": True, **caller(stdio)}
        try:
            info = client.call("execution.wait", wait)
        except KeyboardInterrupt:
            stdio.err(f"it goes on; to end it: sandboxctl executions stop {info['id']}")
            raise
    return print_outcomes(command, stdio, [info])


def _run_params(command: Command, stdio: Stdio) -> dict[str, Any]:
    params: dict[str, Any] = dict(reference(command.args[0]))
    if command["--args"] is not None and command["--parameters"]:
        raise UsageError("--args and --parameters cannot go together")
    if command["--args"] == _STDIN:
        params["args"] = read_all(stdio.stdin)
    elif command["--args"] is not None:
        params["args"] = command["--args"].encode("utf-8", "surrogateescape")
    else:
        params["args"] = dict(merged(command["--parameters"] or []))
    if command["--stdin"] is not None:
        params["stdin"] = _bytes(command["--stdin"], stdio)
    if command["--input"]:
        params["inputs"] = _inputs(command["--input"], stdio)
    if command.limits():
        params["limits"] = command.limits()
    return params


def _inputs(settings: list[str], stdio: Stdio) -> dict[str, bytes]:
    found = {}
    for setting in settings:
        id, equals, path = setting.partition("=")
        if not equals or not id or not path:
            raise UsageError(f"--input: {setting!r} is not ID=FILE")
        found[id] = _bytes(path, stdio)
    return found


def _started(command: Command, stdio: Stdio, info: Mapping[str, Any]) -> int:
    if command["--json"]:
        print_json(stdio, info)
    else:
        stdio.out(f"{info['id']}\n")
    return exitcodes.OK


def _run_bulk(command: Command, stdio: Stdio) -> int:
    calls = [parse_parameters(text) for text in command["--parameters"] or []]
    if not calls:
        raise UsageError(f'with which arguments? -p "k=v" for each run: {command.spec.usage}')
    params = {**reference(command.args[0]), "calls": calls}
    answer = _call(command, stdio, "execution.run_many", params)
    if command["--json"]:
        print_json(stdio, answer)
    else:
        stdio.out("".join(f"{id}\n" for id in answer["ids"]))
    return exitcodes.OK
