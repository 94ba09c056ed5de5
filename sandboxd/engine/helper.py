"""The link to sandbox-helper: starting it, sending jobs, reading results, surviving its death.

Theory of operation. The daemon, still root, starts the helper's *keeper* with one end of a socket
pair, ``ctl``. Each time the keeper starts a *worker* it sends the daemon's end of a new work socket
over ``ctl``. One task reads ``ctl``, one reads the present work socket; the latter is the one place
where results arrive. Sending needs no task: a message that the socket does not take at once waits
in a short backlog.

The end of a work socket means that the worker died and took its jobs with it. One that hangs is
asked for its counters in vain; the keeper is told so over ``ctl`` and kills it. The end of ``ctl``
means that the keeper died, and a worker that is neither killed nor replaced that the keeper hangs.
There is no cure for that here: the daemon ends too, and its next start removes what is left.
"""

import contextlib
import errno
import logging
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import trio

from sandboxd.engine import payload, wire
from sandboxd.engine.descriptors import ancillary_space, close_all, received, rights
from sandboxd.engine.results import StageEnd, setup_message
from sandboxd.errors import HostError
from sandboxd.logs import fields

_log = logging.getLogger("sandboxd.helper")

T = TypeVar("T")

LIBEXEC: Final = Path(__file__).resolve().parent.parent / "libexec"
HELPER: Final = LIBEXEC / "sandbox-helper"

_MAX_FDS: Final = 4
_ANCILLARY: Final = ancillary_space(_MAX_FDS)
# So many messages are read in one go before other tasks get their turn.
_MESSAGES_PER_WAKEUP: Final = 64
_CTL_MESSAGE: Final = 64
_HANGS: Final = "sandbox-helper hangs: it neither serves nor starts anew; the next start kills it"


class HelperDied(HostError):
    """The keeper is gone: nothing can be run any more."""


class Events(Protocol):
    """What the link tells the engine. None of these may raise or block."""

    def expecting(self) -> bool:
        """Whether any result is still to come."""

    def helper_up(self, hello: wire.Hello) -> None: ...
    def helper_lost(self) -> None: ...
    def helper_absent(self) -> None:
        """The worker died some time ago and no other has come."""

    def slot_failed(self, why: str) -> None: ...
    def stage_ending(self, job_id: int) -> None:
        """What it printed is being read, and then `stage_ended` is called, whatever becomes of the
        worker."""

    def stage_ended(self, job_id: int, end: StageEnd) -> None: ...
    def stage_gone(self, job_id: int) -> None:
        """What was left of one that ended as lost has ended, too."""

    def stage_not_sent(self, job_id: int, error: OSError) -> None: ...


class _Message(NamedTuple):
    """One for the worker."""

    data: bytes
    fds: tuple[int, ...]
    job_id: int
    close: Callable[[tuple[int, ...]], None]


@dataclass(slots=True)
class Keeper:
    """The running helper, as its parent sees it. Owns the process, its pidfd and ``ctl``."""

    process: subprocess.Popen[bytes]
    pidfd: int
    """Opened at once: some kernels refuse to when the process has ended."""
    ctl: socket.socket
    hangs: bool = False
    """Found to do nothing any more: there is no use in waiting for its end."""

    def close(self) -> None:
        """Tell the keeper to kill everything, clean up and end."""
        self.ctl.close()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until the keeper has ended. False when it has not in time.

        The daemon may not signal it (it is root's), but may wait for its own child.
        """
        with trio.move_on_after(0 if self.hangs else timeout_s) as scope:
            await trio.lowlevel.wait_readable(self.pidfd)
        if scope.cancelled_caught:
            return False
        self.process.wait()
        return True


def start_keeper(arguments: Sequence[str], executable: Path = HELPER) -> Keeper:
    """Start ``sandbox-helper serve``. Needs the privileges that the helper is to have.

    In a session of its own: an interrupt from the terminal is for the daemon, which then ends
    the helper in an orderly way. Raises HostError when it cannot be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            process = subprocess.Popen(
                [executable, "serve", f"ctl={theirs.fileno()}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as exc:
            ours.close()
            raise HostError(f"cannot start {executable}: {exc.strerror}") from exc
    ours.setblocking(False)
    return Keeper(process, os.pidfd_open(process.pid), ours)


class HelperLink:
    """Carries messages between the engine and whichever worker serves at the moment."""

    def __init__(self, keeper: Keeper, events: Events, patience_s: float) -> None:
        self.keeper = keeper
        self.hello: wire.Hello | None = None
        self.starts = 0
        self._events = events
        self._patience_s = patience_s
        self._came = trio.Event()
        self._went = trio.Event()
        self._greeted = trio.Event()  # By the worker that was adopted last.
        self._work: socket.socket | None = None
        self._backlog: deque[_Message] = deque()
        self._backlog_grew = trio.Event()
        self._unread: list[tuple[wire.HelperResult, int]] = []
        self._unread_grew = trio.Event()
        self._stats_waiters: list[tuple[trio.Event, list[wire.Stats]]] = []
        self._buffer = bytearray(wire.MAX_MESSAGE)
        self._view = memoryview(self._buffer)

    @property
    def up(self) -> bool:
        """Whether a worker serves."""
        return self._work is not None

    async def run(self) -> None:
        """Adopt each worker's socket until the keeper dies. Raises HelperDied then."""
        ctl = self.keeper.ctl
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_absence)
            nursery.start_soon(self._read_large)
            scope = trio.CancelScope()
            while True:
                await trio.lowlevel.wait_readable(ctl)
                work = self._adopt(ctl)
                if work is None:  # It ends, as the other end of its socket is closed.
                    continue
                scope.cancel()
                if self._work is not None:  # Whose death would be noticed too late.
                    self._forget()
                scope = trio.CancelScope()
                self._greeted = trio.Event()
                nursery.start_soon(self._serve, work, scope)

    async def _watch_absence(self) -> None:
        """The keeper starts a dead worker again within a second; a worker that dies at once each
        time must not let everybody wait for ever. Raises HelperDied where none is started."""
        while True:
            await self._went.wait()
            starts = self.starts
            with trio.move_on_after(self._patience_s):
                await self._came.wait()
                continue
            self._events.helper_absent()
            with trio.move_on_after(self._patience_s):
                await self._came.wait()
                continue
            if self.starts == starts:
                self.keeper.hangs = True
                raise HelperDied(_HANGS)
            await self._came.wait()

    def _adopt(self, ctl: socket.socket) -> socket.socket | None:
        """None when there was no descriptor to be had."""
        data, ancillary, _, _ = ctl.recvmsg(_CTL_MESSAGE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise HelperDied("sandbox-helper ended; its last messages say why")
        fds = received(ancillary)
        if len(data) != wire.RESTARTS.size or len(fds) > 1:
            raise HelperDied("sandbox-helper speaks another protocol: rebuild sandboxd")
        (self.starts,) = wire.RESTARTS.unpack(data)
        if not fds:
            _log.error("no descriptor for the socket of the helper's worker")
            return None
        work = socket.socket(fileno=fds[0])
        work.setblocking(False)
        return work

    async def _serve(self, work: socket.socket, scope: trio.CancelScope) -> None:
        """Live with one worker until it dies."""
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_backlog, work)
                    nursery.start_soon(self._watch)
                    await self._read_messages(work)
                    nursery.cancel_scope.cancel()
                _log.error("the helper's worker died %s", fields(starts=self.starts))
        finally:
            trio.lowlevel.notify_closing(work)
            work.close()
            if self._work is work:
                self._forget()

    async def _watch(self) -> None:
        """Have a worker killed that does not come up, or has jobs and does not answer. Raises
        HelperDied when it is not. Its end cancels this."""
        with trio.move_on_after(self._patience_s):
            await self._greeted.wait()
        alive = self._greeted.is_set()
        while alive:
            await trio.sleep(self._patience_s / 2)
            alive = await self._answers()
        _log.error("the helper's worker hangs, and is killed %s", fields(starts=self.starts))
        with contextlib.suppress(OSError):  # It has died just now, or the keeper has.
            self.keeper.ctl.send(wire.RESTARTS.pack(self.starts), socket.MSG_NOSIGNAL)
        await trio.sleep(self._patience_s)
        self.keeper.hangs = True
        raise HelperDied(_HANGS)

    async def _answers(self) -> bool:
        """Asked twice: where it was sandboxd that stood still, the answer may have been there."""
        if not self._events.expecting():
            return True  # And harms nobody, however it is.
        patience_s = self._patience_s
        return (await self.stats(patience_s) or await self.stats(patience_s)) is not None

    def _forget(self) -> None:
        self._work = None
        self._came = trio.Event()
        self._went.set()
        for message in self._backlog:
            message.close(message.fds)
        self._backlog.clear()
        for event, _ in self._stats_waiters:
            event.set()
        self._stats_waiters.clear()
        self._events.helper_lost()

    async def _read_messages(self, work: socket.socket) -> None:
        """The one place where the helper's messages arrive. Returns at the end of the socket."""
        buffers = (self._buffer,)
        receive, expecting = work.recvmsg_into, self._events.expecting
        while True:
            await trio.lowlevel.wait_readable(work)
            for _ in range(_MESSAGES_PER_WAKEUP):
                try:
                    size, ancillary, _, _ = receive(buffers, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
                except BlockingIOError:
                    break
                except ConnectionResetError:
                    return
                if not size:
                    return
                fds = received(ancillary) if ancillary else ()
                self._take(work, self._view[:size], fds)
                # Asking the kernel once more would be in vain; or it was a large result, which is
                # still in the hands of tasks of those who lost their connection by it.
                if fds or not expecting():
                    break

    def _take(self, work: socket.socket, message: memoryview, fds: Sequence[int]) -> None:
        """Owns the descriptors."""
        kind = wire.message_type(message)
        if kind == wire.MSG_RESULT and fds:
            self._take_memory(wire.unpack_result(message), fds[0])
            fds = fds[1:]
        elif kind == wire.MSG_RESULT:
            self._take_result(wire.unpack_result(message), message)
        if fds:
            close_all(fds)
        if kind == wire.MSG_STATS_IS:
            for event, answer in self._stats_waiters:
                answer.append(wire.unpack_stats(message))
                event.set()
            self._stats_waiters.clear()
        elif kind == wire.MSG_GONE:
            self._events.stage_gone(wire.gone_job(message))
        elif kind == wire.MSG_SLOT_ERROR:
            self._slot_error(wire.unpack_slot_error(message))
        elif kind == wire.MSG_HELLO:
            self._welcome(work, wire.unpack_hello(message))

    def _take_result(self, helper: wire.HelperResult, message: memoryview) -> None:
        if helper.flags & wire.RESULT_MEMFD:
            # The kernel drops what a process has no place for. As where the worker has none.
            self._ended(payload.without(helper, errno.EMFILE))
        else:
            self._ended(payload.from_message(helper, message))

    def _take_memory(self, helper: wire.HelperResult, fd: int) -> None:
        if _printed((helper, fd)) > payload.LARGE_BYTES:
            self._events.stage_ending(helper.job_id)
            self._unread.append((helper, fd))
            self._unread_grew.set()
            return
        end = payload.from_memory(helper, fd)
        os.close(fd)
        self._ended(end)

    async def _read_large(self) -> None:
        """One after the other, as each may be a large part of the memory there is: that of the next
        comes when others have had their turn. In a thread, as it takes its time; the smallest
        first, so that nobody waits for all that somebody else has printed."""
        while True:
            await self._unread_grew.wait()
            self._unread_grew = trio.Event()
            while self._unread:
                smallest = min(self._unread, key=_printed)
                self._unread.remove(smallest)
                helper, fd = smallest
                try:
                    self._ended(await _in_thread(partial(payload.from_memory, helper, fd)))
                finally:
                    with trio.CancelScope(shield=True):
                        await _in_thread(partial(os.close, fd))  # Which frees it.

    def _ended(self, end: StageEnd) -> None:
        try:
            self._events.stage_ended(end.helper.job_id, end)
        except Exception:
            # One job's trouble must not take the link, and every other job, with it.
            _log.exception("a result could not be used %s", fields(job=end.helper.job_id))

    def _welcome(self, work: socket.socket, hello: wire.Hello) -> None:
        if hello.abi != wire.ABI:
            raise HelperDied(
                f"sandbox-helper has ABI {hello.abi}, sandboxd {wire.ABI}: build them together"
            )
        self.hello = hello
        self._work = work
        self._greeted.set()
        self._came.set()
        if self._went.is_set():  # Otherwise somebody may wait for it.
            self._went = trio.Event()
        _log.info("the helper serves %s", fields(pid=hello.pid, starts=self.starts))
        self._events.helper_up(hello)

    def _slot_error(self, error: wire.SlotError) -> None:
        text = setup_message(error.step, error.error)
        _log.error("no slot could be made: %s %s", text, fields(retry_ms=error.retry_ms))
        if error.step != wire.STEP_INTERPRETER:  # Nobody has to wait for one.
            self._events.slot_failed(text)

    def send(
        self,
        data: bytes,
        fds: tuple[int, ...] = (),
        job_id: int = 0,
        close: Callable[[tuple[int, ...]], None] = close_all,
    ) -> None:
        """Send a message, or keep it for later when the socket is full. Never blocks.

        Owns the descriptors from here on; ``close`` closes them. Raises OSError when no worker
        serves or the kernel will never take it. A worker that has just died is no error here: the
        reader notices and reports every job of it as lost.
        """
        message = _Message(data, fds, job_id, close)
        if self._backlog:
            self._keep(message)
            return
        try:
            self._send_now(message)
        except BlockingIOError:
            self._keep(message)
        except (BrokenPipeError, ConnectionResetError):
            close(fds)
        except OSError:
            close(fds)
            raise
        else:
            if fds:
                close(fds)

    def _send_now(self, message: _Message) -> None:
        if self._work is None:
            raise OSError(errno.ENOTCONN, "the helper is down")
        if message.fds:
            self._work.sendmsg([message.data], rights(message.fds), socket.MSG_NOSIGNAL)
        else:
            self._work.send(message.data, socket.MSG_NOSIGNAL)

    def _keep(self, message: _Message) -> None:
        # Bounded by what can be sent at all: one job for each place and its control messages.
        self._backlog.append(message)
        self._backlog_grew.set()

    async def _send_backlog(self, work: socket.socket) -> None:
        while True:
            await self._backlog_grew.wait()
            self._backlog_grew = trio.Event()
            while self._backlog:
                await trio.lowlevel.wait_writable(work)
                message = self._backlog[0]
                try:
                    self._send_now(message)
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    return
                except OSError as exc:
                    self._events.stage_not_sent(message.job_id, exc)
                self._backlog.popleft()
                message.close(message.fds)

    async def stats(self, timeout_s: float) -> wire.Stats | None:
        """Ask the worker for its counters. None when it does not answer in time."""
        if self._work is None:
            return None
        event = trio.Event()
        answer: list[wire.Stats] = []
        self._stats_waiters.append((event, answer))
        self.send(wire.pack_control(wire.MSG_STATS, 0))
        with trio.move_on_after(timeout_s):
            await event.wait()
        return answer[0] if answer else None


def _printed(result: tuple[wire.HelperResult, int]) -> int:
    helper, _ = result
    return helper.stdout_len + helper.stderr_len


async def _in_thread(call: Callable[[], T]) -> T:
    """However many of trio's threads wait for something else. On the loop, where there is none to
    be had."""
    try:
        return await trio.to_thread.run_sync(call, limiter=trio.CapacityLimiter(1))
    except RuntimeError:
        return call()
