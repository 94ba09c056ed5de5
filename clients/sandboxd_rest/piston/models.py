"""The JSON of Piston's API. The schemas in /openapi.json come from these types."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Name = Annotated[str, Meta(min_length=1)]

# Piston takes any falsy value for "the configured limit"; of the others only numbers are right.
_LIMIT_SCHEMA: Final = {"anyOf": [{"type": "number"}, {"enum": [None, False, ""]}]}
Limit = Annotated[Any, Meta(extra_json_schema=_LIMIT_SCHEMA)]


class File(Struct, frozen=True):
    """A file of the program. The first one whose encoding is utf8 is the main one."""

    content: str
    name: str | None = None
    encoding: Annotated[
        Any, Meta(description="utf8, base64 or hex; anything else is taken for utf8")
    ] = "utf8"


class ExecuteRequest(Struct, frozen=True):
    """A program. Times in milliseconds, sizes in bytes; 0, false, "" and null: what is
    configured."""

    language: Name
    version: Name
    files: list[File]
    stdin: str = ""
    args: list[str] = msgspec.field(default_factory=list)
    compile_memory_limit: Limit = None
    run_memory_limit: Limit = None
    compile_timeout: Limit = None
    run_timeout: Limit = None
    compile_cpu_time: Limit = None
    run_cpu_time: Limit = None


class StageResult(Struct, frozen=True):
    """What became of a stage."""

    signal: str | None
    stdout: str
    stderr: str
    code: int | None
    output: str
    memory: int | None
    message: str | None
    status: Annotated[
        str | None, Meta(description="RE, SG, TO, OL, EL, XX; null when all went well")
    ]
    cpu_time: float | None
    wall_time: float | None


class ExecuteResponse(Struct, frozen=True, omit_defaults=True):
    """What became of a program; `run` equals `compile` when that failed."""

    run: StageResult
    language: str
    version: str
    compile: StageResult | UnsetType = UNSET


class RuntimeEntry(Struct, frozen=True):
    """A language that can be used."""

    language: str
    version: str
    aliases: list[str]
    runtime: str | UnsetType = UNSET


class PackageEntry(Struct, frozen=True):
    """A package that is, or could be, installed."""

    language: str
    language_version: str
    installed: bool


class PackageRequest(Struct, frozen=True):
    """A package, by a range of versions."""

    language: Name
    version: Name


class PackageResponse(Struct, frozen=True):
    """The package that was chosen."""

    language: str
    version: str


class Message(Struct, frozen=True):
    """Every error, and the answer of `/`."""

    message: str
