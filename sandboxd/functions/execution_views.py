"""The ``execution.*`` methods that look at executions and end them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandboxd.functions import authorise, callers, shown
from sandboxd.functions.executions import wrong_state
from sandboxd.functions.model import Filter
from sandboxd.functions.requests import later
from sandboxd.protocol.errors import LIMIT_EXCEEDED, NOT_FOUND, RequestError, invalid
from sandboxd.protocol.explain import show
from sandboxd.protocol.functions import CANCELLED, STOPPED, ExecutionsResult, OutputResult

if TYPE_CHECKING:
    from sandboxd.connection import Connection
    from sandboxd.functions.authorise import Action, Principal
    from sandboxd.functions.model import EndReason, Execution
    from sandboxd.functions.service import Functions
    from sandboxd.protocol.functions import (
        ExecutionGetManyParams,
        ExecutionGetParams,
        ExecutionInfo,
        ExecutionListParams,
        ExecutionOutputParams,
        ExecutionRef,
        ExecutionWaitParams,
    )

_MAX_SEQUENCE = 2**63 - 1
_IDS_PER_TURN = 25


async def found_execution(
    service: Functions, caller: Principal, action: Action, id: str
) -> Execution:
    """An execution that the caller may do this with. Raises RequestError."""
    try:
        row = await service.opened.store.execution(id, sent=False)
    except RequestError as error:
        if error.code != NOT_FOUND:
            raise
        raise _unknown(id) from None
    if authorise.verdict(caller, action, authorise.of_execution(row)) == "hidden":
        raise _unknown(id)
    authorise.require(caller, action, authorise.of_execution(row), "execution")
    return row


def _unknown(id: str) -> RequestError:
    return RequestError(NOT_FOUND, f"there is no execution {show(id)}")


async def view(
    service: Functions, row: Execution, *, log: bool = False, log_from: int = 0
) -> ExecutionInfo:
    """The execution as it is shown, with its log from a byte on where that is asked for."""
    live = service.opened.executions.find(row.id)
    if not log:
        return shown.execution(row, live)
    if live is not None and row.status != "ended":
        return shown.execution(row, live, bytes(memoryview(live.log)[log_from:]))
    if not row.log_bytes:
        return shown.execution(row, None, b"")
    data = await service.opened.store.log(row.id, log_from)
    return shown.execution(row, None, data)


def get(connection: Connection, msgid: int, params: ExecutionGetParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        row = await found_execution(service, caller, "execution.get", params.id)
        return await view(service, row, log=params.log is True, log_from=params.log_from)

    return later(connection, msgid, answer)


def get_many(connection: Connection, msgid: int, params: ExecutionGetManyParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    return later(connection, msgid, partial(_get_many, service, caller, params.ids))


async def _get_many(service: Functions, caller: Principal, ids: list[str]) -> ExecutionsResult:
    """One answer carries all results, so together they have a limit."""
    most, size = service.config.max_message_bytes, 0
    found: list[ExecutionInfo] = []
    for at in range(0, len(ids), _IDS_PER_TURN):
        rows = await service.opened.store.executions_by_id(ids[at : at + _IDS_PER_TURN])
        size += sum(len(row.result or "") for row in rows)
        if size > most:
            raise RequestError(
                LIMIT_EXCEEDED,
                f"ids: their results are more than {most} bytes; ask for fewer at once",
                {"field": "ids", "maximum": most},
            )
        found += [_shown(service, row) for row in rows if _visible(caller, row)]
    return ExecutionsResult(found)


def _visible(caller: Principal, row: Execution) -> bool:
    return authorise.verdict(caller, "execution.get", authorise.of_execution(row)) == "allowed"


def _shown(service: Functions, row: Execution) -> ExecutionInfo:
    return shown.execution(row, service.opened.executions.find(row.id))


def list_all(connection: Connection, msgid: int, params: ExecutionListParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    authorise.require(caller, "execution.list", authorise.of_list(caller.tenant), "executions")
    return later(connection, msgid, partial(_list, service, caller, params))


async def _list(
    service: Functions, caller: Principal, params: ExecutionListParams
) -> ExecutionsResult:
    if params.name is not None and params.space is None:
        raise invalid("space", "is required with name")
    wanted = Filter(space=params.space, function=params.name, status=params.status)
    rows = await service.opened.store.executions(
        caller.tenant, authorise.narrowed(caller, wanted), _after(params.after), params.limit
    )
    following = str(rows[-1].sequence) if len(rows) == params.limit else None
    return ExecutionsResult([_shown(service, row) for row in rows], following)


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    digits = cursor.isascii() and cursor.isdigit() and len(cursor) <= len(str(_MAX_SEQUENCE))
    if not (digits and 0 < int(cursor) <= _MAX_SEQUENCE):
        raise invalid("after", "must be `next` of the page before")
    return int(cursor)


def wait(connection: Connection, msgid: int, params: ExecutionWaitParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        row = await _waited(service, caller, params.id)
        return await view(service, row, log=params.log is True)

    return later(connection, msgid, answer)


async def _waited(service: Functions, caller: Principal, id: str) -> Execution:
    """The execution when it has ended."""
    live = service.opened.executions.find(id)
    if live is None or not authorise.may_wait(caller, live):
        row = await found_execution(service, caller, "execution.wait", id)
        live = service.opened.executions.find(id)
        if live is None and row.status == "pending" and not row.submitted_ns:
            raise wrong_state(row.status, "it has not been started; start it first")
        if live is None and row.status == "ended":
            return row
    if live is not None:
        await live.over.wait()
        if live.last is not None:
            return live.last
    return await service.opened.store.execution(id, sent=False)


def output(connection: Connection, msgid: int, params: ExecutionOutputParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        row = await found_execution(service, caller, "execution.output", params.id)
        if row.status != "ended":
            raise wrong_state(row.status, "outputs are there when it has ended; wait for that")
        for file in row.outputs:
            if file.id == params.output:
                data = await service.opened.store.content(file.sha256)
                return OutputResult(file.id, file.path, data)
        known = ", ".join(file.id for file in row.outputs[:20]) or "none"
        raise RequestError(
            NOT_FOUND, f"output: it has left no {show(params.output)}; it has left: {known}"
        )

    return later(connection, msgid, answer)


def stop(connection: Connection, msgid: int, params: ExecutionRef) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        row = await found_execution(service, caller, "execution.stop", params.id)
        return await view(service, await _ended(service, row, STOPPED))

    return later(connection, msgid, answer)


async def _ended(service: Functions, row: Execution, reason: EndReason) -> Execution:
    """The execution when it has ended, if need be for that reason."""
    executions = service.opened.executions
    if row.status == "ended":
        return row
    live = executions.find(row.id)
    if live is None and not row.submitted_ns:
        return await executions.end_pending(row.id, reason)
    if live is not None:
        executions.end(live, reason)
        await live.over.wait()
        if live.last is not None:
            return live.last
    return await service.opened.store.execution(row.id, sent=False)


def delete(connection: Connection, msgid: int, params: ExecutionRef) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)

    async def answer() -> object:
        row = await found_execution(service, caller, "execution.delete", params.id)
        await _ended(service, row, CANCELLED)
        return shown.execution(await service.opened.store.delete_execution(row.id))

    return later(connection, msgid, answer)
