"""One client's connection: requests in, answers and notifications out.

Two tasks live as long as the connection: a reader, which handles every request to its end or hands
it to the engine, and a writer, which sleeps unless the socket did not take something at once.
Anything that answers a request just calls `send`.
"""

import logging
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from sandboxd.client_jobs import ConnectionJobs
from sandboxd.engine.descriptors import ancillary_space, received
from sandboxd.logs import fields
from sandboxd.passed import MAX_PASSED, PassedFds
from sandboxd.peer import Peer
from sandboxd.protocol import rpc
from sandboxd.protocol.errors import (
    BUSY,
    INTERNAL,
    INVALID_ARGUMENT,
    RemoteProtocolError,
    RequestError,
    invalid,
)
from sandboxd.protocol.framing import NEED_DATA, FrameDecoder
from sandboxd.protocol.parts import is_large

if TYPE_CHECKING:
    from sandboxd.server import Server

_log = logging.getLogger("sandboxd.server")

_READ_BYTES: Final = 256 * 1024
# All that one message can carry: for what the buffer has no room the kernel closes at once.
_ANCILLARY: Final = ancillary_space(MAX_PASSED)
# After so many requests in one go, or after so long, other connections get their turn.
_REQUESTS_PER_WAKEUP: Final = 32
_TURN_NS: Final = 2_000_000
# Above the first nothing more is asked of the program or taken from the client, until below the
# second.
_HIGH_WATER: Final = 1024 * 1024
_LOW_WATER: Final = 256 * 1024
_PARTS_AT_ONCE: Final = 64
_BUSY_RETRY_NS: Final = 10_000_000

# A handler that will answer later returns this.
LATER: Final = object()

# One buffer for all connections: what a read returns is consumed before the next await.
_buffer = bytearray(_READ_BYTES)
_view = memoryview(_buffer)


class Connection:
    """Serves one client until it goes away. Owns the socket and everything the client started."""

    def __init__(self, server: "Server", sock: socket.socket, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        self.passed = PassedFds(server.closer(peer.uid))
        self.open: set[int] = set()  # msgids not answered yet
        self.closed = False
        self.message_bytes = 0  # Of the request that is being handled.
        self.share = server.untaken.share(peer.uid)
        self.jobs = ConnectionJobs(self, server.engine)
        self._sock = sock
        self._decoder = FrameDecoder(server.config.max_message_bytes)
        self._out: deque[memoryview] = deque()
        self._buffered = 0
        self._grew = trio.Event()
        self._drained = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until the client or the server closes the connection."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write)
                await self._read()
                self.drop()
        finally:
            self._close()

    def _close(self) -> None:
        self.drop()
        self.passed.close()
        self._nursery = None  # Whose tasks know this connection.
        trio.lowlevel.notify_closing(self._sock)
        self.passed.closer.close((self._sock.detach(),))  # And what was passed and not received.

    def drop(self) -> None:
        """Close the connection from anywhere; its jobs are cancelled. Does not block."""
        self.closed = True
        self.jobs.abandon_all()
        self._out.clear()
        self._buffered = 0
        self._drained.set()
        self.share.left(self)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def give_up(self) -> None:
        """Too much of its answers waits to be read."""
        _log.warning("a client does not read its answers %s", fields(uid=self.peer.uid))
        self.drop()

    def start_soon(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Run a task that ends with the connection."""
        if self._nursery is not None:
            self._nursery.start_soon(call)

    # -- reading -----------------------------------------------------------------------------

    async def _read(self) -> None:
        timeout_s = self.server.config.message_timeout_ns / 1e9
        deadline = float("inf")
        try:
            while await self._wait_readable(deadline):
                if self.passed.closer.full and not await self.passed.room():
                    _log.warning(
                        "what a client passed cannot be closed %s", fields(uid=self.peer.uid)
                    )
                    self._refuse("too many descriptors that you passed cannot be closed")
                    return
                try:
                    if not self._receive():
                        return
                except BlockingIOError:
                    continue
                if self.passed.new:
                    await self.passed.look()
                handled = await self._handle_frames()
                if not self._decoder.partial:
                    deadline = float("inf")
                elif handled or deadline == float("inf"):
                    deadline = trio.current_time() + timeout_s
        except RemoteProtocolError as error:
            self._refuse(str(error))
        except OSError as exc:
            _log.debug("connection lost %s", fields(uid=self.peer.uid, why=exc.strerror))

    async def _wait_readable(self, deadline: float) -> bool:
        """False when the rest of a message did not come in time."""
        if self._buffered > _HIGH_WATER:
            await self.ready()
        if deadline == float("inf"):
            await trio.lowlevel.wait_readable(self._sock)
            return True
        with trio.move_on_at(max(deadline, trio.current_time())) as scope:
            await trio.lowlevel.wait_readable(self._sock)
        if scope.cancelled_caught:
            self._refuse("the rest of the message did not come in time")
        return not scope.cancelled_caught

    def _receive(self) -> bool:
        """Take what is there. False at the end."""
        size, ancillary, flags, _ = self._sock.recvmsg_into(
            (_buffer,), _ANCILLARY, socket.MSG_CMSG_CLOEXEC
        )
        if ancillary:
            self.passed.received(received(ancillary))
        if flags & socket.MSG_CTRUNC:
            raise RemoteProtocolError("more descriptors than sandboxd can take at the moment")
        if not size:
            return False
        self._decoder.receive_data(_view[:size])
        return True

    async def _handle_frames(self) -> int:
        """Every whole message that has come. Returns how many there were."""
        decoder = self._decoder
        count = 0
        turn_ends = time.monotonic_ns() + _TURN_NS
        while True:
            frame = decoder.next_frame()
            if frame is NEED_DATA:
                break
            self._handle(frame)  # type: ignore[arg-type] # mypy knows no sentinels
            if self.closed:
                break
            self.passed.message_ended()
            count += 1
            if count % _REQUESTS_PER_WAKEUP == 0 or time.monotonic_ns() > turn_ends:
                await self.ready()
                turn_ends = time.monotonic_ns() + _TURN_NS
        self.passed.read_ended(partial=decoder.partial)
        return count

    def _handle(self, frame: bytes | bytearray) -> None:
        """One request, from bytes to its answer or to its place in the engine."""
        self.message_bytes = len(frame)
        request = rpc.decode_request(frame)
        msgid = request.msgid
        if msgid in self.open:
            problem = f"{msgid} is that of a request not answered yet"
            self.send(rpc.encode_error(msgid, invalid("msgid", problem)))
            return
        try:
            if len(self.open) >= self.server.config.max_requests_per_connection:
                raise _too_many(len(self.open))
            params = rpc.decode_params(request.method, request.params)
            self.open.add(msgid)
            answer = self.server.methods[request.method](self, msgid, params)
        except RequestError as error:
            self.answer(msgid, error)
        except Exception:
            _log.exception("a request failed %s", fields(method=request.method))
            self.answer(msgid, RequestError(INTERNAL, "sandboxd made a mistake; see its log"))
        else:
            if answer is not LATER:
                self.answer(msgid, answer)

    # -- writing -----------------------------------------------------------------------------

    def answer(self, msgid: int, outcome: object) -> None:
        """Answer a request: with an error where ``outcome`` is one. Never blocks."""
        self.open.discard(msgid)
        if self.closed:
            return
        if isinstance(outcome, RequestError):
            self.send(rpc.encode_error(msgid, outcome))
        elif is_large(outcome):
            self._send_large(rpc.response_parts(msgid, outcome))
        else:
            self.send(rpc.encode_response(msgid, outcome))

    def notify(self, method: str, params: object) -> None:
        if not self.closed:
            self.send(rpc.encode_notification(method, params))

    def notify_exit(self, job: str, result: object) -> None:
        """That a job has ended, with its result, which may be large."""
        params = {"job": job, "result": result}
        if not is_large(result):
            self.notify("job.exit", params)
        elif not self.closed:
            self._send_large(rpc.notification_parts("job.exit", params))

    def send(self, data: bytes) -> None:
        """Write now if the socket takes it, else leave the rest to the writer. Never blocks."""
        if not self._out:
            try:
                sent = self._sock.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop()
                return
            if sent == len(data):
                return
            self._keep([memoryview(data)[sent:]])
        else:
            self._keep([memoryview(data)])

    def _send_large(self, parts: list[bytes]) -> None:
        """One message. The writer has nearly all of it to do anyway."""
        self._keep([memoryview(part) for part in parts])

    def _keep(self, parts: list[memoryview]) -> None:
        """Bounded: a client that does not read what it asked for loses its connection."""
        size = sum(map(len, parts))
        most = self.server.config.max_write_buffer_bytes
        if self._buffered > _HIGH_WATER and self._buffered + size > most:
            self.give_up()
            return
        self._out += parts
        self._buffered += size
        self._grew.set()
        self.share.unread(self, sum(map(_whole, parts)))

    async def _write(self) -> None:
        timeout_s = self.server.config.write_timeout_ns / 1e9
        while True:
            await self._grew.wait()
            self._grew = trio.Event()
            while self._out:
                with trio.move_on_after(timeout_s) as scope:
                    await trio.lowlevel.wait_writable(self._sock)
                if scope.cancelled_caught:
                    _log.warning("a client does not read %s", fields(uid=self.peer.uid))
                    self.drop()
                    return
                if self.closed:  # By somebody else, when it could be written to already.
                    return
                self._write_some()

    def _write_some(self) -> None:
        some = list(islice(self._out, _PARTS_AT_ONCE))
        try:
            sent = self._sock.sendmsg(some, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        self._buffered -= sent
        for data in some:
            if sent < len(data):
                self._out[0] = data[sent:]
                break
            sent -= len(data)
            self._out.popleft()
            self.share.read(self, _whole(data))
        if self._buffered <= _LOW_WATER:
            self._drained.set()
            self._drained = trio.Event()

    async def ready(self) -> None:
        """Wait until the client has read enough to be sent more. A checkpoint."""
        if self._buffered <= _HIGH_WATER:
            await trio.lowlevel.checkpoint()
            return
        await self._drained.wait()

    async def flushed(self) -> None:
        """Wait until everything is written."""
        while self._buffered:
            await self._drained.wait()

    def _refuse(self, why: str) -> None:
        """The client does not speak the protocol: say so, as far as one can, and close."""
        _log.debug("connection refused %s", fields(uid=self.peer.uid, why=why))
        error = RequestError(INVALID_ARGUMENT, why)
        self.notify("error", rpc.error_map(error))


def _whole(data: memoryview) -> int:
    """The size of a message of which this is what has not been sent: all of it is in memory."""
    return len(cast("bytes", data.obj))


def _too_many(count: int) -> RequestError:
    message = f"{count} requests of this connection are not answered yet; wait for some of them"
    return RequestError(BUSY, message, {"retry_after_ns": _BUSY_RETRY_NS})
