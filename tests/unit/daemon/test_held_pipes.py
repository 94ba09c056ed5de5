"""The other side of a pipe is in the kernel with its lock, for as long as the test wants: the loop
goes on, and every byte arrives once and in order."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import trio
from engine_peer import Peer, until
from rpc_client import Client

from sandboxd import passed as passed_fds
from sandboxd.connection import Connection
from sandboxd.engine import aside, streams, wire
from sandboxd.engine.aside import OURS, Aside, Closer
from sandboxd.engine.descriptors import close_all
from sandboxd.engine.job import Stdio
from sandboxd.engine.streams import Ends, Intake, OutputPump, Stdin
from sandboxd.functions.logs import LogReader
from sandboxd.passed import PassedFds
from sandboxd.protocol.models import WindowSize
from support.held import HeldPage

pytestmark = pytest.mark.usefixtures("open_descriptors")

Pipes = Callable[[], tuple[int, int]]
LIMIT = 1 << 20
PAGE = b"page".ljust(HeldPage.size, b"\0")


class Sink:
    """Takes everything."""

    def __init__(self) -> None:
        self.data = b""

    def stage_started(self, stage: str) -> None:
        pass

    def output(self, stream: str, data: bytes) -> None:
        self.data += data

    async def ready(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
def page() -> Iterator[HeldPage]:
    with HeldPage() as page:
        yield page


@pytest.fixture
def held_pipe(page: HeldPage) -> Iterator[tuple[int, int]]:
    """Somebody has its lock until the page is released; the test closes the writing end."""
    reader, writer = os.pipe()
    os.write(writer, b"one")
    page.read_from(reader)
    yield reader, writer
    os.close(reader)


@pytest.fixture
def stage() -> Ends:
    """The ends of a stage; the job's are the test's."""
    return Ends()


async def goes_on() -> None:
    """Whether the loop does; some ticks, so that what was to be started has been."""
    began = time.monotonic()
    for _ in range(20):
        await trio.sleep(0.005)
    assert time.monotonic() - began < 1


def make_output(stage: Ends) -> tuple[Aside, int]:
    stage.add_output("stdout")
    theirs = stage.for_job().stdout
    assert theirs is not None
    return stage.outputs[0][1], theirs


def make_stdin(stage: Ends) -> tuple[Aside, int]:
    stage.add_stdin()
    theirs = stage.for_job().stdin
    assert theirs is not None
    assert stage.stdin is not None
    return stage.stdin, theirs


def make_pump(end: Aside, sink: Sink) -> OutputPump:
    return OutputPump("stdout", end, LIMIT, sink, lambda: None)


async def test_output(page: HeldPage, stage: Ends, nursery: trio.Nursery) -> None:
    end, theirs = make_output(stage)
    sink = Sink()
    os.write(theirs, b"first ")
    page.written_to(theirs)
    nursery.start_soon(make_pump(end, sink).run)
    await goes_on()
    assert sink.data == b""
    page.release(PAGE)
    await until(lambda: len(sink.data) == 6 + len(PAGE))
    os.write(theirs, b" last")
    os.close(theirs)
    await until(lambda: sink.data == b"first " + PAGE + b" last")
    stage.close()


async def test_output_when_the_program_is_killed(page: HeldPage, stage: Ends) -> None:
    """As a stage ends: the pump is cancelled, while its thread waits, and the pipe drained."""
    end, theirs = make_output(stage)
    sink = Sink()
    pump = make_pump(end, sink)
    os.write(theirs, b"first ")
    page.written_to(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await goes_on()
        nursery.cancel_scope.cancel()
    assert end.busy
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.drain)
        await goes_on()
        page.release(PAGE)
    assert sink.data == b"first " + PAGE
    os.close(theirs)
    stage.close()


async def test_a_drain_does_not_wait_for_strangers(
    page: HeldPage, stage: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the job's end by a passed socket can keep a thread, and no more."""
    monkeypatch.setattr(streams, "_LAST_READ_S", 0.05)
    end, theirs = make_output(stage)
    sink = Sink()
    os.write(theirs, b"first ")
    page.written_to(theirs)
    with trio.fail_after(1):
        pump = make_pump(end, sink)
        await pump.drain()
        stage.close()
    page.release()
    await until(lambda: not end.busy)
    assert sink.data == b""
    os.close(theirs)


async def test_a_descriptor_is_closed_when_its_thread_is_back(page: HeldPage, stage: Ends) -> None:
    """Its number must not be another's while a thread may still use it."""
    end, theirs = make_output(stage)
    os.write(theirs, b"first ")
    page.written_to(theirs)
    intake = Intake(end, LIMIT, lambda data: None, lambda: None)
    intake.start()
    await goes_on()
    stage.close()
    await goes_on()
    os.fstat(end.fd)
    page.release()
    await until(lambda: not end.busy)
    os.close(theirs)


async def test_stdin(page: HeldPage, stage: Ends, nursery: trio.Nursery) -> None:
    end, theirs = make_stdin(stage)
    stdin = Stdin()
    taken: list[int] = []
    nursery.start_soon(stdin.pump, end, None)
    stdin.write(b"one", lambda: taken.append(1))
    await until(lambda: taken == [1])
    page.read_from(theirs)
    stdin.write(b"two", lambda: taken.append(2))
    await goes_on()
    assert taken == [1]
    page.release()
    await until(lambda: taken == [1, 2])
    assert os.read(theirs, 10) == b"two"
    os.close(theirs)
    stage.close()


async def test_the_end_of_stdin(page: HeldPage, stage: Ends) -> None:
    """Who passed something, and may have got the job's end by that, is charged for ours."""
    closer = Closer()
    passed = os.open(os.devnull, os.O_WRONLY)
    stage.adopt(Stdio(stdout=passed, closer=closer))
    end, theirs = make_stdin(stage)
    os.write(end.fd, b"one")
    page.read_from(theirs)
    stage.close_stdin()
    await goes_on()
    assert (closer._unclosed, OURS._unclosed) == (1, 0)
    page.release()
    assert await trio.to_thread.run_sync(os.read, theirs, 10) == b""
    os.close(theirs)
    os.close(passed)


async def test_a_log(page: HeldPage, pipes: Pipes, nursery: trio.Nursery) -> None:
    """Of all executions one task reads; one that waits keeps no other waiting."""
    logs = [bytearray(), bytearray()]
    stages = [Ends(), Ends()]
    (held, theirs), (other, others) = map(make_output, stages)
    intakes = [
        Intake(end, LIMIT, log.extend, lambda: None)
        for end, log in zip((held, other), logs, strict=True)
    ]
    reader = LogReader()
    nursery.start_soon(reader.run)
    for intake in intakes:
        reader.add(intake)
    os.write(theirs, b"first ")
    page.written_to(theirs)
    for count in range(1, 4):
        os.write(others, b"x")
        await until(partial(logs[1].endswith, b"x" * count))
    await goes_on()
    assert logs[0] == b""
    page.release(PAGE)
    await until(lambda: logs[0] == b"first " + PAGE)
    os.write(theirs, b" more")
    await until(lambda: logs[0].endswith(b" more"))
    os.close(others)
    await until(lambda: intakes[1].ended)
    await reader.finish(intakes[1])
    os.write(theirs, b" last")
    await reader.finish(intakes[0])
    assert logs[0] == b"first " + PAGE + b" more last"
    os.close(theirs)
    reader.close()
    for each in stages:
        each.close()


async def test_a_log_that_is_finished_while_a_thread_reads(
    page: HeldPage, stage: Ends, nursery: trio.Nursery
) -> None:
    log = bytearray()
    end, theirs = make_output(stage)
    intake = Intake(end, LIMIT, log.extend, lambda: None)
    reader = LogReader()
    nursery.start_soon(reader.run)
    reader.add(intake)
    os.write(theirs, b"first ")
    page.written_to(theirs)
    await until(lambda: end.busy)
    async with trio.open_nursery() as finishing:
        finishing.start_soon(reader.finish, intake)
        await goes_on()
        page.release(PAGE)
    assert log == b"first " + PAGE
    os.close(theirs)
    stage.close()
    await goes_on()
    reader.close()


async def test_the_size_of_a_terminal(page: HeldPage, stage: Ends) -> None:
    stage.add_terminal(WindowSize(rows=1, columns=1))
    theirs = stage.for_job().stdout
    assert theirs is not None
    assert stage.window is not None
    done: list[int] = []
    page.gets_window_size(theirs)
    for number in range(1, 4):
        stage.window.resize(number, number, partial(done.append, number))
    await goes_on()
    assert done == []
    page.release()
    await until(lambda: done == [1, 2, 3])
    assert tuple(os.get_terminal_size(theirs)) == (3, 3)
    os.close(theirs)
    stage.close()


async def test_what_comes_after_a_change_of_size_is_written_after_it(
    page: HeldPage, stage: Ends, nursery: trio.Nursery
) -> None:
    stage.add_terminal(WindowSize(rows=1, columns=1))
    theirs = stage.for_job().stdout
    assert theirs is not None
    assert stage.window is not None
    assert stage.stdin is not None
    page.gets_window_size(theirs)
    stage.window.resize(2, 2, lambda: None)
    stdin = Stdin()
    taken: list[int] = []
    stdin.write(b"line\n", lambda: taken.append(1))
    nursery.start_soon(stdin.pump, stage.stdin, stage.window)
    await goes_on()
    assert taken == []
    page.release()
    await until(lambda: taken == [1])
    assert tuple(os.get_terminal_size(theirs)) == (2, 2)
    os.close(theirs)
    stage.close()


async def test_a_terminal_that_ends_tells_those_who_wait(page: HeldPage, stage: Ends) -> None:
    stage.add_terminal(WindowSize(rows=1, columns=1))
    theirs = stage.for_job().stdout
    assert theirs is not None
    assert stage.window is not None
    done: list[int] = []
    page.gets_window_size(theirs)
    stage.window.resize(2, 2, lambda: done.append(1))
    stage.window.resize(3, 3, lambda: done.append(2))
    stage.close()
    assert done == [1, 2]
    page.release()
    await until(lambda: stage.window and not stage.window.end.busy)
    os.close(theirs)


async def test_a_close(page: HeldPage, held_pipe: tuple[int, int]) -> None:
    reader, writer = held_pipe
    OURS.close([writer])
    await goes_on()
    page.release()
    assert os.read(reader, 10) == b""


# -- what clients pass ------------------------------------------------------------------------


async def test_passed_descriptors_that_nobody_wants(
    page: HeldPage, held_pipe: tuple[int, int]
) -> None:
    reader, writer = held_pipe
    passed = PassedFds()
    passed.received([writer])
    await passed.look()
    passed.message_ended()
    passed.read_ended(partial=False)
    await goes_on()
    page.release()
    assert os.read(reader, 10) == b""


async def test_passed_descriptors_that_were_not_received(
    page: HeldPage, held_pipe: tuple[int, int], client: Client, connection: Connection
) -> None:
    """They are closed with the connection."""
    reader, writer = held_pipe
    client.send_bytes(b"\xc1")
    client.send_bytes(b"x", [writer])
    os.close(writer)
    await goes_on()
    assert connection.closed
    page.release()
    assert os.read(reader, 10) == b""


@pytest.fixture
def too_many(page: HeldPage, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """As many ends as a user may have that cannot be closed; the test closes them."""
    monkeypatch.setattr(aside, "MAX_UNCLOSED", 3)
    monkeypatch.setattr(passed_fds, "_PATIENCE_S", 0.05)
    reader, writer = os.pipe()
    os.write(writer, b"one")
    copies = [os.open(f"/proc/self/fd/{writer}", os.O_WRONLY) for _ in range(3)]
    page.read_from(reader)
    yield copies
    os.close(writer)
    os.close(reader)


async def test_many_that_cannot_be_closed(
    page: HeldPage, too_many: list[int], client: Client, connection: Connection
) -> None:
    """They are counted, and no further ones are taken while there are too many."""
    for copy in too_many:
        client.send("server.info", fds=[copy])
        os.close(copy)
        await client.message()
    assert connection.passed.closer.full
    client.send("server.info")
    assert (await client.message())[2][0]["message"].startswith("too many descriptors")
    assert await client.message() is None
    page.release()
    await until(lambda: not connection.passed.closer.full)


async def test_room_is_made_when_they_are_closed(
    page: HeldPage,
    held_pipe: tuple[int, int],
    client: Client,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits for that goes on at once."""
    monkeypatch.setattr(aside, "MAX_UNCLOSED", 1)
    _, writer = held_pipe
    client.send("server.info", fds=[writer])
    os.close(writer)
    await client.message()
    assert connection.passed.closer.full
    client.send("server.info")
    await goes_on()
    page.release()
    assert (await client.message())[2] is None


async def test_what_the_helper_had_is_closed_here_last(
    page: HeldPage, too_many: list[int], client: Client, connection: Connection, peer: Peer
) -> None:
    """The helper's close does not wait then, and those that do are counted for who passed them."""
    for copy in too_many:
        msgid = client.send("job.run", {"argv": ["x"], "fds": {"stdout": 0}}, [copy])
        os.close(copy)
        message = await peer.receive()
        await trio.to_thread.run_sync(close_all, message.fds)
        assert connection.passed.closer._unclosed < 3
        peer.result(message.fields["job_id"], reason=wire.REASON_CANCELLED)
        await client.answer(msgid)
    assert connection.passed.closer.full
    client.send("server.info")
    assert (await client.message())[2][0]["message"].startswith("too many descriptors")
    page.release()
    await until(lambda: not connection.passed.closer.full)


async def test_what_a_client_passed_that_has_gone(
    client: Client, connection: Connection, peer: Peer, pipes: Pipes
) -> None:
    """It is kept until the helper has reported the end of each program, whoever waits for that."""
    reader, _ = pipes()
    for stream in (False, True):
        client.send("job.start", {"argv": ["x"], "stream": stream, "fds": {"stdin": 0}}, [reader])
        close_all((message := await peer.receive()).fds)
        assert message.fields["fd_mask"] & wire.FD_STDIN
    client.sock.close()
    killed = [(await peer.receive()).fields["job_id"] for _ in range(2)]
    engine = connection.server.engine
    kept = [fd for stdio in engine._kept.values() for fd in stdio.passed]
    assert [os.fstat(fd).st_ino for fd in kept] == [os.fstat(reader).st_ino] * 2
    for job_id in killed:
        peer.result(job_id, reason=wire.REASON_CANCELLED)
    await engine.wait_idle()
    assert engine._kept == {}
