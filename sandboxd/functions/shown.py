"""Functions, executions and keys as a client is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from sandboxd.protocol.functions import (
    CallError,
    ExecutionInfo,
    FileInfo,
    FunctionInfo,
    InputInfo,
    KeyInfo,
    OutputInfo,
    Uploaded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxd.functions.live import Live
    from sandboxd.functions.model import (
        Execution,
        ExecutionFile,
        Failure,
        Function,
        FunctionItem,
        Key,
    )


def function(found: Function, *, full: bool, code: bool = True) -> FunctionInfo:
    """``full``: for who may see what it is made of. The values of its context are for nobody."""
    return FunctionInfo(
        space=found.space,
        name=found.name,
        kind=found.kind,
        revision=found.revision,
        created_ns=found.created_ns,
        updated_ns=found.updated_ns,
        inputs=tuple([InputInfo(p.id, p.path, p.name, p.required) for p in found.inputs]),
        outputs=tuple([OutputInfo(p.id, p.path, p.name) for p in found.outputs]),
        limits=found.limits,
        language=found.language,
        version=found.version,
        environment=found.environment,
        metadata=found.metadata,
        command=found.command if full else UNSET,
        env=found.env if full else UNSET,
        files=tuple([FileInfo(f.path, f.mode, f.sha256, f.bytes) for f in found.files])
        if full
        else UNSET,
        context=tuple(sorted(found.context)) if full else UNSET,
        code=found.code if full and code else UNSET,
    )


def function_item(item: FunctionItem) -> FunctionInfo:
    """A function in a list."""
    return FunctionInfo(
        space=item.space,
        name=item.name,
        kind=item.kind,
        revision=item.revision,
        created_ns=item.created_ns,
        updated_ns=item.updated_ns,
        language=item.language,
        version=item.version,
        environment=item.environment,
        metadata=item.metadata,
    )


def execution(row: Execution, live: Live | None = None, log: bytes | None = None) -> ExecutionInfo:
    """``live``: where it has not ended yet."""
    log_bytes, truncated = row.log_bytes, row.log_truncated
    if live is not None and row.status != "ended":
        log_bytes, truncated = len(live.log), live.log_truncated
    return ExecutionInfo(
        id=row.id,
        space=row.space,
        function=row.function,
        revision=row.revision,
        status=row.status,
        created_ns=row.created_ns,
        end_reason=row.end_reason or None,
        submitted_ns=row.submitted_ns or None,
        started_ns=row.started_ns or None,
        ended_ns=row.ended_ns or None,
        job_status=row.job_status or None,
        exit_code=row.exit_code,
        signal=row.signal,
        message=row.message,
        cpu_time_ns=row.cpu_time_ns,
        wall_time_ns=row.wall_time_ns,
        memory_bytes=row.memory_bytes,
        result=row.result,
        error=_error(row.error),
        inputs=files(row.inputs),
        outputs=files(row.outputs),
        key=row.key or None,
        log_bytes=log_bytes,
        log_truncated=truncated,
        log=UNSET if log is None else log,
    )


def files(found: Iterable[ExecutionFile]) -> tuple[Uploaded, ...]:
    return tuple([Uploaded(file.id, file.path, file.bytes) for file in found])


def _error(failure: Failure | None) -> CallError | None:
    if failure is None:
        return None
    return CallError(failure.kind, failure.type, failure.message, failure.traceback)


def key(found: Key, secret: str | None = None) -> KeyInfo:
    bound = bool(found.function_id)
    return KeyInfo(
        name=found.name,
        role=found.role,
        created_ns=found.created_ns,
        space=found.function_space if bound else found.space,
        function=found.function_name if bound else None,
        max_memory_bytes=found.max_memory_bytes or None,
        max_time_ns=found.max_time_ns or None,
        max_executions=found.max_executions or None,
        secret=UNSET if secret is None else secret,
    )
