"""An execution that was started and has not ended, in memory; and how its job is run.

Both of its output streams are one pipe, so that its log has what it printed in order.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from sandboxd.engine import results, wire
from sandboxd.engine.job import WAITING, Outcome, Stdio, not_started
from sandboxd.engine.stages import StagedJob
from sandboxd.engine.streams import Ends, OutputPump
from sandboxd.protocol import status
from sandboxd.protocol.errors import BUSY, RequestError
from sandboxd.protocol.models import Result, StagesResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd.engine.job import Job
    from sandboxd.engine.jobs import Engine
    from sandboxd.functions.model import EndReason, Execution

_FIRST_RETRY_NS: Final = 10_000_000


class Live:
    """One execution. It is the scheduler's ticket, too, and the sink of its own log."""

    __slots__ = (
        "_start",
        "_told",
        "_waiting",
        "began_ns",
        "ending",
        "function_id",
        "id",
        "job",
        "key_id",
        "large",
        "last",
        "line",
        "log",
        "log_truncated",
        "over",
        "row",
        "size",
        "started_ns",
        "tenant",
    )

    def __init__(self, row: Execution, start: Callable[[Live], None]) -> None:
        self.id = row.id
        self.tenant = row.tenant
        self.line = row.key
        self.size = 0
        self.started_ns = 0  # The scheduler's, by its own clock.
        self.function_id = row.function_id
        self.key_id = row.key_id
        self.row: Execution | None = None
        """The stored one, while it is worth keeping."""
        self.large = False
        """Whether what it is given may be much."""
        self.job: Job | None = None
        self.began_ns = 0
        """When its program was started; 0 before."""
        self.ending: EndReason = ""
        """Why it is to end, when somebody said so."""
        self.log = bytearray()
        self.log_truncated = False
        self.last: Execution | None = None
        """As it was stored in the end; None when it was not."""
        self.over = trio.Event()
        self._told = trio.Event()
        self._waiting: trio.CancelScope | None = None
        self._start = start

    def start(self) -> None:
        self._start(self)

    def end(self, reason: EndReason) -> None:
        """Somebody wants it to end; the first reason counts."""
        self.ending = self.ending or reason
        self._told.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until it is to end."""
        with trio.move_on_after(seconds):
            await self._told.wait()

    async def unless_ended(self, wait: Callable[[], Awaitable[None]]) -> bool:
        """Wait for that, or until it is to end; the answer is False then."""
        with trio.CancelScope() as self._waiting:
            if self.ending:
                return False
            await wait()
            return True
        return False

    # -- as the sink of its streams

    def stage_started(self, stage: str) -> None: ...

    def output(self, stream: str, data: bytes) -> None:
        self.log += data

    async def ready(self) -> None:
        await trio.lowlevel.checkpoint()


async def run(
    engine: Engine, job: Job, live: Live, meanwhile: Callable[[], Awaitable[None]]
) -> Outcome:
    """Run an admitted job; ``meanwhile`` runs from the start of its program to its end at most.

    Cancelled, it gives the job up.
    """
    outcomes: list[Outcome] = []
    placed = trio.Event()

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        placed.set()

    job.done = done
    job.run_in_task = placed.set
    try:
        await _submit(engine, job, live)
        await placed.wait()
        if not outcomes:
            live.began_ns = time.time_ns()
            await _run_placed(engine, job, live, meanwhile)
        outcome = outcomes[0]
    except BaseException:  # Cancelled, which may be in a group with other things.
        engine.abandon(job)
        raise
    return _with_truncation(outcome, job, live) if live.log_truncated else outcome


async def _submit(engine: Engine, job: Job, live: Live) -> None:
    """Wait until the queue takes it. Others of the tenant may fill its share."""
    while True:
        try:
            engine.submit(job)
        except RequestError as error:
            if error.code != BUSY or live.ending:
                raise
            job.state = WAITING
            retry_ns = error.data.get("retry_after_ns")
            await live.pause((retry_ns if isinstance(retry_ns, int) else _FIRST_RETRY_NS) / 1e9)
            if live.ending:
                raise
        else:
            return


async def _run_placed(
    engine: Engine, job: Job, live: Live, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """The job has its place."""
    ends = Ends()
    try:
        try:
            fd = _one_pipe(ends, job)
        except OSError as exc:
            engine.finish(job, not_started(exc))
            return

        def exceeded() -> None:
            live.log_truncated = True
            if job.stage_id:
                engine.kill(job, wire.REASON_OUTPUT)

        pump = OutputPump("log", fd, job.limits.output_bytes, live, exceeded)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            nursery.start_soon(meanwhile)
            await StagedJob(engine, job, None).run()
            nursery.cancel_scope.cancel()
        await pump.drain()
    finally:
        ends.close()


def _one_pipe(ends: Ends, job: Job) -> int:
    """Make both of the job's output streams one pipe, and return our end of it."""
    ends.add_output("stdout")
    out = ends.for_job().stdout
    assert out is not None  # noqa: S101 - for the type checker
    try:
        job.stdio = Stdio(stdout=out, stderr=os.dup(out))
    except OSError:
        os.close(out)
        raise
    return ends.outputs[0][1]


def _with_truncation(outcome: Outcome, job: Job, live: Live) -> Outcome:
    """The daemon enforced the output limit of the log, so it says so."""
    if isinstance(outcome, StagesResult) and outcome.run is not None:
        return StagesResult(outcome.compile, _over(outcome.run, job))
    return _over(outcome, job) if isinstance(outcome, Result) else outcome


def _over(result: Result, job: Job) -> Result:
    result = msgspec.structs.replace(result, stdout_truncated=True)
    # The program may have ended by itself before the last of its output was counted.
    if result.status in (status.OK, status.NONZERO_EXIT, status.SIGNALED):
        return results.over_output(result, job.limits)
    return result
