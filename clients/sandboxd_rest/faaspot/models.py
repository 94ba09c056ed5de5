"""What is on the wire, by FaaSpot's names."""

from __future__ import annotations

from typing import Any

import msgspec


class FaaspotCreateRequest(msgspec.Struct):
    """A new function. `code` and `context` may be percent-encoded UTF-8."""

    name: str
    code: str
    context: str | None = None


class FaaspotUpdateRequest(msgspec.Struct):
    """What is to change of a function; `name` is its new name."""

    name: str | None = None
    code: str | None = None
    context: str | None = None


class FaaspotFunctionEntry(msgspec.Struct):
    """A function in the list."""

    name: str
    runner_url: str
    application: str
    created: str
    updated: str


class FaaspotFunction(FaaspotFunctionEntry):
    """A function. `code` is percent-encoded UTF-8; of the context there are only the names."""

    code: str
    context: list[str]


class FaaspotExecution(msgspec.Struct):
    """One run of a function, or what came of a change. `output` is what the function returned, any
    JSON value; of a failure a text that says what went wrong."""

    uuid: str
    name: str
    status: str
    created: str
    output: Any


class FaaspotNode(msgspec.Struct):
    """The host."""

    ip: str
    created: str


class FaaspotError(msgspec.Struct, omit_defaults=True):
    """Why a request failed. `detail` is `message` once more."""

    message: str
    detail: str
    error_code: str
    server_traceback: str = ""
