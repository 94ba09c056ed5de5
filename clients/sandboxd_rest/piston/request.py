"""From the JSON of a request to the params of `runtime.execute`.

What is checked, in which order and with which words is Piston's; what Piston lets through to fail
later is refused here in the same style.
"""

from __future__ import annotations

import base64
import binascii
import math
import posixpath
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sandboxd_rest.http import Refusal
from sandboxd_rest.piston.models import ExecuteRequest, File

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sandboxd_rest.piston.catalogue import Runtime
    from sandboxd_rest.piston.settings import Settings

    Find = Callable[[str, str], Awaitable[Runtime | None]]

_NS_PER_MS: Final = 1_000_000
_PAGE: Final = 4096
# The language whose only file may be a program itself.
_ANY_FILE: Final = "file"
_DIRECTORY: Final = "/piston/jobs/job"

# Piston's limit, the protocol's, and the factor between them.
_CONSTRAINTS: Final = (
    ("memory_limit", "memory_bytes", 1),
    ("timeout", "wall_time_ns", _NS_PER_MS),
    ("cpu_time", "cpu_time_ns", _NS_PER_MS),
)
_STAGES: Final = ("compile", "run")
# All of a request's limits: stage, its field, and the constraint as above.
_ASKED: Final = tuple(
    (stage, f"{stage}_{constraint}", key, factor)
    for constraint, key, factor in _CONSTRAINTS
    for stage in _STAGES
)
_FIXED: Final = (
    ("output_max_size", "output_bytes"),
    ("max_process_count", "processes"),
    ("max_open_files", "open_files"),
    ("max_file_size", "file_size_bytes"),
)


def bad(message: str) -> Refusal:
    return Refusal(400, message)


async def parse(
    body: object, find: Find, settings: Settings, maxima: Mapping[str, int]
) -> tuple[Runtime, dict[str, Any]]:
    """(the runtime, params of `runtime.execute`). Raises Refusal with Piston's words.

    `find` gives the runtime for a name and a range of versions; `maxima` are the daemon's.
    """
    values: Mapping[str, Any] = body if isinstance(body, dict) else {}
    language, version = _text(values, "language"), _text(values, "version")
    _check_files(values.get("files"))
    runtime = await find(language, version)
    if runtime is None:
        raise bad(f"{language}-{version} runtime is unknown")
    files = values["files"]
    if runtime.language != _ANY_FILE and not any(_is_text(file) for file in files):
        raise bad("files must include at least one utf8 encoded file")
    limits = _limits(values, runtime, settings, maxima)
    _check_rest(values)
    request = msgspec.convert(values, ExecuteRequest)
    params: dict[str, Any] = {
        "language": runtime.language,
        "version": runtime.version,
        "files": _files(request.files, runtime),
        "args": request.args,
        "stdin": request.stdin if request.stdin.endswith("\n") else request.stdin + "\n",
        "run": {"limits": limits["run"]},
        "output": True,
    }
    if runtime.compiled:
        params["compile"] = {"limits": limits["compile"]}
    return runtime, params


# -- types ---------------------------------------------------------------------------------------


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise bad(f"{name} is required as a string")
    return value


def _check_files(files: object) -> None:
    if not isinstance(files, list):
        raise bad("files is required as an array")
    for index, file in enumerate(files):
        if not isinstance(file, dict) or not isinstance(file.get("content"), str):
            raise bad(f"files[{index}].content is required as a string")


def _check_rest(values: Mapping[str, Any]) -> None:
    """What Piston does not check, and then fails of or misunderstands."""
    for index, file in enumerate(values["files"]):
        if not isinstance(file.get("name", ""), str | None):
            raise bad(f"files[{index}].name must be a string")
    if not isinstance(values.get("stdin", ""), str):
        raise bad("stdin must be a string")
    args = values.get("args", [])
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise bad("args must be an array of strings")


# -- limits --------------------------------------------------------------------------------------


def _limits(
    values: Mapping[str, Any], runtime: Runtime, settings: Settings, maxima: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """The limits of each stage, by the protocol's names; what is not in them is the daemon's."""
    own = settings.limit_overrides.get(runtime.language)
    found: dict[str, dict[str, int]] = {"compile": {}, "run": {}}
    stages = {"compile": runtime.limits.compile, "run": runtime.limits.run}
    for stage, name, key, factor in _ASKED:
        configured = None if own is None else getattr(own, name)
        if configured is None:
            of_runtime = stages[stage]
            configured = of_runtime[key] // factor if key in of_runtime else None
        if configured is None:
            configured = getattr(settings, name)
        most = maxima.get(key, 0) // factor
        if most and configured > most:
            configured = most
        asked = _asked(name, values.get(name), configured)
        if asked > 0:
            limit = _whole(asked, key)
            found[stage][key] = (min(limit, most) if most else limit) * factor
    for name, key in _FIXED:
        for stage, of_runtime in stages.items():
            value = None if own is None else getattr(own, name)
            if value is None:
                value = of_runtime.get(key) or getattr(settings, name)
            if value > 0:
                found[stage][key] = min(value, maxima.get(key, value))
    return found


def _asked(name: str, value: object, configured: int) -> float:
    """The limit that holds; not above 0 where it is the daemon's to say."""
    if not value and not isinstance(value, list | dict):
        return configured
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad(f"If specified, {name} must be a number")
    if configured <= 0:
        return value
    if value > configured:
        raise bad(f"{name} cannot exceed the configured limit of {configured}")
    if value < 0:
        raise bad(f"{name} must be non-negative")
    return value


def _whole(asked: float, key: str) -> int:
    """Rounded up: never to 0, which would be no limit at all."""
    if key == "memory_bytes":
        return math.ceil(asked / _PAGE) * _PAGE
    return math.ceil(asked)


# -- files ---------------------------------------------------------------------------------------


def _is_text(file: Mapping[str, Any]) -> bool:
    return file.get("encoding") not in ("base64", "hex")


def _files(files: list[File], runtime: Runtime) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for index, file in enumerate(files):
        name = _name(file.name or f"file{index}.code", index)
        text = file.encoding not in ("base64", "hex")
        source = text or runtime.language == _ANY_FILE
        entry = {"name": name, "data": _content(file, index), "source": source}
        if name in found:  # The later one is what is there in the end, in the place of the first.
            entry["source"] = source or found[name]["source"]
        found[name] = entry
    return list(found.values())


def _name(name: str, index: int) -> str:
    """The path below the work directory, as Node's path.join would make it."""
    if "/" not in name and name not in (".", ".."):
        return name
    path = posixpath.normpath(f"{_DIRECTORY}/{name}")
    relative = posixpath.relpath(path, _DIRECTORY)
    if relative.startswith(".."):
        raise bad(f'File path "{name}" tries to escape parent directory: {relative}')
    if relative == ".":
        raise bad(f"files[{index}].name must name a file")
    return relative


def _content(file: File, index: int) -> bytes | str:
    if file.encoding == "base64":
        return _base64(file.content, index)
    if file.encoding == "hex":
        try:
            return bytes.fromhex(file.content)
        except ValueError:
            raise bad(f"files[{index}].content is not valid hex") from None
    return file.content


def _base64(text: str, index: int) -> bytes:
    """Both alphabets, with or without padding and white space, as Node takes them."""
    plain = re.sub(r"[\s=]+", "", text).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise bad(f"files[{index}].content is not valid base64") from None
