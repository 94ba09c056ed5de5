"""The engine: admits jobs, queues them, sends them to the helper, takes their ends.

Every job ends in exactly one call of its `done`, unless its owner gave it up by `Engine.abandon`.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from msgspec.structs import astuple

from sandboxd.config import Config
from sandboxd.engine import results, wire
from sandboxd.engine.admission import Admission
from sandboxd.engine.descriptors import close_all
from sandboxd.engine.helper import HelperLink, Keeper
from sandboxd.engine.job import (
    ENDED,
    NO_STDIO,
    NOTHING,
    WAITING,
    Job,
    OnEnd,
    Outcome,
    Stdio,
    nobody,
    unfinished,
)
from sandboxd.engine.memfd import open_memfd, sealed_memfd
from sandboxd.engine.results import StageEnd
from sandboxd.engine.roots import Roots
from sandboxd.engine.scheduler import Scheduler
from sandboxd.logs import fields
from sandboxd.protocol.errors import INTERNAL, RequestError
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result, StagesResult

if TYPE_CHECKING:
    from sandboxd.engine.aside import Closer

_log = logging.getLogger("sandboxd.jobs")

# A pipe's capacity: the helper feeds so much without anybody having to wait for the program.
MAX_INLINE_STDIN: Final = 65536

# The helper runs `slots` jobs at once and is sent as many again, so that a slot that comes free
# need not wait for sandboxd to wake up (native/src/queue.c has places for them).
SENT_AHEAD: Final = 2

ABSENT: Final = "the helper died and does not come back: see the log of sandboxd"


class Engine:
    """Admits, queues and runs jobs; the one listener of the helper's events."""

    def __init__(self, config: Config, keeper: Keeper) -> None:
        self.link = HelperLink(keeper, self, config.helper_timeout_ns / 1e9)
        self.scheduler = Scheduler(
            SENT_AHEAD * config.slots,
            config.queue_length,
            config.queue_per_tenant,
            config.queue_bytes,
        )
        self.roots = Roots(self.link)
        self.counts: Counter[str] = Counter()
        self._config = config
        self._env = tuple(f"{key}={value}".encode() for key, value in config.env.items())
        self._admission = Admission(config)
        self._ids = itertools.count(1)
        self._active: dict[int, OnEnd] = {}
        self._ending: set[int] = set()  # Of them. The helper is done with these.
        self._kept: dict[int, Stdio] = {}  # What clients passed to some of these.
        self._undead: dict[int, Closer] = {}  # Killed, but what was passed keeps it.
        self._idle: trio.Event | None = None
        self._absent = False
        self.up = trio.Event()
        self.trouble = trio.Event()
        self.trouble_text = ""

    def admit(self, spec: JobSpec, tenant: int, field: str = "") -> Job:
        """A job that may be submitted. Raises RequestError when the configuration forbids it."""
        return self._admission.admit(self, spec, tenant, field)

    def collect_bytes(self, spec: JobSpec) -> int:
        return spec.collect_bytes or self._config.collect_bytes

    # -- life of a job -----------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue the job; `job.done` gets its outcome, perhaps before this returns.

        Owns the job's descriptors from here on. Raises RequestError `busy`, `not_found` when its
        environment was removed since it was admitted, or `internal` when the helper does not come
        back.
        """
        try:
            if self._absent and not job.patient:
                raise RequestError(INTERNAL, ABSENT)
            self.hold(job)
            try:
                self.scheduler.submit(job)
            except RequestError:
                self.let_go(job)
                raise
        except RequestError:
            job.state = ENDED
            job.stdio.close()
            raise

    def cancel(self, job: Job, why: str) -> None:
        """End the job soon, wherever it is. Its outcome is delivered as always."""
        if job.state == ENDED:
            return
        job.cancel_reason = why
        if job.state == WAITING and self.scheduler.withdraw(job):
            self._deliver(job, results.cancelled())
        elif job.stage_id:
            self.kill(job, wire.REASON_CANCELLED)

    def stop(self, job: Job) -> None:
        """End the program of a started job that runs now, and start no other. What it has left is
        collected all the same."""
        job.stopped = True
        if job.stage_id and not job.collecting:
            self.kill(job, wire.REASON_CANCELLED)

    def abandon(self, job: Job) -> None:
        """As `cancel`, but nobody wants to know the outcome any more."""
        job.done = nobody
        self.cancel(job, "its client went away")

    def kill(self, job: Job, reason: int) -> None:
        """Have the helper kill what runs of the job now."""
        job.killed_id = job.stage_id
        self.control(wire.MSG_KILL, job.stage_id, reason)

    def control(self, kind: int, job_id: int, value: int = 0) -> None:
        try:
            self.link.send(wire.pack_control(kind, job_id, value))
        except OSError as exc:
            # Without a worker there is nothing left to control.
            _log.debug("control message not sent %s", fields(job=job_id, why=exc.strerror))

    def finish(self, job: Job, outcome: Outcome) -> None:
        """A started job ended. The next job is started first, so that the helper works while
        this one's answer is written."""
        self.scheduler.release(job)
        self._deliver(job, outcome)

    def _deliver(self, job: Job, outcome: Outcome) -> None:
        job.state = ENDED
        if job.spec.compile is not None and isinstance(outcome, Result):
            outcome = StagesResult(outcome)  # It ended before or instead of its first stage.
        if job.memory is not None:
            outcome = _with_result(job, outcome)
        job.spec = NOTHING  # Its input may be large, and the job be kept for a late job.wait.
        if job.stdio is not NO_STDIO:
            job.stdio.close()
        self.let_go(job)
        last = outcome
        if isinstance(last, StagesResult):
            last = last.run or last.compile
        status = last.status if isinstance(last, Result) else "error"
        self.counts[status] += 1
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("job ended %s", fields(status=status, tenant=job.tenant))
        done = job.done
        # They know the job: without the circle, its files go with the last reference to it and do
        # not wait for the garbage collector, which seldom runs.
        job.done, job.run_in_task = nobody, None
        try:
            done(outcome)
        except Exception:
            _log.exception("an outcome could not be told %s", fields(tenant=job.tenant))
        if self._idle is not None and not self.scheduler.running and not self.scheduler.waiting:
            self._idle.set()

    def hold(self, job: Job) -> None:
        """What the job needs stays until `let_go`; `submit` does this, too. Raises RequestError
        `not_found`."""
        if job.root is not None:
            self.roots.hold(job.root)
        if job.held is not None:
            job.held.hold()

    def let_go(self, job: Job) -> None:
        if job.root is not None:
            self.roots.release(job.root)
        if job.held is not None:
            job.held.release()

    async def wait_idle(self) -> None:
        """Wait until no job runs or waits."""
        while self.scheduler.running or self.scheduler.waiting:
            self._idle = trio.Event()
            await self._idle.wait()

    # -- stages ------------------------------------------------------------------------------

    def launch(
        self,
        job: Job,
        stage: Stage,
        limits: JobLimits,
        on_end: OnEnd,
        *,
        files: Sequence[InputFile] = (),
        flags: int = 0,
        after: int = 0,
        stdio: Stdio | None = None,
    ) -> int:
        """Send one program of the job to the helper. Returns its id.

        ``on_end`` is called once: with None when the helper died. Owns ``stdio`` (the job's own
        where None). Raises OSError when nothing could be sent; ``on_end`` is not called then.
        """
        if stdio is None:
            stdio, job.stdio = job.stdio, NO_STDIO
        spec = job.spec
        flags |= job.flags
        if stdio.passed or job.stdio.passed:
            flags |= wire.JOB_PASSED
        if spec.loopback:
            flags |= wire.JOB_LOOPBACK
        if spec.output:
            flags |= wire.JOB_ORDER
        env, root = stage.env, 0
        if job.root is not None:
            root = job.root.id
            if env is None and job.root.env:
                env = job.root.env
        if env is None:
            env = self._env
        inline = stage.stdin if len(stage.stdin) <= MAX_INLINE_STDIN else b""
        parts = wire.blob_parts(stage.argv, env, stage.cwd, files, inline)
        job_id = next(self._ids)
        mask = 0
        fds: tuple[int, ...] = ()
        # The job may be over when ours are closed, and these be the last ones.
        close = stdio.close_sent if stdio.streams else close_all
        if spec.warm:
            flags |= wire.JOB_WARM
        if spec.result_bytes and stage is spec.run:
            stdio = _with_memory(job, stdio)
        large = sum(map(len, parts)) > wire.INLINE_BLOB
        blob = b"" if large else b"".join(parts)
        if stdio is not NO_STDIO or large or stage.stdin is not inline:
            big = stage.stdin if stage.stdin is not inline else b""
            mask, fds = _descriptors(stdio, parts if large else (), big)
            if stdio.passed:
                self._kept[job_id] = stdio
        place = (job.tenant, spec.partition, job.mode, job.mounts)
        values = (flags, job_id, after, *place, mask, len(blob), root, stage.umask)
        following = job.limits.memory_bytes  # Only looked at where the slot is held.
        header = wire.JOB.pack(wire.MSG_JOB, *values, following, *astuple(limits), 0)
        job.stage_id = job_id
        self._active[job_id] = on_end
        try:
            self.link.send(header + blob, fds, job_id, close)
        except OSError:
            del self._active[job_id]
            self._close_kept(job_id)
            job.stage_id = 0
            raise
        return job_id

    def give_up_stage(self, job: Job, after: int) -> None:
        """The task that waited for the job's present stage is gone: kill the stage, and free the
        job's place and slot once the helper has reported its end.

        ``after`` is the job whose slot the stage was to continue in, or 0. A stage that is killed
        before it has started leaves that slot held.
        """

        def ended(end: StageEnd | None) -> None:
            if end is not None and end.helper.flags & wire.RESULT_HELD:
                self.control(wire.MSG_RELEASE, end.helper.job_id)
            elif after:
                self.control(wire.MSG_RELEASE, after)
            self.finish(job, unfinished(job))

        self._active[job.stage_id] = ended
        if job.killed_id != job.stage_id:
            self.kill(job, wire.REASON_CANCELLED)

    # -- the helper's events -----------------------------------------------------------------

    def expecting(self) -> bool:
        return bool(self._active)

    def helper_up(self, hello: wire.Hello) -> None:
        self.up.set()
        self._absent = False
        self.roots.helper_up()
        self.scheduler.resume()

    def slot_failed(self, why: str) -> None:
        """The helper cannot make a slot at the moment and will try again; the start-up does not
        wait for that."""
        self.trouble_text = why
        self.trouble.set()

    def helper_lost(self) -> None:
        """Every job the worker had is lost with it; none of them hangs."""
        self.scheduler.pause()
        lost, self._active = self._active, {}
        for job_id in self._ending:
            self._active[job_id] = lost.pop(job_id)
        for job_id, on_end in lost.items():
            self._lost(job_id, on_end)
        # No worker is started before all processes of the last one have ended.
        for closer in self._undead.values():
            closer.lost -= 1
        self._undead.clear()

    def _lost(self, job_id: int, on_end: OnEnd) -> None:
        self._close_kept(job_id)
        try:
            on_end(None)
        except Exception:
            # One job's trouble must not take the link, and every other job, with it.
            _log.exception("a lost job could not be ended %s", fields(job=job_id))

    def _close_kept(self, job_id: int) -> None:
        stdio = self._kept.pop(job_id, None)
        if stdio is not None:
            stdio.close_passed()

    def helper_absent(self) -> None:
        self._absent = True
        for ticket in self.scheduler.drain():
            if isinstance(ticket, Job) and not ticket.patient:
                self._deliver(ticket, results.internal_error(ABSENT))
            else:
                self.scheduler.submit(ticket)  # It had its room there a moment ago.

    def stage_ending(self, job_id: int) -> None:
        if job_id in self._active:
            self._ending.add(job_id)

    def stage_ended(self, job_id: int, end: StageEnd) -> None:
        on_end = self._active.pop(job_id, None)
        self._ending.discard(job_id)
        if end.helper.flags & wire.RESULT_LOST:
            self._does_not_end(job_id)
        if self._kept:
            self._close_kept(job_id)
        if on_end is not None:
            on_end(end)

    def _does_not_end(self, job_id: int) -> None:
        _log.error("a job was killed and does not end %s", fields(job=job_id))
        stdio = self._kept.get(job_id)
        if stdio is not None:
            self._undead[job_id] = stdio.closer
            stdio.closer.lost += 1

    def stage_gone(self, job_id: int) -> None:
        _log.info("a job has ended after all %s", fields(job=job_id))
        closer = self._undead.pop(job_id, None)
        if closer is not None:
            closer.lost -= 1

    def stage_not_sent(self, job_id: int, error: OSError) -> None:
        _log.error("a job did not reach the helper %s", fields(job=job_id, why=error.strerror))
        on_end = self._active.pop(job_id, None)
        if on_end is not None:
            self._lost(job_id, on_end)


def _with_memory(job: Job, stdio: Stdio) -> Stdio:
    """``stdio`` with what becomes descriptor 3. Raises OSError, and closes ``stdio`` then."""
    try:
        job.memory = open_memfd("sandboxd-result")
        return replace(stdio, result=job.memory.duplicate())
    except OSError:
        stdio.close()
        raise


def _with_result(job: Job, outcome: Outcome) -> Outcome:
    """The outcome with what the program wrote to descriptor 3, where it ran."""
    memory, job.memory = job.memory, None
    if memory is None:
        return outcome
    try:
        data = memory.read(job.spec.result_bytes + 1)
    finally:
        memory.close()
    most = job.spec.result_bytes
    if isinstance(outcome, StagesResult):
        if outcome.run is None:
            return outcome
        run = msgspec.structs.replace(
            outcome.run, result=data[:most], result_truncated=len(data) > most
        )
        return StagesResult(outcome.compile, run)
    if isinstance(outcome, Result):
        return msgspec.structs.replace(
            outcome, result=data[:most], result_truncated=len(data) > most
        )
    return outcome


def _descriptors(stdio: Stdio, blob: Sequence[bytes], stdin: bytes) -> tuple[int, tuple[int, ...]]:
    """The mask and the descriptors in its order; ``blob`` is what does not fit into the message.

    Owns ``stdio``. Raises OSError.
    """
    mask = 0
    fds: list[int] = []
    try:
        if blob:
            mask |= wire.FD_BLOB
            fds.append(sealed_memfd("sandboxd-blob", *blob))
        if stdin:
            mask |= wire.FD_STDIN
            fds.append(sealed_memfd("sandboxd-stdin", stdin))
    except OSError:
        close_all(fds)
        stdio.close()
        raise
    for bit, fd in (
        (wire.FD_STDIN, stdio.stdin),
        (wire.FD_STDOUT, stdio.stdout),
        (wire.FD_STDERR, stdio.stderr),
        (wire.FD_RESULT, stdio.result),
    ):
        if fd is not None:
            mask |= bit
            fds.append(fd)
    return mask, tuple(fds)
