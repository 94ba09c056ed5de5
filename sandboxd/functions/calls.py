"""``function.call``: a function is run for who waits for it, and nothing is kept.

Of a function that is in use this reads no disk, makes no task and changes no thread.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sandboxd.connection import LATER
from sandboxd.functions import authorise, callers, outcome
from sandboxd.functions.definitions import check_call, to_json
from sandboxd.functions.large_json import is_large, with_json
from sandboxd.functions.prepared import Call, lowered
from sandboxd.functions.requests import later
from sandboxd.protocol.errors import RequestError, invalid
from sandboxd.protocol.jobs import text_or_bytes

if TYPE_CHECKING:
    from sandboxd.connection import Connection
    from sandboxd.engine.job import Job, Outcome
    from sandboxd.functions.authorise import Principal
    from sandboxd.functions.places import Places
    from sandboxd.functions.prepared import Prepared
    from sandboxd.protocol.functions import FunctionCallParams


class _KeyUse:
    """What a job holds that is run with a key: one of the key's places."""

    __slots__ = ("_inner", "_job", "_key_id", "_places")

    def __init__(self, places: Places, key_id: int, job: Job) -> None:
        self._places = places
        self._key_id = key_id
        self._job: Job | None = job
        self._inner = job.held

    def hold(self) -> None:
        self._places.add_key(self._key_id)
        if self._job is not None:
            self._places.add_call(self._key_id, self._job)
        if self._inner is not None:
            self._inner.hold()

    def release(self) -> None:
        self._places.leave_key(self._key_id)
        job, self._job = self._job, None  # The job holds this: no circle may stay.
        if job is not None:
            self._places.leave_call(self._key_id, job)
        if self._inner is not None:
            self._inner.release()


def call(connection: Connection, msgid: int, params: FunctionCallParams) -> object:
    caller = callers.principal(connection, params)
    authorise.require_name(caller, params.space, params.name)
    registry = connection.server.functions.opened.registry
    name = (caller.tenant, params.space, params.name)
    size = connection.message_bytes
    prepared = None if is_large(size) else registry.kept(name)
    if prepared is not None:
        return _call(connection, msgid, caller, params, prepared)

    async def found() -> object:
        whole = await with_json(params, "args", size)
        return _call(connection, msgid, caller, whole, await registry.find(name))

    return later(connection, msgid, found)


def _call(
    connection: Connection,
    msgid: int,
    caller: Principal,
    params: FunctionCallParams,
    prepared: Prepared,
) -> object:
    function = prepared.function
    what = f"function {function.space}/{function.name}"
    authorise.require(caller, "function.call", authorise.of_function(function), what)
    if any(port.required for port in function.inputs):
        raise invalid("name", "the function has required inputs; use execution.run")
    check_call(function.kind, params.args, params.stdin)
    key, allowed, limits = caller.key, None, params.limits
    if key is not None:
        allowed = callers.limits(key)
        limits = lowered(allowed, limits)
    log = params.log is True
    asked = Call(
        args=b"null" if params.args is None else to_json(params.args, "args"),
        stdin=text_or_bytes(params.stdin, "stdin") if params.stdin else b"",
        limits=limits,
        key_limits=allowed,
        # Who has a key may not make more lines of the queue by more names.
        client=(params.client or "") if key is None else key.name,
        output=log,
        collect=False,
    )
    jobs = connection.jobs
    job = jobs.admit(prepared.spec(asked), tenant=caller.tenant)
    job.held = None if prepared.plan is None else prepared.plan.runtime.use
    if key is not None:
        places = connection.server.functions.opened.executions.places
        places.require_key(key)
        job.held = _KeyUse(places, key.id, job)
    job.done = partial(_called, connection, job, msgid, prepared, log)
    jobs.submit(job)
    return LATER


def _called(
    connection: Connection, job: Job, msgid: int, prepared: Prepared, log: bool, ended: Outcome
) -> None:
    connection.jobs.live.discard(job)
    if isinstance(ended, RequestError):
        connection.answer(msgid, ended)
        return
    end = outcome.read(prepared.function.kind, ended)
    connection.answer(msgid, outcome.call_result(end, log=log))
