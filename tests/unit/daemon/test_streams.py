"""Streamed jobs: real pipes and a real terminal, the helper played by the test."""

import os
import termios
from collections.abc import Callable

import pytest
import trio
import trio.testing
from engine_peer import Message, Peer, until
from rpc_client import Client

from sandboxd.connection import Connection
from sandboxd.engine import wire
from sandboxd.engine.aside import Aside
from sandboxd.engine.streams import Ends, OutputPump, Stdin, Window
from sandboxd.protocol.errors import RequestError
from sandboxd.protocol.models import WindowSize

Pipes = Callable[[], tuple[int, int]]


class Sink:
    """Takes everything, unless told to be slow."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.slow = False

    def stage_started(self, stage: str) -> None:
        self.taken.append(("stage", stage.encode()))

    def output(self, stream: str, data: bytes) -> None:
        self.taken.append((stream, data))

    async def ready(self) -> None:
        if self.slow:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.taken)


# -- OutputPump -------------------------------------------------------------------------------


def pump(fd: int, sink: Sink, limit: int = 1000) -> tuple[OutputPump, list[str]]:
    os.set_blocking(fd, False)
    exceeded: list[str] = []
    return OutputPump("stdout", Aside(fd), limit, sink, lambda: exceeded.append("yes")), exceeded


async def test_output_up_to_the_end(pipes: Pipes) -> None:
    reader, writer = pipes()
    sink = Sink()
    output, exceeded = pump(reader, sink)
    os.write(writer, b"all of it")
    writer_file = os.fdopen(os.dup(writer), "wb")
    writer_file.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await until(lambda: sink.data == b"all of it")
        nursery.cancel_scope.cancel()
    assert (exceeded, output.truncated) == ([], False)


@pytest.mark.parametrize("size", [1000, 1001, 5000])
async def test_exactly_the_limit_is_passed_on(pipes: Pipes, size: int) -> None:
    reader, writer = pipes()
    sink = Sink()
    output, exceeded = pump(reader, sink)
    os.write(writer, b"x" * size)
    await output.drain()
    assert len(sink.data) == min(size, 1000)
    assert output.truncated == (size > 1000)
    assert exceeded == (["yes"] if size > 1000 else [])


async def test_a_cancelled_pump_loses_nothing(pipes: Pipes) -> None:
    reader, writer = pipes()
    sink = Sink()
    sink.slow = True
    output, _ = pump(reader, sink)
    os.write(writer, b"first ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        await until(lambda: sink.data)
        os.write(writer, b"second")
        await trio.testing.wait_all_tasks_blocked()
        assert sink.data == b"first "  # The client does not read: nor do we.
        nursery.cancel_scope.cancel()
    sink.slow = False
    await output.drain()
    assert sink.data == b"first second"


async def test_draining_does_not_wait_for_writers_that_stay(pipes: Pipes) -> None:
    reader, writer = pipes()
    sink = Sink()
    output, _ = pump(reader, sink)
    os.write(writer, b"x")
    with trio.fail_after(5):
        await output.drain()
    assert sink.data == b"x"


# -- Stdin ------------------------------------------------------------------------------------


async def run_stdin(stdin: Stdin, fd: int, *, terminal: bool = False) -> None:
    os.set_blocking(fd, False)
    await stdin.pump(Aside(fd), Window(os.dup(fd)) if terminal else None)


async def test_bytes_are_taken_when_the_pipe_has_them(pipes: Pipes, nursery: trio.Nursery) -> None:
    reader, writer = pipes()
    stdin = Stdin()
    taken: list[int] = []
    stdin.write(b"before ", lambda: taken.append(1))
    stdin.write(b"", lambda: taken.append(2))
    assert taken == [2]
    nursery.start_soon(run_stdin, stdin, writer)
    await until(lambda: taken == [2, 1])
    assert os.read(reader, 100) == b"before "


async def test_a_full_pipe_holds_the_answer_back(pipes: Pipes, nursery: trio.Nursery) -> None:
    reader, writer = pipes()
    stdin = Stdin()
    taken: list[int] = []
    data = os.urandom(300_000)
    nursery.start_soon(run_stdin, stdin, writer)
    stdin.write(data, lambda: taken.append(1))
    seen = b""
    while len(seen) < len(data):
        assert taken == []
        await trio.lowlevel.wait_readable(reader)
        seen += os.read(reader, 65536)
    assert seen == data
    await until(lambda: taken == [1])


async def test_a_client_that_does_not_wait_is_told_to() -> None:
    stdin = Stdin()
    stdin.write(bytes(10 << 20), lambda: None)  # One of any size.
    with pytest.raises(RequestError) as caught:
        stdin.write(b"x", lambda: None)
    assert caught.value.code == "busy"


async def test_small_writes_may_be_sent_ahead() -> None:
    stdin = Stdin()
    for _ in range(1000):
        stdin.write(b"x" * 1000, lambda: None)


async def test_what_nobody_reads_counts_as_taken() -> None:
    reader, mine = os.pipe()
    os.close(reader)
    stdin = Stdin()
    taken: list[int] = []
    for number in range(3):
        stdin.write(b"x", lambda number=number: taken.append(number))  # type: ignore[misc]
    await run_stdin(stdin, mine)
    stdin.write(b"later", lambda: taken.append(3))
    assert taken == [0, 1, 2, 3]
    os.close(mine)


async def test_close_ends_the_pump_after_the_last_byte(pipes: Pipes) -> None:
    reader, writer = pipes()
    stdin = Stdin()
    stdin.write(b"x", lambda: None)
    stdin.close()
    with pytest.raises(RequestError, match="closed already"):
        stdin.write(b"y", lambda: None)
    await run_stdin(stdin, writer)
    assert os.read(reader, 10) == b"x"


async def test_the_end_of_a_terminals_input_is_a_character(pipes: Pipes) -> None:
    reader, writer = pipes()
    stdin = Stdin()
    stdin.close()
    await run_stdin(stdin, writer, terminal=True)
    assert os.read(reader, 10) == b"\x04"


# -- Ends -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("open_descriptors")
async def test_pipe_ends_are_closed_and_the_jobs_block() -> None:
    ends = Ends()
    ends.add_output("stdout")
    ends.add_output("stderr")
    ends.add_stdin()
    stdio = ends.for_job()
    assert [name for name, _ in ends.outputs] == ["stdout", "stderr"]
    assert stdio.stdin is not None
    assert stdio.stdout is not None
    assert os.get_blocking(stdio.stdin)
    assert os.get_blocking(stdio.stdout)
    assert not os.get_blocking(ends.outputs[0][1].fd)
    # The job is another user and may open /dev/stdout again.
    assert os.fstat(stdio.stdout).st_mode & 0o666 == 0o666
    ends.close_stdin()
    assert os.read(stdio.stdin, 1) == b""
    stdio.close()
    ends.close()


@pytest.mark.usefixtures("open_descriptors")
async def test_terminal() -> None:
    ends = Ends()
    ends.add_terminal(WindowSize(rows=40, columns=100))
    stdio = ends.for_job()
    assert stdio.stdin is not None
    assert stdio.stdin == stdio.stdout == stdio.stderr
    assert os.get_terminal_size(stdio.stdin) == (100, 40)
    assert termios.tcgetattr(stdio.stdin)[3] & termios.ECHO
    assert ends.window is not None
    stdio.close()
    ends.close()


@pytest.mark.usefixtures("open_descriptors")
async def test_ends_that_were_never_used_are_closed() -> None:
    ends = Ends()
    ends.add_terminal(WindowSize())
    ends.close()


# -- whole jobs, through a connection ---------------------------------------------------------

STREAM = {"argv": ["prog"], "stream": True}


async def started(client: Client, peer: Peer, **fields: object) -> tuple[str, Message]:
    token = (await client.call("job.start", STREAM | fields))["job"]
    message = await peer.receive()
    kind, method, (params,) = await client.message()
    assert (kind, method, params) == (2, "job.stage", {"job": token, "stage": "run"})
    return token, message


async def notification(client: Client) -> tuple[str, dict[str, object]]:
    _, method, (params,) = await client.message()
    return method, params


async def test_output_as_it_comes(client: Client, peer: Peer) -> None:
    token, message = await started(client, peer)
    assert message.fields["fd_mask"] == wire.FD_STDOUT | wire.FD_STDERR
    out, err = message.fds
    os.write(out, b"one")
    assert await notification(client) == (
        "job.output", {"job": token, "stream": "stdout", "data": b"one"},
    )  # fmt: skip
    os.write(err, b"two")
    assert (await notification(client))[1]["stream"] == "stderr"
    os.write(out, b"last")
    os.close(out)
    os.close(err)
    peer.result(message.fields["job_id"])
    assert (await notification(client))[1]["data"] == b"last"
    method, params = await notification(client)
    assert method == "job.exit"
    result = params["result"]
    assert isinstance(result, dict)
    assert (params["job"], result["status"], result["stdout"]) == (token, "ok", b"")
    assert (await client.call("job.wait", {"job": token}))["status"] == "ok"


async def test_of_outcomes_that_were_told_the_latest_are_kept(
    client: Client, peer: Peer, connection: Connection
) -> None:
    tokens = []
    for _ in range(80):
        token, message = await started(client, peer)
        for fd in message.fds:
            os.close(fd)
        peer.result(message.fields["job_id"])
        assert (await notification(client))[0] == "job.exit"
        tokens.append(token)
    assert len(connection.jobs._started) == 64
    assert (await client.call("job.wait", {"job": tokens[-64]}))["status"] == "ok"
    assert (await client.refused("job.wait", {"job": tokens[-65]}))["code"] == "not_found"


async def test_too_much_streamed_output_kills(client: Client, peer: Peer) -> None:
    _, message = await started(client, peer, limits={"output_bytes": 10})
    os.write(message.fds[0], b"x" * 11)
    assert (await notification(client))[1]["data"] == b"x" * 10
    kill = await peer.receive()
    assert (kill.kind, kill.fields["value"]) == (wire.MSG_KILL, wire.REASON_OUTPUT)
    peer.result(message.fields["job_id"], reason=wire.REASON_OUTPUT)
    _, params = await notification(client)
    result = params["result"]
    assert isinstance(result, dict)
    assert (result["status"], result["stdout_truncated"]) == ("output_limit", True)
    assert result["stderr_truncated"] is False
    for fd in message.fds:
        os.close(fd)


async def test_too_much_that_is_noticed_after_the_end(client: Client, peer: Peer) -> None:
    _, message = await started(client, peer, limits={"output_bytes": 10})
    peer.result(message.fields["job_id"])
    os.write(message.fds[0], b"x" * 11)
    await notification(client)
    _, params = await notification(client)
    result = params["result"]
    assert isinstance(result, dict)
    assert result["status"] == "output_limit"
    for fd in message.fds:
        os.close(fd)


async def test_stdin_stream(client: Client, peer: Peer) -> None:
    token, message = await started(client, peer, stdin_stream=True)
    stdin = message.fds[0]
    assert await client.call("job.write", {"job": token, "data": b"in"}) == {}
    assert os.read(stdin, 10) == b"in"
    assert await client.call("job.close_stdin", {"job": token}) == {}
    await trio.testing.wait_all_tasks_blocked()
    assert os.read(stdin, 10) == b""
    assert (await client.refused("job.write", {"job": token, "data": b"x"}))["code"] == "cancelled"
    peer.result(message.fields["job_id"])
    await client.message()
    for fd in message.fds:
        os.close(fd)


async def test_a_write_that_waits_is_answered_when_the_program_ends(
    client: Client, peer: Peer
) -> None:
    token, message = await started(client, peer, stdin_stream=True)
    assert await client.call("job.write", {"job": token, "data": bytes(150_000)}) == {}
    write = client.send("job.write", {"job": token, "data": bytes(150_000)})
    await trio.testing.wait_all_tasks_blocked()
    for fd in message.fds:
        os.close(fd)
    peer.result(message.fields["job_id"])
    assert await client.answer(write) == {}
    assert (await notification(client))[0] == "job.exit"


async def test_writes_before_the_job_has_its_place(client: Client, peer: Peer) -> None:
    first = [await started(client, peer) for _ in range(2)]
    token = (await client.call("job.start", STREAM | {"stdin_stream": True}))["job"]
    write = client.send("job.write", {"job": token, "data": b"early"})
    await client.call("job.close_stdin", {"job": token})
    peer.result(first[0][1].fields["job_id"])
    message = await peer.receive()
    seen = [await client.message() for _ in range(3)]
    assert [1, write, None, {}] in seen
    assert os.read(message.fds[0], 100) == b"early"
    peer.result(message.fields["job_id"])
    for fd in (*message.fds, *first[0][1].fds, *first[1][1].fds):
        os.close(fd)


async def test_writes_to_a_job_that_is_cancelled_in_the_queue(client: Client, peer: Peer) -> None:
    for _ in range(2):
        await client.call("job.start", {"argv": ["x"]})
    token = (await client.call("job.start", {"argv": ["x"], "stdin_stream": True}))["job"]
    write = client.send("job.write", {"job": token, "data": b"never read"})
    cancel = client.send("job.cancel", {"job": token})
    assert await client.answer(write) == {}
    assert await client.answer(cancel) == {}
    assert (await client.call("job.wait", {"job": token}))["status"] == "cancelled"


async def test_terminal_of_a_job(client: Client, peer: Peer) -> None:
    token, message = await started(client, peer, tty={"rows": 5, "columns": 50})
    assert message.fields["flags"] & wire.JOB_TTY
    terminal = message.fds[0]
    assert os.get_terminal_size(terminal) == (50, 5)
    await client.call("job.resize", {"job": token, "rows": 6, "columns": 60})
    assert os.get_terminal_size(terminal) == (60, 6)
    os.write(terminal, b"hi\n")
    assert (await notification(client))[1] == {"job": token, "stream": "stdout", "data": b"hi\r\n"}
    write = client.send("job.write", {"job": token, "data": b"line\n"})
    seen = [await client.message() for _ in range(2)]
    echo = [2, "job.output", [{"job": token, "stream": "stdout", "data": b"line\r\n"}]]
    assert [1, write, None, {}] in seen
    assert echo in seen
    assert os.read(terminal, 100) == b"line\n"
    for fd in message.fds:
        os.close(fd)
    peer.result(message.fields["job_id"])
    assert (await notification(client))[0] == "job.exit"
    assert (await client.refused("job.resize", {"job": token, "rows": 1, "columns": 1}))[
        "code"
    ] == "not_found"


async def test_a_client_that_does_not_read_stops_the_program(client: Client, peer: Peer) -> None:
    """O9, A9: the pipe fills, nothing is buffered without bound; the wall limit goes on."""
    _, message = await started(client, peer, limits={"output_bytes": 64 << 20})
    out = message.fds[0]
    os.set_blocking(out, False)
    written = 0
    for _ in range(100_000):
        try:
            written += os.write(out, bytes(65536))
        except BlockingIOError:
            await trio.testing.wait_all_tasks_blocked()
            try:
                written += os.write(out, bytes(65536))
            except BlockingIOError:
                break
    assert written < 8 << 20
    seen = 0
    while seen < written:
        seen += len((await client.message())[2][0]["data"])
    assert seen == written
    for fd in message.fds:
        os.close(fd)
    peer.result(message.fields["job_id"])
    assert (await client.message())[1] == "job.exit"


async def test_a_streamed_job_dies_with_its_connection(client: Client, peer: Peer) -> None:
    _, message = await started(client, peer, stdin_stream=True)
    client.sock.close()
    assert (await peer.receive()).kind == wire.MSG_KILL
    for fd in message.fds:
        os.close(fd)
    peer.result(message.fields["job_id"], reason=wire.REASON_CANCELLED)
    await trio.testing.wait_all_tasks_blocked()
