"""Whether a function can be run, before it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from msgspec import UNSET

from sandboxd.functions import python_call
from sandboxd.functions.prepared import Call
from sandboxd.protocol import status
from sandboxd.protocol.errors import INTERNAL, INVALID_ARGUMENT, RequestError, invalid
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage
from sandboxd.protocol.limits import LimitPolicy
from sandboxd.protocol.models import Limits, Result

if TYPE_CHECKING:
    from sandboxd.functions.model import Function
    from sandboxd.functions.service import Functions

# Much, for a parser: the source of a function is some kilobytes.
_LIMITS: Final = Limits(cpu_time_ns=5_000_000_000, wall_time_ns=10_000_000_000)
_ANSWER_BYTES: Final = 128 * 1024


async def check(service: Functions, function: Function, *, code: bool) -> None:
    """Raises RequestError for what would refuse every one of its executions: limits above the most
    allowed, an environment or language that is not there, files that do not fit; and, with
    ``code``, for Python source that does not parse or has no main."""
    config = service.config
    LimitPolicy(config.limits, config.max_limits).resolve(function.limits, "limits")
    if function.kind == "task" and not code:
        return  # A task may be malformed: each execution says so.
    prepared = await service.opened.registry.prepare(function)
    service.engine.admit(prepared.spec(Call()), function.tenant)
    if code and function.kind == "python":
        await _check_python(service, function)


async def _check_python(service: Functions, function: Function) -> None:
    """In a sandbox: a parser is a large program, and the source is anybody's."""
    spec = JobSpec(
        run=Stage(argv=python_call.CHECK_ARGV, env=None, cwd=b"", stdin=b"", limits=_LIMITS),
        files=(InputFile(python_call.SOURCE_NAME, 0o644, function.code.encode()),),
        environment=function.environment,
        result_bytes=_ANSWER_BYTES,
        warm=True,
    )
    result = await _run(service, spec, function.tenant)
    if result.status != status.OK:
        raise invalid("code", f"it could not be checked: {result.message}")
    data = b"" if result.result is UNSET else result.result
    _, error = python_call.read_answer(data, truncated=result.result_truncated is True)
    if error is not None:
        raise RequestError(
            INVALID_ARGUMENT,
            f"code: {error.message}",
            {"field": "code", "kind": error.kind, "traceback": error.traceback},
        )


async def _run(service: Functions, spec: JobSpec, tenant: int) -> Result:
    engine = service.engine
    job = engine.admit(spec, tenant)
    ended = trio.Event()
    outcomes: list[object] = []

    def done(outcome: object) -> None:
        outcomes.append(outcome)
        ended.set()

    job.done = done
    engine.submit(job)
    try:
        await ended.wait()
    except trio.Cancelled:
        engine.abandon(job)
        raise
    (outcome,) = outcomes
    if isinstance(outcome, RequestError):
        raise outcome
    if not isinstance(outcome, Result):
        raise RequestError(INTERNAL, "sandboxd made a mistake; see its log")
    return outcome
