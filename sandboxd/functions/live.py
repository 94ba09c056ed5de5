"""An execution that was started and has not ended, in memory; and how its job is run.

Both of its output streams are one pipe, so that its log has what it printed in order. A job that is
one program is started and ended by plain calls, as those of `job.run` are.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from sandboxd.engine import results, wire
from sandboxd.engine.job import RUNNING, WAITING, Outcome, Stdio, not_started
from sandboxd.engine.stages import StagedJob
from sandboxd.engine.streams import Ends, Intake
from sandboxd.protocol import status
from sandboxd.protocol.errors import BUSY, RequestError
from sandboxd.protocol.models import Result, StagesResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxd.engine.job import Job
    from sandboxd.engine.jobs import Engine
    from sandboxd.functions.logs import LogReader
    from sandboxd.functions.model import EndReason, Execution

_FIRST_RETRY_NS: Final = 10_000_000


class Live:
    """One execution. It is the scheduler's ticket, too."""

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

    def __init__(self, row: Execution, start: Callable[[Live], None], client: str = "") -> None:
        self.id = row.id
        self.tenant = row.tenant
        # Who has a key may not make more lines of the queue by more names.
        self.line = row.key or client
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

    @property
    def runs(self) -> bool:
        """Whether its program, or one of them, was started and has not ended."""
        return bool(self.began_ns) and self.job is not None and self.job.state == RUNNING


class _Run:
    """One run of an admitted job, with its log."""

    def __init__(
        self, engine: Engine, job: Job, live: Live, reader: LogReader, began: Callable[[], None]
    ) -> None:
        self.outcome: Outcome | None = None
        self.changed = trio.Event()
        """Set when it has its place and needs this task, and when it has ended."""
        self._engine = engine
        self._job = job
        self._live = live
        self._reader = reader
        self._began = began
        self._ends = Ends()
        self._intake: Intake | None = None
        job.done = self._done
        job.run_in_task = self._placed

    def _done(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.changed.set()

    def _placed(self) -> None:
        """The job has its place."""
        job = self._job
        self._live.began_ns = time.time_ns()
        self._began()
        try:
            self._listen()
        except OSError as exc:
            self._engine.finish(job, not_started(exc))
            return
        if job.plain:
            job.run_in_task = None
            job.start()
        else:
            self.changed.set()

    def _listen(self) -> None:
        """Make both of the job's output streams one pipe, and read it."""
        job = self._job
        self._ends.add_output("stdout")
        out = self._ends.for_job().stdout
        assert out is not None  # noqa: S101 - for the type checker
        job.stdio = Stdio(stdout=out)
        job.stdio = Stdio(stdout=out, stderr=os.dup(out))
        end = self._ends.outputs[0][1]
        self._intake = Intake(end, job.limits.output_bytes, self._live.log.extend, self._exceeded)
        self._reader.add(self._intake)

    def _exceeded(self) -> None:
        self._live.log_truncated = True
        if self._job.state == RUNNING and self._job.stage_id:
            self._engine.kill(self._job, wire.REASON_OUTPUT)

    async def finish(self) -> None:
        """Nothing of it runs any more: read its log to the end."""
        if self._intake is not None:
            await self._reader.finish(self._intake)

    def close(self) -> None:
        """It is finished, or nobody wants to know."""
        intake, self._intake = self._intake, None  # It knows this: no circle may stay.
        if intake is not None:
            self._reader.leave(intake)
        self._ends.close()


async def run(
    engine: Engine, job: Job, live: Live, reader: LogReader, began: Callable[[], None]
) -> Outcome:
    """Run an admitted job; ``began`` is called when its program is started.

    Cancelled, it gives the job up.
    """
    running = _Run(engine, job, live, reader, began)
    try:
        await _submit_held(engine, job, live)
        await running.changed.wait()
        if running.outcome is None:
            await StagedJob(engine, job, None).run()
        await running.finish()
    except BaseException:  # Cancelled, which may be in a group with other things.
        engine.abandon(job)
        raise
    finally:
        running.close()
    outcome = running.outcome
    assert outcome is not None  # noqa: S101 - for the type checker: it has called `done`
    return _with_truncation(outcome, job, live) if live.log_truncated else outcome


async def _submit_held(engine: Engine, job: Job, live: Live) -> None:
    """Between two tries, too, its environment or package may be removed."""
    engine.hold(job)
    try:
        await _submit(engine, job, live)
    finally:
        engine.let_go(job)


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
