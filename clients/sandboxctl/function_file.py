"""Function configuration files: what a function is, in TOML or JSON, with its files beside it.

The format is described in docs/functions.md. Everything is checked here as far as a sentence about
the file can be said: which key is wrong, and what would be right. What a name or a limit may be is
the daemon's to say.
"""

from __future__ import annotations

import os
import stat

from sandboxctl.function_fields import BadFunctionFile, Fields
from sandboxctl.units import format_size, parse_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["BadFunctionFile", "read_function_file"]

# A message to the daemon has at most 64 MiB.
MAX_BYTES = 60 * 1024 * 1024
MAX_FILES = 10_000
MAX_CONFIG_BYTES = 1024 * 1024
# Made by tools beside the sources, and of no use to a function.
_LEFT_OUT = frozenset({"__pycache__", ".git", ".hg", ".svn"})

_TIMES = ("cpu_time", "wall_time")
_SIZES = ("memory", "output", "file_size", "disk", "stack")
_COUNTS = ("processes", "open_files", "disk_inodes")


def read_function_file(path: str) -> dict[str, Any]:
    """The params of `function.create` that the file at `path` stands for.

    `name` and `space` are in it where the file says them. Paths in the file are relative to its
    directory. Raises BadFunctionFile.
    """
    values = _parse(path)
    fields = Fields(path, values)
    found: dict[str, Any] = {}
    for key, others in (("name", ("id",)), ("space", ("author",))):
        fields.text_into(found, key, *others)
    _what_runs(fields, found, os.path.dirname(path))
    for key in ("environment", "version"):
        fields.text_into(found, key)
    fields.texts_into(found, "env")
    if (context := fields.take("context")) is not None:
        found["context"] = fields.json_table(context, "context")
    _ports(fields, found, "inputs", "input", ("id", "path", "name", "required"))
    _ports(fields, found, "outputs", "output", ("id", "path", "name"))
    if (limits := fields.take("limits")) is not None:
        found["limits"] = _limits(fields.table(limits, "limits"))
    _metadata(fields, found)
    if (names := fields.take("files")) is not None:
        found["files"] = _files(fields, names, path)
    fields.nothing_else()
    return found


def _parse(path: str) -> dict[str, Any]:
    data = _read(path, MAX_CONFIG_BYTES, path)
    try:
        text = data.decode()
        if text.lstrip()[:1] == "{":
            import json

            values = json.loads(text)
        else:
            import tomllib

            values = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # Of both decoders, and of UTF-8.
        raise BadFunctionFile(f"{path}: it is neither TOML nor JSON: {exc}") from None
    return dict(values)


# -- what runs -----------------------------------------------------------------------------------


def _what_runs(fields: Fields, found: dict[str, Any], directory: str) -> None:
    """`command`, or `code` and in which language; and what kind of function that makes it."""
    fields.text_into(found, "language")
    fields.text_into(found, "kind")
    command, code = fields.take("command"), fields.take("code")
    if command is not None and code is not None:
        raise fields.bad("code", "there is a command already; a function has one of them")
    if command is not None:
        found["command"] = _command(fields, command)
        found.setdefault("kind", "program")
    elif code is not None:
        name = os.path.join(directory, fields.text(code, "code"))
        data = _read(name, MAX_BYTES, f"{fields.where}: code")
        try:
            found["code"] = data.decode()
        except UnicodeDecodeError as exc:
            raise fields.bad("code", f"{name} is not UTF-8: {exc.reason}") from None
        found.setdefault("kind", "json" if found.get("language") else "python")
    elif found.get("kind") != "task":
        raise fields.bad("command", "is missing, and so is code: what is to run?")


def _command(fields: Fields, value: object) -> list[str]:
    if isinstance(value, str):
        import shlex

        try:
            words = shlex.split(value)
        except ValueError as exc:
            raise fields.bad("command", f"{exc}; write it as a list of texts") from None
    else:
        words = [
            fields.text(word, f"command[{index}]")
            for index, word in enumerate(fields.list(value, "command"))
        ]
    if not words:
        raise fields.bad("command", "must not be empty")
    return words


# -- inputs, outputs, limits ---------------------------------------------------------------------


def _ports(
    fields: Fields, found: dict[str, Any], key: str, other: str, known: tuple[str, ...]
) -> None:
    """A list of tables with `id` and `path`, or one table of paths by id."""
    given = fields.take(key, other)
    if given is None:
        return
    if isinstance(given, dict):
        given = [{"id": id, "path": path} for id, path in given.items()]
    ports = []
    for index, value in enumerate(fields.list(given, key)):
        port = fields.table(value, f"{key}[{index}]")
        made: dict[str, Any] = {"id": port.needed("id"), "path": port.needed("path")}
        port.text_into(made, "name")
        if "required" in known and (required := port.take("required")) is not None:
            made["required"] = port.truth(required, "required")
        port.nothing_else()
        ports.append(made)
    ids = [port["id"] for port in ports]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise fields.bad(key, f"there are two with the id {twice!r}")
    found[key] = ports


def _limits(limits: Fields) -> dict[str, int]:
    """By the protocol's names, or as options are called; numbers, or texts with a unit."""
    found: dict[str, int] = {}
    for names, unit, parse in (
        (_TIMES, "_ns", parse_time),
        (_SIZES, "_bytes", parse_size),
        (_COUNTS, "", None),
    ):
        for name in names:
            value = limits.take(name + unit, *([name] if unit else []))
            if isinstance(value, str) and parse is not None:
                try:
                    value = parse(value)
                except ValueError as exc:
                    raise limits.bad(name, f"{value!r} is not {exc}") from None
            if value is not None:
                found[name + unit] = limits.count(value, name + unit)
    limits.nothing_else()
    return found


def _metadata(fields: Fields, found: dict[str, Any]) -> None:
    """What is said about it to people: `title`, `description`, and anything in `metadata`."""
    metadata: dict[str, Any] = {}
    if (given := fields.take("metadata")) is not None:
        metadata |= fields.json_table(given, "metadata")
    for key in ("title", "description"):
        fields.text_into(metadata, key)
    if metadata:
        found["metadata"] = metadata


# -- files ---------------------------------------------------------------------------------------


def _files(fields: Fields, given: object, config: str) -> list[dict[str, Any]]:
    """The files of a directory, or those of a list, with their paths from there on."""
    base = os.path.dirname(config)
    if isinstance(given, str):
        root = os.path.join(base, given)
        names = sorted(_below(fields, root, ""))
    else:
        root = base
        listed = fields.list(given, "files")
        names = [fields.text(name, f"files[{index}]") for index, name in enumerate(listed)]
    files: list[dict[str, Any]] = []
    size = 0
    for name in names:
        path = os.path.join(root, name)
        if os.path.realpath(path) == os.path.realpath(config):
            continue  # What it says about the function is no part of it.
        if len(files) == MAX_FILES:
            raise fields.bad("files", f"there are more than {MAX_FILES}")
        if not name.isprintable():  # Also what is not UTF-8.
            raise fields.bad("files", f"the name {name!r} cannot be used; give it a plain one")
        data = _read(path, MAX_BYTES - size, f"{fields.where}: files: {name}")
        size += len(data)
        mode = 0o755 if os.stat(path).st_mode & stat.S_IXUSR else 0o644
        files.append({"path": name, "data": data, "mode": mode})
    return files


def _below(fields: Fields, root: str, prefix: str) -> Iterator[str]:
    """The paths of all files below `root/prefix`."""
    try:
        entries = list(os.scandir(os.path.join(root, prefix)))
    except OSError as exc:
        raise fields.bad("files", f"{os.path.join(root, prefix)}: {exc.strerror}") from None
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if entry.is_symlink():
            raise fields.bad("files", f"{name} is a symbolic link; put the file itself there")
        if entry.is_dir():
            if entry.name not in _LEFT_OUT:
                yield from _below(fields, root, f"{name}/")
        else:
            yield name


def _read(path: str, most: int, where: str) -> bytes:
    """The whole regular file. Raises BadFunctionFile."""
    try:
        # Not to wait for somebody who writes, where it is a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BadFunctionFile(f"{where}: {path} is not a regular file")
            data = file.read(most + 1)
    except OSError as exc:
        raise BadFunctionFile(f"{where}: {path}: {exc.strerror}") from None
    if len(data) > most:
        raise BadFunctionFile(f"{where}: too large: more than {format_size(most)} are left for it")
    return data
