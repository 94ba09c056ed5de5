"""The link itself: workers that come and go, a full socket, a keeper that dies."""

import errno
import os
import socket
import struct
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from engine_peer import DEADLINE_S, Peer, spec
from trio.testing import MockClock

from sandboxd.config import Config
from sandboxd.engine import helper, wire
from sandboxd.engine.helper import HelperDied, Keeper
from sandboxd.engine.jobs import Engine
from sandboxd.errors import HostError
from sandboxd.protocol.errors import RequestError


@pytest.fixture
def config() -> Config:
    return Config(jobs=1, queue_length=8, queue_per_tenant=6)


async def run_to_its_end(engine: Engine) -> BaseException:
    error: BaseException = AssertionError("the link ended without an error")
    with trio.fail_after(DEADLINE_S):
        try:
            await engine.link.run()
        except* HostError as group:
            error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@pytest.fixture
def alone(config: Config, keeper: tuple[Keeper, socket.socket]) -> Engine:
    """An engine whose link does not run yet."""
    return Engine(config, keeper[0])


async def test_the_keepers_end_is_fatal(
    alone: Engine, keeper: tuple[Keeper, socket.socket]
) -> None:
    keeper[0].process.kill()
    keeper[1].close()
    error = await run_to_its_end(alone)
    assert isinstance(error, HelperDied)
    assert "sandbox-helper ended" in str(error)


async def test_another_abi_is_fatal(alone: Engine, keeper: tuple[Keeper, socket.socket]) -> None:
    peer = Peer(keeper[1])
    peer.start_worker(abi=wire.ABI + 1)
    assert "build them together" in str(await run_to_its_end(alone))
    peer.close()


async def test_another_protocol_is_fatal(
    alone: Engine, keeper: tuple[Keeper, socket.socket]
) -> None:
    keeper[1].send(b"hello")
    assert "another protocol" in str(await run_to_its_end(alone))


async def test_a_worker_whose_socket_could_not_be_received(
    engine: Engine, keeper: tuple[Keeper, socket.socket]
) -> None:
    keeper[1].send(wire.RESTARTS.pack(1))  # The kernel has dropped it: there was no descriptor.
    await trio.testing.wait_all_tasks_blocked()
    assert not engine.link.up
    peer = Peer(keeper[1])
    peer.start_worker()
    with trio.fail_after(DEADLINE_S):
        await engine.up.wait()
    peer.close()


async def test_a_worker_is_up_only_after_its_hello(
    engine: Engine, keeper: tuple[Keeper, socket.socket]
) -> None:
    peer = Peer(keeper[1])
    peer.start_worker(hello=False)
    await trio.testing.wait_all_tasks_blocked()
    assert not engine.link.up
    with pytest.raises(OSError, match="the helper is down"):
        engine.link.send(b"x")
    peer.close()


async def test_a_full_socket_fills_the_backlog_and_nothing_is_lost_or_reordered(
    engine: Engine, peer: Peer
) -> None:
    count = 300
    for number in range(count):
        engine.link.send(wire.pack_control(wire.MSG_SIGNAL, number, 9) + bytes(4000))
    assert engine.link._backlog
    assert peer.work is not None
    seen = []
    with trio.fail_after(DEADLINE_S):
        while len(seen) < count:
            await trio.lowlevel.wait_readable(peer.work)
            seen.append(wire.CONTROL.unpack_from(peer.work.recv(8192))[2])
    assert seen == list(range(count))


@pytest.mark.usefixtures("open_descriptors")
async def test_a_dead_worker_leaves_no_descriptors_in_the_backlog(
    engine: Engine, peer: Peer
) -> None:
    while not engine.link._backlog:
        engine.link.send(bytes(60_000), (os.open(os.devnull, os.O_RDONLY),))
    engine.link.send(b"x", (os.open(os.devnull, os.O_RDONLY),))
    peer.die()
    with trio.fail_after(DEADLINE_S):
        while engine.link.up:
            await trio.lowlevel.checkpoint()


async def test_the_next_worker_may_be_there_before_the_death_of_the_last_is_seen(
    engine: Engine, peer: Peer
) -> None:
    """As on a busy machine: sandboxd finds both at once, and does not know which it looks at first.
    The jobs of the dead one are lost with it, and the queue goes on."""
    for _ in range(40):
        outcomes = await ask(engine)
        peer.die()
        peer.start_worker()
        await trio.testing.wait_all_tasks_blocked()
        assert [getattr(outcome, "status", None) for outcome in outcomes] == ["internal_error"]
        assert engine.link.up


async def test_a_message_the_kernel_will_never_take(engine: Engine, peer: Peer) -> None:
    with pytest.raises(OSError, match="Message too long"):
        engine.link.send(bytes(8 << 20))


async def test_stats(engine: Engine, peer: Peer, nursery: trio.Nursery) -> None:
    async def answer() -> None:
        assert (await peer.receive()).kind == wire.MSG_STATS
        peer.send(wire.STATS.pack(wire.MSG_STATS_IS, *range(1, 12)))

    nursery.start_soon(answer)
    stats = await engine.link.stats(DEADLINE_S)
    assert stats is not None
    assert (stats.ready, stats.slots_retired) == (1, 11)


async def test_no_stats_from_a_worker_that_is_stuck_or_down(engine: Engine, peer: Peer) -> None:
    assert await engine.link.stats(0.01) is None
    peer.die()
    with trio.fail_after(DEADLINE_S):
        while engine.link.up:
            await trio.lowlevel.checkpoint()
    assert await engine.link.stats(DEADLINE_S) is None


async def test_a_slot_that_cannot_be_made_is_told_with_its_reason(
    engine: Engine, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.send(wire.SLOT_ERROR.pack(wire.MSG_SLOT_ERROR, 2, errno.ENOSPC, 100))
    with trio.fail_after(DEADLINE_S):
        await engine.trouble.wait()
    assert engine.trouble_text.startswith("creating namespaces failed: No space left on device")


async def test_a_message_of_an_unknown_kind_is_ignored(engine: Engine, peer: Peer) -> None:
    peer.send(struct.pack("=I", 250))
    await trio.testing.wait_all_tasks_blocked()
    assert engine.link.up


async def test_a_result_that_came_without_its_descriptor(engine: Engine, peer: Peer) -> None:
    """As where sandboxd has none left: the job is told, and the next one is served."""
    outcomes: list[object] = []
    for flags, size in ((wire.RESULT_MEMFD, 1 << 20), (0, 0)):
        job = engine.admit(spec("x"), 7)
        job.done = outcomes.append
        engine.submit(job)
        peer.result((await peer.receive()).fields["job_id"], flags=flags, stdout_len=size)
        await trio.testing.wait_all_tasks_blocked()
    assert [getattr(outcome, "status", None) for outcome in outcomes] == ["internal_error", "ok"]
    assert engine.link.up


async def test_jobs_do_not_wait_for_a_helper_that_does_not_come_back(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    outcomes: list[object] = []
    peer.die()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        job = engine.admit(spec("x"), 7)
        job.done = outcomes.append
        engine.submit(job)
    await trio.sleep(4.9)
    assert outcomes == []
    await trio.sleep(0.2)
    assert [getattr(outcome, "status", None) for outcome in outcomes] == ["internal_error"] * 3
    with pytest.raises(RequestError, match="does not come back"):
        engine.submit(engine.admit(spec("x"), 7))
    peer.start_worker()
    await trio.testing.wait_all_tasks_blocked()
    engine.submit(engine.admit(spec("x"), 7))
    assert (await peer.receive()).kind == wire.MSG_JOB


async def test_a_patient_job_waits_for_a_helper_that_does_not_come_back(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    outcomes: list[object] = []
    peer.die()
    await trio.testing.wait_all_tasks_blocked()
    for before in (True, False):
        job = engine.admit(spec("x"), 7)
        job.done = outcomes.append
        job.patient = True
        engine.submit(job)
        if before:
            await trio.sleep(5.1)
    assert outcomes == []
    peer.start_worker()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):
        peer.result((await peer.receive()).fields["job_id"])
        await trio.testing.wait_all_tasks_blocked()
    assert [getattr(outcome, "status", None) for outcome in outcomes] == ["ok", "ok"]


async def test_a_helper_that_comes_back_in_time_loses_nothing(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        peer.die()
        await trio.sleep(4)
        peer.start_worker()
        await trio.testing.wait_all_tasks_blocked()
    peer.die()
    await trio.testing.wait_all_tasks_blocked()
    engine.submit(engine.admit(spec("x"), 7))
    await trio.sleep(4)
    peer.start_worker()
    await trio.testing.wait_all_tasks_blocked()
    assert (await peer.receive()).kind == wire.MSG_JOB


async def test_a_helper_that_is_not_there() -> None:
    with pytest.raises(HostError, match="cannot start /nowhere/helper: No such file"):
        helper.start_keeper([], Path("/nowhere/helper"))


async def test_the_keeper_is_waited_for(keeper: tuple[Keeper, socket.socket]) -> None:
    assert not await keeper[0].wait(0.01)
    keeper[0].close()
    keeper[1].close()
    keeper[0].process.kill()
    assert await keeper[0].wait(DEADLINE_S)


async def ask(engine: Engine) -> list[object]:
    """Have a job with the worker; what becomes of it."""
    outcomes: list[object] = []
    job = engine.admit(spec("x"), 7)
    job.done = outcomes.append
    engine.submit(job)
    await trio.testing.wait_all_tasks_blocked()
    return outcomes


@pytest.fixture
def unread(keeper: tuple[Keeper, socket.socket]) -> None:
    """What the keeper is told is left to the test: the process reads no more."""
    keeper[0].process.kill()
    keeper[0].process.wait()


async def told_to_kill(ctl: socket.socket) -> tuple[bytes, float]:
    """What the keeper is told, and when. The clock may jump while something is on its way."""
    start = trio.current_time()
    while trio.current_time() - start < 60:
        try:
            return ctl.recv(64), trio.current_time() - start
        except BlockingIOError:
            await trio.sleep(0.1)
    raise AssertionError("nothing")


@pytest.mark.usefixtures("unread")
async def test_a_worker_that_hangs_is_killed_by_the_keeper(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    outcomes = await ask(engine)
    assert (await peer.receive()).kind == wire.MSG_JOB
    message, seconds = await told_to_kill(peer.ctl)
    assert message == wire.RESTARTS.pack(1)
    assert 9.9 < seconds < 15.1
    peer.die()
    while engine.link.up:
        await trio.lowlevel.checkpoint()
    assert [getattr(outcome, "status", None) for outcome in outcomes] == ["internal_error"]


@pytest.mark.usefixtures("unread")
async def test_a_worker_that_answers_the_second_time_lives(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    """As where it was sandboxd that stood still."""
    await ask(engine)
    assert (await peer.receive()).kind == wire.MSG_JOB
    await trio.sleep(8)
    for _ in range(2):
        assert (await peer.receive()).kind == wire.MSG_STATS
    peer.send(wire.STATS.pack(wire.MSG_STATS_IS, *range(1, 12)))
    await trio.sleep(6)
    with pytest.raises(BlockingIOError):
        peer.ctl.recv(64)


async def test_an_idle_worker_is_not_asked(
    engine: Engine, peer: Peer, autojump_clock: MockClock
) -> None:
    await trio.sleep(60)
    assert peer.nothing_sent()


@pytest.mark.usefixtures("unread")
async def test_a_worker_that_never_says_hello_is_killed(
    engine: Engine, keeper: tuple[Keeper, socket.socket], autojump_clock: MockClock
) -> None:
    peer = Peer(keeper[1])
    peer.start_worker(hello=False)
    message, seconds = await told_to_kill(peer.ctl)
    assert message == wire.RESTARTS.pack(1)
    assert 4.9 < seconds < 5.2
    peer.close()


@pytest.mark.parametrize("dead", [False, True])
async def test_a_keeper_that_hangs_is_fatal(
    alone: Engine, keeper: tuple[Keeper, socket.socket], autojump_clock: MockClock, dead: bool
) -> None:
    """Whether the worker hangs with it, or died and is not replaced."""
    peer = Peer(keeper[1])
    peer.start_worker()
    error: list[BaseException] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            try:
                await alone.link.run()
            except* HelperDied as group:
                error.append(group)

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        await ask(alone)
        if dead:
            peer.die()
        await trio.sleep(25)
    assert "sandbox-helper hangs" in str(error[0].exceptions)
    assert keeper[0].hangs
    peer.close()
