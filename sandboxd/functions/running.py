"""One run of a stored function: from what is stored of it to how it ended."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec import UNSET

from sandboxd.functions import callers
from sandboxd.functions import live as lives
from sandboxd.functions import outcome as outcomes
from sandboxd.functions.logs import LogReader
from sandboxd.functions.model import ExecutionFile, Outcome
from sandboxd.functions.noting import Notes
from sandboxd.functions.prepared import Call, files_bytes
from sandboxd.protocol import status
from sandboxd.protocol.errors import CANCELLED as REFUSED
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.functions import CANCELLED
from sandboxd.protocol.jobs import DEFAULT_FILE_MODE, InputFile

if TYPE_CHECKING:
    from sandboxd.engine.jobs import Engine
    from sandboxd.functions.live import Live
    from sandboxd.functions.model import Execution, Function
    from sandboxd.functions.outcome import End
    from sandboxd.functions.prepared import Prepared
    from sandboxd.functions.registry import Registry
    from sandboxd.functions.store import Store
    from sandboxd.protocol.models import Result


class Runner:
    """Runs executions that have their turn."""

    def __init__(self, engine: Engine, store: Store, registry: Registry) -> None:
        self.closing = False
        """Set when what has not begun is to be left for the next daemon."""
        self._engine = engine
        self._store = store
        self._registry = registry
        self._files = registry.in_use
        # There are only as many at a time as have places: what they are given is in memory.
        self._large = trio.CapacityLimiter(engine.scheduler.places)
        self._logs = LogReader()
        self._notes = Notes(store)

    async def serve(self) -> None:
        """What all runs need, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._logs.run)
            nursery.start_soon(self._notes.run)

    def close(self) -> None:
        """Nothing runs any more."""
        self._logs.close()

    async def run(self, live: Live) -> Outcome | None:
        """Run it and say how it ended; None when it was left. Raises RequestError when it cannot
        be run."""
        if not live.large:
            return await self._with_function(live)
        if await live.unless_ended(partial(self._large.acquire_on_behalf_of, live)):
            try:
                return await self._with_function(live)
            finally:
                self._large.release_on_behalf_of(live)
        raise _unwanted()

    async def _with_function(self, live: Live) -> Outcome | None:
        held: list[Function] = []
        try:
            return await self._run(live, held)
        finally:
            self._leave(held)

    async def _hold(self, live: Live, held: list[Function], function: Function) -> None:
        """Wait until the files of its function may be in memory. Many run one together."""
        self._leave(held)
        enter = partial(self._files.enter, _revision(function), files_bytes(function))
        if not await live.unless_ended(enter):
            raise _unwanted()
        held.append(function)

    def _leave(self, held: list[Function]) -> None:
        while held:
            function = held.pop()
            self._files.leave(_revision(function), files_bytes(function))

    async def _run(self, live: Live, held: list[Function]) -> Outcome | None:
        self._require_wanted(live)
        row, prepared = await self._prepared(live, held)
        function = prepared.function
        call = Call(
            args=row.args.encode() or b"null",
            stdin=row.stdin,
            files=await self._inputs(row) if row.inputs else (),
            limits=row.limits,
            key_limits=callers.limits(self._store.key(row.key_id)) if row.key_id else None,
            client=live.line,
        )
        job = self._engine.admit(prepared.spec(call), row.tenant)
        if prepared.plan is not None:
            job.held = prepared.plan.runtime.use
        job.patient = True  # The next daemon may run it.
        self._require_wanted(live)
        live.job = job
        began = partial(self._notes.add, live, function.revision)
        outcome = await lives.run(self._engine, job, live, self._logs, began)
        if self.closing and not live.began_ns:
            return None
        end = outcomes.read(function.kind, outcome)
        return await self._ended(live, function, end)

    async def _prepared(self, live: Live, held: list[Function]) -> tuple[Execution, Prepared]:
        """The execution and its function, also when that has another name by now."""
        kept, live.row = live.row, None
        if kept is not None:
            found = self._registry.kept((kept.tenant, kept.space, kept.function))
            if found is not None and found.function.id == kept.function_id and not found.large:
                return kept, found
            found = None  # Who waits may not have it.
        row = await self._store.execution(live.id)
        return row, await self._registry.of(row, partial(self._hold, live, held))

    def _require_wanted(self, live: Live) -> None:
        if live.ending or self.closing:
            raise _unwanted()

    async def _inputs(self, row: Execution) -> tuple[InputFile, ...]:
        return tuple(
            [
                InputFile(
                    file.path.encode(), DEFAULT_FILE_MODE, await self._store.content(file.sha256)
                )
                for file in row.inputs
            ]
        )

    async def _ended(self, live: Live, function: Function, end: End) -> Outcome:
        """What is to be stored of an execution that ran."""
        job, reason, log, message = end.job, end.reason, bytes(live.log), end.job.message
        if job.status == status.CANCELLED:
            reason = live.ending or CANCELLED
        if not end.compiled:
            log = outcomes.output(job)
        if job.files_truncated is True and not message:
            message = "its outputs are more than may be kept: some are missing"
        return Outcome(
            end_reason=reason,
            ended_ns=time.time_ns(),
            started_ns=live.began_ns or None,
            revision=function.revision,
            job_status=job.status,
            exit_code=job.exit_code,
            signal=job.signal,
            message=message,
            cpu_time_ns=job.cpu_time_ns,
            wall_time_ns=job.wall_time_ns,
            memory_bytes=job.memory_bytes,
            result=end.result,
            error=outcomes.failure(end.error),
            log=log,
            log_truncated=job.stdout_truncated or job.stderr_truncated,
            outputs=await self._outputs(function, job) if function.outputs else (),
        )

    async def _outputs(self, function: Function, job: Result) -> tuple[ExecutionFile, ...]:
        """The files it left, as contents of the store."""
        found = {} if job.files is UNSET else job.files
        outputs = []
        for port in function.outputs:
            data = found.get(port.path)
            if data is not None:
                sha256 = await self._store.put_content(data)
                outputs.append(ExecutionFile(port.id, port.path, sha256, len(data)))
        return tuple(outputs)


def _revision(function: Function) -> tuple[int, int]:
    return function.id, function.revision


def _unwanted() -> RequestError:
    return RequestError(REFUSED, "it was ended before it began")
