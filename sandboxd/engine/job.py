"""A job from admission to its one outcome.

A job that is one program and nothing else (`Job.plain`) is started and ended by plain calls, with
no task of its own. Any other job is run by the task that `Job.run_in_task` starts; see `stages`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sandboxd.engine import results, wire
from sandboxd.engine.aside import OURS, Closer
from sandboxd.engine.results import StageEnd
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.jobs import JobSpec, Stage
from sandboxd.protocol.limits import JobLimits
from sandboxd.protocol.models import Result, StagesResult

if TYPE_CHECKING:
    from sandboxd.engine.jobs import Engine
    from sandboxd.engine.memfd import Memory
    from sandboxd.engine.roots import Root

Outcome = Result | StagesResult | RequestError
OnEnd = Callable[[StageEnd | None], None]

ENDED_BEFORE: Final = "sandboxd ended before the job did; run it again"
LOST: Final = "the helper died while the job ran; nothing is known about the program, run it again"

WAITING: Final = 0
RUNNING: Final = 1
ENDED: Final = 2


@dataclass(frozen=True, slots=True)
class Stdio:
    """Descriptors for a job's standard streams; None where the helper provides them.

    Others have the other ends, and perhaps no more than these: whoever has one closes it by the
    ``closer``.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    result: int | None = None
    closer: Closer = OURS
    passed: tuple[int, ...] = ()
    """Those of them that a client passed. They are kept until the program has ended: whoever closes
    the last one may wait for as long as the client likes, and here that is counted."""

    @property
    def streams(self) -> bool:
        """Whether there are any but memory of ours."""
        return (self.stdin, self.stdout, self.stderr) != (None, None, None)

    def close(self) -> None:
        fds = (self.stdin, self.stdout, self.stderr, self.result)
        self.closer.close([fd for fd in fds if fd is not None])

    def close_sent(self, fds: tuple[int, ...]) -> None:
        """The helper has all ``fds``: close those that are not kept."""
        self.closer.close([fd for fd in fds if fd not in self.passed])

    def close_passed(self) -> None:
        """The program has ended."""
        self.closer.close(self.passed)


NO_STDIO: Final = Stdio()
# What a job that has ended still has to run.
NOTHING: Final = JobSpec(run=Stage(argv=(), env=(), cwd=b"", stdin=b"", limits=None))


class Held(Protocol):
    """Something that must stay while a job has not ended, such as a package on the disk."""

    def hold(self) -> None:
        """A job is going to use it."""

    def release(self) -> None:
        """The job has ended."""


class Job:
    """One job of one tenant. Made by `Engine.admit`, run by `Engine.submit`."""

    __slots__ = (
        "_engine",
        "cancel_reason",
        "collecting",
        "compile_limits",
        "done",
        "flags",
        "held",
        "killed_id",
        "limits",
        "line",
        "memory",
        "mode",
        "mounts",
        "patient",
        "plain",
        "root",
        "run_in_task",
        "size",
        "spec",
        "stage_id",
        "started_ns",
        "state",
        "stdio",
        "stopped",
        "tenant",
    )

    def __init__(self, engine: "Engine", spec: JobSpec, tenant: int, limits: JobLimits) -> None:
        self._engine = engine
        self.spec = spec
        self.tenant = tenant
        self.line = spec.client
        self.limits = limits
        self.compile_limits = limits
        self.mode = wire.MODE_RECYCLED
        self.flags = 0  # Of every program of the job.
        self.mounts = 0
        self.root: Root | None = None
        self.held: Held | None = None
        self.size = len(spec.run.stdin)
        self.stdio = NO_STDIO
        self.memory: Memory | None = None  # What becomes descriptor 3.
        steps = spec.compile or spec.steps or spec.collect
        self.plain = not (steps or spec.stream or spec.stdin_stream)
        self.done: Callable[[Outcome], None] = nobody
        self.run_in_task: Callable[[], None] | None = None
        self.state = WAITING
        self.stage_id = 0  # The helper's job that runs now.
        self.killed_id = 0  # The last that the helper was told to kill.
        self.started_ns = 0
        self.cancel_reason = ""
        self.collecting = False  # What runs is no program of it.
        self.stopped = False  # No further program of it is to run; see `Engine.stop`.
        self.patient = False  # Waits for a helper that does not come back, too.

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
        self.stage_id = 0
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


def nobody(outcome: Outcome) -> None:
    """Takes the outcome of a job whose owner is gone."""


def unfinished(job: Job) -> Result:
    """Of a job whose task was cancelled: with its connection, or because sandboxd ends."""
    return results.cancelled() if job.cancel_reason else results.internal_error(ENDED_BEFORE)


def not_started(exc: OSError) -> Result:
    return results.internal_error(f"the job could not be started: {exc.strerror}; try it again")
