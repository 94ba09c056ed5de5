"""WebSocket /connect: a program that is talked to while it runs.

A session has a connection to the daemon of its own. Nothing is read from it that the client has
not taken, so a client that does not read makes the program wait, not the gateway grow; and when
the client goes away the connection is closed, which ends the job.
"""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from sandboxd.protocol.errors import RequestError, SandboxdError
from sandboxd_client.errors import ConnectionLost
from sandboxd_rest.http import SESSION, Disconnected, Refusal
from sandboxd_rest.piston.results import code_and_signal
from sandboxd_rest.piston.signals import NUMBERS

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from sandboxd_client._aio_job import TrioExecutionHandle
    from sandboxd_client.aio import TrioClient
    from sandboxd_client.result import ExecuteResult, Result
    from sandboxd_rest.http import Request
    from sandboxd_rest.link import Link
    from sandboxd_rest.piston.execute import Execute

_INIT_TIMEOUT_S: Final = 1.0
# Messages for a program that does not read its stdin. When they are that many, nothing more is
# taken from the client: if it then goes away with something left to send, and its kernel goes on
# trying, the program runs until its limits.
_STDIN_MESSAGES: Final = 16
_EOF: Final = None


class Close(Exception):
    """The session ends with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


ALREADY_INITIALIZED: Final = (4000, "Already Initialized")
INIT_TIMEOUT: Final = (4001, "Initialization Timeout")
NOTIFIED_ERROR: Final = (4002, "Notified Error")
NOT_INITIALIZED: Final = (4003, "Not yet initialized")
ONLY_STDIN: Final = (4004, "Can only write to stdin")
INVALID_SIGNAL: Final = (4005, "Invalid signal")
COMPLETED: Final = (4999, "Job Completed")


class Connect:
    """GET /connect, upgraded."""

    def __init__(self, link: Link, execute: Execute) -> None:
        self._link = link
        self._execute = execute

    async def session(self, request: Request, send: Send) -> None:
        """From the handshake to the close frame."""
        message = await request.receive()
        if message["type"] != "websocket.connect":
            raise Disconnected
        await send({"type": "websocket.accept"})
        request.scope["state"][SESSION]()
        session = _Session(request.receive, send)
        try:
            await self._converse(session, request.peer)
        except Close as close:
            await session.close(close)

    async def _converse(self, session: _Session, peer: str) -> None:
        values = await session.init()
        try:
            # What is not the client's fault comes out of these, too: Piston has one way to say it.
            params = await self._execute.parse(values, peer)
            del params["stdin"], params["output"]
            client = await self._link.connect()
        except Refusal as refusal:
            raise await session.error(refusal.message) from None
        except RequestError as error:
            raise await session.error(error.message) from None
        async with client:
            await self._start(session, client, params, values)

    async def _start(
        self, session: _Session, client: TrioClient, params: dict[str, Any], values: Any
    ) -> None:
        try:
            job = await client.start_execute(**params, stream=True, stdin_stream=True)
        except RequestError as error:
            told = self._execute.refusal(error, values)
            raise await session.error(getattr(told, "message", str(told))) from None
        except SandboxdError as exc:
            raise await session.error(str(exc)) from None
        await session.send(type="runtime", language=params["language"], version=params["version"])
        result = await session.serve(job)
        for name, stage in (("compile", result.compile), ("run", result.run)):
            if stage is not None:
                self._execute.count_stage(params["language"], name, stage)
        raise Close(*COMPLETED)


class _Session:
    """One client's messages, in both directions."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._closing: Close | None = None
        self._gone = False
        self._stage = ""
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    # -- messages ----------------------------------------------------------------------------

    async def send(self, **message: object) -> None:
        await self._send({"type": "websocket.send", "text": msgspec.json.encode(message).decode()})

    async def close(self, close: Close) -> None:
        await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason})

    async def error(self, message: str) -> Close:
        """Tell of an error; to be raised."""
        await self.send(type="error", message=message)
        return Close(*NOTIFIED_ERROR)

    async def _next(self) -> dict[str, Any]:
        """The client's next message. Raises Disconnected, and Close for what is none."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        data = message.get("text")
        if data is None:
            data = message.get("bytes") or b""
        try:
            value = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            raise await self.error(f"the message is not JSON: {exc}") from None
        if not isinstance(value, dict):
            raise await self.error("the message must be an object")
        return value

    async def init(self) -> dict[str, Any]:
        """The first message."""
        with trio.move_on_after(_INIT_TIMEOUT_S):
            values = await self._next()
            match values.pop("type", None):
                case "init":
                    values.pop("stdin", None)
                    return values
                case "data" | "signal" | "eof":
                    raise Close(*NOT_INITIALIZED)
            raise await self.error("type must be init")
        raise Close(*INIT_TIMEOUT)

    # -- a running job -----------------------------------------------------------------------

    async def serve(self, job: TrioExecutionHandle) -> ExecuteResult:
        """Pass on what comes from either side until the job ends. Raises Close, Disconnected."""
        result: ExecuteResult | None = None
        async with trio.open_nursery() as nursery:
            for_stdin, from_client = trio.open_memory_channel[bytes | None](_STDIN_MESSAGES)
            nursery.start_soon(self._listen, job, for_stdin, nursery.cancel_scope)
            nursery.start_soon(_feed, job, from_client)
            try:
                result = await self._pump(job)
            except Close as close:
                self._closing = self._closing or close
            nursery.cancel_scope.cancel()
        if self._gone:
            raise Disconnected
        if self._closing is not None:
            raise self._closing
        if result is None:
            raise Disconnected
        return result

    async def _listen(
        self,
        job: TrioExecutionHandle,
        stdin: trio.MemorySendChannel[bytes | None],
        scope: trio.CancelScope,
    ) -> None:
        """Hear what the client says; the scope is cancelled when that ends the session."""
        try:
            while True:
                await self._handle(await self._next(), job, stdin)
        except Disconnected:
            self._gone = True
        except Close as close:
            self._closing = close
        scope.cancel()

    async def _handle(
        self,
        message: dict[str, Any],
        job: TrioExecutionHandle,
        stdin: trio.MemorySendChannel[bytes | None],
    ) -> None:
        match message.get("type"):
            case "init":
                raise Close(*ALREADY_INITIALIZED)
            case "data":
                if message.get("stream") != "stdin":
                    raise Close(*ONLY_STDIN)
                data = message.get("data", "")
                if not isinstance(data, str):
                    raise await self.error("data must be a string")
                if data:
                    await stdin.send(data.encode())
                if message.get("eof") is True:
                    await stdin.send(_EOF)
            case "eof":
                await stdin.send(_EOF)
            case "signal":
                name = message.get("signal")
                number = NUMBERS.get(name) if isinstance(name, str) else None
                if number is None:
                    raise Close(*INVALID_SIGNAL)
                with contextlib.suppress(RequestError, ConnectionLost):  # It may have ended.
                    await job.signal(number)
            case _:
                raise await self.error("type must be init, data, eof or signal")

    async def _pump(self, job: TrioExecutionHandle) -> ExecuteResult:
        """Pass on what the job prints, until it has ended. Raises Close."""
        try:
            while (event := await job.next_event()) is not None:
                await self._passed(*event)
            result = await job.wait()
        except RequestError as error:
            raise await self.error(error.message) from None
        except ConnectionLost:
            raise await self.error("sandboxd went away") from None
        if self._stage:
            await self._exit(result.run if self._stage == "run" else result.compile)
        return result

    async def _passed(self, what: str, data: bytes) -> None:
        if what != "stage":
            await self._data(what, data, final=False)
            return
        if self._stage:  # The stage before ended well, or there would be no other.
            await self._exit(None)
        self._stage = data.decode()
        await self.send(type="stage", stage=self._stage)

    async def _data(self, stream: str, data: bytes, *, final: bool) -> None:
        """A character whose bytes come in pieces is sent whole."""
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoders[stream] = decoder
        text = decoder.decode(data, final)
        if text:
            await self.send(type="data", stream=stream, data=text)

    async def _exit(self, result: Result | None) -> None:
        """The end of a stage; None for one that ended well."""
        for stream in list(self._decoders):
            await self._data(stream, b"", final=True)
        self._decoders.clear()
        code, signal = (0, None) if result is None else code_and_signal(result)
        await self.send(type="exit", stage=self._stage, code=code, signal=signal)


async def _feed(job: TrioExecutionHandle, stdin: trio.MemoryReceiveChannel[bytes | None]) -> None:
    """Write to the job's stdin as fast as it reads. What comes after its end is taken all the
    same, or the client would not be heard any more."""
    async for data in stdin:
        with contextlib.suppress(RequestError, ConnectionLost):  # It has ended, or its stdin has.
            if data is _EOF:
                await job.close_stdin()
            else:
                await job.write(data)
