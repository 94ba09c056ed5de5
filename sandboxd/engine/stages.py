"""Jobs that are more than one plain program: two stages, collected files, streams.

One task runs such a job from its place in the queue to its outcome, in the order in which things
happen. The work directory is kept between the steps by holding the slot.
"""

import itertools
import logging
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from sandboxd.engine import collect, results, steps, wire
from sandboxd.engine.aside import Aside
from sandboxd.engine.job import LOST, NO_STDIO, Job, Outcome, Stdio, not_started, unfinished
from sandboxd.engine.jobs import Engine
from sandboxd.engine.memfd import open_memfd
from sandboxd.engine.results import StageEnd
from sandboxd.engine.streams import Ends, OutputPump, Sink, Stdin, Window
from sandboxd.logs import fields
from sandboxd.protocol import status
from sandboxd.protocol.errors import NOT_FOUND, RequestError
from sandboxd.protocol.jobs import InputFile, Stage
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result, StagesResult

_log = logging.getLogger("sandboxd.jobs")

# Output larger than this is parsed in a thread, so that others do not wait for it.
_LARGE_BYTES: Final = 1024 * 1024
_NOT_COLLECTED: Final = (
    "the program has ended, but the sandbox died before its files were collected; run it again"
)


class StagedJob:
    """Runs one job step by step. Make it before the job is submitted."""

    def __init__(self, engine: Engine, job: Job, sink: Sink | None) -> None:
        self.stdin = Stdin() if job.spec.stdin_stream or job.spec.tty else None
        self._engine = engine
        self._job = job
        self._sink = sink
        self._held = 0  # The job whose slot is held for the next stage.
        self._after = 0  # The one whose slot the present stage continues in.
        self._given_up = False
        self._window: Window | None = None

    async def run(self) -> None:
        """The job has its place. Whatever happens, the place is given back; cancellation kills
        what runs and frees the place as soon as that is dead."""
        outcome: Outcome | None = None
        try:
            outcome = await self._steps()
        except RequestError as error:
            outcome = error
        except Exception:
            # One job's trouble must not take the connection, and its other jobs, with it.
            _log.exception("a job could not be run %s", fields(tenant=self._job.tenant))
            outcome = results.internal_error("sandboxd made a mistake; see its log")
        finally:
            if self.stdin is not None:
                self.stdin.finish()
            if self._held:
                self._engine.control(wire.MSG_RELEASE, self._held)
            if not self._given_up:
                self._engine.finish(
                    self._job, unfinished(self._job) if outcome is None else outcome
                )

    def resize(self, rows: int, columns: int, done: Callable[[], None]) -> None:
        """``done`` is called when it is so. Raises RequestError when the job has no terminal."""
        if self._window is None:
            raise RequestError(NOT_FOUND, "job: it has no terminal at the moment")
        self._window.resize(rows, columns, done)

    # -- the steps ---------------------------------------------------------------------------

    async def _steps(self) -> Outcome:
        spec = self._job.spec
        if spec.compile is None:
            run = self._run_steps if spec.steps else self._run
            return await self._with_files(await run(spec.files))
        compiled = await self._compile(spec.compile)
        if compiled.status != status.OK:
            return StagesResult(await self._with_files(compiled))
        result = await self._run(())
        return StagesResult(compiled, await self._with_files(result))

    async def _compile(self, stage: Stage) -> Result:
        job = self._job
        ends = Ends()
        try:
            if job.spec.stream:
                ends.add_output("stdout")
                ends.add_output("stderr")
            return await self._stage(
                "compile", stage, job.compile_limits, ends, job.spec.files, wire.JOB_HOLD
            )
        except OSError as exc:
            return not_started(exc)
        finally:
            ends.close()

    async def _run(self, files: tuple[InputFile, ...]) -> Result:
        job = self._job
        spec = job.spec
        flags = wire.JOB_HOLD if spec.collect else 0
        ends = Ends()
        try:
            stdio, job.stdio = job.stdio, NO_STDIO
            ends.adopt(stdio)
            if spec.tty is not None:
                ends.add_terminal(spec.tty)
                flags |= wire.JOB_TTY
            elif spec.stdin_stream:
                ends.add_stdin()
            if spec.stream:
                ends.add_output("stdout")
                ends.add_output("stderr")
            self._window = ends.window
            return await self._stage("run", spec.run, job.limits, ends, files, flags)
        except OSError as exc:
            return not_started(exc)
        finally:
            self._window = None
            ends.close()

    async def _run_steps(self, files: tuple[InputFile, ...]) -> Result:
        """The run stage as several programs; see `steps`."""
        job = self._job
        stdio, job.stdio = job.stdio, NO_STDIO
        try:
            streams = steps.Streams(stdio, job.spec.run.stdin)
            try:
                return await self._each_step(files, streams)
            finally:
                streams.close()
        except OSError as exc:
            return not_started(exc)

    async def _each_step(self, files: tuple[InputFile, ...], streams: steps.Streams) -> Result:
        job, spec = self._job, self._job.spec
        total = steps.Total(job.limits)
        if spec.steps[0].guest:  # The files are not the guest's.
            lost = await self._place(files, streams.nowhere())
            if lost is not None:
                return lost
            files = ()
        for step, following in itertools.zip_longest(spec.steps, spec.steps[1:]):
            if job.cancel_reason or job.stopped:
                return total.stop(results.cancelled("the job was cancelled between its programs"))
            flags = wire.JOB_HOLD if following or spec.collect else 0
            if following and following.guest:
                flags |= wire.JOB_NEXT_GUEST
            stage, limits = steps.stage(spec.run, step), total.left()
            end = await self._call(stage, limits, files, flags, streams.of(step))
            ended = self._result(end, stage, limits)
            if not total.add(step, ended):
                break
            if following and not self._held:  # It could not even be started.
                return total.stop(ended)
            files = ()
        return total.result

    async def _place(self, files: tuple[InputFile, ...], stdio: Stdio) -> Result | None:
        """Write the files, and start nothing. Returns a result where that failed."""
        stage = Stage(argv=(b"",), env=(), cwd=b"", stdin=b"", limits=None)
        flags = wire.JOB_HOLD | wire.JOB_COLLECT | wire.JOB_NEXT_GUEST
        end = await self._call(stage, self._job.limits, files, flags, stdio)
        result = self._result(end, stage, self._job.limits)
        return None if self._held and result.status == status.OK else result

    async def _call(
        self,
        stage: Stage,
        limits: JobLimits,
        files: tuple[InputFile, ...],
        flags: int,
        stdio: Stdio,
    ) -> StageEnd | None:
        """Send one program and wait for its end. Raises OSError when it cannot be sent."""
        call = _Call(self, stage, limits, files, flags)
        call.send(stdio)
        try:
            return await call.wait()
        finally:
            call.leave()

    async def _stage(
        self,
        name: str,
        stage: Stage,
        limits: JobLimits,
        ends: Ends,
        files: tuple[InputFile, ...],
        flags: int,
    ) -> Result:
        job = self._job
        if self._sink is not None and job.spec.stream and not job.cancel_reason and not job.stopped:
            self._sink.stage_started(name)  # This may find out that the client has gone.
        if job.cancel_reason or job.stopped:
            return results.cancelled("the job was cancelled between its stages")
        call = _Call(self, stage, limits, files, flags)
        call.send(ends.for_job())
        pumps = self._pumps(ends, limits)
        try:
            if pumps or ends.stdin is not None:
                end = await self._with_streams(call, pumps, ends)
            else:
                end = await call.wait()
        finally:
            call.leave()
        result = self._result(end, stage, limits)
        return _with_truncation(result, pumps, limits)

    async def _with_streams(
        self, call: "_Call", pumps: list[OutputPump], ends: Ends
    ) -> StageEnd | None:
        async with trio.open_nursery() as nursery:
            for pump in pumps:
                nursery.start_soon(pump.run)
            if self.stdin is not None and ends.stdin is not None:
                nursery.start_soon(self._feed, self.stdin, ends, ends.stdin)
            end = await call.wait()
            nursery.cancel_scope.cancel()
        for pump in pumps:
            await pump.drain()
        return end

    def _pumps(self, ends: Ends, limits: JobLimits) -> list[OutputPump]:
        if self._sink is None:
            return []
        sink, job = self._sink, self._job

        def exceeded() -> None:
            if job.stage_id:
                self._engine.kill(job, wire.REASON_OUTPUT)

        return [
            OutputPump(stream, end, limits.output_bytes, sink, exceeded)
            for stream, end in ends.outputs
        ]

    @staticmethod
    async def _feed(stdin: Stdin, ends: Ends, end: Aside) -> None:
        await stdin.pump(end, ends.window)
        ends.close_stdin()

    def _result(self, end: StageEnd | None, stage: Stage, limits: JobLimits) -> Result:
        if end is None:
            return results.internal_error(LOST)
        return results.build(end, stage, limits, ordered=self._job.spec.output)

    # -- collected files ---------------------------------------------------------------------

    async def _with_files(self, result: Result) -> Result:
        """``result`` with the files of the last stage that ran, where they were asked for.

        After an out-of-memory kill there are none: the slot went with it. Of a program that ended
        well they are part of what it made, and without them it has to be run again.
        """
        spec = self._job.spec
        if not spec.collect:
            return result
        collected = collect.Collected({}, truncated=True)
        if self._held and not self._job.cancel_reason:
            found = await self._found()
            if found is None and result.status == status.OK and not self._job.cancel_reason:
                result = results.not_kept(result, _NOT_COLLECTED)
            collected = found or collected
        return msgspec.structs.replace(
            result, files=collected.files, files_truncated=collected.truncated
        )

    async def _found(self) -> collect.Collected | None:
        """None when there was no looking for them."""
        try:
            return await self._collect()
        except OSError as exc:
            _log.error("output files were not collected %s", fields(why=exc.strerror))
            return None

    async def _collect(self) -> collect.Collected | None:
        spec = self._job.spec
        most = self._engine.collect_bytes(spec)
        limits = collect.limits(self._job.limits, most)
        stage = Stage(argv=spec.collect, env=(), cwd=b"", stdin=b"", limits=None)
        memory = open_memfd("sandboxd-collect")
        try:
            stdio = Stdio(stdout=memory.duplicate())
            self._job.collecting = True
            end = await self._call(stage, limits, (), wire.JOB_COLLECT, stdio)
            if end is None or end.helper.reason in wire.MAY_NOT_HAVE_STARTED:
                return None
            if end.helper.reason != wire.REASON_EXITED:
                return collect.Collected({}, truncated=True)
            if memory.size() <= _LARGE_BYTES:
                return collect.parse(memory.read(most + collect.OVERHEAD_BYTES), most)
            return await trio.to_thread.run_sync(
                lambda: collect.parse(memory.read(most + collect.OVERHEAD_BYTES), most)
            )
        finally:
            memory.close()

    # -- for _Call ---------------------------------------------------------------------------

    def launch(
        self,
        stage: Stage,
        limits: JobLimits,
        files: tuple[InputFile, ...],
        flags: int,
        stdio: Stdio,
        on_end: Callable[[StageEnd | None], None],
    ) -> None:
        self._engine.launch(
            self._job,
            stage,
            limits,
            on_end,
            files=files,
            flags=flags,
            after=self._held,
            stdio=stdio,
        )
        self._after, self._held = self._held, 0

    def ended(self, end: StageEnd | None) -> None:
        self._job.stage_id = 0
        if end is not None and end.helper.flags & wire.RESULT_HELD:
            self._held = end.helper.job_id
        elif self._after and (end is None or end.helper.reason in wire.MAY_NOT_HAVE_STARTED):
            # Then the slot may still wait for it. Where it does not, this is without effect.
            self._engine.control(wire.MSG_RELEASE, self._after)

    def give_up(self) -> None:
        self._given_up = True
        self._engine.give_up_stage(self._job, self._after)


class _Call:
    """One program of a staged job, sent to the helper and waited for."""

    def __init__(
        self,
        owner: StagedJob,
        stage: Stage,
        limits: JobLimits,
        files: tuple[InputFile, ...],
        flags: int,
    ) -> None:
        self._owner = owner
        self._what = (stage, limits, files, flags)
        self._done = trio.Event()
        self._end: StageEnd | None = None
        self._sent = False

    def send(self, stdio: Stdio) -> None:
        """Raises OSError when it cannot be sent."""
        self._owner.launch(*self._what, stdio, self._ended)
        self._sent = True

    def _ended(self, end: StageEnd | None) -> None:
        self._end = end
        self._owner.ended(end)
        self._done.set()

    async def wait(self) -> StageEnd | None:
        """How it ended; None when the helper died."""
        await self._done.wait()
        return self._end

    def leave(self) -> None:
        """Nobody waits any more. Kills the program if it still runs."""
        if self._sent and not self._done.is_set():
            self._owner.give_up()


def _with_truncation(result: Result, pumps: list[OutputPump], limits: JobLimits) -> Result:
    """The daemon enforced the output limit of what it streamed, so it says so."""
    cut = {pump.stream for pump in pumps if pump.truncated}
    if not cut:
        return result
    result = msgspec.structs.replace(
        result, stdout_truncated="stdout" in cut, stderr_truncated="stderr" in cut
    )
    # The program may have ended by itself before the last of its output was counted.
    if result.status in (status.OK, status.NONZERO_EXIT, status.SIGNALED):
        return results.over_output(result, limits)
    return result
