"""The one writer: everything beneath one directory, by descriptors, never through a link."""

from __future__ import annotations

import os
import stat

from sandboxd.unpack.refused import Refused, shown
from sandboxd.unpack.remove import remove_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxd.unpack.links import Parts

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Set-id and sticky bits are dropped, and nobody but the owner may write. The owner always can
# enter and change directories, or they could not be removed.
_MODE_MASK = 0o755
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o400
_PARENT_MODE = 0o755
_SECOND_NS = 1_000_000_000


class Tree:
    """Writes beneath ``root``, a directory's descriptor that stays the caller's.

    With ``layer`` what is there may be replaced, as the layers of an image do; otherwise every name
    may come once, and only directories again.
    """

    def __init__(self, root: int, *, layer: bool = False) -> None:
        self.missing = 0
        """Directories that were made for something beneath them."""
        self._root = root
        self._layer = layer
        self._open: list[tuple[bytes, int]] = []  # The directory written to last, and its parents.
        self._directories: dict[Parts, tuple[int, int | None]] = {}
        self._made: set[Parts] = set()

    def file(self, parts: Parts, mode: int) -> int:
        """A new, empty file; the descriptor is the caller's."""
        parent = self._parent(parts)
        try:
            fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._replace(parts)
            fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=self._parent(parts))
        self._note(parts)
        try:
            os.fchmod(fd, mode & _MODE_MASK | _FILE_MODE)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def directory(self, parts: Parts, mode: int, mtime: int) -> None:
        """A directory, which may be there already."""
        if not parts:
            return
        parent = self._parent(parts)
        try:
            os.mkdir(parts[-1], _DIRECTORY_MODE, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(parts[-1], dir_fd=parent)
            if not stat.S_ISDIR(found.st_mode):
                self._replace(parts)
                os.mkdir(parts[-1], _DIRECTORY_MODE, dir_fd=self._parent(parts))
        self._note(parts)
        self._directories[parts] = (mode & _MODE_MASK | _DIRECTORY_MODE, mtime)

    def symlink(self, parts: Parts, target: bytes) -> None:
        """A symbolic link; where it leads is not looked at here."""
        parent = self._parent(parts)
        try:
            os.symlink(target, parts[-1], dir_fd=parent)
        except FileExistsError:
            self._replace(parts)
            os.symlink(target, parts[-1], dir_fd=self._parent(parts))
        self._note(parts)

    def hardlink(self, parts: Parts, source: Parts) -> None:
        """Another name of a file that is there."""
        if source == parts:
            raise Refused(f"{shown(b'/'.join(parts))} is a link to itself")
        if source[: len(parts)] == parts:
            raise _no_source(parts, source)  # To take its place would remove it.
        directory = os.dup(self._existing(source[:-1], parts))
        try:
            self._check_source(directory, source, parts)
            parent = self._parent(parts)
            names = (source[-1], parts[-1])
            try:
                os.link(*names, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                self._replace(parts)
                parent = self._parent(parts)
                os.link(*names, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)
        self._note(parts)

    def _check_source(self, directory: int, source: Parts, parts: Parts) -> None:
        try:
            found = os.lstat(source[-1], dir_fd=directory)
        except FileNotFoundError:
            raise _no_source(parts, source) from None
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            raise _no_source(parts, source)

    def finish(self) -> None:
        """Give the directories their modes and times. To be called once, at the end."""
        for parts, (mode, mtime) in self._directories.items():
            parent = self._existing(parts, parts)
            os.fchmod(parent, mode)
            if mtime is not None:
                set_time(parent, mtime)
        self.close()

    def close(self) -> None:
        """Close the directories that are open. May be called again."""
        self._leave(0)

    # -- layers ------------------------------------------------------------------------------

    def whiteout(self, parts: Parts) -> None:
        """Remove what an earlier layer put there."""
        if parts not in self._made:
            self._remove(parts)

    def opaque(self, parts: Parts) -> None:
        """Remove everything that earlier layers put into a directory."""
        for name in os.listdir(self._directory(parts)):
            inner = (*parts, os.fsencode(name))
            if inner not in self._made:
                self._remove(inner)
            elif stat.S_ISDIR(os.lstat(name, dir_fd=self._directory(parts)).st_mode):
                self.opaque(inner)

    def _replace(self, parts: Parts) -> None:
        if not self._layer:
            raise Refused(f"{shown(b'/'.join(parts))} comes twice")
        self._remove(parts)

    def _remove(self, parts: Parts) -> None:
        parent = self._parent(parts)
        self._leave(len(parts) - 1)
        remove_at(parent, parts[-1])
        gone = [path for path in self._directories if path[: len(parts)] == parts]
        for path in gone:
            del self._directories[path]

    def _note(self, parts: Parts) -> None:
        if self._layer:
            self._made.update(parts[:length] for length in range(1, len(parts) + 1))

    # -- directories -------------------------------------------------------------------------

    def _parent(self, parts: Parts) -> int:
        return self._directory(parts[:-1])

    def _directory(self, parts: Parts) -> int:
        """The directory's descriptor, valid until the next call. Makes what is missing."""
        fd = self._enter(parts)
        for depth in range(len(self._open), len(parts)):
            fd = self._step(fd, parts, depth, make=True)
        return fd

    def _existing(self, parts: Parts, link: Parts) -> int:
        fd = self._enter(parts)
        try:
            for depth in range(len(self._open), len(parts)):
                fd = self._step(fd, parts, depth, make=False)
        except FileNotFoundError:
            raise _no_source(link, parts) from None
        return fd

    def _enter(self, parts: Parts) -> int:
        """Leave the directories that are not on the way; the deepest that is."""
        common = 0
        for (name, _), part in zip(self._open, parts, strict=False):
            if name != part:
                break
            common += 1
        self._leave(common)
        return self._open[-1][1] if self._open else self._root

    def _step(self, fd: int, parts: Parts, depth: int, *, make: bool) -> int:
        name = parts[depth]
        try:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=fd)
                self.missing += 1
                self._directories.setdefault(parts[: depth + 1], (_PARENT_MODE, None))
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
        except NotADirectoryError:
            above = shown(b"/".join(parts[: depth + 1]))
            raise Refused(f"a member lies beneath {above}, which is not a directory") from None
        self._open.append((name, inner))
        return inner

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def set_time(fd: int, mtime: int) -> None:
    """Set when a file was changed; compiled files are believed by that."""
    os.utime(fd, ns=(mtime * _SECOND_NS, mtime * _SECOND_NS))


def _no_source(parts: Parts, source: Parts) -> Refused:
    name, target = shown(b"/".join(parts)), shown(b"/".join(source))
    return Refused(f"{name} is a link to {target}, which is no earlier file of the archive")
