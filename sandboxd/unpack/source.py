"""From the descriptor an archive comes by to its plain bytes: spooled, checked, decompressed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import select
import stat
import subprocess
import zlib

from sandboxd.unpack.refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from sandboxd.unpack.bounds import Bounds

_CHUNK = 1024 * 1024
# What small archives may unpack to whatever the ratio: a tar of one short file is 10 KiB of zeros.
_RATIO_FREE = 64 * 1024 * 1024
# A header, its extended headers and padding.
_MEMBER_OVERHEAD = 4096

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
# What the decompressors say about damaged or truncated data.
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def spool(
    archive: int, into: int | None, bounds: Bounds, progress: Callable[[int], None]
) -> tuple[str, int]:
    """Read the whole archive, copying it to ``into`` where given. Returns (SHA-256, size).

    A regular file is read from its beginning, wherever others that have it open stand. Raises
    Refused when it is too large, or when nothing comes for too long.
    """
    digest = hashlib.sha256()
    size = 0
    regular = is_regular(archive)
    while chunk := os.pread(archive, _CHUNK, size) if regular else _read(archive, bounds.idle_s):
        size += len(chunk)
        if size > bounds.archive_bytes:
            raise Refused(f"the archive is larger than {bounds.archive_bytes} bytes")
        digest.update(chunk)
        if into is not None:
            _write(into, chunk)
        progress(size)
    return digest.hexdigest(), size


def _read(fd: int, idle_s: int) -> bytes:
    """Waits no longer than ``idle_s`` for a pipe; files are always ready."""
    while True:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(idle_s * 1000):
            raise Refused(f"nothing of the archive came for {idle_s} s")
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:  # Somebody else reads from the same pipe.
            continue


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def is_regular(fd: int) -> bool:
    """Whether it can be read again."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


class Plain:
    """The archive's plain bytes, bounded; `read` is all that tarfile needs."""

    def __init__(
        self,
        archive: int,
        size: int,
        bounds: Bounds,
        progress: Callable[[int], None],
        in_decompressor: Callable[[], None],
    ) -> None:
        """``archive`` is a regular file of ``size`` bytes, and stays the caller's.

        Decompresses nothing yet, but starts the program for that where one is needed, which calls
        ``in_decompressor`` first.
        """
        self._archive = archive
        self._in_decompressor = in_decompressor
        self._progress = progress
        self._most = bounds.total_bytes + _MEMBER_OVERHEAD * bounds.members
        self._ratio = bounds.ratio
        self._size = size
        self._produced = 0
        self._unzstd: subprocess.Popen[bytes] | None = None
        os.lseek(archive, 0, os.SEEK_SET)
        self._file = self._opened(kind(archive))

    def _opened(self, kind: str) -> IO[bytes]:
        if kind == "zstd":
            return self._start_unzstd()
        raw: IO[bytes] = open(self._archive, "rb", closefd=False)  # noqa: SIM115 - see close
        if kind == "gzip":
            return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"))
        if kind == "bzip2":
            return bz2.BZ2File(raw)
        if kind == "xz":
            return lzma.LZMAFile(raw)
        return raw

    def _start_unzstd(self) -> IO[bytes]:
        """Python knows zstd only since 3.14."""
        command = ["/usr/bin/zstd", "-d", "-c", "-q", "--no-progress"]
        try:
            self._unzstd = subprocess.Popen(
                command,
                stdin=self._archive,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                preexec_fn=self._in_decompressor,
            )
        except OSError as exc:
            raise Refused(f"zstd archives need /usr/bin/zstd: {exc.strerror}") from None
        assert self._unzstd.stdout is not None  # noqa: S101 - for mypy
        return self._unzstd.stdout

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes. Raises Refused when the archive unpacks to too much."""
        data = self._file.read(size)
        self._produced += len(data)
        if self._produced > self._most:
            raise Refused(f"the archive unpacks to more than {self._most} bytes")
        if self._produced > max(_RATIO_FREE, self._ratio * self._size):
            raise Refused(
                f"the archive unpacks to more than {self._ratio} times its size, which"
                " only an archive made for that does"
            )
        # zstd shares the descriptor, so this is how far it has read.
        self._progress(os.lseek(self._archive, 0, os.SEEK_CUR))
        return data

    def drain(self) -> None:
        """Read to the end, where checksums are. Raises Refused when it is damaged."""
        while self.read(_CHUNK):
            pass
        if self._unzstd is not None and self._unzstd.wait():
            raise Refused("the archive is damaged: zstd cannot unpack it to its end")

    def close(self) -> None:
        """A decompressor that has more to say ends by that, or at the latest with this process,
        which may send no signal."""
        self._file.close()


def kind(archive: int) -> str:
    """How a file is packed: gzip, bzip2, xz, zstd, or empty."""
    head = os.pread(archive, 8, 0)
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")
