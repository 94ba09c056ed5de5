"""The state directory: what sandboxd keeps from one start to the next, and who may change it.

One daemon at a time writes there (a lock says which); any other reads. It is made while the daemon
is still root and belongs to the daemon's own uid.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sandboxd.errors import HostError
from sandboxd.logs import fields
from sandboxd.protocol.errors import PERMISSION_DENIED, RequestError
from sandboxd.unpack.remove import remove_at

if TYPE_CHECKING:
    from sandboxd.privileges import Identity

_log = logging.getLogger("sandboxd.state")

# Packages are seen by jobs and their paths are theirs, too; what is being made is nobody's yet.
_DIRECTORIES: Final = (("packages", 0o755), ("environments", 0o755), ("staging", 0o700))
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class State:
    """Where things are kept. Owns the lock."""

    root: Path
    lock: int = -1
    """The locked descriptor; -1 when this daemon may only read."""

    @property
    def writable(self) -> bool:
        return self.lock >= 0

    @property
    def packages(self) -> Path:
        """Installed packages, ``<language>/<version>``; jobs see it as /piston/packages."""
        return self.root / "packages"

    @property
    def environments(self) -> Path:
        """Imported root file systems, by name."""
        return self.root / "environments"

    @property
    def staging(self) -> Path:
        """What is being made, on the same file system as where it will be renamed to."""
        return self.root / "staging"

    def require_writable(self) -> None:
        """Raises RequestError `permission_denied` when this daemon may not change anything."""
        if not self.writable:
            raise RequestError(
                PERMISSION_DENIED,
                f"this sandboxd cannot write {self.root} (it is private, or another sandboxd"
                " uses that directory); set state_directory, or ask the other one",
            )

    def close(self) -> None:
        """Give up the lock."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def clean(self) -> None:
        """Remove what an interrupted install or import left. For the daemon's own uid, never root:
        what lies there came out of archives."""
        if not self.writable:
            return
        staging = os.open(self.staging, _DIRECTORY)
        try:
            for name in os.listdir(staging):
                _remove(staging, name)
        finally:
            os.close(staging)


def prepare(path: str, identity: Identity | None, *, write: bool) -> State:
    """Make and lock the state directory; without the right or the lock it is for reading only.

    ``identity`` is who the daemon is going to be, None when it stays who it is. Raises HostError
    when something stands in the way that only an administrator can clear.
    """
    state = State(Path(path))
    if not write:
        return state
    try:
        state.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory = os.open(state.root, _DIRECTORY)
    except PermissionError:
        return state
    except OSError as exc:
        raise HostError(f"state_directory: {path}: {exc.strerror}") from exc
    try:
        state.lock = _lock(directory, identity)
        if state.writable:
            os.fchmod(directory, 0o755)  # Whatever the umask says: jobs read packages there.
            _make_directories(directory, identity)
    except PermissionError:
        state.close()
    except OSError as exc:
        state.close()
        raise HostError(f"state_directory: {exc.filename or path}: {exc.strerror}") from exc
    finally:
        os.close(directory)
    return state


def _lock(directory: int, identity: Identity | None) -> int:
    """The directory has been the daemon's before: what is there under a known name may be another
    name of somebody's file. So the daemon is given only a file that was made here."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    made = True
    try:
        lock = os.open("lock", flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    except FileExistsError:
        made = False
        lock = os.open("lock", flags, dir_fd=directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    if identity is not None:
        os.fchown(directory, identity.uid, identity.gid)
        if made:
            os.fchown(lock, identity.uid, identity.gid)
    return lock


def _make_directories(directory: int, identity: Identity | None) -> None:
    for name, mode in _DIRECTORIES:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=directory)
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            os.fchmod(fd, mode)
            if identity is not None:
                os.fchown(fd, identity.uid, identity.gid)
        finally:
            os.close(fd)


def _remove(staging: int, name: str) -> None:
    """What cannot be removed stays until somebody looks at the log: it is in nobody's way. So does
    an environment that a daemon which only reads has locked, for the next start."""
    lock = -1
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            lock = os.open(name, _DIRECTORY, dir_fd=staging)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_at(staging, name)
    except BlockingIOError:
        _log.warning("another sandboxd uses what was removed %s", fields(name=name))
    except OSError as exc:
        _log.error("a left-over was not removed %s", fields(name=name, why=exc.strerror))
    finally:
        if lock >= 0:
            os.close(lock)
