"""Standard streams that the daemon itself serves: output as it comes, input as it is sent.

A stage that streams gets pipes (or a terminal) made here; the helper only passes them on. Reading
stops while the client does not read, so the pipe fills and the program waits: that is all the
back-pressure there is, and it needs no memory. The output limit is enforced here, too.
"""

import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio

from sandboxd.engine.descriptors import close_all
from sandboxd.engine.job import Stdio
from sandboxd.protocol.errors import BUSY, CANCELLED, RequestError
from sandboxd.protocol.models import WindowSize

# Large enough that a fast writer costs few wake-ups, small enough that an unprivileged user's
# share of pipe memory (pipe-user-pages-soft) serves many jobs.
_PIPE_BYTES: Final = 256 * 1024
# One job.write of any size is always taken; further ones only while this little is unwritten.
_STDIN_BUFFER: Final = 1024 * 1024
_STDIN_RETRY_NS: Final = 10_000_000
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

    async def pump(self, fd: int, *, terminal: bool) -> None:
        """Write to ``fd`` (non-blocking) until closed and empty, or nobody reads.

        Returns when done; the caller closes ``fd``.
        """
        while True:
            while self._waiting:
                if not await self._write_first(fd):
                    self.finish()
                    return
            if self._closed:
                if terminal:
                    with contextlib.suppress(OSError):
                        os.write(fd, _EOF)
                return
            await self._changed.wait()
            self._changed = trio.Event()

    async def _write_first(self, fd: int) -> bool:
        data, taken = self._waiting[0]
        while data:
            await trio.lowlevel.wait_writable(fd)
            try:
                count = os.write(fd, data)
            except BlockingIOError:
                continue
            except OSError:
                return False
            data = data[count:]
            self._bytes -= count
        self._waiting.popleft()
        taken()
        return True


class Intake:
    """Reads one pipe or terminal without ever waiting, up to a limit."""

    def __init__(
        self, fd: int, limit: int, output: Callable[[bytes], object], exceeded: Callable[[], None]
    ) -> None:
        self.fd = fd
        self.truncated = False
        self.ended = False
        """At the end of the stream, or at the limit."""
        self._left = limit
        self._output = output
        self._exceeded = exceeded

    def take(self) -> bool:
        """Read once. False when there was nothing, or it has ended."""
        if self.ended:
            return False
        try:
            data = os.read(self.fd, _PIPE_BYTES)
        except BlockingIOError:
            return False
        except OSError as exc:
            if exc.errno != errno.EIO:  # EIO: a terminal whose other end nobody has open.
                raise
            data = b""
        if not data:
            self.ended = True
            return False
        if len(data) > self._left:
            data = data[: self._left]
            self.ended = self.truncated = True
            self._exceeded()
        self._left -= len(data)
        if data:
            self._output(data)
        return True


class OutputPump:
    """Carries one output stream of a stage from its pipe to the client."""

    def __init__(
        self, stream: str, fd: int, limit: int, sink: Sink, exceeded: Callable[[], None]
    ) -> None:
        self.stream = stream
        self._intake = Intake(fd, limit, partial(sink.output, stream), exceeded)
        self._sink = sink

    @property
    def truncated(self) -> bool:
        return self._intake.truncated

    async def run(self) -> None:
        """Until the end of the stream. May be cancelled at any time without loss; call
        `drain` then."""
        while not self._intake.ended:
            await trio.lowlevel.wait_readable(self._intake.fd)
            self._intake.take()
            await self._sink.ready()

    async def drain(self) -> None:
        """Take what is left in the pipe, without waiting for more. The program is dead, but a
        passed descriptor may keep the pipe open for ever."""
        while self._intake.take():
            await self._sink.ready()


class Ends:
    """The descriptors of one stage that streams: the job's ends and ours.

    Owns both until `for_job` hands the job's ends over; `close` closes what is left.
    """

    def __init__(self) -> None:
        self.stdin: int | None = None
        self.outputs: list[tuple[str, int]] = []
        self.terminal: int | None = None
        self._job: dict[str, int] = {}
        self._ours: list[int] = []

    def for_job(self) -> Stdio:
        job, self._job = self._job, {}
        return Stdio(**job)

    def adopt(self, stdio: Stdio) -> None:
        """Descriptors that came with the request, for the job as they are."""
        for name in ("stdin", "stdout", "stderr"):
            fd = getattr(stdio, name)
            if fd is not None:
                self._job[name] = fd

    def add_terminal(self, window: WindowSize) -> None:
        ours, theirs = os.openpty()
        self._ours.append(ours)
        self._job = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        os.set_blocking(ours, False)
        set_window_size(ours, window.rows, window.columns)
        self.stdin = self.terminal = ours
        self.outputs = [("stdout", ours)]

    def add_output(self, stream: str) -> None:
        if stream in self._job:
            return
        ours, theirs = self._pipe()
        self._job[stream] = theirs
        self._ours.append(ours)
        self.outputs.append((stream, ours))
        _adjust_pipe(ours, theirs)
        os.set_blocking(ours, False)

    def add_stdin(self) -> None:
        theirs, ours = self._pipe()
        self._job["stdin"] = theirs
        self._ours.append(ours)
        self.stdin = ours
        _adjust_pipe(theirs, theirs)
        os.set_blocking(ours, False)

    def close_stdin(self) -> None:
        """The program reads the end of its input (a terminal's is a character instead)."""
        if self.stdin is not None and self.terminal is None:
            self._ours.remove(self.stdin)
            _close_waited(self.stdin)
            self.stdin = None

    def close(self) -> None:
        close_all(list(self._job.values()))
        self._job = {}
        while self._ours:
            _close_waited(self._ours.pop())

    @staticmethod
    def _pipe() -> tuple[int, int]:
        # Each end is an open file description of its own: O_NONBLOCK on ours is not the job's.
        return os.pipe2(os.O_CLOEXEC)


def _close_waited(fd: int) -> None:
    trio.lowlevel.notify_closing(fd)
    os.close(fd)


def _adjust_pipe(sized: int, theirs: int) -> None:
    """Size it, and let the job open it again as /dev/stdin or /dev/stdout: the pipe is the
    daemon's, the job is another user. Nobody else can reach an unnamed pipe."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(sized, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.fchmod(theirs, 0o666)


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """The kernel tells the program in the foreground by SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _WINSIZE.pack(rows, columns, 0, 0))
