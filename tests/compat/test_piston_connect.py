"""WebSocket /connect: every message, every close code, and what becomes of the job."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio_websocket
from trio_websocket import ConnectionClosed

from compat.gateway import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from compat.gateway import Gateway
    from support.daemon import Daemon

    Frame = dict[str, Any]


class Session:
    """One session, from the client's side."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def send(self, **message: object) -> None:
        await self.socket.send_message(json.dumps(message))

    async def init(self, language: str, content: str, **fields: object) -> None:
        files = [{"content": content}]
        await self.send(type="init", language=language, version="*", files=files, **fields)

    async def next(self) -> Frame:
        with trio.fail_after(20):
            frame: Frame = json.loads(await self.socket.get_message())
            return frame

    async def until(self, kind: str, **fields: object) -> Frame:
        """Skip to the first message of this kind."""
        while True:
            frame = await self.next()
            if frame["type"] == kind and fields.items() <= frame.items():
                return frame

    async def rest(self) -> tuple[list[Frame], int, str]:
        """All messages to come, and how it is closed."""
        frames = []
        while True:
            try:
                frames.append(await self.next())
            except ConnectionClosed as closed:
                return frames, closed.reason.code, closed.reason.reason


@contextlib.asynccontextmanager
async def connected(gateway: Gateway, path: str = "/api/v2/connect") -> AsyncIterator[Session]:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    # trio-websocket itself leaves the stream to the garbage collector.
    async with stream, trio.open_nursery() as nursery:
        socket = await trio_websocket.wrap_client_stream(nursery, stream, "127.0.0.1", path)
        yield Session(socket)
        with trio.move_on_after(2):
            await socket.aclose()
        nursery.cancel_scope.cancel()


def text(frames: list[Frame], stream: str = "stdout") -> str:
    return "".join(f["data"] for f in frames if f["type"] == "data" and f["stream"] == stream)


async def test_a_session_from_init_to_close(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "echo out; echo err >&2; exit 3")
        frames, code, reason = await session.rest()
    assert (code, reason) == (4999, "Job Completed")
    version = gateway.run("bash", "")["version"]
    assert frames[0] == {"type": "runtime", "language": "bash", "version": version}
    assert frames[1] == {"type": "stage", "stage": "run"}
    assert frames[-1] == {"type": "exit", "stage": "run", "code": 3, "signal": None}
    assert {"type": "data", "stream": "stdout", "data": "out\n"} in frames
    assert {"type": "data", "stream": "stderr", "data": "err\n"} in frames
    assert len(frames) == 5


async def test_the_public_path(gateway: Gateway) -> None:
    async with connected(gateway, "/api/v2/piston/connect") as session:
        await session.init("sh", "echo hi")
        frames, code, _ = await session.rest()
    assert (text(frames), code) == ("hi\n", 4999)


async def test_stages(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("c", '#include <stdio.h>\nint main(void) { puts("hi"); return 4; }')
        frames, code, _ = await session.rest()
    assert code == 4999
    kinds = [(f["type"], f.get("stage")) for f in frames if f["type"] in ("stage", "exit")]
    assert kinds == [("stage", "compile"), ("exit", "compile"), ("stage", "run"), ("exit", "run")]
    exits = [f for f in frames if f["type"] == "exit"]
    assert [(f["code"], f["signal"]) for f in exits] == [(0, None), (4, None)]
    assert text(frames) == "hi\n"


async def test_a_program_that_does_not_compile(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("c", "int main(void) { return x; }")
        frames, code, _ = await session.rest()
    assert code == 4999
    assert frames[-1] == {"type": "exit", "stage": "compile", "code": 1, "signal": None}
    assert "error" in text(frames, "stderr")
    assert {"type": "stage", "stage": "run"} not in frames


async def test_talking_to_a_program(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", 'while read x; do echo "got $x"; done; echo eof')
        for line in ("a", "ä😀"):
            await session.send(type="data", stream="stdin", data=f"{line}\n")
            frame = await session.until("data")
            assert frame == {"type": "data", "stream": "stdout", "data": f"got {line}\n"}
        await session.send(type="eof")
        frames, code, _ = await session.rest()
    assert (text(frames), code) == ("eof\n", 4999)


async def test_signals_are_heard_when_stdin_has_ended(gateway: Gateway) -> None:
    """However much is sent to it. At a limit the signal would be another."""
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; exec sleep 60")
        await session.until("data", data="ready\n")
        await session.send(type="eof")
        for _ in range(40):
            await session.send(type="data", stream="stdin", data="x")
        await session.send(type="signal", signal="SIGTERM")
        assert (await session.until("exit"))["signal"] == "SIGTERM"


async def test_the_end_of_stdin_with_the_last_data(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "cat", stdin="this is ignored")
        await session.send(type="data", stream="stdin", data="no newline", eof=True)
        frames, code, _ = await session.rest()
    assert (text(frames), code) == ("no newline", 4999)


async def test_binary_frames_and_much_stdin(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "wc -c")
        chunk = json.dumps({"type": "data", "stream": "stdin", "data": "x" * 50_000}).encode()
        for _ in range(20):
            await session.socket.send_message(chunk)
        await session.send(type="eof")
        frames, code, _ = await session.rest()
    assert (text(frames).strip(), code) == ("1000000", 4999)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGRTMIN+3", "SIGRTMAX"])
async def test_signals_arrive(gateway: Gateway, name: str) -> None:
    source = (
        "import os, signal, sys\n"
        f"number = {_number(name)}\n"
        # Not by print: the signal may come in the middle of the one below.
        "signal.signal(number, lambda n, f: (os.write(1, b'caught %d\\n' % n), sys.exit(0)))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    async with connected(gateway) as session:
        await session.init("python", source)
        await session.until("data", data="ready\n")
        await session.send(type="signal", signal=name)
        frames, code, _ = await session.rest()
    assert (text(frames), code) == (f"caught {_number(name)}\n", 4999)


def _number(name: str) -> int:
    import signal

    known = {"SIGRTMIN+3": 37, "SIGRTMAX": 64}
    return known[name] if name in known else int(signal.Signals[name])


async def test_a_signal_that_kills_is_told(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; sleep 9")
        await session.until("data")
        await session.send(type="signal", signal="SIGKILL")
        frames, code, _ = await session.rest()
    assert frames[-1] == {"type": "exit", "stage": "run", "code": None, "signal": "SIGKILL"}
    assert code == 4999


# -- close codes ---------------------------------------------------------------------------------


async def test_4000_initialized_twice(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; sleep 9")
        await session.until("data")
        await session.init("bash", "echo again")
        frames, code, reason = await session.rest()
    assert (frames, code, reason) == ([], 4000, "Already Initialized")


async def test_4001_nothing_said(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        begun = time.monotonic()
        frames, code, reason = await session.rest()
        assert 0.9 < time.monotonic() - begun < 3
    assert (frames, code, reason) == ([], 4001, "Initialization Timeout")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": ""}, "language is required as a string"),
        ({"files": None}, "files is required as an array"),
        ({"files": [None]}, "files[0].content is required as a string"),
        ({"version": "99.x"}, "bash-99.x runtime is unknown"),
        ({"run_timeout": 3001}, "run_timeout cannot exceed the configured limit of 3000"),
        ({"args": "text"}, "args must be an array of strings"),
    ],
)
async def test_4002_what_is_wrong_with_init(gateway: Gateway, fields: Frame, message: str) -> None:
    good = {"type": "init", "language": "bash", "version": "*", "files": [{"content": ""}]}
    async with connected(gateway) as session:
        await session.send(**(good | fields))
        frames, code, reason = await session.rest()
    assert frames == [{"type": "error", "message": message}]
    assert (code, reason) == (4002, "Notified Error")


@pytest.mark.parametrize("data", ["{", "[]", '"init"', "{}", '{"type": "nonsense"}', "[" * 5000])
@pytest.mark.parametrize("initialized", [False, True])
async def test_4002_what_is_no_message(gateway: Gateway, data: str, initialized: bool) -> None:
    async with connected(gateway) as session:
        if initialized:
            await session.init("bash", "echo ready; sleep 9")
            await session.until("data")
        await session.socket.send_message(data)
        frames, code, reason = await session.rest()
    assert [frame["type"] for frame in frames] == ["error"]
    assert frames[0]["message"]
    assert (code, reason) == (4002, "Notified Error")


@pytest.mark.parametrize("kind", ["data", "signal", "eof"])
async def test_4003_not_initialized(gateway: Gateway, kind: str) -> None:
    async with connected(gateway) as session:
        await session.send(type=kind, stream="stdin", data="x", signal="SIGTERM")
        frames, code, reason = await session.rest()
    assert (frames, code, reason) == ([], 4003, "Not yet initialized")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({"type": "data", "stream": "stdout", "data": "x"}, 4004, "Can only write to stdin"),
        ({"type": "data", "data": "x"}, 4004, "Can only write to stdin"),
        ({"type": "signal", "signal": "SIGNONE"}, 4005, "Invalid signal"),
        ({"type": "signal", "signal": 9}, 4005, "Invalid signal"),
        ({"type": "signal"}, 4005, "Invalid signal"),
        ({"type": "signal", "signal": "sigterm"}, 4005, "Invalid signal"),
        ({"type": "data", "stream": "stdin", "data": 5}, 4002, "Notified Error"),
    ],
)
async def test_4004_4005_wrong_messages(
    gateway: Gateway, message: Frame, code: int, reason: str
) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; sleep 9")
        await session.until("data")
        await session.send(**message)
        _, *closed = await session.rest()
    assert closed == [code, reason]


async def test_a_message_that_is_too_large(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "cat")
        await session.until("stage")
        await session.send(type="data", stream="stdin", data="x" * 200_000)
        _, code, _ = await session.rest()
    assert code == 1009


# -- defects of others ---------------------------------------------------------------------------


async def test_characters_are_never_split(gateway: Gateway) -> None:
    source = (
        "import os, time\n"
        "for byte in 'aä€😀z'.encode() + b'\\xff' + 'ß'.encode() + b'\\xe2\\x82':\n"
        "    os.write(1, bytes([byte])); time.sleep(0.01)\n"
    )
    async with connected(gateway) as session:
        await session.init("python", source)
        frames, code, _ = await session.rest()
    assert (text(frames), code) == ("aä€😀z\ufffdß\ufffd", 4999)
    pieces = [frame["data"] for frame in frames if frame["type"] == "data"]
    assert all(piece for piece in pieces)


async def test_output_is_limited(gateway: Gateway) -> None:
    async with connected(gateway) as session:
        await session.init("bash", "while :; do echo 0123456789; done")
        frames, code, _ = await session.rest()
    assert code == 4999
    assert len(text(frames)) == 65_536
    assert frames[-1] == {"type": "exit", "stage": "run", "code": None, "signal": "SIGKILL"}


async def test_who_goes_away_takes_the_job_along(gateway: Gateway) -> None:
    from compat.test_piston_execute import _running

    before = await trio.to_thread.run_sync(_running, gateway)
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; sleep 2.9")
        await session.until("data")
        assert await trio.to_thread.run_sync(_running, gateway) > before
        await session.socket._stream.aclose()  # Without a close frame: the wire is cut.
    begun = time.monotonic()
    with trio.fail_after(2):
        while await trio.to_thread.run_sync(_running, gateway) != before:  # noqa: ASYNC110
            await trio.sleep(0.02)
    assert time.monotonic() - begun < 1.0


async def test_who_sends_too_much_and_goes_away_takes_the_job_along(gateway: Gateway) -> None:
    from compat.test_piston_execute import _running

    before = await trio.to_thread.run_sync(_running, gateway)
    fds = f"/proc/{gateway.process.pid}/fd"
    open_before = len(os.listdir(fds))
    async with connected(gateway) as session:
        await session.init("bash", "echo ready; sleep 2.9")
        await session.until("data")
        # The first of them fill the program's pipe; the last ones the gateway does not read.
        for size in (*(60_000 for _ in range(8)), *(1000 for _ in range(64))):
            await session.send(type="data", stream="stdin", data="x" * size)
        await trio.sleep(0.2)
        assert await trio.to_thread.run_sync(_running, gateway) > before
        await session.socket._stream.aclose()
    begun = time.monotonic()
    with trio.fail_after(5):
        while await trio.to_thread.run_sync(_running, gateway) != before:  # noqa: ASYNC110
            await trio.sleep(0.02)
        assert time.monotonic() - begun < 1.0
        while len(os.listdir(fds)) > open_before + 1:  # noqa: ASYNC110 - one may be for a job
            await trio.sleep(0.02)


async def test_a_reader_that_does_not_read_makes_the_program_wait(daemon: Daemon) -> None:
    """64 MB printed, none of it read: neither the gateway nor the daemon may keep it."""
    settings = {"output_max_size": 64 * 1024 * 1024, "run_timeout": 3000}
    with running(daemon.socket, piston=settings) as gateway:
        gateway.run("bash", "")
        before = gateway.rss_bytes()
        async with connected(gateway) as session:
            # trio-websocket stops to read from the wire when nobody takes a message from it.
            await session.init("bash", "yes 0123456789012345678901234567890123456789")
            await trio.sleep(1.5)
            grown = gateway.rss_bytes() - before
            await session.socket._stream.aclose()
        assert grown < 16 * 1024 * 1024, grown
        run = gateway.run("bash", "echo alive")["run"]
        assert run["stdout"] == "alive\n"


async def test_sessions_are_limited(daemon: Daemon) -> None:
    with running(daemon.socket, max_sessions=1) as gateway:
        async with connected(gateway) as session:
            await session.init("bash", "echo ready; read x")
            await session.until("data")
            answer = await trio.to_thread.run_sync(_handshake, gateway)
            assert answer.startswith(b"HTTP/1.1 503 ")
            await session.send(type="eof")
            await session.rest()
        answer = await trio.to_thread.run_sync(_handshake, gateway)
        assert answer.startswith(b"HTTP/1.1 101 ")


async def test_half_of_the_sessions_are_for_one_address(daemon: Daemon) -> None:
    with running(daemon.socket, max_sessions=2, trusted_proxies=["127.0.0.1"]) as gateway:
        async with connected(gateway) as session:
            await session.init("bash", "echo ready; read x")
            await session.until("data")
            answer = await trio.to_thread.run_sync(_handshake, gateway)
            assert answer.startswith(b"HTTP/1.1 503 ")
            answer = await trio.to_thread.run_sync(_handshake, gateway, "192.0.2.1")
            assert answer.startswith(b"HTTP/1.1 101 ")


def _handshake(gateway: Gateway, address: str = "") -> bytes:
    from compat.test_browser import _handshake

    forwarded = {"X-Forwarded-For": address} if address else {}
    return _handshake(gateway, {"Host": "localhost", **forwarded})
