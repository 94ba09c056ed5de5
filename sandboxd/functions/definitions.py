"""From the params of a request to a function that may be stored."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from sandboxd.functions.model import Port
from sandboxd.protocol import names
from sandboxd.protocol.errors import invalid
from sandboxd.protocol.explain import show
from sandboxd.protocol.jobs import (
    DEFAULT_FILE_MODE,
    MAX_FILES,
    check_argv,
    check_env,
    check_strings,
    text_or_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxd.functions.model import Kind, StoredFile
    from sandboxd.protocol.functions import (
        FunctionFields,
        FunctionFile,
        InputField,
        OutputField,
    )

MAX_PORTS: Final = 256
MAX_CONTEXT: Final = 1024
MAX_CONTEXT_BYTES: Final = 256 * 1024
MAX_METADATA_BYTES: Final = 256 * 1024

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_NAME_RULE: Final = (
    "must be 1 to 64 letters, digits, '.', '_' and '-', and not begin with '.' or '-'"
)

# What each kind has besides what all have; another field is a mistake.
_OF_KIND: Final[Mapping[Kind, frozenset[str]]] = {
    "python": frozenset({"code"}),
    "json": frozenset({"code", "language", "version"}),
    "program": frozenset({"command"}),
    "task": frozenset({"command"}),
}
_OWN_FIELDS: Final = frozenset({"code", "language", "version", "command"})
# function.py is the code's; what is below task/ is a task's.
_CODE_FILE: Final = "function.py"


class Upload(Struct, frozen=True):
    """A file whose bytes are not stored yet."""

    path: str
    mode: int
    data: bytes


class Definition(Struct, frozen=True):
    """The checked fields of a request that were given, and the files to store."""

    changes: dict[str, Any]
    files: tuple[Upload, ...] | None = None


def check_name(name: str, field: str) -> str:
    """`name` of a function, space, key, input or output. Raises RequestError."""
    if not _NAME.fullmatch(name):
        raise invalid(field, f"{_NAME_RULE}, not {show(name)}")
    return name


def check(params: FunctionFields, kind: Kind, *, complete: bool) -> Definition:
    """The fields that were given. ``complete``: they are all there are. Raises RequestError."""
    changes: dict[str, Any] = {}
    for name in _OWN_FIELDS:
        if getattr(params, name) is not None and name not in _OF_KIND[kind]:
            raise invalid(name, f"is not for functions of the kind {kind}")
    if params.code is not None:
        changes["code"] = params.code
    elif complete and "code" in _OF_KIND[kind]:
        raise invalid("code", "is required: the source text of the function")
    if params.language is not None:
        changes["language"] = params.language
    elif complete and kind == "json":
        raise invalid("language", "is required: the name of a runtime")
    if params.version is not None:
        changes["version"] = params.version
    if params.command is not None:
        changes["command"] = _command(params.command)
    elif complete and kind == "program":
        raise invalid("command", "is required: the program and its arguments")
    if params.environment is not None:
        changes["environment"] = params.environment
    _check_maps(params, changes)
    if params.limits is not None:
        changes["limits"] = params.limits
    if params.inputs is not None:
        changes["inputs"] = _ports(params.inputs, "inputs")
    if params.outputs is not None:
        changes["outputs"] = _ports(params.outputs, "outputs")
    return Definition(changes, None if params.files is None else _files(params.files, kind))


def _command(command: list[Any]) -> tuple[str | bytes, ...]:
    argv = check_argv(command, "command: ")
    check_strings(argv, (), "command")
    return tuple([_text(part) for part in argv])


def _text(part: bytes) -> str | bytes:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part


def _check_maps(params: FunctionFields, changes: dict[str, Any]) -> None:
    if params.env is not None:
        check_env(params.env, "")
        changes["env"] = params.env
    if params.context is not None:
        if len(params.context) > MAX_CONTEXT:
            raise invalid("context", f"must be at most {MAX_CONTEXT} names")
        changes["context"] = _json_map(params.context, "context", MAX_CONTEXT_BYTES)
    if params.metadata is not None:
        changes["metadata"] = _json_map(params.metadata, "metadata", MAX_METADATA_BYTES)


def _json_map(value: dict[str, Any], field: str, most: int) -> dict[str, Any]:
    text = to_json(value, field)
    if len(text) > most:
        raise invalid(field, f"must be at most {most} bytes as JSON, not {len(text)}")
    # As it will come back: bytes are no JSON, and were refused.
    decoded: dict[str, Any] = msgspec.json.decode(text)
    return decoded


def _ports(given: Sequence[InputField | OutputField], field: str) -> tuple[Port, ...]:
    if len(given) > MAX_PORTS:
        raise invalid(field, f"must be at most {MAX_PORTS}, not {len(given)}")
    ports = []
    for n, port in enumerate(given):
        at = f"{field}[{n}]"
        ports.append(
            Port(
                id=check_name(port.id, f"{at}.id"),
                path=_path(port.path, f"{at}.path"),
                name=port.name or "",
                required=bool(getattr(port, "required", False)),
            )
        )
    _check_distinct([port.id for port in ports], field, "id")
    _check_distinct([port.path for port in ports], field, "path")
    both = names.file_and_directory([port.path for port in ports])
    if both is not None:
        raise invalid(field, f"{show(both)} is both a file and a directory")
    return tuple(ports)


def _check_distinct(values: list[str], field: str, what: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise invalid(field, f"{show(value)} is the {what} of two of them")
        seen.add(value)


def _path(path: str, field: str) -> str:
    try:
        names.check_name(path)
    except names.BadName as exc:
        raise invalid(field, str(exc)) from None
    return path


def _files(given: Sequence[FunctionFile], kind: Kind) -> tuple[Upload, ...]:
    if len(given) > MAX_FILES:
        raise invalid("files", f"must be at most {MAX_FILES} files, not {len(given)}")
    files = []
    for n, file in enumerate(given):
        path = _path(file.path, f"files[{n}].path")
        if kind == "python" and path == _CODE_FILE:
            raise invalid(f"files[{n}].path", f"{_CODE_FILE} is the function's code; see code")
        mode = DEFAULT_FILE_MODE if file.mode is None else file.mode
        files.append(Upload(path, mode, text_or_bytes(file.data, f"files[{n}].data")))
    _check_distinct([file.path for file in files], "files", "path")
    both = names.file_and_directory([file.path for file in files])
    if both is not None:
        raise invalid("files", f"{show(both)} is both a file and a directory")
    return tuple(files)


# The standard library's, because msgspec writes bytes as base64 and NaN as null.
encode_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


_json: Final = msgspec.json.Decoder()
# Only goes through it: a text of some megabytes may have a gigabyte of values, and take seconds. A
# number that is too large is not noticed then.
_raw_json: Final = msgspec.json.Decoder(msgspec.Raw)
_SMALL_JSON: Final = 64 * 1024


def to_json(value: object, field: str) -> bytes:
    """A value of the protocol, or JSON text as bytes, as JSON text. Raises RequestError."""
    if type(value) is bytes:
        return _json_text(value, field)
    try:
        return encode_json(value).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise invalid(field, f"is no JSON value: {exc}") from None


def _json_text(data: bytes, field: str) -> bytes:
    try:
        data.decode()
        (_json if len(data) <= _SMALL_JSON else _raw_json).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise invalid(field, f"is no JSON text: {exc}") from None
    return data


def check_call(kind: Kind, args: object, stdin: object, field: str = "args") -> None:
    """Refuse what a function of this kind would never see. Raises RequestError."""
    if kind in ("python", "json"):
        if stdin:
            raise invalid("stdin", f"is not for functions of the kind {kind}, which take args")
    elif args and args not in (b"null", b"{}", b"[]"):
        raise invalid(field, f"is not for functions of the kind {kind}; use inputs or stdin")


def cleared(kind: Kind) -> dict[str, Any]:
    """Changes that take away what a function of this kind does not have."""
    empty: dict[str, Any] = {"code": "", "language": "", "version": "", "command": ()}
    return {name: value for name, value in empty.items() if name not in _OF_KIND[kind]}


def fitting(kind: Kind, files: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    """Those stored files that a function of this kind may keep."""
    return tuple([file for file in files if kind != "python" or file.path != _CODE_FILE])
