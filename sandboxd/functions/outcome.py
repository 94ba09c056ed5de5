"""From the end of a job to what is said of a call and kept of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct

from sandboxd.functions import python_call
from sandboxd.functions.model import Failure
from sandboxd.protocol import status
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.functions import (
    CANCELLED,
    ERROR,
    NORMAL,
    OUT_OF_MEMORY,
    OUTPUT_LIMIT,
    TIMEOUT,
    CallError,
    CallResult,
)
from sandboxd.protocol.models import Result, StagesResult

if TYPE_CHECKING:
    from sandboxd.engine.job import Outcome
    from sandboxd.functions.model import EndReason, Kind

_REASONS: Final[dict[str, EndReason]] = {
    status.OK: NORMAL,
    status.NONZERO_EXIT: NORMAL,
    status.SIGNALED: NORMAL,
    status.CPU_TIME_LIMIT: TIMEOUT,
    status.WALL_TIME_LIMIT: TIMEOUT,
    status.MEMORY_LIMIT: OUT_OF_MEMORY,
    status.OUTPUT_LIMIT: OUTPUT_LIMIT,
    status.CANCELLED: CANCELLED,
    status.INTERNAL_ERROR: ERROR,
}


class End(Struct, frozen=True):
    """How one run of a function ended."""

    reason: EndReason
    job: Result
    """Of the last program that ran."""
    compiled: bool = True
    """False when it was not run because it could not be compiled."""
    result: str | None = None
    """JSON."""
    error: CallError | None = None


def read(kind: Kind, outcome: Outcome) -> End:
    """What the outcome of a job means for a function of this kind."""
    if isinstance(outcome, RequestError):  # It was not run: its files do not fit, for one.
        return End(ERROR, Result(status.INTERNAL_ERROR, message=outcome.message))
    compiled = not isinstance(outcome, StagesResult) or outcome.run is not None
    job = outcome if isinstance(outcome, Result) else outcome.run or outcome.compile
    reason = _REASONS[job.status]
    if kind not in ("python", "json") or reason not in (NORMAL, OUTPUT_LIMIT):
        return End(reason, job, compiled)
    if not compiled:
        message = "the function could not be compiled; its log says why"
        return End(reason, job, compiled, None, CallError("syntax", "", message))
    data = b"" if job.result is UNSET else job.result
    truncated = job.result_truncated is True
    read_one = python_call.read_answer if kind == "python" else python_call.read_value
    result, error = read_one(data, truncated=truncated)
    if reason != NORMAL and error is not None:
        error = None  # It was killed: that says all.
    if error is not None and error.kind == "no_result" and job.message:
        error = CallError(error.kind, error.type, f"{error.message}: {job.message}")
    return End(reason, job, compiled, result, error)


def output(job: Result) -> bytes:
    """What a program printed, in order of arrival where that is known."""
    return job.stdout + job.stderr if job.output is UNSET else job.output


def call_result(end: End, *, log: bool) -> CallResult:
    """The answer of `function.call`."""
    job = end.job
    return CallResult(
        end.reason,
        job.status,
        job.exit_code,
        job.signal,
        job.message,
        job.cpu_time_ns,
        job.wall_time_ns,
        job.memory_bytes,
        end.result,
        end.error,
        output(job) if log else UNSET,
        job.stdout_truncated or job.stderr_truncated if log else UNSET,
    )


def failure(error: CallError | None) -> Failure | None:
    """The error as it is stored."""
    if error is None:
        return None
    return Failure(error.type, error.message, error.traceback, error.kind)
