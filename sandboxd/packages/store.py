"""Installed packages on the disk: `packages/<language>/<version>/` in the state directory.

A directory there is a package when it has the marker, which is written last and taken away first.
Beside the archive's files stand `.env` (the variables, as lines), `.sandboxd-package.json` (what
was installed) and the marker `.ppman-installed` (the time in milliseconds), where Piston has them.
Everything here blocks, and is called in a thread.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sandboxd.packages import info
from sandboxd.packages.info import BadInfo, PackageInfo
from sandboxd.protocol import package_names
from sandboxd.state import State
from sandboxd.unpack.remove import remove_at

INFO: Final = "pkg-info.json"
RUN: Final = "run"
COMPILE: Final = "compile"
_ENV: Final = ".env"
_RECORD: Final = ".sandboxd-package.json"
_MARKER: Final = ".ppman-installed"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO must not be waited for.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_FILE: Final = 1024 * 1024
_MS_NS: Final = 1_000_000


class Record(Struct, frozen=True):
    """What was installed."""

    sha256: str = ""
    size_bytes: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """One installed package as the disk has it."""

    language: str
    version: str
    info: PackageInfo
    env: Mapping[str, str]
    compiled: bool
    installed_ns: int
    record: Record


class Staged:
    """A new directory in the staging directory. Owns its descriptors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = -1
        """The directory to unpack into."""
        self.spool = -1
        """An empty file without a name."""
        path.mkdir(0o700)
        try:
            (path / "tree").mkdir(0o700)
            self.tree = os.open(path / "tree", _DIRECTORY)
            self.spool = os.open(path / "spool", _NEW, 0o600)
            os.unlink(path / "spool")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for fd in (self.tree, self.spool):
            if fd >= 0:
                os.close(fd)
        self.tree = self.spool = -1


class Store:
    """The directory of packages."""

    def __init__(self, state: State) -> None:
        self._packages = state.packages
        self._staging = state.staging
        self._writable = state.writable
        # The directory of a language goes with its last version, and may be wanted just then.
        self._naming = threading.Lock()

    def exists(self, language: str, version: str) -> bool:
        """Whether the place is taken, by an installed package or by what is to be removed."""
        return os.path.lexists(self._packages / language / version)

    # -- what is there -----------------------------------------------------------------------

    def names(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(language, version) of what is installed, and of what is not and is in the way."""
        installed: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for language in _subdirectories(self._packages, package_names.is_language):
            for version in _subdirectories(self._packages / language, package_names.is_version):
                marked = os.path.lexists(self._packages / language / version / _MARKER)
                (installed if marked else others).append((language, version))
        return installed, others

    def tidy(self) -> None:
        """Remove directories of languages that have no version any more."""
        for language in _subdirectories(self._packages, package_names.is_language):
            with contextlib.suppress(OSError):
                (self._packages / language).rmdir()

    def find(self, language: str, version: str) -> Found:
        """An installed package. Raises BadInfo or OSError when it is damaged."""
        with _opened(self._packages / language / version) as directory:
            said = check(directory, language, version)
            return Found(
                language,
                version,
                said,
                env=_variables(_read(directory, _ENV)),
                compiled=_has(directory, COMPILE),
                installed_ns=_time_ns(_read(directory, _MARKER)),
                record=_record(directory),
            )

    # -- making one --------------------------------------------------------------------------

    def stage(self) -> Staged:
        """A place to unpack to; the caller closes it and gives its path to `remove`."""
        return Staged(self._staging / f"package-{secrets.token_hex(8)}")

    def place(self, staged: Staged, language: str, version: str) -> None:
        """Check what was unpacked and put it where sandboxes see it, not yet installed.

        Raises BadInfo or OSError; then it is where it was.
        """
        for name in (_MARKER, _ENV, _RECORD):
            remove_at(staged.tree, name)
        check(staged.tree, language, version)
        os.fchmod(staged.tree, 0o755)
        target = self._packages / language / version
        with self._naming:
            target.parent.mkdir(0o755, exist_ok=True)
            target.parent.chmod(0o755)  # Whatever the umask says.
            os.rename(staged.path / "tree", target)
        _sync(target.parent)
        _sync(self._packages)

    def complete(self, language: str, version: str, env: Mapping[str, str], record: Record) -> None:
        """Make what was placed an installed package. Durable when it returns."""
        lines = "".join(f"{name}={value}\n" for name, value in env.items())
        with _opened(self._packages / language / version) as directory:
            _write(directory, _ENV, lines.encode())
            _write(directory, _RECORD, msgspec.json.encode(record))
            _write(directory, _MARKER, str(time.time_ns() // _MS_NS).encode())

    # -- removing one ------------------------------------------------------------------------

    def unmark(self, language: str, version: str) -> None:
        """It is not installed any more, though its files are there. Durable when it returns."""
        with _opened(self._packages / language / version) as directory:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_MARKER, dir_fd=directory)
            os.fsync(directory)

    def discard(self, language: str, version: str) -> Path | None:
        """Take it out of the sandboxes' sight. Returns what is left to `remove`, if anything is.

        Raises OSError with EBUSY while another daemon uses it.
        """
        place = self._packages / language / version
        away = self._staging / f"removed-{secrets.token_hex(8)}"
        with self._naming, contextlib.suppress(FileNotFoundError):
            with _opened(place) as directory:
                _require_unused(directory)
                os.rename(place, away)
            with contextlib.suppress(OSError):  # Other versions are there.
                place.parent.rmdir()
            return away
        return None

    def lock(self, language: str, version: str) -> int:
        """For a daemon that only reads: while it has the descriptor, the one that writes does not
        remove the package. Raises OSError."""
        directory = os.open(self._packages / language / version, _DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BaseException:
            os.close(directory)
            raise
        return directory

    def remove(self, path: Path) -> None:
        """Remove a directory of the staging directory, whatever is in it."""
        with _opened(path.parent) as parent:
            remove_at(parent, path.name)


def check(directory: int, language: str, version: str) -> PackageInfo:
    """What the package in an open directory says of itself. Raises BadInfo."""
    try:
        data = _read(directory, INFO)
    except OSError as exc:
        raise BadInfo(f"{INFO} cannot be read: {exc.strerror}") from exc
    try:
        said = info.parse(data, language, version)
    except BadInfo as exc:
        raise BadInfo(f"{INFO}: {exc}") from None
    if not _has(directory, RUN):
        raise BadInfo(f"it has no {RUN}")
    return said


def _require_unused(directory: int) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another sandboxd uses it") from None


def _subdirectories(path: Path, is_name: Callable[[str], bool]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if is_name(entry.name) and entry.is_dir(follow_symlinks=False):
            yield entry.name


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    directory = os.open(path, _DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


def _read(directory: int, name: str) -> bytes:
    """A regular file, not through a link, of at most 1 MiB. Raises OSError."""
    fd = os.open(name, _READ, dir_fd=directory)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE:
            raise OSError(errno.EINVAL, "it is no file of at most 1 MiB")
        return os.pread(fd, _MAX_FILE, 0)
    finally:
        os.close(fd)


def _write(directory: int, name: str, data: bytes) -> None:
    """Whole or not at all."""
    new = f"{name}.new"
    remove_at(directory, new)
    with open(os.open(new, _NEW, 0o644, dir_fd=directory), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _sync(path: Path) -> None:
    with _opened(path) as directory:
        os.fsync(directory)


def _has(directory: int, name: str) -> bool:
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)


def _variables(lines: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines.decode(errors="replace").split("\n"))
    return {name: value for name, equals, value in pairs if name and equals}


def _time_ns(marker: bytes) -> int:
    return int(marker) * _MS_NS if marker.isdigit() and len(marker) < 16 else 0


def _record(directory: int) -> Record:
    """Of a package that Piston has installed there is none."""
    try:
        return msgspec.json.decode(_read(directory, _RECORD), type=Record)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Record()
