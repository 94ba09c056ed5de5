"""The other side of a pipe is in the kernel with its lock, for as long as the test wants: the loop
goes on, and every byte arrives once and in order."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import trio
from engine_peer import until

from sandboxd.engine import streams
from sandboxd.engine.aside import Aside, close_aside
from sandboxd.engine.streams import Ends, Intake, OutputPump, Stdin
from sandboxd.functions.logs import LogReader
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
def ends() -> Ends:
    """The ends of a stage; the job's are the test's."""
    return Ends()


async def goes_on() -> None:
    """Whether the loop does; some ticks, so that what was to be started has been."""
    began = time.monotonic()
    for _ in range(20):
        await trio.sleep(0.005)
    assert time.monotonic() - began < 1


def make_output(ends: Ends) -> tuple[Aside, int]:
    ends.add_output("stdout")
    theirs = ends.for_job().stdout
    assert theirs is not None
    return ends.outputs[0][1], theirs


def make_stdin(ends: Ends) -> tuple[Aside, int]:
    ends.add_stdin()
    theirs = ends.for_job().stdin
    assert theirs is not None
    assert ends.stdin is not None
    return ends.stdin, theirs


def make_pump(end: Aside, sink: Sink) -> OutputPump:
    return OutputPump("stdout", end, LIMIT, sink, lambda: None)


async def test_output(page: HeldPage, ends: Ends, nursery: trio.Nursery) -> None:
    end, theirs = make_output(ends)
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
    ends.close()


async def test_output_when_the_program_is_killed(page: HeldPage, ends: Ends) -> None:
    """As a stage ends: the pump is cancelled, while its thread waits, and the pipe drained."""
    end, theirs = make_output(ends)
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
    ends.close()


async def test_a_drain_does_not_wait_for_strangers(
    page: HeldPage, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the job's end by a passed socket can keep a thread, and no more."""
    monkeypatch.setattr(streams, "_LAST_READ_S", 0.05)
    end, theirs = make_output(ends)
    sink = Sink()
    os.write(theirs, b"first ")
    page.written_to(theirs)
    with trio.fail_after(1):
        pump = make_pump(end, sink)
        await pump.drain()
        ends.close()
    page.release()
    await until(lambda: not end.busy)
    assert sink.data == b""
    os.close(theirs)


async def test_a_descriptor_is_closed_when_its_thread_is_back(page: HeldPage, ends: Ends) -> None:
    """Its number must not be another's while a thread may still use it."""
    end, theirs = make_output(ends)
    os.write(theirs, b"first ")
    page.written_to(theirs)
    intake = Intake(end, LIMIT, lambda data: None, lambda: None)
    intake.start()
    await goes_on()
    ends.close()
    await goes_on()
    os.fstat(end.fd)
    page.release()
    await until(lambda: not end.busy)
    os.close(theirs)


async def test_stdin(page: HeldPage, ends: Ends, nursery: trio.Nursery) -> None:
    end, theirs = make_stdin(ends)
    stdin = Stdin()
    taken: list[int] = []
    nursery.start_soon(partial(stdin.pump, end, terminal=False))
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
    ends.close()


async def test_the_end_of_stdin(page: HeldPage, ends: Ends) -> None:
    end, theirs = make_stdin(ends)
    os.write(end.fd, b"one")
    page.read_from(theirs)
    ends.close_stdin()
    await goes_on()
    page.release()
    assert await trio.to_thread.run_sync(os.read, theirs, 10) == b""
    os.close(theirs)


async def test_a_log(page: HeldPage, pipes: Pipes, nursery: trio.Nursery) -> None:
    """Of all executions one task reads; one that waits keeps no other waiting."""
    logs = [bytearray(), bytearray()]
    ends = [Ends(), Ends()]
    (held, theirs), (other, others) = map(make_output, ends)
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
        await until(lambda count=count: logs[1] == b"x" * count)  # type: ignore[misc]
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
    for each in ends:
        each.close()


async def test_a_log_that_is_finished_while_a_thread_reads(
    page: HeldPage, ends: Ends, nursery: trio.Nursery
) -> None:
    log = bytearray()
    end, theirs = make_output(ends)
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
    ends.close()
    await goes_on()
    reader.close()


async def test_the_size_of_a_terminal(page: HeldPage, ends: Ends) -> None:
    ends.add_terminal(WindowSize(rows=1, columns=1))
    theirs = ends.for_job().stdout
    assert theirs is not None
    assert ends.window is not None
    done: list[int] = []
    page.gets_window_size(theirs)
    for number in range(1, 4):
        ends.window.resize(number, number, lambda number=number: done.append(number))  # type: ignore[misc]
    await goes_on()
    assert done == []
    page.release()
    await until(lambda: done == [1, 2, 3])
    assert tuple(os.get_terminal_size(theirs)) == (3, 3)
    os.close(theirs)
    ends.close()


async def test_a_terminal_that_ends_tells_those_who_wait(page: HeldPage, ends: Ends) -> None:
    ends.add_terminal(WindowSize(rows=1, columns=1))
    theirs = ends.for_job().stdout
    assert theirs is not None
    assert ends.window is not None
    done: list[int] = []
    page.gets_window_size(theirs)
    ends.window.resize(2, 2, lambda: done.append(1))
    ends.window.resize(3, 3, lambda: done.append(2))
    ends.close()
    assert done == [1, 2]
    page.release()
    await until(lambda: ends.window and not ends.window.end.busy)
    os.close(theirs)


async def test_a_close(page: HeldPage) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one")
    page.read_from(reader)
    close_aside([writer])
    await goes_on()
    page.release()
    assert os.read(reader, 10) == b""
    os.close(reader)
