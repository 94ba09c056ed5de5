"""The JSON of PIFOP's API. The schemas in /openapi.json come from these types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1024 * 1024
_SECOND = 1_000_000_000

Date = Annotated[str, Meta(description="UTC, as in 2026-01-31T12:00:00.000Z")]


class PifopPort(Struct, frozen=True):
    """An input or output of a function."""

    id: str
    path: str
    name: str
    required: bool | UnsetType = UNSET


class PifopFunction(Struct, frozen=True):
    """A function. `input` and `output` are always there."""

    author: str
    id: str
    func_author: str
    func_id: str
    title: str
    description: str
    input: list[PifopPort]
    output: list[PifopPort]


class PifopFile(Struct, frozen=True):
    """An input that was uploaded or an output that was generated."""

    id: str
    path: str
    size: int


class PifopExecution(Struct, frozen=True):
    """An execution. `log` and `stdout` are there when they were asked for."""

    id: str
    func_author: str
    func_id: str
    status: Annotated[str, Meta(description="pending, running or ended")]
    end_reason: Annotated[
        str | None,
        Meta(
            description="normal, out-of-memory or timeout; also output-limit, stopped, cancelled, "
            "interrupted, error"
        ),
    ]
    init_date: Date
    start_date: Date | None
    end_date: Date | None
    exit_code: int | None
    message: str
    input: list[PifopFile]
    output: list[PifopFile]
    log: str | UnsetType = UNSET
    stdout: str | UnsetType = UNSET


class PifopApiKey(Struct, frozen=True):
    """A key. The secret, `key`, is shown once: in the answer of the request that made it."""

    name: str
    key_name: str
    func_author: str
    func_id: str
    creation_date: Date
    max_memory: Annotated[float | None, Meta(description="MB, of 1048576 bytes; null: no limit")]
    max_time: Annotated[float | None, Meta(description="seconds; null: no limit")]
    max_executions: int | None
    key: str | UnsetType = UNSET


class PifopError(Struct, frozen=True):
    """Every error."""

    errorMessage: str


def function(info: Mapping[str, Any]) -> PifopFunction:
    """From the daemon's description of a function."""
    metadata = info.get("metadata") or {}
    author, name = info["space"], info["name"]
    return PifopFunction(
        author,
        name,
        author,
        name,
        str(metadata.get("title") or name),
        str(metadata.get("description") or ""),
        [_port(port, required=bool(port.get("required", True))) for port in info["inputs"]],
        [_port(port) for port in info["outputs"]],
    )


def _port(port: Mapping[str, Any], required: bool | UnsetType = UNSET) -> PifopPort:
    return PifopPort(port["id"], port["path"], port.get("name") or port["id"], required)


def execution(
    info: Mapping[str, Any], *, log: bool = False, stdout: bytes | None = None
) -> PifopExecution:
    """From the daemon's description of an execution.

    One that was started and waits for its turn is `running`: PIFOP's clients take `pending` for
    "not started yet" and would ask no more.
    """
    status = info["status"]
    if status == "pending" and info.get("submitted_ns"):
        status = "running"
    return PifopExecution(
        info["id"],
        info["space"],
        info["function"],
        status,
        info["end_reason"] or None,
        _date(info["created_ns"]) or "",
        _date(info.get("submitted_ns") or info["started_ns"]),
        _date(info["ended_ns"]),
        info["exit_code"],
        info["message"],
        [file(each) for each in info["inputs"]],
        [file(each) for each in info["outputs"]],
        _text(info["log"]) if log else UNSET,
        UNSET if stdout is None else _text(stdout),
    )


def file(info: Mapping[str, Any]) -> PifopFile:
    """From the daemon's description of an input or output that is there."""
    return PifopFile(info["id"], info["path"], info["bytes"])


def api_key(info: Mapping[str, Any], name: str) -> PifopApiKey:
    """From the daemon's description of a key, which is shown as `name`."""
    memory, time_ns = info["max_memory_bytes"], info["max_time_ns"]
    return PifopApiKey(
        name,
        name,
        info["space"] or "",
        info["function"] or "",
        _date(info["created_ns"]) or "",
        memory / _MIB if memory else None,
        time_ns / _SECOND if time_ns else None,
        info["max_executions"] or None,
        info.get("secret") or UNSET,
    )


def _date(time_ns: int | None) -> str | None:
    if not time_ns:
        return None
    seconds, rest = divmod(time_ns, _SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest // 1_000_000:03}Z"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
