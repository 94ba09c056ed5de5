"""What every archive consists of, whatever its format: members that are taken or refused.

The formats' readers (`extract`, `zipped`, `squashed`) say what a member is; whether it is taken,
and the refusal's words, are decided here.
"""

from __future__ import annotations

import os

from sandboxd.unpack import links
from sandboxd.unpack.refused import Refused, shown
from sandboxd.unpack.tree import Tree, set_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from sandboxd.unpack.bounds import Bounds, Options
    from sandboxd.unpack.links import Parts

    class Source(Protocol):
        """What bytes are read from."""

        def read(self, size: int, /) -> bytes: ...


_MAX_PATH = 4095  # PATH_MAX with its NUL.
_MAX_PART = 255
COPY = 256 * 1024  # A multiple of tar's 512.
# Year 2242: some file systems have no later time.
_MAX_MTIME = 2**33


class Members:
    """Writes the members of one archive beneath one directory."""

    def __init__(self, root: int, bounds: Bounds, options: Options) -> None:
        """``root`` is a directory's descriptor and stays the caller's."""
        self.files = 0
        self.bytes = 0
        self.bounds = bounds
        self.options = options
        self.tree = Tree(root, layer=options.layer)
        self._links: dict[Parts, bytes] = {}
        self._members = 0

    @property
    def entries(self) -> int:
        """Members, and the directories that are only in their names: one may have dozens."""
        return self._members + self.tree.missing

    def count(self) -> None:
        """One member more. Raises Refused."""
        self._members += 1
        self.check_entries()

    def check_entries(self) -> None:
        if self.entries > self.bounds.members:
            most = self.bounds.members
            raise Refused(f"the archive has more than {most} members, their directories included")

    def parts(self, raw: bytes) -> Parts:
        """A member's name as components. Raises Refused."""
        if raw.startswith(b"/"):
            raise Refused(f"{shown(raw)} is an absolute name")
        if b"\0" in raw or len(raw) > _MAX_PATH:
            raise Refused(f"{shown(raw)} is too long for a name" if b"\0" not in raw else "NUL")
        parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
        if b".." in parts:
            raise Refused(f"{shown(raw)} has '..' in its name")
        if any(len(part) > _MAX_PART for part in parts):
            raise Refused(f"{shown(raw)} has a part of more than {_MAX_PART} bytes")
        if len(parts) > self.bounds.depth:
            raise Refused(f"{shown(raw)} is more than {self.bounds.depth} levels deep")
        return parts

    def check_size(self, parts: Parts, size: int) -> None:
        """Whether a file may have that many bytes; counts them. Raises Refused."""
        if size > self.bounds.file_bytes:
            raise Refused(f"{named(parts)} is larger than {self.bounds.file_bytes} bytes")
        self.bytes += size
        if self.bytes > self.bounds.total_bytes:
            most = self.bounds.total_bytes
            raise Refused(f"with {named(parts)} the files are larger than {most} bytes together")

    def file(self, parts: Parts, mode: int, mtime: float, size: int, data: Source) -> None:
        """A regular file whose size was checked. Raises Refused."""
        self.files += 1
        self._forget(parts)
        fd = self.tree.file(parts, mode)
        try:
            _copy(data, fd, size, parts)
            set_time(fd, whole(mtime))
        finally:
            os.close(fd)

    def symlink(self, parts: Parts, target: bytes) -> None:
        """A symbolic link; where it leads is found out at the end. Raises Refused."""
        if not target or b"\0" in target or len(target) > _MAX_PATH:
            raise Refused(f"{named(parts)} is a link with an impossible target")
        self.files += 1
        self.tree.symlink(parts, target)
        self._links[parts] = target

    def hardlink(self, parts: Parts, source: Parts) -> None:
        """Another name of an earlier member. Raises Refused."""
        if not source:
            raise Refused(f"{named(parts)} is a link to the root of the archive")
        self.files += 1
        self._forget(parts)
        self.tree.hardlink(parts, source)
        if source in self._links:
            self._links[parts] = self._links[source]

    def finish(self) -> None:
        """After the last member. Raises Refused."""
        self._check_links()
        self.tree.finish()

    def _forget(self, parts: Parts) -> None:
        """In a layer a file may take the place of a link."""
        if self.options.layer:
            self._links.pop(parts, None)

    def _check_links(self) -> None:
        """At the end: where a link leads may depend on one that comes later."""
        if self.options.any_links:
            return
        prefix = os.fsencode(self.options.prefix)
        for parts, target in self._links.items():
            if links.leads_out(parts, self._links, prefix):
                raise Refused(f"{named(parts)} is a link to {shown(target)}, which leads out")


def _copy(data: Source, fd: int, size: int, parts: Parts) -> None:
    left = size
    while left:
        chunk = data.read(min(left, COPY))
        if not chunk:
            raise Refused(f"the archive ends within {named(parts)}")
        left -= len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]


def named(parts: Parts) -> str:
    """A member in a message."""
    return shown(b"/".join(parts))


def whole(mtime: float) -> int:
    """A time that every file system takes."""
    return int(mtime) if 0 <= mtime <= _MAX_MTIME else 0
