"""The ``job.*`` methods: from decoded params to the engine, and from outcomes to answers.

A handler gets the connection, the msgid and the decoded params. It returns the answer, raises
RequestError, or returns LATER and has the connection answer when there is something to say.
"""

import signal
from functools import partial
from typing import Final

from sandboxd.connection import LATER, Connection
from sandboxd.engine import wire
from sandboxd.engine.job import ENDED, RUNNING, Job, Outcome
from sandboxd.engine.streams import Stdin
from sandboxd.protocol.errors import NOT_FOUND, RequestError, invalid
from sandboxd.protocol.jobs import job_spec
from sandboxd.protocol.models import JobParams, JobRef, ResizeParams, SignalParams, WriteParams

# The job's own request is answered as always, so these say nothing themselves.
_DONE: Final[dict[str, object]] = {}
_MAX_SIGNAL: Final = 64
# What a terminal or a service manager sends to end a program.
_ENDING: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM}
)


def run(connection: Connection, msgid: int, params: JobParams) -> object:
    jobs = connection.jobs
    job = jobs.admit(job_spec(params))
    job.done = partial(_run_done, connection, job, msgid)
    jobs.submit(job)
    return LATER


def _run_done(connection: Connection, job: Job, msgid: int, outcome: Outcome) -> None:
    connection.jobs.live.discard(job)
    connection.answer(msgid, outcome)


def start(connection: Connection, msgid: int, params: JobParams) -> object:
    return {"job": connection.jobs.start(job_spec(params, started=True)).token}


def wait(connection: Connection, msgid: int, params: JobRef) -> object:
    started = connection.jobs.find(params.job)
    if started.outcome is None:
        started.waiters.append(msgid)
        return LATER
    connection.jobs.forget(started)
    if isinstance(started.outcome, RequestError):
        raise started.outcome
    return started.outcome


def write(connection: Connection, msgid: int, params: WriteParams) -> object:
    _stdin(connection, params.job).write(params.data, partial(connection.answer, msgid, _DONE))
    return LATER


def close_stdin(connection: Connection, msgid: int, params: JobRef) -> object:
    _stdin(connection, params.job).close()
    return _DONE


def _stdin(connection: Connection, token: str) -> Stdin:
    started = connection.jobs.find(token)
    if started.staged is None or started.staged.stdin is None:
        raise RequestError(NOT_FOUND, "job: it was started without stdin_stream")
    return started.staged.stdin


def send_signal(connection: Connection, msgid: int, params: SignalParams) -> object:
    started = connection.jobs.find(params.job)
    number = _signal_number(params.signal)
    job = started.job
    if job.state == RUNNING and job.stage_id:
        connection.jobs.engine.control(wire.MSG_SIGNAL, job.stage_id, number)
    elif job.state != ENDED and number in _ENDING:
        # It waits in the queue or between its stages: what would have ended the program ends it.
        connection.jobs.engine.cancel(job, "its client sent a signal before it ran")
    else:
        raise RequestError(NOT_FOUND, "job: no program of it runs at the moment")
    return _DONE


def _signal_number(value: int | str) -> int:
    if isinstance(value, int):
        number = value
    else:
        name = value if value.startswith("SIG") else f"SIG{value}"
        try:
            number = signal.Signals[name]
        except KeyError:
            raise invalid("signal", f"there is no signal {value[:32]!r}") from None
    if not 1 <= number <= _MAX_SIGNAL:
        raise invalid("signal", f"must be 1 to {_MAX_SIGNAL} or a name such as SIGINT")
    return int(number)


def resize(connection: Connection, msgid: int, params: ResizeParams) -> object:
    started = connection.jobs.find(params.job)
    if started.staged is None:
        raise RequestError(NOT_FOUND, "job: it was started without tty")
    started.staged.resize(params.rows, params.columns, partial(connection.answer, msgid, _DONE))
    return LATER


def cancel(connection: Connection, msgid: int, params: JobRef) -> object:
    started = connection.jobs.find(params.job)
    connection.jobs.engine.cancel(started.job, "its client cancelled it")
    return _DONE
