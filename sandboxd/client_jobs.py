"""The jobs of one connection: the ones it waits for and the ones it has started."""

import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sandboxd.engine.job import Job, Outcome, Stdio
from sandboxd.engine.jobs import Engine
from sandboxd.engine.stages import StagedJob
from sandboxd.passed import stdio_from
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import CANCELLED, NOT_FOUND, RequestError
from sandboxd.protocol.jobs import JobSpec
from sandboxd.protocol.models import Result, StagesResult
from sandboxd.protocol.runtimes import ExecuteResult
from sandboxd.protocol.sizes import output_bytes

if TYPE_CHECKING:
    from sandboxd.batch import Batch
    from sandboxd.connection import Connection
    from sandboxd.runtimes.plan import Plan

# What a client is told of its job: that of a runtime comes with the runtime's name.
Answer = Outcome | ExecuteResult

# Outcomes kept for a job.wait that may never come; those of streamed jobs, which job.exit has told.
_KEPT_OUTCOMES: Final = 1024
_KEPT_TOLD: Final = 64
# Of one that is kept, besides its outputs.
_KEPT_BYTES: Final = 2048


class StartedJob:
    """A job of `job.start`, as its connection knows it. Also the sink of its streams."""

    def __init__(self, owner: "ConnectionJobs", token: str, stream: bool) -> None:
        self.token = token
        self.job: Job
        self.staged: StagedJob | None = None
        self.outcome: Answer | None = None
        self.shape: Callable[[Outcome], Answer] | None = None
        self.waiters: list[int] = []
        self._owner = owner
        self._connection = owner.connection
        self._stream = stream

    @property
    def told(self) -> bool:
        """Whether its client gets its outcome without asking."""
        return self._stream

    def stage_started(self, stage: str) -> None:
        self._connection.notify("job.stage", {"job": self.token, "stage": stage})

    def output(self, stream: str, data: bytes) -> None:
        self._connection.notify("job.output", {"job": self.token, "stream": stream, "data": data})

    async def ready(self) -> None:
        await self._connection.ready()

    def ended(self, ended: Outcome) -> None:
        outcome = self.outcome = ended if self.shape is None else self.shape(ended)
        if self.staged is not None and self.staged.stdin is not None:
            self.staged.stdin.finish()  # Of a job that never got its place, nobody else does.
        if self._stream and isinstance(outcome, RequestError):
            error = rpc.error_map(outcome)
            self._connection.notify("job.exit", {"job": self.token, "error": error})
        elif self._stream:
            self._connection.notify_exit(self.token, outcome)
        for msgid in self.waiters:
            self._connection.answer(msgid, outcome)
        self._owner.ended(self)

    def forget(self) -> None:
        """Nobody can ask for it any more."""
        self._owner.forget(self)


class ConnectionJobs:
    """The jobs of one connection. They are cancelled when it closes."""

    def __init__(self, connection: "Connection", engine: Engine) -> None:
        self._connection = weakref.ref(connection)  # Which owns this.
        self.engine = engine
        self.live: set[Job] = set()
        self.batches: set[Batch] = set()
        self._started: dict[str, StartedJob] = {}
        self._ended: OrderedDict[str, StartedJob] = OrderedDict()
        self._share = connection.share
        self._told: deque[str] = deque()
        self._next = 1

    @property
    def connection(self) -> "Connection":
        """Raises ReferenceError when it is gone; whoever asks has it."""
        connection = self._connection()
        if connection is None:
            raise ReferenceError("the connection is gone")
        return connection

    def abandon_all(self) -> None:
        """The connection is gone: nobody wants to know how its jobs end."""
        for job in self.live:
            self.engine.abandon(job)
        self.live.clear()
        # What is kept goes now and not when the garbage collector comes, which is seldom.
        for started in list(self._started.values()):
            self.forget(started)
        for batch in list(self.batches):
            batch.leave()

    def admit(
        self,
        spec: JobSpec,
        field: str = "",
        stdio: Stdio | None = None,
        tenant: int | None = None,
    ) -> Job:
        """A job of this connection's tenant, or of ``tenant``. Raises RequestError.

        ``stdio`` are its descriptors where they were taken already; the job owns them then.
        """
        connection = self.connection
        connection.peer.require_run()
        if connection.server.stopping:
            raise RequestError(CANCELLED, "sandboxd is shutting down; connect again in a moment")
        owner = connection.peer.uid if tenant is None else tenant
        job = self.engine.admit(spec, owner, field)
        if stdio is not None:
            job.stdio = stdio
        elif spec.fds is not None:
            job.stdio = stdio_from(connection.passed, spec.fds)
        return job

    def submit(self, job: Job, started: StartedJob | None = None) -> None:
        """Raises RequestError when the queue is full."""
        if not job.plain:
            staged = StagedJob(self.engine, job, started)
            job.run_in_task = partial(self.connection.start_soon, staged.run)
            if started is not None:
                started.staged = staged
        self.live.add(job)
        try:
            self.engine.submit(job)
        except RequestError:
            self.live.discard(job)
            raise

    def start(self, spec: JobSpec) -> StartedJob:
        return self.start_job(self.admit(spec))

    def start_job(self, job: Job, shape: Callable[[Outcome], Answer] | None = None) -> StartedJob:
        """Start an admitted job; the client is told ``shape`` of its outcome."""
        started = StartedJob(self, f"j{self._next}", job.spec.stream)
        started.shape = shape
        self._next += 1
        started.job = job
        job.done = partial(self._started_done, started)
        self._started[started.token] = started
        try:
            self.submit(job, started)
        except RequestError:
            del self._started[started.token]
            raise
        return started

    def _started_done(self, started: StartedJob, outcome: Outcome) -> None:
        self.live.discard(started.job)
        started.ended(outcome)

    def find(self, token: str) -> StartedJob:
        started = self._started.get(token)
        if started is None:
            raise RequestError(NOT_FOUND, f"job: there is no job {token[:64]!r} on this connection")
        return started

    def ended(self, started: StartedJob) -> None:
        """Keep the outcome until it is fetched; of many that nobody fetches, the latest."""
        if self.connection.closed:  # Perhaps by telling it. Then it is forgotten already.
            return
        if started.waiters:
            self.forget(started)
            return
        self._ended[started.token] = started
        if started.told:
            self._told.append(started.token)
            if len(self._told) > _KEPT_TOLD:
                oldest = self._ended.get(self._told.popleft())
                if oldest is not None:
                    self.forget(oldest)
        if len(self._ended) > _KEPT_OUTCOMES:
            self.forget(next(iter(self._ended.values())))
        self._share.keep(started, _KEPT_BYTES + output_bytes(started.outcome))

    def forget(self, started: StartedJob) -> None:
        """Nobody can ask for it any more."""
        del self._started[started.token]
        started.staged = None  # Which knows this one.
        if self._ended.pop(started.token, None) is not None:
            self._share.forget(started)


def shaped(plan: "Plan", outcome: Outcome) -> Answer:
    """The outcome of a runtime's job as its client is told it."""
    language, version = plan.runtime.language, plan.runtime.version
    if isinstance(outcome, StagesResult):
        return ExecuteResult(language, version, outcome.run, outcome.compile)
    if isinstance(outcome, Result):
        return ExecuteResult(language, version, outcome)
    return outcome
