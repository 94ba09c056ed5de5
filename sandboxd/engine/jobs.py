"""A job from admission to its one outcome, and the engine that runs jobs.

A job that is one program and nothing else (`Job.plain`) is started and ended by plain calls, with
no task of its own. Any other job is run by the task that `Job.run_in_task` starts; see `stages`.

Every job ends in exactly one call of its `done`, unless its owner gave it up by `Engine.abandon`.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from msgspec.structs import astuple

from sandboxd.config import Config
from sandboxd.engine import results, wire
from sandboxd.engine.helper import HelperLink, Keeper, close_all
from sandboxd.engine.memfd import sealed_memfd
from sandboxd.engine.results import StageEnd
from sandboxd.engine.scheduler import Scheduler
from sandboxd.logs import fields
from sandboxd.protocol.errors import LIMIT_EXCEEDED, RequestError, invalid
from sandboxd.protocol.jobs import InputFile, JobSpec, Stage
from sandboxd.protocol.limits import JobLimits, LimitPolicy
from sandboxd.protocol.models import Result, StagesResult

_log = logging.getLogger("sandboxd.jobs")

Outcome = Result | StagesResult | RequestError
OnEnd = Callable[[StageEnd | None], None]

# A pipe's capacity: the helper feeds so much without anybody having to wait for the program.
MAX_INLINE_STDIN: Final = 65536

WAITING: Final = 0
RUNNING: Final = 1
ENDED: Final = 2

LOST: Final = "the helper died while the job ran; nothing is known about the program, run it again"


@dataclass(frozen=True, slots=True)
class Stdio:
    """Descriptors for a job's standard streams; None where the helper provides them."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None

    def close(self) -> None:
        close_all([fd for fd in (self.stdin, self.stdout, self.stderr) if fd is not None])


NO_STDIO: Final = Stdio()


class Job:
    """One job of one tenant. Made by `Engine.admit`, run by `Engine.submit`."""

    __slots__ = (
        "_engine",
        "cancel_reason",
        "compile_limits",
        "done",
        "limits",
        "mode",
        "mounts",
        "plain",
        "run_in_task",
        "size",
        "spec",
        "stage_id",
        "started_ns",
        "state",
        "stdio",
        "tenant",
    )

    def __init__(self, engine: "Engine", spec: JobSpec, tenant: int, limits: JobLimits) -> None:
        self._engine = engine
        self.spec = spec
        self.tenant = tenant
        self.limits = limits
        self.compile_limits = limits
        self.mode = wire.MODE_RECYCLED
        self.mounts = 0
        self.size = len(spec.run.stdin)
        self.stdio = NO_STDIO
        self.plain = not (spec.compile or spec.collect or spec.stream or spec.stdin_stream)
        self.done: Callable[[Outcome], None] = _nobody
        self.run_in_task: Callable[[], None] | None = None
        self.state = WAITING
        self.stage_id = 0  # The helper's job that runs now.
        self.started_ns = 0
        self.cancel_reason = ""

    def start(self) -> None:
        """The scheduler gives the job its place."""
        self.state = RUNNING
        if self.run_in_task is not None:
            self.run_in_task()
            return
        try:
            spec = self.spec
            self._engine.launch(self, spec.run, self.limits, self._ended, files=spec.files)
        except OSError as exc:
            self._engine.finish(self, not_started(exc))

    def _ended(self, end: StageEnd | None) -> None:
        outcome: Outcome
        if end is None:
            outcome = results.internal_error(LOST)
        else:
            try:
                spec = self.spec
                outcome = results.build(end, spec.run, self.limits, ordered=spec.output)
            except RequestError as error:
                outcome = error
        self._engine.finish(self, outcome)


def _nobody(outcome: Outcome) -> None:
    """Takes the outcome of a job whose owner is gone."""


def not_started(exc: OSError) -> Result:
    return results.internal_error(f"the job could not be started: {exc.strerror}; try it again")


class Engine:
    """Admits, queues and runs jobs; the one listener of the helper's events."""

    def __init__(self, config: Config, keeper: Keeper) -> None:
        self.link = HelperLink(keeper, self)
        self.scheduler = Scheduler(
            config.slots, config.queue_length, config.queue_per_tenant, config.queue_bytes
        )
        self.counts: Counter[str] = Counter()
        self._config = config
        self._policy = LimitPolicy(config.limits, config.max_limits)
        self._env = tuple(f"{key}={value}".encode() for key, value in config.env.items())
        self._mount_bits = {name: 1 << n for n, name in enumerate(config.mounts)}
        self._ids = itertools.count(1)
        self._active: dict[int, OnEnd] = {}
        self._idle: trio.Event | None = None
        self.up = trio.Event()
        self.trouble = trio.Event()
        self.trouble_text = ""

    # -- admission ---------------------------------------------------------------------------

    def admit(self, spec: JobSpec, tenant: int, field: str = "") -> Job:
        """A job that may be submitted. Raises RequestError when the configuration forbids it."""
        at = f"{field}." if field else ""
        job = Job(self, spec, tenant, self._policy.resolve(spec.run.limits, at + "limits"))
        first = job.limits
        if spec.compile is not None:
            first = self._policy.resolve(spec.compile.limits, f"{at}compile.limits")
            job.compile_limits = first
            job.size += len(spec.compile.stdin)
        if spec.files:
            job.size += _check_files(spec.files, first, at)
        if spec.mounts:
            job.mounts = self._mounts(spec.mounts, at)
        if (spec.mode or self._config.mode) == "fresh":
            job.mode = wire.MODE_FRESH
        if spec.collect_bytes > self._config.max_collect_bytes:
            raise _too_much(
                f"{at}collect_bytes", spec.collect_bytes, self._config.max_collect_bytes
            )
        return job

    def _mounts(self, names: Iterable[str], at: str) -> int:
        bits = 0
        for name in names:
            bit = self._mount_bits.get(name)
            if bit is None:
                known = ", ".join(self._mount_bits) or "none"
                raise invalid(f"{at}mounts", f"{name[:64]!r} is not configured; there is: {known}")
            bits |= bit
        return bits

    def collect_bytes(self, spec: JobSpec) -> int:
        return spec.collect_bytes or self._config.collect_bytes

    # -- life of a job -----------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue the job; `job.done` gets its outcome, perhaps before this returns.

        Owns the job's descriptors from here on. Raises RequestError `busy`.
        """
        try:
            self.scheduler.submit(job)
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

    def abandon(self, job: Job) -> None:
        """As `cancel`, but nobody wants to know the outcome any more."""
        job.done = _nobody
        self.cancel(job, "its client went away")

    def kill(self, job: Job, reason: int) -> None:
        """Have the helper kill what runs of the job now."""
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
        if job.stdio is not NO_STDIO:
            job.stdio.close()
        last = outcome
        if isinstance(last, StagesResult):
            last = last.run or last.compile
        status = last.status if isinstance(last, Result) else "error"
        self.counts[status] += 1
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("job ended %s", fields(status=status, tenant=job.tenant))
        job.done(outcome)
        if self._idle is not None and not self.scheduler.running and not self.scheduler.waiting:
            self._idle.set()

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
        if spec.loopback:
            flags |= wire.JOB_LOOPBACK
        if spec.output:
            flags |= wire.JOB_ORDER
        env = self._env if stage.env is None else stage.env
        inline = stage.stdin if len(stage.stdin) <= MAX_INLINE_STDIN else b""
        blob = wire.pack_blob(stage.argv, env, stage.cwd, files, inline)
        job_id = next(self._ids)
        mask = 0
        fds: tuple[int, ...] = ()
        if stdio is not NO_STDIO or len(blob) > wire.INLINE_BLOB or stage.stdin is not inline:
            big = stage.stdin if stage.stdin is not inline else b""
            mask, fds, blob = _descriptors(stdio, blob, big)
        values = (flags, job_id, after, job.tenant, job.mode, job.mounts, mask, len(blob), 0)
        header = wire.JOB.pack(wire.MSG_JOB, *values, *astuple(limits), 0)
        job.stage_id = job_id
        self._active[job_id] = on_end
        try:
            self.link.send(header + blob, fds, job_id)
        except OSError:
            del self._active[job_id]
            job.stage_id = 0
            raise
        return job_id

    def give_up_stage(self, job: Job) -> None:
        """The task that waited for the job's present stage is gone: kill the stage, and free the
        job's place once the helper has reported its end."""

        def ended(end: StageEnd | None) -> None:
            if end is not None and end.helper.flags & wire.RESULT_HELD:
                self.control(wire.MSG_RELEASE, end.helper.job_id)
            self.finish(job, results.cancelled())

        self._active[job.stage_id] = ended
        self.kill(job, wire.REASON_CANCELLED)

    # -- the helper's events -----------------------------------------------------------------

    def helper_up(self, hello: wire.Hello) -> None:
        self.up.set()
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
        for on_end in lost.values():
            on_end(None)

    def stage_ended(self, job_id: int, end: StageEnd) -> None:
        on_end = self._active.pop(job_id, None)
        if on_end is not None:
            on_end(end)

    def stage_not_sent(self, job_id: int, error: OSError) -> None:
        _log.error("a job did not reach the helper %s", fields(job=job_id, why=error.strerror))
        on_end = self._active.pop(job_id, None)
        if on_end is not None:
            on_end(None)


def _descriptors(stdio: Stdio, blob: bytes, stdin: bytes) -> tuple[int, tuple[int, ...], bytes]:
    """The mask, the descriptors in the order of the mask, and the blob that stays inline.

    Owns ``stdio``. Raises OSError.
    """
    mask = 0
    fds: list[int] = []
    try:
        if len(blob) > wire.INLINE_BLOB:
            mask |= wire.FD_BLOB
            fds.append(sealed_memfd("sandboxd-blob", blob))
            blob = b""
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
    ):
        if fd is not None:
            mask |= bit
            fds.append(fd)
    return mask, tuple(fds), blob


def _check_files(files: Sequence[InputFile], limits: JobLimits, at: str) -> int:
    """Their bytes. Raises RequestError when they cannot fit into the limits of the job."""
    total = 0
    for file in files:
        if len(file.data) > limits.file_size_bytes:
            name = file.path.decode()
            raise _too_much(f"{at}files[{name[:64]!r}]", len(file.data), limits.file_size_bytes)
        total += len(file.data)
    if total > limits.disk_bytes:
        raise _too_much(f"{at}files", total, limits.disk_bytes)
    if len(files) > limits.disk_inodes:
        message = f"{at}files: {len(files)} files are more than the limit disk_inodes"
        raise RequestError(LIMIT_EXCEEDED, message, {"field": f"{at}files"})
    return total


def _too_much(field: str, value: int, most: int) -> RequestError:
    message = f"{field}: {value} bytes are more than the limit of {most}"
    return RequestError(LIMIT_EXCEEDED, message, {"field": field, "maximum": most})
