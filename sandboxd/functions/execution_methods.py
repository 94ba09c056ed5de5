"""The ``execution.*`` methods that make executions and start them."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from sandboxd.functions import authorise, callers, shown
from sandboxd.functions.definitions import check_call, to_json
from sandboxd.functions.execution_views import found_execution, view
from sandboxd.functions.executions import wrong_state
from sandboxd.functions.large_json import with_json
from sandboxd.functions.model import Execution, ExecutionFile
from sandboxd.functions.prepared import lowered
from sandboxd.functions.requests import go_on, later
from sandboxd.protocol.errors import LIMIT_EXCEEDED, NOT_FOUND, RequestError, invalid
from sandboxd.protocol.explain import show
from sandboxd.protocol.functions import IdsResult, Uploaded
from sandboxd.protocol.jobs import text_or_bytes

if TYPE_CHECKING:
    from sandboxd.connection import Connection
    from sandboxd.functions.authorise import Principal
    from sandboxd.functions.contents import Put
    from sandboxd.functions.live import Live
    from sandboxd.functions.model import Port
    from sandboxd.functions.prepared import Prepared
    from sandboxd.functions.service import Functions
    from sandboxd.protocol.functions import (
        ExecutionCreateParams,
        ExecutionInfo,
        ExecutionRunManyParams,
        ExecutionRunParams,
        ExecutionStartParams,
        ExecutionUploadParams,
        FunctionRef,
    )
    from sandboxd.protocol.models import Limits

# So many calls are checked in one go before others get their turn.
_CALLS_PER_TURN = 200


def create(connection: Connection, msgid: int, params: ExecutionCreateParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        prepared = await _function(service, caller, params)
        row = _new(caller, prepared, params.limits)
        return shown.execution(await service.opened.store.add_execution(row))

    return later(connection, msgid, answer)


async def _function(service: Functions, caller: Principal, params: FunctionRef) -> Prepared:
    """The function that is to be run, which the caller may run."""
    authorise.require_name(caller, params.space, params.name)
    prepared = await service.opened.registry.find((caller.tenant, params.space, params.name))
    what = f"function {params.space}/{params.name}"
    target = authorise.of_function(prepared.function)
    authorise.require(caller, "execution.create", target, what)
    return prepared


def _new(
    caller: Principal,
    prepared: Prepared,
    limits: Limits | None,
    *,
    submitted: bool = False,
    **fields: Any,
) -> Execution:
    function, key, now = prepared.function, caller.key, time.time_ns()
    return Execution(
        id=str(uuid.uuid4()),
        tenant=function.tenant,
        space=function.space,
        function=function.name,
        function_id=function.id,
        revision=function.revision,
        created_ns=now,
        submitted_ns=now if submitted else 0,
        key="" if key is None else key.name,
        key_id=0 if key is None else key.id,
        limits=lowered(callers.limits(key), limits),
        **fields,
    )


# -- uploads -------------------------------------------------------------------------------------


def upload(connection: Connection, msgid: int, params: ExecutionUploadParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_upload, service, caller, params))


async def _upload(service: Functions, caller: Principal, params: ExecutionUploadParams) -> Uploaded:
    data = text_or_bytes(params.data, "data")
    row = await found_execution(service, caller, "execution.upload", params.id)
    if row.status != "pending" or row.submitted_ns:
        raise wrong_state(row.status, "inputs are uploaded before the start; make a new one")
    prepared = await service.opened.registry.of(row)
    port = _input(prepared, params.input, "input")
    others = sum(file.bytes for file in row.inputs if file.id != port.id)
    _require_room(prepared, row.limits, port, len(data), others)
    store = service.opened.store
    async with store.uploads() as put:
        file = ExecutionFile(port.id, port.path, await put(data), len(data))
        await store.add_input(row.id, file)
    return Uploaded(file.id, file.path, file.bytes)


def _input(prepared: Prepared, id: str, field: str) -> Port:
    for port in prepared.function.inputs:
        if port.id == id:
            return port
    known = ", ".join(port.id for port in prepared.function.inputs[:20]) or "none"
    raise RequestError(
        NOT_FOUND,
        f"{field}: the function has no input {show(id)}; it has: {known}",
        {"field": field},
    )


def _require_room(prepared: Prepared, own: Limits, port: Port, size: int, others: int) -> None:
    limits = lowered(prepared.limits, own)
    for name, most, count in (
        ("file_size_bytes", limits.file_size_bytes or 0, size),
        ("disk_bytes", limits.disk_bytes or 0, size + others),
    ):
        if count > most:
            raise RequestError(
                LIMIT_EXCEEDED,
                f"data: {count} bytes with the input {port.id} are more than the limit {name} of"
                f" {most}",
                {"field": "data", "maximum": most},
            )


# -- starting ------------------------------------------------------------------------------------


def start(connection: Connection, msgid: int, params: ExecutionStartParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(
        connection, msgid, partial(_start, service, caller, params, connection.message_bytes)
    )


async def _start(
    service: Functions, caller: Principal, params: ExecutionStartParams, size: int
) -> ExecutionInfo:
    params = await with_json(params, "args", size)
    args = _args(params.args, "args")
    stdin = text_or_bytes(params.stdin, "stdin") if params.stdin else b""
    row = await found_execution(service, caller, "execution.start", params.id)
    if row.status != "pending" or row.submitted_ns:
        raise wrong_state(row.status, "it was started already; make a new one to run it again")
    prepared = await service.opened.registry.of(row)
    check_call(prepared.function.kind, params.args, params.stdin)
    _require_inputs(prepared, {file.id for file in row.inputs})
    executions = service.opened.executions
    # The key that made it is the one that it counts for, whoever starts it.
    key = caller.key if caller.key is not None and caller.key.id == row.key_id else None
    executions.reserve(row.tenant, key)
    if key is None:
        executions.places.add_key(row.key_id)
    try:
        row = await executions.start(row.id, args, stdin)
    except RequestError:
        executions.give_back(row.tenant, row.key_id)
        raise
    return shown.execution(row)


def _args(value: object, field: str) -> str:
    return "" if value is None else to_json(value, field).decode()


def _require_inputs(prepared: Prepared, present: set[str]) -> None:
    missing = [p.id for p in prepared.function.inputs if p.required and p.id not in present]
    if missing:
        raise invalid("inputs", f"{', '.join(missing[:20])} must be uploaded before the start")


def run(connection: Connection, msgid: int, params: ExecutionRunParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    size = connection.message_bytes

    async def answer() -> object:
        row = await _run(service, caller, await with_json(params, "args", size))
        if not params.wait:
            return shown.execution(row)
        # What it was given is stored, and need not be kept here until it has ended.
        live = service.opened.executions.find(row.id)
        log = params.log is True
        return go_on(connection, msgid, partial(_run_to_end, service, row.id, live, log=log))

    return later(connection, msgid, answer)


async def _run(service: Functions, caller: Principal, params: ExecutionRunParams) -> Execution:
    args = _args(params.args, "args")
    stdin = text_or_bytes(params.stdin, "stdin") if params.stdin else b""
    prepared = await _function(service, caller, params)
    check_call(prepared.function.kind, params.args, params.stdin)
    async with service.opened.store.uploads() as put:
        inputs = await _uploaded(put, prepared, params)
        row = _new(
            caller, prepared, params.limits, submitted=True, args=args, stdin=stdin, inputs=inputs
        )
        (row,) = await _add(service, caller, [row], params.client or "")
    return row


async def _run_to_end(
    service: Functions, id: str, live: Live | None, *, log: bool
) -> ExecutionInfo:
    row = None
    if live is not None:
        await live.over.wait()
        row = live.last
    if row is None:
        row = await service.opened.store.execution(id, sent=False)
    return await view(service, row, log=log)


async def _uploaded(
    put: Put, prepared: Prepared, params: ExecutionRunParams
) -> tuple[ExecutionFile, ...]:
    given = params.inputs or {}
    _require_inputs(prepared, set(given))
    files: list[ExecutionFile] = []
    for id, value in given.items():
        field = f"inputs[{show(id)}]"
        port = _input(prepared, id, field)
        data = text_or_bytes(value, field)
        limits = lowered(callers.limits(None), params.limits)
        _require_room(prepared, limits, port, len(data), sum(file.bytes for file in files))
        files.append(ExecutionFile(port.id, port.path, await put(data), len(data)))
    return tuple(files)


async def _add(
    service: Functions, caller: Principal, rows: list[Execution], client: str = ""
) -> list[Execution]:
    executions = service.opened.executions
    key_id = 0 if caller.key is None else caller.key.id
    executions.reserve(caller.tenant, caller.key, len(rows))
    try:
        return await executions.add(rows, client)
    except RequestError:
        executions.give_back(caller.tenant, key_id, len(rows))
        raise


def run_many(connection: Connection, msgid: int, params: ExecutionRunManyParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(
        connection, msgid, partial(_run_many, service, caller, params, connection.message_bytes)
    )


async def _run_many(
    service: Functions, caller: Principal, params: ExecutionRunManyParams, size: int
) -> IdsResult:
    params = await with_json(params, "calls", size)
    prepared = await _function(service, caller, params)
    _require_inputs(prepared, set())
    rows = []
    for n, value in enumerate(params.calls):
        check_call(prepared.function.kind, value, None, f"calls[{n}]")
        args = _args(value, f"calls[{n}]")
        rows.append(_new(caller, prepared, params.limits, submitted=True, args=args))
        if n % _CALLS_PER_TURN == _CALLS_PER_TURN - 1:
            await trio.lowlevel.checkpoint()
    if rows:
        rows = await _add(service, caller, rows)
    return IdsResult([row.id for row in rows])
