"""The child that unpacks. Started by `process`; not a command for people.

It reports lines of JSON on the descriptor ``--report``: ``{"phase", "bytes", "total"?}`` on its
way, and as the last one ``{"done": {…}}``, ``{"refused": text}``, ``{"mismatch": sha256}`` or
``{"failed": text}``.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import errno
import json
import os
import resource
import signal
import sys
import time

from sandboxd.unpack import source, squashfs
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.confine import confine
from sandboxd.unpack.extract import Extraction
from sandboxd.unpack.refused import Refused
from sandboxd.unpack.seccomp import Filters
from sandboxd.unpack.squashed import SquashExtraction
from sandboxd.unpack.zipped import ZipExtraction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxd.unpack.members import Members

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The daemon runs before the jobs (-10); this may wait for them.
_NICENESS = 10
_MAX_OPEN_FILES = 256
_REPORT_EVERY_S = 0.1


class Report:
    """The way back to the daemon."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = 0.0

    def say(self, **what: object) -> None:
        os.write(self._fd, json.dumps(what).encode() + b"\n")

    def progress(self, phase: str, done: int, total: int | None = None) -> None:
        """Seldom enough not to matter."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _REPORT_EVERY_S
            self.say(phase=phase, bytes=done, total=total)

    def begin(self, phase: str, total: int | None = None) -> None:
        self._next = 0.0
        self.progress(phase, 0, total)


def main(argv: list[str] | None = None) -> int:
    arguments = vars(_parser().parse_args(argv))
    report = Report(arguments["report"])
    bounds = Bounds(**{name: arguments[name] for name in _fields(Bounds)})
    options = Options(**{name: arguments[name] for name in _fields(Options)})
    _limit_self(bounds, arguments["parent"])
    spool = None if arguments["spool"] < 0 else arguments["spool"]
    filters: Filters = arguments["filters"]
    try:
        confine(arguments["into"])
        filters.begin()
        done = unpack(
            arguments["archive"], arguments["into"], spool, filters, bounds, options, report
        )
    except Refused as exc:
        report.say(refused=str(exc))
    except _Mismatch as exc:
        report.say(mismatch=str(exc))
    except source.DAMAGED as exc:
        report.say(refused=f"the archive is damaged: {exc}")
    except MemoryError:
        report.say(refused=f"unpacking needs more than {bounds.memory_bytes} bytes of memory")
    except OSError as exc:
        report.say(failed=_why(exc, bounds))
    else:
        report.say(done=done)
        return 0
    return 1


def unpack(
    archive: int,
    into: int,
    spool: int | None,
    filters: Filters,
    bounds: Bounds,
    options: Options,
    report: Report,
) -> dict[str, object]:
    """Everything, in order. Raises Refused, _Mismatch, OSError, MemoryError or source.DAMAGED."""
    report.begin("download")
    if spool is None and not source.is_regular(archive):
        raise Refused("it is not a regular file")
    digest, size = source.spool(
        archive, spool, bounds, lambda done: report.progress("download", done)
    )
    if options.sha256 and digest != options.sha256:
        raise _Mismatch(digest)
    report.begin("unpack", size)
    stored = archive if spool is None else spool
    extraction: Extraction | ZipExtraction | SquashExtraction
    if options.any_format and (other := _other_format(stored)) is not None:
        filters.last()
        extraction = other(into, bounds, options)
        with open(stored, "rb", closefd=False) as file:
            extraction.run(file)
        return _done(extraction, into, digest, size)
    plain = source.Plain(
        stored,
        size,
        bounds,
        lambda done: report.progress("unpack", done, size),
        filters.in_decompressor,
    )
    filters.last()
    extraction = Extraction(into, bounds, options)
    try:
        extraction.run(plain)
        plain.drain()
    finally:
        plain.close()
    return _done(extraction, into, digest, size)


def _other_format(archive: int) -> type[ZipExtraction | SquashExtraction] | None:
    """What the archive is, where it is not tar."""
    head = os.pread(archive, 4, 0)
    if head == squashfs.MAGIC:
        return SquashExtraction
    return ZipExtraction if head in (b"PK\3\4", b"PK\5\6") else None


def _done(extraction: Members, into: int, digest: str, size: int) -> dict[str, object]:
    _sync(into)
    return {
        "files": extraction.files,
        "entries": extraction.entries,
        "bytes": extraction.bytes,
        "sha256": digest,
        "archive_bytes": size,
    }


class _Mismatch(Exception):
    """The archive is not the one that was meant; the text is its checksum."""


def _limit_self(bounds: Bounds, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        sys.exit(1)  # It died before that.
    os.chdir("/")
    os.umask(0o077)
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    memory, size = bounds.memory_bytes, max(bounds.file_bytes, bounds.archive_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # The soft limit says SIGXCPU; where both are the same there is only SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _sync(directory: int) -> None:
    """To the disk, before anybody says that it is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(directory) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _why(exc: OSError, bounds: Bounds) -> str:
    if exc.errno == errno.EFBIG:
        return f"a file is larger than {bounds.file_bytes} bytes"
    return f"{exc.strerror or exc}"


def _fields(of: type[Bounds | Options]) -> list[str]:
    return [field.name for field in dataclasses.fields(of)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandboxd.unpack", allow_abbrev=False)
    for name in ("archive", "into", "report"):
        parser.add_argument(f"--{name}", type=int, required=True, metavar="FD")
    parser.add_argument("--spool", type=int, default=-1, metavar="FD")
    parser.add_argument("--filters", type=Filters.decode, required=True, metavar="BASE64")
    parser.add_argument("--parent", type=int, default=0, metavar="PID")
    for field in (*dataclasses.fields(Bounds), *dataclasses.fields(Options)):
        name = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(field.default), default=field.default)
    return parser


if __name__ == "__main__":
    sys.exit(main())
