"""Standard streams that the daemon itself serves: output as it comes, input as it is sent.

A stage that streams gets pipes (or a terminal) made here; the helper only passes them on. Reading
stops while the client does not read, so the pipe fills and the program waits: that is all the
back-pressure there is, and it needs no memory but for one piece. The output limit is enforced here,
too.

The other end is a hostile program's, so every call on our end but poll is made aside (see there).
"""

import contextlib
import fcntl
import logging
import os
import select
import struct
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio

from sandboxd.engine.aside import OURS, Aside, close_ends
from sandboxd.engine.job import Stdio
from sandboxd.protocol.errors import BUSY, CANCELLED, RequestError
from sandboxd.protocol.models import WindowSize

_log = logging.getLogger("sandboxd.jobs")

# Large enough that a fast writer costs few wake-ups, small enough that an unprivileged user's
# share of pipe memory (pipe-user-pages-soft) serves many jobs.
_PIPE_BYTES: Final = 256 * 1024
# One job.write of any size is always taken; further ones only while this little is unwritten.
_STDIN_BUFFER: Final = 1024 * 1024
_STDIN_RETRY_NS: Final = 10_000_000
# So long a read may take when the program is dead. Nobody of the job keeps it waiting then.
_LAST_READ_S: Final = 5.0
_WINSIZE: Final = struct.Struct("HHHH")
# The terminal's end-of-file character (stty eof).
_EOF: Final = b"\x04"


class Sink(Protocol):
    """Where a streamed job's news go: the connection it belongs to."""

    def stage_started(self, stage: str) -> None: ...
    def output(self, stream: str, data: bytes) -> None:
        """Take the bytes. Never blocks."""

    async def ready(self) -> None:
        """Wait until the client has read enough to be sent more. A checkpoint."""


class Stdin:
    """What `job.write` sent and the program has not got yet."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[memoryview, Callable[[], None]]] = deque()
        self._bytes = 0
        self._closed = False
        self._finished = False
        self._changed = trio.Event()

    def write(self, data: bytes, taken: Callable[[], None]) -> None:
        """Queue ``data``; ``taken`` is called once the program's pipe has it all.

        What the program will never read is dropped, as by a shell's pipeline, and counts as
        taken. Raises RequestError after `close`, and `busy` for a client that does not wait.
        """
        if self._closed:
            raise RequestError(CANCELLED, "data: stdin is closed already")
        if self._finished or not data:
            taken()
            return
        if self._waiting and self._bytes + len(data) > _STDIN_BUFFER:
            raise RequestError(
                BUSY,
                "data: the program has not read what was sent; wait for the answer to job.write",
                {"retry_after_ns": _STDIN_RETRY_NS},
            )
        self._waiting.append((memoryview(data), taken))
        self._bytes += len(data)
        self._changed.set()

    def close(self) -> None:
        """No more will be written: the program sees the end once it has read everything."""
        self._closed = True
        self._changed.set()

    def finish(self) -> None:
        """Nobody reads any more."""
        self._finished = True
        self._bytes = 0
        while self._waiting:
            self._waiting.popleft()[1]()

    async def pump(self, end: Aside, window: "Window | None") -> None:
        """Write to ``end`` (non-blocking) until closed and empty, or nobody reads.

        Returns when done; the caller closes ``end``. Of a terminal, what came after a change of
        its ``window`` is written after that. Cancelled, it leaves a write that was begun
        to its thread: the program is dead, or about to be killed, and nobody counts its bytes.
        """
        while True:
            while self._waiting:
                if not await self._write_first(end, window):
                    self.finish()
                    return
            if self._closed:
                if window is not None:
                    await end.call(partial(_write, _EOF))
                return
            await self._changed.wait()
            self._changed = trio.Event()

    async def _write_first(self, end: Aside, window: "Window | None") -> bool:
        data, taken = self._waiting[0]
        while data:
            await trio.lowlevel.wait_writable(end.fd)
            if window is not None:
                await window.end.settled()
            count = await end.call(partial(_write, data))
            if count is None:
                return False
            data = data[count:]
            self._bytes -= count
        self._waiting.popleft()
        taken()
        return True


def _write(data: bytes | memoryview, fd: int) -> int | None:
    """How many bytes were taken; None when nobody reads any more. For a thread."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError:
        return None


class Intake:
    """Reads one pipe or terminal, a piece at a time, up to a limit.

    What a thread has read is passed on in any case, so no byte is lost where somebody who waited
    for it is cancelled; and as there is one thread at a time, they stay in order.
    """

    def __init__(
        self,
        end: Aside,
        limit: int,
        output: Callable[[bytes], object],
        exceeded: Callable[[], None],
    ) -> None:
        self.end = end
        self.truncated = False
        self.ended = False
        """At the end of the stream, or at the limit."""
        self._left = limit
        self._output = output
        self._exceeded = exceeded
        self._poll = select.poll()
        self._poll.register(end.fd, select.POLLIN)

    def look(self) -> bool:
        """Whether there is something to read now. Notices the end of the stream."""
        events = self._poll.poll(0)
        if not events or self.ended:
            return False
        if events[0][1] & select.POLLIN:
            return True
        self.ended = True  # Nobody has the other end.
        return False

    def start(self, then: Callable[[], object] | None = None) -> None:
        """Read once. ``then`` is called when what was read has been passed on. Not while one of
        these is under way. Raises OSError when no thread is to be had."""
        self.end.start(_read, partial(self._arrived, then))

    def _arrived(self, then: Callable[[], object] | None, data: bytes | None) -> None:
        if data is not None and not self.ended:
            self._pass_on(data)
        if then is not None:
            then()

    def _pass_on(self, data: bytes) -> None:
        self.ended = not data
        if len(data) > self._left:
            data = data[: self._left]
            self.ended = self.truncated = True
            self._exceeded()
        self._left -= len(data)
        if data:
            self._output(data)

    async def take(self) -> None:
        """Read once. Cancelled, it does not wait; see above."""
        self.start()
        await self.end.settled()

    async def drain(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Take what is left, without waiting for more; ``ready`` before each further piece.

        The program is dead, but whom it sent its descriptor by a passed socket may keep the pipe
        open for ever, and a read waiting: then what that would bring is lost.
        """
        while True:
            with trio.move_on_after(_LAST_READ_S):
                await self.end.settled()
            if self.end.busy:
                self.ended = True
                _log.warning("the end of a job's output could not be read")
            if not self.look():
                return
            await ready()
            self.start()


def _read(fd: int) -> bytes | None:
    """Bytes; none at the end of the stream, None when there is nothing yet. For a thread."""
    try:
        return os.read(fd, _PIPE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # EIO: a terminal whose other end nobody has open. A pipe has no errors.


class OutputPump:
    """Carries one output stream of a stage from its pipe to the client."""

    def __init__(
        self, stream: str, end: Aside, limit: int, sink: Sink, exceeded: Callable[[], None]
    ) -> None:
        self.stream = stream
        self._intake = Intake(end, limit, partial(sink.output, stream), exceeded)
        self._sink = sink

    @property
    def truncated(self) -> bool:
        return self._intake.truncated

    async def run(self) -> None:
        """Until the end of the stream. May be cancelled at any time without loss; call
        `drain` then."""
        intake = self._intake
        while not intake.ended:
            await trio.lowlevel.wait_readable(intake.end.fd)
            if intake.look():
                await intake.take()
            await self._sink.ready()

    async def drain(self) -> None:
        """Take what is left in the pipe; see `Intake.drain`."""
        await self._intake.drain(self._sink.ready)


class Window:
    """The size of a terminal. Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self.end = Aside(fd)
        self._size = (0, 0)
        self._waiting: list[Callable[[], None]] = []

    def resize(self, rows: int, columns: int, done: Callable[[], None]) -> None:
        """Set it; ``done`` is called when that is so, or the terminal is closed. Of many sizes that
        come meanwhile, the last counts. Raises OSError when no thread is to be had."""
        self._size = (rows, columns)
        if not self.end.busy:
            self._set()
        self._waiting.append(done)

    def _set(self) -> None:
        self.end.start(partial(set_window_size, *self._size), partial(self._was_set, self._size))

    def _was_set(self, size: tuple[int, int], _: None) -> None:
        if size != self._size and self.end.closer is None:
            self._set()
        else:
            self.tell()

    def tell(self) -> None:
        """Call every ``done``: it has its size, or will be closed."""
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done()


class Ends:
    """The descriptors of one stage that streams: the job's ends and ours.

    Owns both until `for_job` hands the job's ends over; `close` closes what is left.
    """

    def __init__(self) -> None:
        self.stdin: Aside | None = None
        self.outputs: list[tuple[str, Aside]] = []
        self.window: Window | None = None
        self._job: dict[str, int] = {}
        self._ours: list[Aside] = []
        self._closer = OURS
        self._passed: tuple[int, ...] = ()

    def for_job(self) -> Stdio:
        job, self._job = self._job, {}
        return Stdio(**job, closer=self._closer, passed=self._passed)

    def adopt(self, stdio: Stdio) -> None:
        """Descriptors that came with the request, for the job as they are. Through one of them the
        job may have sent its other streams away, so that the same user is charged for those."""
        self._closer, self._passed = stdio.closer, stdio.passed
        for name in ("stdin", "stdout", "stderr"):
            fd = getattr(stdio, name)
            if fd is not None:
                self._job[name] = fd

    def add_terminal(self, window: WindowSize) -> None:
        ours, theirs = os.openpty()
        output = self._own(ours)
        self._job = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        set_window_size(window.rows, window.columns, ours)
        # A descriptor for each, as one that waits must not keep the others waiting.
        self.stdin = self._own(os.dup(ours))
        self.window = Window(os.dup(ours))
        self._ours.append(self.window.end)
        self.outputs = [("stdout", output)]

    def add_output(self, stream: str) -> None:
        if stream in self._job:
            return
        ours, theirs = self._pipe()
        self._job[stream] = theirs
        self.outputs.append((stream, self._own(ours)))
        _adjust_pipe(ours, theirs)

    def add_stdin(self) -> None:
        theirs, ours = self._pipe()
        self._job["stdin"] = theirs
        self.stdin = self._own(ours)
        _adjust_pipe(theirs, theirs)

    def close_stdin(self) -> None:
        """The program reads the end of its input (a terminal's is a character instead)."""
        if self.stdin is not None and self.window is None:
            close_ends((self.stdin,), self._closer)
            self.stdin = None

    def close(self) -> None:
        self._closer.close(self._job.values())
        self._job = {}
        close_ends(self._ours, self._closer)
        self._ours = []
        if self.window is not None:
            self.window.tell()

    def _own(self, fd: int) -> Aside:
        os.set_blocking(fd, False)
        end = Aside(fd)
        self._ours.append(end)
        return end

    @staticmethod
    def _pipe() -> tuple[int, int]:
        # Each end is an open file description of its own: O_NONBLOCK on ours is not the job's.
        return os.pipe2(os.O_CLOEXEC)


def _adjust_pipe(sized: int, theirs: int) -> None:
    """Size it, and let the job open it again as /dev/stdin or /dev/stdout: the pipe is the
    daemon's, the job is another user. Nobody else can reach an unnamed pipe."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(sized, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.fchmod(theirs, 0o666)


def set_window_size(rows: int, columns: int, fd: int) -> None:
    """The kernel tells the program in the foreground by SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _WINSIZE.pack(rows, columns, 0, 0))
