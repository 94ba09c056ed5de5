"""The ``key.*`` methods."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec import structs

from sandboxd.functions import authorise, callers, definitions, shown
from sandboxd.functions.model import BOUND_ROLES, Key
from sandboxd.functions.requests import later
from sandboxd.protocol.errors import NOT_FOUND, RequestError, invalid
from sandboxd.protocol.functions import DEFAULT_SPACE, KeysResult

if TYPE_CHECKING:
    from sandboxd.connection import Connection
    from sandboxd.functions.authorise import Principal
    from sandboxd.functions.service import Functions
    from sandboxd.protocol.functions import KeyCreateParams, KeyInfo, KeyListParams, KeyRef


def create(connection: Connection, msgid: int, params: KeyCreateParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    return later(connection, msgid, partial(_create, service, caller, params))


async def _create(service: Functions, caller: Principal, params: KeyCreateParams) -> KeyInfo:
    key = Key(
        tenant=caller.tenant,
        name=definitions.check_name(params.name, "name"),
        role=params.role,
        max_memory_bytes=params.max_memory_bytes or 0,
        max_time_ns=params.max_time_ns or 0,
        max_executions=params.max_executions or 0,
        created_ns=time.time_ns(),
    )
    if params.role in BOUND_ROLES:
        key = await _bound(service, caller, params, key)
    elif params.function is not None:
        raise invalid("function", f"is not for keys with the role {params.role}")
    elif params.space is not None:
        if params.role == "admin":
            raise invalid("space", "is not for keys with the role admin, which reach every space")
        key = structs.replace(key, space=definitions.check_name(params.space, "space"))
    authorise.require(caller, "key.create", authorise.of_key(key), f"key {key.name}")
    stored, secret = await service.opened.store.add_key(authorise.inherited(caller, key))
    return shown.key(stored, secret)


async def _bound(service: Functions, caller: Principal, params: KeyCreateParams, key: Key) -> Key:
    """The key for its function, which is the maker's own where none is named."""
    maker = caller.key
    space, name = params.space or DEFAULT_SPACE, params.function
    if name is None and maker is not None and maker.function_id:
        space, name = maker.function_space, maker.function_name
    if name is None:
        raise invalid("function", f"is required for a key with the role {params.role}")
    found = await service.opened.store.function(caller.tenant, space, name)
    target = authorise.of_function(found)
    authorise.require(caller, "function.info", target, f"function {space}/{name}")
    return structs.replace(
        key, function_id=found.id, function_space=found.space, function_name=found.name
    )


def list_all(connection: Connection, msgid: int, params: KeyListParams) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    authorise.require(caller, "key.list", authorise.of_list(caller.tenant), "keys")

    async def answer() -> object:
        keys = await service.opened.store.keys(caller.tenant)
        return KeysResult([shown.key(key) for key in keys if _visible(caller, key)])

    return later(connection, msgid, answer)


def _visible(caller: Principal, key: Key) -> bool:
    return authorise.verdict(caller, "key.list", authorise.of_key(key)) == "allowed"


def delete(connection: Connection, msgid: int, params: KeyRef) -> object:
    service = connection.server.functions
    caller = callers.principal(connection, params)
    authorise.require(caller, "key.list", authorise.of_list(caller.tenant), "keys")
    return later(connection, msgid, partial(_delete, service, caller, params.name))


async def _delete(service: Functions, caller: Principal, name: str) -> KeyInfo:
    opened = service.opened
    for key in await opened.store.keys(caller.tenant):
        if key.name == name:
            authorise.require(caller, "key.delete", authorise.of_key(key), f"key {name}")
            break
    else:
        raise RequestError(NOT_FOUND, f"there is no key {name}")
    with trio.CancelScope(shield=True):  # What is stored must also be done.
        deleted = await opened.store.delete_key(caller.tenant, name, time.time_ns())
        opened.executions.key_deleted(deleted)
    return shown.key(deleted)
