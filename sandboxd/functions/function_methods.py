"""The ``function.*`` methods, but `function.call`."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from msgspec import structs

from sandboxd.functions import authorise, callers, checking, definitions, shown, tasks
from sandboxd.functions.model import Function, StoredFile
from sandboxd.functions.requests import later
from sandboxd.protocol.errors import INVALID_ARGUMENT, RequestError
from sandboxd.protocol.functions import CANCELLED, FunctionsResult

if TYPE_CHECKING:
    from typing import TypeVar

    from sandboxd.connection import Connection
    from sandboxd.functions.authorise import Action, Principal
    from sandboxd.functions.contents import Put
    from sandboxd.functions.definitions import Upload
    from sandboxd.functions.model import Key, Kind
    from sandboxd.functions.service import Functions
    from sandboxd.protocol.functions import (
        FunctionCreateParams,
        FunctionFields,
        FunctionGetParams,
        FunctionInfo,
        FunctionListParams,
        FunctionRef,
        FunctionUpdateParams,
    )

    Fields = TypeVar("Fields", bound=FunctionFields)

# A change of one of these makes another program of it.
_PROGRAM = frozenset(
    {"kind", "code", "language", "version", "command", "environment", "env", "files", "limits"}
    | {"inputs", "outputs"}
)


def create(connection: Connection, msgid: int, params: FunctionCreateParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_create, service, caller, params))


async def _create(
    service: Functions, caller: Principal, params: FunctionCreateParams
) -> FunctionInfo:
    definitions.check_name(params.name, "name")
    definitions.check_name(params.space, "space")
    named = Function(tenant=caller.tenant, space=params.space, name=params.name, kind=params.kind)
    _require(caller, "function.create", named)
    params = await _expanded(service, caller, params, params.kind)
    definition = definitions.check(params, params.kind, complete=True)
    now = time.time_ns()
    function = Function(
        tenant=caller.tenant,
        space=params.space,
        name=params.name,
        kind=params.kind,
        created_ns=now,
        updated_ns=now,
        **definition.changes,
    )
    store = service.opened.store
    async with store.uploads() as put:
        if definition.files:
            function = structs.replace(function, files=await _put(put, definition.files))
        await checking.check(service, function, code=params.check is not False)
        stored = await store.add_function(function)
    service.opened.registry.forget((stored.tenant, stored.space, stored.name))
    return shown.function(stored, full=True)


async def _expanded(service: Functions, caller: Principal, params: Fields, kind: Kind) -> Fields:
    memory_bytes = service.config.limits.memory_bytes
    return await tasks.expand(service.state, caller, params, kind, memory_bytes)


async def _put(put: Put, uploads: tuple[Upload, ...]) -> tuple[StoredFile, ...]:
    return tuple(
        [StoredFile(file.path, file.mode, await put(file.data), len(file.data)) for file in uploads]
    )


def update(connection: Connection, msgid: int, params: FunctionUpdateParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_update, service, caller, params))


async def _update(
    service: Functions, caller: Principal, params: FunctionUpdateParams
) -> FunctionInfo:
    opened = service.opened
    old = await opened.store.function(caller.tenant, params.space, params.name)
    _require(caller, "function.update", old)
    kind = params.kind or old.kind
    params = await _expanded(service, caller, params, kind)
    definition = definitions.check(params, kind, complete=kind != old.kind)
    changes: dict[str, Any] = definitions.cleared(kind) if kind != old.kind else {}
    kept = definitions.fitting(kind, old.files)
    if kept != old.files:
        changes["files"] = kept
    changes |= {**definition.changes, "kind": kind}
    if params.new_name is not None:
        changes["name"] = definitions.check_name(params.new_name, "new_name")
    async with opened.store.uploads() as put:
        if definition.files is not None:
            changes["files"] = await _put(put, definition.files)
        new = structs.replace(old, **changes)
        if _PROGRAM & changes.keys():
            code = params.check is not False and (params.code is not None or kind != old.kind)
            await checking.check(service, new, code=code)
        changes["updated_ns"] = time.time_ns()
        stored = await opened.store.change_function(old.tenant, old.space, old.name, changes)
    opened.registry.forget((old.tenant, old.space, old.name))
    opened.registry.forget((stored.tenant, stored.space, stored.name))
    return shown.function(stored, full=True)


def get(connection: Connection, msgid: int, params: FunctionGetParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_get, service, caller, params))


async def _get(service: Functions, caller: Principal, params: FunctionGetParams) -> FunctionInfo:
    found = await service.opened.store.function(caller.tenant, params.space, params.name)
    full = authorise.verdict(caller, "function.get", authorise.of_function(found)) == "allowed"
    if not full:
        _require(caller, "function.info", found)
    return shown.function(found, full=full, code=params.code)


def list_all(connection: Connection, msgid: int, params: FunctionListParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    authorise.require(caller, "function.list", authorise.of_list(caller.tenant), "functions")
    return later(connection, msgid, partial(_list, service, caller, params))


async def _list(
    service: Functions, caller: Principal, params: FunctionListParams
) -> FunctionsResult:
    key, space = caller.key, params.space
    if key is not None and key.role == "master":
        return await _own(service, key, params)
    if key is not None and key.role == "manage" and key.space is not None:
        if space not in (None, key.space):
            return FunctionsResult([])
        space = key.space
    items = await service.opened.store.functions(
        caller.tenant, space, params.kind, _after(params.after), params.limit
    )
    following = None
    if len(items) == params.limit or (items and items[-1].cut):
        following = f"{items[-1].space}/{items[-1].name}"
    return FunctionsResult([shown.function_item(item) for item in items], following)


async def _own(service: Functions, key: Key, params: FunctionListParams) -> FunctionsResult:
    """The list of a key that is bound to one function."""
    try:
        found = await service.opened.store.function(
            key.tenant, key.function_space, key.function_name
        )
    except RequestError:  # Deleted.
        return FunctionsResult([])
    wanted = params.space in (None, found.space) and params.kind in (None, found.kind)
    if found.id != key.function_id or not wanted or params.after is not None:
        return FunctionsResult([])
    return FunctionsResult([shown.function(found, full=False)])


def _after(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return ("", "")
    space, slash, name = cursor.partition("/")
    if not slash:
        raise RequestError(
            INVALID_ARGUMENT, "after: must be `next` of the page before", {"field": "after"}
        )
    return (space, name)


def delete(connection: Connection, msgid: int, params: FunctionRef) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_delete, service, caller, params))


async def _delete(service: Functions, caller: Principal, params: FunctionRef) -> FunctionInfo:
    opened = service.opened
    found = await opened.store.function(caller.tenant, params.space, params.name)
    _require(caller, "function.delete", found)
    with trio.CancelScope(shield=True):  # What is stored must also be done.
        deleted, ended = await opened.store.delete_function(
            caller.tenant, params.space, params.name, time.time_ns()
        )
        opened.registry.forget((deleted.tenant, deleted.space, deleted.name))
        opened.executions.end_all(ended, CANCELLED)
    return shown.function(deleted, full=True, code=False)


def _require(caller: Principal, action: Action, function: Function) -> None:
    what = f"function {function.space}/{function.name}"
    authorise.require(caller, action, authorise.of_function(function), what)
