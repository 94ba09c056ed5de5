"""The JSON of Pythia's API. The schemas in /openapi.json come from these types.

In a request null is what is not given, as in Go: `with_null` describes that.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import NODEFAULT, Meta, Struct

_MOST: Final = 2**31 - 1
Amount = Annotated[int, Meta(ge=1, le=_MOST)]


class PythiaLimits(Struct, frozen=True):
    """What a task may take: seconds, MiB, percent of the memory, bytes."""

    time: Amount = 60
    memory: Amount = 32
    disk: Annotated[int, Meta(ge=1, le=100)] = 50
    output: Amount = 1024


class PythiaTaskCreation(Struct, frozen=True):
    """A new task. `config` of a raw task is `{"taskfs": base64 of a tar, zip or squashfs}`."""

    taskid: str
    environment: str = ""
    type: Literal["raw", "input-output", "unit-testing"] = "raw"
    limits: PythiaLimits = PythiaLimits()
    config: Any = None
    name: str = ""
    authors: list[str] = msgspec.field(default_factory=list)
    description: str = ""


class PythiaTaskEntry(Struct, frozen=True, omit_defaults=True):
    """A task in the list."""

    taskid: str
    name: str = ""
    authors: list[str] = msgspec.field(default_factory=list)
    description: str = ""


class PythiaTask(Struct, frozen=True):
    """One task."""

    taskid: str
    name: str
    authors: list[str]
    description: str
    environment: str
    limits: PythiaLimits


class PythiaEnvironment(Struct, frozen=True):
    """What tasks run in."""

    envid: str
    name: str = ""
    authors: list[str] = msgspec.field(default_factory=list)
    description: str = ""


class PythiaSubmission(Struct, frozen=True):
    """A task to execute. Whether it is asynchronous is in the query; `callback` is for that."""

    tid: str = ""
    input: str = ""
    callback: str = ""


class PythiaResult(Struct, frozen=True):
    """What became of it."""

    tid: str
    status: Literal["success", "timeout", "overflow", "abort", "crash", "error", "fatal"]
    output: str


class PythiaHealth(Struct, frozen=True):
    """Whether tasks can be executed."""

    running: bool


def with_null(kind: type[Struct], name: str = "", **changed: Any) -> type[Struct]:
    """As a request may have it: null, too, for every field that may be left out. `name` is its own,
    `changed` are the types of fields that are described by another one."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        described = changed.get(field.name, field.type)
        if field.required:
            fields.append((field.name, described))
            continue
        factory = field.default_factory
        default = field.default if factory is NODEFAULT else msgspec.field(default_factory=factory)
        fields.append((field.name, described | None, default))
    return msgspec.defstruct(name or kind.__name__, fields, namespace={"__doc__": kind.__doc__})
