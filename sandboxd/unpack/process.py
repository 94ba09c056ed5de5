"""The daemon's side of unpacking: starts the child, follows its report, and ends it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import trio
from msgspec import Struct

import sandboxd
from sandboxd.engine.memfd import sealed_memfd
from sandboxd.engine.wire import unpack_filters
from sandboxd.protocol.errors import INTERNAL, INVALID_ARGUMENT, RequestError
from sandboxd.unpack.seccomp import encode

if TYPE_CHECKING:
    from sandboxd.unpack.bounds import Bounds, Options

Progress = Callable[[str, int, int | None], None]
"""Called with the phase (``download``, ``unpack``), bytes of the archive, and their total where it
is known."""

_MAX_LINE: Final = 64 * 1024
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of it."""

    files: int
    """Files and links."""
    entries: int
    """These and directories, what was replaced or removed again included."""
    bytes: int
    """Of all files together."""
    sha256: str
    archive_bytes: int


class _Said(Struct, frozen=True):
    """A line of the child's report. An archive that has taken the child over writes it."""

    phase: Literal["download", "unpack"] | None = None
    bytes: int = 0
    total: int | None = None
    done: Unpacked | None = None
    mismatch: str | None = None
    refused: str | None = None
    failed: str | None = None


class ChecksumMismatch(Exception):
    """The archive has another checksum, `got`."""

    def __init__(self, got: str) -> None:
        super().__init__(got)
        self.got = got


async def unpack(
    archive: int,
    into: int,
    *,
    spool: int | None,
    bounds: Bounds,
    options: Options,
    progress: Progress,
) -> Unpacked:
    """Unpack an archive (tar; plain, gzip, bzip2, xz, zstd) beneath the directory ``into``.

    ``archive`` is read from its beginning where it is a regular file. It may be a pipe when
    ``spool``, an empty file open for reading and writing, is given; without, it must be a regular
    file that nobody else writes to. All descriptors stay the
    caller's. Everything that is written belongs to this process's user, without set-id bits.

    Raises RequestError `invalid_argument` for an archive that is refused, naming the member;
    `internal` when the disk is full or fails; ChecksumMismatch. What was written until then stays.
    Cancellation kills the child and waits for its end.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        process = _start(archive, into, spool, writer, bounds, options)
    except OSError as exc:
        os.close(reader)
        raise RequestError(INTERNAL, f"cannot unpack: {exc.strerror or exc}") from exc
    finally:
        os.close(writer)
    async with trio.lowlevel.FdStream(reader) as report:
        try:
            last = await _follow(report, progress)
        finally:
            process.kill()  # It has said everything; or nobody wants to hear it.
            with trio.CancelScope(shield=True):
                status = await trio.to_thread.run_sync(process.wait)
    return _outcome(last, status, bounds)


class _Child:
    """The process that unpacks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def kill(self) -> None:
        """Before `wait`."""
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status; that of a signal is negative."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _start(
    archive: int, into: int, spool: int | None, report: int, bounds: Bounds, options: Options
) -> _Child:
    """By this thread, whose death the child would take for the daemon's."""
    descriptors = {"archive": archive, "into": into, "report": report}
    if spool is not None:
        descriptors["spool"] = spool
    program = sealed_memfd("sandboxd-unpack", _PROGRAM)
    executable = os.path.realpath(sys.executable)
    arguments = [
        executable,
        *("-I", "-S", f"/proc/self/fd/{program}"),
        *(f"--{name}={fd}" for name, fd in descriptors.items()),
        f"--filters={_FILTERS}",
        f"--parent={os.getpid()}",
        *_arguments(bounds),
        *_arguments(options),
    ]
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    try:
        _inherit((program, *descriptors.values()))
        # Not by subprocess, which waits until every descriptor that is not for the child is
        # closed there: among them may be one that a client has passed and that nobody can close.
        pid = os.posix_spawn(
            executable,
            arguments,
            {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            file_actions=[nothing, (os.POSIX_SPAWN_DUP2, 0, 1)],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        _inherit(())
        os.close(program)
    return _Child(pid)


def _inherit(fds: Sequence[int]) -> None:
    """Have a child get these, and no others but the standard ones."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > _STDERR:
            with contextlib.suppress(OSError):  # That by which they were listed.
                os.set_inheritable(fd, fd in fds)


def _arguments(values: Bounds | Options) -> list[str]:
    arguments = []
    for name, value in dataclasses.asdict(values).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments += [option] if value else []
        else:
            arguments.append(f"{option}={value}")
    return arguments


async def _follow(report: trio.lowlevel.FdStream, progress: Progress) -> _Said:
    """The child's last word; empty when it died without one, or said what it does not say."""
    last = _Said()
    rest = b""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        while data := await report.receive_some():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                last = _Said()
                last = msgspec.json.decode(line, type=_Said)
                if last.phase is not None:
                    progress(last.phase, last.bytes, last.total)
            if len(rest) > _MAX_LINE:
                break
    return last


def _outcome(last: _Said, status: int, bounds: Bounds) -> Unpacked:
    if last.done is not None:
        return last.done
    if last.mismatch is not None:
        raise ChecksumMismatch(last.mismatch)
    if last.refused is not None:
        raise RequestError(INVALID_ARGUMENT, f"archive: {last.refused}", {"field": "archive"})
    if last.failed is not None:
        raise RequestError(INTERNAL, f"cannot unpack the archive: {last.failed}")
    if status == -signal.SIGXCPU:
        text = f"archive: unpacking it takes more than {bounds.cpu_s} s of CPU time"
        raise RequestError(INVALID_ARGUMENT, text, {"field": "archive"})
    raise RequestError(INTERNAL, "the program that unpacks archives died; see the log of sandboxd")


def _program() -> bytes:
    """The child's code as a zip file.

    Read when this module is imported, with root's privileges: in a checkout in root's home
    directory the daemon's user can read neither it nor the virtual environment. The child needs
    nothing but the standard library.
    """
    package = Path(__file__).parent
    modules = [module for module in package.glob("*.py") if module.name != Path(__file__).name]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sandboxd/__init__.py", Path(sandboxd.__file__).read_bytes())
        for module in modules:
            archive.writestr(f"sandboxd/unpack/{module.name}", module.read_bytes())
        archive.writestr(
            "__main__.py", "from sandboxd.unpack.__main__ import main\nraise SystemExit(main())\n"
        )
    return packed.getvalue()


_PROGRAM: Final = _program()
_FILTERS: Final = encode(unpack_filters())
