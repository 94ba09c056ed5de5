"""Log lines: ``key=value`` fields on stderr, with journal priorities under systemd.

Everything a client wrote goes through `field`, which quotes it, so that no client can forge
a line or colour an administrator's terminal.
"""

import codecs
import logging
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

# sd-daemon(3): "<3>" and the like in front of a line become the entry's priority.
_PRIORITIES = {
    logging.CRITICAL: "<2>",
    logging.ERROR: "<3>",
    logging.WARNING: "<4>",
    logging.INFO: "<6>",
    logging.DEBUG: "<7>",
}

_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")
# Looked up now: the codec is a file, and a daemon that is out of descriptors has to log, too.
_escape: Final = codecs.getencoder("unicode_escape")
_to_journal = False
_NO_WAIT: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# A client's text in a log line is for recognition, not for keeping.
_MAX_VALUE = 256


def field(value: object) -> str:
    """One value as it stands after ``key=``: bare when harmless, else quoted and escaped."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > _MAX_VALUE:
        text = text[:_MAX_VALUE] + "…"
    if _PLAIN.fullmatch(text):
        return text
    escaped = _escape(text)[0].decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def fields(**values: object) -> str:
    """``key=value`` pairs in the order given."""
    return " ".join(f"{key}={field(value)}" for key, value in values.items())


class _Output:
    """Standard error, for who must not wait. A line that is not taken at once, because the journal
    or whoever else reads it does not, is dropped and counted."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._dropped = 0
        self._torn = False
        self._fd = -1
        self._socket: socket.socket | None = None
        if stream is None:
            return
        try:
            fd = stream.fileno()
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            if kind == stat.S_IFSOCK:
                self._socket = socket.socket(fileno=os.dup(fd))
            elif kind in (stat.S_IFIFO, stat.S_IFCHR):
                # A description of our own: who shares standard error with us may want to wait.
                self._fd = os.open(f"/proc/self/fd/{fd}", _NO_WAIT)
        except OSError:
            return  # It is no file, or not ours to open: written as any other.

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._fd >= 0:
            os.close(self._fd)

    def write(self, text: str) -> None:
        """A line, or several."""
        if self._dropped:
            note = f"{_prefix(logging.WARNING)}the log was not read lines_lost={self._dropped}\n"
            text = note + text
        if self._torn:
            text = "\n" + text
        try:
            whole = self._take(text.encode(errors="backslashreplace"))
        except BlockingIOError:
            self._dropped += 1
        except (OSError, ValueError):
            pass  # Nobody reads it any more, or it is closed.
        else:
            self._dropped, self._torn = 0, not whole

    def _take(self, data: bytes) -> bool:
        """Whether all of it was taken."""
        if self._socket is not None:
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            return self._socket.send(data, flags) == len(data)
        if self._fd >= 0:
            return os.write(self._fd, data) == len(data)
        if self._stream is not None:
            self._stream.write(data.decode())
            self._stream.flush()
        return True


def _prefix(level: int) -> str:
    return _PRIORITIES.get(level, "<6>") if _to_journal else ""


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            _output.write(self.format(record) + "\n")
        except Exception:  # As any handler: whoever logs is not to fail of it.
            self.handleError(record)


_output = _Output(None)


class OftenLog:
    """Lines of level INFO under a logger's name, as it would write them, at a fifth of the cost:
    no record is made, and the time is put into words once a second."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._second = -1
        self._time = ""

    def write(self, line: str) -> None:
        """Write `line` unless the level says otherwise. What could break it must be quoted."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if _to_journal:
            text = f"{_PRIORITIES[logging.INFO]}{line}\n"
        else:
            now = time.time()
            second = int(now)
            if second != self._second:
                self._second = second
                self._time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            text = f"{self._time},{int((now - second) * 1000):03d} INFO {line}\n"
        _output.write(text)


class _Formatter(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        prefix = _PRIORITIES.get(record.levelno, "<6>")
        # A traceback has several lines and each is an entry of its own for the journal.
        return "\n".join(prefix + line for line in text.splitlines() or [""])


def configure(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send everything from ``level`` up to stderr; called once, at start."""
    global _output, _to_journal
    _to_journal = bool(environ.get("JOURNAL_STREAM"))
    _output.close()
    _output = _Output(sys.stderr)
    handler = _Handler()
    handler.setFormatter(_Formatter(journal=_to_journal))
    root = logging.getLogger("sandboxd")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
