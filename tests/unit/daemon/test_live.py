"""Executions' jobs that find the queue full, against a helper that the test plays."""

import os

import pytest
import trio
import trio.testing
from engine_peer import DEADLINE_S, Peer, spec

from sandboxd.engine import wire
from sandboxd.engine.job import Job, Outcome
from sandboxd.engine.jobs import Engine
from sandboxd.functions import live as lives
from sandboxd.functions.live import Live
from sandboxd.functions.logs import LogReader
from sandboxd.functions.model import Execution
from sandboxd.packages.use import Use
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.models import Result

TENANT = 7
SHARE = 6  # See the configuration in conftest.py.


class Tries:
    """Lets the test wait for a job to have been refused so many times."""

    def __init__(self, engine: Engine, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        self._refused = 0
        self._more = trio.Event()
        submit = engine.submit

        def counted(submitted: Job) -> None:
            try:
                submit(submitted)
            except RequestError:
                if submitted is job:
                    self._refused += 1
                    self._more.set()
                    self._more = trio.Event()
                raise

        monkeypatch.setattr(engine, "submit", counted)

    async def refused(self, times: int) -> None:
        with trio.fail_after(DEADLINE_S):
            while self._refused < times:
                await self._more.wait()


class Running:
    """An execution's job, being run."""

    def __init__(self, engine: Engine, job: Job, nursery: trio.Nursery) -> None:
        self._outcome: Outcome | None = None
        self._over = trio.Event()
        nursery.start_soon(self._run, engine, job)

    async def _run(self, engine: Engine, job: Job) -> None:
        row = Execution(
            id="x", tenant=TENANT, space="main", function="f", function_id=1, created_ns=1
        )
        reader = LogReader()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            live = Live(row, lambda _: None)
            self._outcome = await lives.run(engine, job, live, reader, lambda: None)
            nursery.cancel_scope.cancel()
        reader.close()
        self._over.set()

    async def status(self) -> str:
        with trio.fail_after(DEADLINE_S):
            await self._over.wait()
        assert isinstance(self._outcome, Result)
        return self._outcome.status


def fill(engine: Engine) -> None:
    """The tenant's share of the queue."""
    for _ in range(engine.scheduler.places + SHARE):
        engine.submit(engine.admit(spec("filler"), TENANT))


async def serve(peer: Peer) -> None:
    """Every job ends well."""
    while True:
        message = await peer.receive()
        for fd in message.fds:
            os.close(fd)
        if message.kind == wire.MSG_JOB:
            peer.result(message.fields["job_id"])


@pytest.mark.parametrize("tries", [1, 2])
async def test_what_it_needs_is_removed_while_it_waits_for_room(
    engine: Engine, peer: Peer, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """It was admitted when both were there: as any other job that waits, it goes on."""
    engine.roots.add("e", os.open("/", os.O_PATH))
    fill(engine)
    gone: list[str] = []
    job = engine.admit(spec("x", environment="e"), TENANT)
    use = Use()
    job.held = use
    refusals = Tries(engine, job, monkeypatch)
    running = Running(engine, job, nursery)
    await refusals.refused(1)
    engine.roots.remove("e", lambda: gone.append("environment"))
    use.retire(lambda: gone.append("package"))
    await refusals.refused(tries)
    assert gone == []
    nursery.start_soon(serve, peer)
    assert await running.status() == "ok"
    assert sorted(gone) == ["environment", "package"]


async def test_what_it_needed_is_let_go_when_it_ends_before_there_is_room(
    engine: Engine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.roots.add("e", os.open("/", os.O_PATH))
    fill(engine)
    gone: list[str] = []
    job = engine.admit(spec("x", environment="e"), TENANT)
    refusals = Tries(engine, job, monkeypatch)
    async with trio.open_nursery() as nursery:
        Running(engine, job, nursery)
        await refusals.refused(1)
        engine.roots.remove("e", lambda: gone.append("environment"))
        nursery.cancel_scope.cancel()
    assert gone == ["environment"]
