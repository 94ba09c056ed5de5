"""An archive on its way to the daemon, through a pipe of ours that the daemon reads.

Theory of operation. The daemon gets one end of the pipe with the request, and one poll(2) loop
fills the other while it waits for the answer. So what makes the archive may fail, and the daemon
never sees the end of half an archive: then the connection is closed first, which cancels the
request, and the end of what `tar` wrote is held back until `tar` has said that all is well.
"""

from __future__ import annotations

import os
import select
import stat

from sandboxd.protocol.errors import INVALID_ARGUMENT, SandboxdError
from sandboxd_client._wire import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sandboxctl.progress import Progress
    from sandboxctl.stdio import Stdio
    from sandboxd_client._connection import Connection

_CHUNK_BYTES = 256 * 1024
# The end of an archive, two blocks of zeros, is in the last record (10240 bytes) that tar writes.
_HELD_BACK_BYTES = 20 * 1024
_FROM_STDIN = "-"


class NoArchive(SandboxdError):
    """What was named gives no archive; the text says why."""

    code = INVALID_ARGUMENT


class Source:
    """Where an archive comes from: a file, a directory packed by `tar`, or stdin."""

    def __init__(self, path: str, stdio: Stdio) -> None:
        """Raises NoArchive, OSError."""
        self.total = 0
        self._tar = 0
        self._said = -1
        if path == _FROM_STDIN:
            if stdio.is_terminal(stdio.stdin):
                raise NoArchive("stdin is a terminal, and no archive")
            self.fd = os.dup(stdio.stdin)
        elif os.path.isdir(path):
            self._said = os.memfd_create("tar")
            self.fd, self._tar = _start_tar(path, stdio, self._said)
        else:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        about = os.fstat(self.fd)
        if stat.S_ISREG(about.st_mode):
            self.total = about.st_size

    @property
    def held_back(self) -> int:
        """How many bytes of the end must not be passed on before `finish` was called."""
        return _HELD_BACK_BYTES if self._tar else 0

    def finish(self) -> None:
        """All has been read. Raises NoArchive when it is not all of the archive."""
        if self._tar:
            pid, self._tar = self._tar, 0
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code:
                raise NoArchive(f"the directory could not be packed: {_first_line(self._said)}")

    def close(self) -> None:
        """End whatever still goes on. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)  # By which tar ends, too, if it has not.
            self.fd = -1
        if self._tar:
            os.waitpid(self._tar, 0)
            self._tar = 0
        if self._said >= 0:
            os.close(self._said)
            self._said = -1


def _first_line(fd: int) -> str:
    """What `tar` said first; what it says after that follows from it."""
    lines = os.pread(fd, 4096, 0).decode("utf-8", "replace").split("\n")
    return lines[0] or "tar failed"


def _start_tar(path: str, stdio: Stdio, errors: int) -> tuple[int, int]:
    """(where it writes, its pid); `errors` is for what it says.

    Links are packed as links, and what is mounted in the directory is left out.
    """
    reader, writer = os.pipe()
    argv = ["tar", "--create", "--file=-", "--numeric-owner", "--one-file-system",
            f"--directory={path}", "."]  # fmt: skip
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    try:
        pid = os.posix_spawnp("tar", argv, stdio.environ, file_actions=actions)
    except OSError as exc:
        os.close(reader)
        raise NoArchive(
            f"a directory is packed by tar, which cannot be started: {exc.strerror}"
        ) from exc
    finally:
        os.close(writer)
    return reader, pid


def call_with_archive(
    connection: Connection,
    method: str,
    params: Mapping[str, Any],
    source: Source,
    progress: Progress,
) -> Any:
    """Send the request, feed the daemon the archive and return its answer.

    Raises RequestError, ConnectionLost, NoArchive, OSError; the connection is closed then.
    """
    reader, writer = os.pipe()
    try:
        msgid = connection.send(method, {**params, "fds": {"archive": 0}}, [reader])
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    os.set_blocking(writer, False)
    upload = _Upload(connection, msgid, source, writer, progress)
    try:
        return upload.run()
    except BaseException:
        connection.close()  # Before the pipe: the daemon must not take its end for the archive's.
        raise
    finally:
        upload.close()


class _Upload:
    """The state of one upload. Owns the pipe's end."""

    def __init__(
        self, connection: Connection, msgid: int, source: Source, writer: int, progress: Progress
    ) -> None:
        self._connection = connection
        self._msgid = msgid
        self._source = source
        self._writer = writer
        self._progress = progress
        self._data = b""
        self._held_back = source.held_back
        self._ended = False
        self._sent = 0
        self._answer: Response | None = None

    def run(self) -> Any:
        while self._answer is None:
            self._step()
        if self._answer.error is not None:
            raise self._answer.error
        return self._answer.result

    def close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def _step(self) -> None:
        """Wait until something can be done, and do it."""
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        if self._writer >= 0:
            if len(self._data) > self._held_back:
                poll.register(self._writer, select.POLLOUT)
            elif not self._ended:
                poll.register(self._source.fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self._connection.fileno() in ready:
            for message in self._connection.receive():
                if isinstance(message, Response) and message.msgid == self._msgid:
                    self._answer = message
        if self._writer in ready:
            self._write()
        elif self._source.fd in ready:
            self._read()

    def _read(self) -> None:
        data = os.read(self._source.fd, _CHUNK_BYTES)
        self._data += data
        if not data:
            self._source.finish()
            self._ended = True
            self._held_back = 0
            if not self._data:
                self._all_sent()

    def _write(self) -> None:
        end = len(self._data) - self._held_back
        try:
            count = os.write(self._writer, memoryview(self._data)[:end])
        except BlockingIOError:
            return
        except BrokenPipeError:  # The daemon wants no more of it, and will say why.
            self.close()
            return
        self._data = self._data[count:]
        self._sent += count
        self._progress.show("sending", self._sent, self._source.total)
        if self._ended and not self._data:
            self._all_sent()

    def _all_sent(self) -> None:
        self.close()
        self._progress.show("unpacking")
