"""The ``runtime.*`` methods: source files and a language in, a job of its runtime out.

A language whose tool is as it was costs a lookup more than ``job.run``. Where it has to be looked
at first, a task of the connection does that and goes on with the request.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from sandboxd.client_jobs import Answer, shaped
from sandboxd.config import Config
from sandboxd.connection import LATER, Connection
from sandboxd.engine.job import NO_STDIO, Job, Outcome, Stdio
from sandboxd.later import later
from sandboxd.passed import stdio_from
from sandboxd.protocol.errors import BUSY, RequestError
from sandboxd.protocol.models import NoParams
from sandboxd.protocol.runtimes import ANY_VERSION, ExecuteParams, RuntimesResult
from sandboxd.runtimes.plan import Plan
from sandboxd.runtimes.request import job_spec

# A tool says its version within a second or so.
_RETRY_NS: Final = 1_000_000_000

Submit = Callable[[ExecuteParams, Plan, Stdio], object]


class Looking:
    """The requests that wait until it is known what there is of a language. They are kept whole,
    with their descriptors, so there may be as many as may wait for a place, and no more."""

    def __init__(self, config: Config) -> None:
        self.count = 0
        self._config = config
        self._bytes = 0
        self._by_tenant: Counter[int] = Counter()

    def enter(self, tenant: int, size: int) -> None:
        """Raises RequestError `busy`; else `leave` must be called with the same."""
        config = self._config
        too_large = self.count and self._bytes + size > config.queue_bytes
        if too_large or self.count >= config.queue_length:
            raise _busy("the queue is full")
        if self._by_tenant[tenant] >= config.queue_per_tenant:
            raise _busy("your share of the queue is full")
        self.count += 1
        self._bytes += size
        self._by_tenant[tenant] += 1

    def leave(self, tenant: int, size: int) -> None:
        self.count -= 1
        self._bytes -= size
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]


def _busy(why: str) -> RequestError:
    message = f"{why} while it is found out what there is of the language; try again in 1 s"
    return RequestError(BUSY, message, {"retry_after_ns": _RETRY_NS})


def list_runtimes(connection: Connection, msgid: int, params: NoParams) -> object:
    connection.peer.require_run()

    async def answer() -> object:
        return RuntimesResult(await connection.server.runtimes.infos())

    return later(connection, msgid, answer)


def execute(connection: Connection, msgid: int, params: ExecuteParams) -> object:
    return _with_plan(connection, msgid, params, partial(_execute, connection, msgid))


def start(connection: Connection, msgid: int, params: ExecuteParams) -> object:
    return _with_plan(connection, msgid, params, partial(_start, connection))


def _with_plan(connection: Connection, msgid: int, params: ExecuteParams, submit: Submit) -> object:
    connection.peer.require_run()
    plan = connection.server.runtimes.find(params.language, params.version or ANY_VERSION)
    # The descriptors are there as long as this request is looked at, and no longer.
    stdio = stdio_from(connection.passed, params.fds) if params.fds is not None else NO_STDIO
    if plan is not None:
        return submit(params, plan, stdio)
    size = connection.message_bytes
    try:
        connection.server.looking.enter(connection.peer.uid, size)
    except RequestError:
        stdio.close()
        raise
    settled = partial(_settle, connection, params, submit, stdio, size)
    return later(connection, msgid, settled)


async def _settle(
    connection: Connection, params: ExecuteParams, submit: Submit, stdio: Stdio, size: int
) -> object:
    """Find out what there is of the language, then go on with the request."""
    runtimes = connection.server.runtimes
    try:
        await runtimes.settle(params.language)
        plan = runtimes.choose(params.language, params.version or ANY_VERSION)
    except BaseException:
        stdio.close()
        raise
    finally:
        connection.server.looking.leave(connection.peer.uid, size)
    return submit(params, plan, stdio)


def _execute(
    connection: Connection, msgid: int, params: ExecuteParams, plan: Plan, stdio: Stdio
) -> object:
    job = _admit(connection, params, plan, stdio, started=False)
    job.done = partial(_executed, connection, job, msgid, plan)
    connection.jobs.submit(job)
    return LATER


def _executed(connection: Connection, job: Job, msgid: int, plan: Plan, outcome: Outcome) -> None:
    connection.jobs.live.discard(job)
    connection.answer(msgid, shaped(plan, outcome))


def _start(connection: Connection, params: ExecuteParams, plan: Plan, stdio: Stdio) -> object:
    job = _admit(connection, params, plan, stdio, started=True)
    shape: Callable[[Outcome], Answer] = partial(shaped, plan)
    token = connection.jobs.start_job(job, shape).token
    return {"job": token, "language": plan.runtime.language, "version": plan.runtime.version}


def _admit(
    connection: Connection, params: ExecuteParams, plan: Plan, stdio: Stdio, *, started: bool
) -> Job:
    """The job, which owns ``stdio`` from now on; so does this when it raises."""
    try:
        job = connection.jobs.admit(job_spec(plan, params, started=started), stdio=stdio)
    except RequestError as error:
        stdio.close()
        raise _renamed(error) from None
    job.held = plan.runtime.use
    return job


def _renamed(error: RequestError) -> RequestError:
    """A job's own limits are here those of the stage `run`."""
    field = error.data.get("field")
    if not isinstance(field, str) or not field.startswith("limits."):
        return error
    return RequestError(error.code, f"run.{error.message}", {**error.data, "field": f"run.{field}"})
