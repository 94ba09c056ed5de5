"""Jobs of the daemon's own, run like anybody else's: in the sandbox, in the queue, with limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from sandboxd.engine import wire
from sandboxd.protocol.models import Result

if TYPE_CHECKING:
    from sandboxd.engine.job import Outcome
    from sandboxd.engine.jobs import Engine
    from sandboxd.protocol.jobs import JobSpec

# A tenant of its own (no user has this uid, and the self test has the one above): its share of the
# queue is nobody else's, and a slot that served it is never given to a client's job.
TENANT: Final = 2**32 - 3


async def run(engine: Engine, spec: JobSpec) -> Result:
    """Run one plain job (one stage, no streams, nothing collected) and return its result.

    Raises RequestError when it is not taken or its limits are above the most allowed. The job is
    killed when the task is cancelled.
    """
    if spec.compile or spec.collect or spec.stream or spec.stdin_stream:
        raise ValueError("only a job of one program can be run from inside")
    job = engine.admit(spec, TENANT)
    job.mode = wire.MODE_FRESH  # No slot is left behind that serves nobody else.
    ended = trio.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        # Statistics are of what clients do.
        engine.counts[outcome.status if isinstance(outcome, Result) else "error"] -= 1
        outcomes.append(outcome)
        ended.set()

    job.done = done
    engine.submit(job)
    try:
        await ended.wait()
    except BaseException:
        engine.abandon(job)
        raise
    outcome = outcomes[0]
    if not isinstance(outcome, Result):
        raise outcome if isinstance(outcome, Exception) else TypeError(outcome)
    return outcome
