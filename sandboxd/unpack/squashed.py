"""The members of a squashfs image."""

from __future__ import annotations

from sandboxd.unpack import lz, squashfs
from sandboxd.unpack.members import Members, named
from sandboxd.unpack.refused import Refused
from sandboxd.unpack.squashfs import DIRECTORY, FILE, SYMLINK, Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from sandboxd.unpack.links import Parts
    from sandboxd.unpack.squashfs import Inode

_MAX_LINK = 4095


class SquashExtraction(Members):
    """Writes the members of one image beneath one directory."""

    def run(self, source: IO[bytes]) -> None:
        """Unpack everything. ``source`` can seek. Raises Refused; what was written stays."""
        self._seen: dict[int, Parts] = {}
        try:
            image = Image(source)
            self._take_directory(image, image.root(), ())
        except (squashfs.BadImage, lz.BadData) as exc:
            raise Refused(f"the archive is damaged: {exc}") from None
        finally:
            self.tree.close()
        self.finish()

    def _take_directory(self, image: Image, directory: Inode, parts: Parts) -> None:
        """Calls itself for what is within, no deeper than `parts` allows."""
        self.tree.directory(parts, directory.mode & 0o777, directory.mtime)
        for name, inode in image.entries(directory):
            self.count()
            if b"/" in name or name in (b"", b".", b".."):
                raise Refused(f"{named((*parts, name))} is no name of a file")
            inner = self.parts(b"/".join((*parts, name)))
            if inode.kind == DIRECTORY:
                self._take_directory(image, inode, inner)
            else:
                self._take(image, inode, inner)

    def _take(self, image: Image, inode: Inode, parts: Parts) -> None:
        earlier = self._seen.setdefault(inode.number, parts)
        if inode.kind not in (FILE, SYMLINK):
            raise Refused(f"{named(parts)} is {inode.kind}, which is not taken")
        if earlier is not parts:
            self.hardlink(parts, earlier)
        elif inode.kind == FILE:
            self.check_size(parts, inode.size)
            data = _Joined(image.blocks(inode))
            self.file(parts, inode.mode & 0o777, inode.mtime, inode.size, data)
        elif inode.size > _MAX_LINK:
            raise Refused(f"{named(parts)} is a link with an impossible target")
        else:
            self.symlink(parts, image.target(inode))


class _Joined:
    """Blocks as something to read from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._blocks, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
