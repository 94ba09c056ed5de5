"""``job.batch``: many jobs in one request, answered together and in order.

The batch feeds the queue as far as the tenant's share goes, and goes on each time one of its jobs
ends, so its size is not bounded by the queue's.
"""

from functools import partial
from typing import Final

from sandboxd.connection import LATER, Connection
from sandboxd.engine.job import Job, Outcome
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import BUSY, LIMIT_EXCEEDED, RequestError, invalid
from sandboxd.protocol.jobs import batch_size, job_spec
from sandboxd.protocol.models import BatchParams, BatchResult, Result, StagesResult
from sandboxd.protocol.sizes import output_bytes

# So much of a batch's results is not worth counting.
_COUNTED_BYTES: Final = 65536
_RESULTS: Final = (Result, StagesResult)
_TOO_MUCH: Final = (
    "the result is forgotten: too much waits to be read by you or asked for; run fewer jobs at once"
)


class Batch:
    """One batch on its way."""

    def __init__(self, connection: Connection, msgid: int, params: BatchParams) -> None:
        self._connection = connection
        self._msgid = msgid
        self._raw = params.jobs
        self._results: list[object] = [None] * batch_size(params.jobs)
        self._next = 0
        self._running = 0
        self._bytes = 0
        self._full = False
        self._counted = 0
        self._feeding = False

    def feed(self) -> None:
        """Submit jobs until the queue takes no more. Raises RequestError `busy` when it took
        none and none of this batch is left to end."""
        if self._feeding:  # A job that ends at once calls back from within submit.
            return
        self._feeding = True
        try:
            while self._next < len(self._raw) and self._submit(self._next):
                self._next += 1
        finally:
            self._feeding = False
        if self._next == len(self._raw) and not self._running:
            self.leave()
            self._connection.answer(self._msgid, BatchResult(self._results))

    def _submit(self, index: int) -> bool:
        """False when the queue is full and the job has to wait for another of this batch."""
        jobs = self._connection.jobs
        try:
            job = self._admit(index)
        except RequestError as error:
            self._results[index] = {"error": rpc.error_map(error)}
            return True
        job.done = partial(self._done, index, job)
        self._running += 1
        try:
            jobs.submit(job)
        except RequestError as error:
            self._running -= 1
            if error.code == BUSY and self._running:
                return False
            if error.code == BUSY and not index:
                raise
            self._results[index] = {"error": rpc.error_map(error)}
        return True

    def _admit(self, index: int) -> Job:
        field = f"jobs[{index}]"
        spec = job_spec(rpc.decode_job(self._raw[index], field), field=field)
        if spec.fds is not None:
            raise invalid(f"{field}.fds", "cannot be used in a batch; send the job by job.run")
        return self._connection.jobs.admit(spec, field)

    def _done(self, index: int, job: Job, outcome: Outcome) -> None:
        self._connection.jobs.live.discard(job)
        self._running -= 1
        self._results[index] = self._bounded(outcome)
        if self._bytes > self._counted + _COUNTED_BYTES and not self._connection.closed:
            self._count()
        if not self._connection.closed:
            self.feed()

    def _bounded(self, outcome: Outcome) -> object:
        """One answer carries all results, so together they have a limit."""
        size = output_bytes(outcome)
        most = self._connection.server.config.max_message_bytes
        if self._full or self._bytes + size > most:
            self._full = True
            outcome = RequestError(
                LIMIT_EXCEEDED,
                f"the results of the batch are more than {most} bytes; send fewer jobs at once",
                {"maximum": most},
            )
        else:
            self._bytes += size
        if isinstance(outcome, RequestError):
            return {"error": rpc.error_map(outcome)}
        return outcome

    def _count(self) -> None:
        """What it keeps. That may be too much, and close the connection."""
        self._counted = self._bytes
        self._connection.jobs.batches.add(self)
        self._connection.share.keep(self, self._bytes)

    def forget(self) -> None:
        """Of all that this user has not taken, the results so far are too much."""
        error = RequestError(LIMIT_EXCEEDED, _TOO_MUCH)
        told = {"error": rpc.error_map(error)}
        self._results = [told if isinstance(each, _RESULTS) else each for each in self._results]
        self._bytes = self._counted = 0
        self._connection.share.forget(self)

    def leave(self) -> None:
        """It is over, or its connection is."""
        self._connection.jobs.batches.discard(self)
        self._connection.share.forget(self)


def batch(connection: Connection, msgid: int, params: BatchParams) -> object:
    connection.peer.require_run()
    Batch(connection, msgid, params).feed()
    return LATER
