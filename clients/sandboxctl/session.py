"""One streamed job between a terminal, files or pipes and the daemon.

Theory of operation. One poll(2) loop, nothing blocks elsewhere. Back-pressure in both directions:
what stdin gives goes on as one `job.write` at a time, and stdin is not read again before the daemon
has answered it; while our stdout does not take what came, the socket is not read, so the daemon
stops taking the program's output. Signals come through a pipe and are just one more descriptor.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select
import stat

from sandboxd_client._wire import WRITE_BYTES, Response, request_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sandboxctl.stdio import Stdio
    from sandboxctl.terminal import Terminal
    from sandboxd_client._connection import Connection
    from sandboxd_client._wire import Notification

# poll(2) says "writable" for a pipe that takes this much (PIPE_BUF); a write of more could block,
# and then nothing would hear of a Ctrl-C.
_PIPE_BUF = 4096
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Signals:
    """Turns signals into bytes on a descriptor while it is open. For the main thread only."""

    def __init__(self, *numbers: int) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # What is ignored stays so: nohup, or a shell's background job.
        taken = [n for n in numbers if _signal.getsignal(n) != _signal.SIG_IGN]
        self._handlers = {n: _signal.signal(n, lambda number, frame: None) for n in taken}
        self._previous = _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def take(self) -> bytes:
        """The numbers of the signals that came since the last call."""
        try:
            return os.read(self.fd, 256)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Put everything back as it was."""
        _signal.set_wakeup_fd(self._previous)
        for number, handler in self._handlers.items():
            _signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._write)


class Session:
    """Starts a job and carries bytes and signals until it has ended."""

    def __init__(
        self, connection: Connection, stdio: Stdio, stdin: int, terminal: Terminal | None = None
    ) -> None:
        """`stdin` is where input comes from; `terminal` is lent to the program while it runs, and
        for the caller to restore."""
        self.result: Mapping[str, Any] | None = None
        #: The signal because of which we cancelled the job.
        self.stopped_by = 0
        self._connection = connection
        self._stdio = stdio
        self._stdin = stdin
        self._stdin_open = True
        self._terminal = terminal
        self._stage = ""
        self._token: str | None = None
        self._streams = True
        self._start = self._write = self._wait = 0
        self._deferred: list[tuple[str, dict[str, Any]]] = []
        self._output: list[tuple[int, memoryview]] = []
        self._interrupts = 0
        self._cancelled = False

    def run(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start the job by `method` and return its result, as the daemon sent it.

        Raises RequestError, ConnectionLost, and KeyboardInterrupt when somebody insists.
        """
        signals = Signals(_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGWINCH)
        try:
            self._streams = bool(params.get("stream"))
            self._start = self._connection.send(method, params)
            while self.result is None or self._output:
                self._step(signals)
        finally:
            signals.close()
        return self.result

    def _step(self, signals: Signals) -> None:
        """Wait until something can be done, and do it."""
        poll = select.poll()
        poll.register(signals.fd, select.POLLIN)
        if self._output:
            poll.register(self._output[0][0], select.POLLOUT)
        else:
            poll.register(self._connection.fileno(), select.POLLIN)
        if self._wants_input():
            poll.register(self._stdin, select.POLLIN)
        ready = dict(poll.poll())
        if signals.fd in ready:
            for number in signals.take():
                self._signal(number)
        if self._output:
            if self._output[0][0] in ready:
                self._put_output()
        elif self._connection.fileno() in ready:
            for message in self._connection.receive():
                self._handle(message)
        if ready.get(self._stdin, 0) & _READABLE and self._stdin_open and not self._write:
            self._take_input()

    def _wants_input(self) -> bool:
        if self._terminal is not None and self._stage != "run":
            return False  # What is typed now stays in the terminal, where Ctrl-C still works.
        return self._stdin_open and bool(self._token) and not self._write and self.result is None

    # What comes from the daemon

    def _handle(self, message: Response | Notification) -> None:
        if isinstance(message, Response):
            self._answered(message)
        elif message.method == "job.output":
            stream, data = message.params["stream"], message.params["data"]
            errors = stream == "stderr" or self._stage == "compile"
            fd = self._stdio.stderr if errors else self._stdio.stdout
            self._output.append((fd, memoryview(data)))
        elif message.method == "job.stage":
            self._enter(message.params["stage"])
        elif message.method == "job.exit":
            self._end(message.params)

    def _enter(self, stage: str) -> None:
        self._stage = stage
        if stage == "run" and self._terminal is not None:
            self._terminal.take()
            self._resize()  # It may have another size than when we started.

    def _answered(self, answer: Response) -> None:
        if answer.msgid == self._write:
            self._write = 0
            if answer.error is not None:  # The program has closed its stdin, or has ended.
                self._stdin_open = False
        elif answer.msgid in (self._start, self._wait) and answer.error is not None:
            raise answer.error
        elif answer.msgid == self._start:
            self._token = answer.result["job"]
            for method, params in self._deferred:
                self._send(method, params)
            if not self._streams:
                self._wait = self._send("job.wait")
        elif answer.msgid == self._wait:
            self._end({"result": answer.result})
        # Other requests may fail because the job has just ended, and then nothing is wrong.

    def _end(self, params: Mapping[str, Any]) -> None:
        if params.get("error"):
            raise request_error(params["error"])
        self.result = params["result"]

    # What goes to the daemon

    def _send(self, method: str, params: Mapping[str, Any] = {}) -> int:
        """Send a request about the job; it is kept back until the job has a name."""
        if self._token is None:
            self._deferred.append((method, dict(params)))
            return 0
        return self._connection.send(method, {"job": self._token, **params})

    def _take_input(self) -> None:
        try:
            data = os.read(self._stdin, WRITE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # A closed descriptor, a terminal that is gone.
            data = b""
        if data:
            self._write = self._send("job.write", {"data": data})
        else:
            self._stdin_open = False
            self._send("job.close_stdin")

    def _signal(self, number: int) -> None:
        if number == _signal.SIGWINCH:
            self._resize()
            return
        self._interrupts += 1
        if number == _signal.SIGINT and self._interrupts == 1:
            self._send("job.signal", {"signal": number})
        elif not self._cancelled:
            self._cancel(number)
        else:
            raise KeyboardInterrupt

    def _cancel(self, because: int) -> None:
        self._cancelled = True
        self.stopped_by = because
        self._send("job.cancel")

    def _resize(self) -> None:
        if self._terminal is not None:
            self._send("job.resize", self._terminal.size())

    # What goes to stdout and stderr

    def _put_output(self) -> None:
        fd, data = self._output[0]
        try:
            written = os.write(fd, data if _takes_everything(fd) else data[:_PIPE_BUF])
        except BlockingIOError:
            return
        except BrokenPipeError:
            # Nobody reads any more: the program is stopped as SIGPIPE would stop it.
            self._output = [(other, rest) for other, rest in self._output if other != fd]
            if not self._cancelled:
                self._cancel(_signal.SIGPIPE)
            return
        if written == len(data):
            self._output.pop(0)
        else:
            self._output[0] = (fd, data[written:])


def _takes_everything(fd: int) -> bool:
    """Whether a write to `fd` never waits for a reader."""
    return stat.S_ISREG(os.fstat(fd).st_mode)
