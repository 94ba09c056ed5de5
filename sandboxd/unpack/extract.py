"""From plain bytes to members: what is taken, what is refused, and the refusal's words.

tarfile finds where members begin and what their headers say; nothing of what it can write is used.
"""

from __future__ import annotations

import os
import tarfile

from sandboxd.unpack import links
from sandboxd.unpack.refused import Refused, shown
from sandboxd.unpack.tree import Tree, set_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol, Self

    from sandboxd.unpack.bounds import Bounds, Options
    from sandboxd.unpack.links import Parts

    class Source(Protocol):
        """What tarfile reads from."""

        def read(self, size: int, /) -> bytes: ...


_MAX_PATH = 4095  # PATH_MAX with its NUL.
_MAX_PART = 255
# tarfile reads a long name or extended header whole. 1 MiB is 250 times the longest name.
_MAX_HEADER = 1024 * 1024
_HEADERS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)
_COPY = 256 * 1024  # A multiple of tar's 512.
# Year 2242: some file systems have no later time.
_MAX_MTIME = 2**33

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
# Other names of that form are for aufs's own use.
_META_WHITEOUT = b".wh..wh."


class Member(tarfile.TarInfo):
    """A header that is refused when it is damaged, where tarfile takes that for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Also bounds what tarfile would read into memory."""
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the stubs leave them out
            raise
        except tarfile.HeaderError as exc:
            raise Refused(f"the archive is damaged: {exc}") from None
        if member.size < 0 or (member.type in _HEADERS and member.size > _MAX_HEADER):
            raise Refused(f"the archive is damaged: a header of {member.size} bytes")
        return member


class Extraction:
    """Writes the members of one archive beneath one directory."""

    def __init__(self, root: int, bounds: Bounds, options: Options) -> None:
        """``root`` is a directory's descriptor and stays the caller's."""
        self.files = 0
        self.bytes = 0
        self._bounds = bounds
        self._options = options
        self._tree = Tree(root, layer=options.layer)
        self._links: dict[Parts, bytes] = {}
        self._members = 0

    @property
    def entries(self) -> int:
        """Members, and the directories that are only in their names: one may have dozens."""
        return self._members + self._tree.missing

    def run(self, source: Source) -> None:
        """Unpack everything. Raises Refused; what was written stays."""
        try:
            with tarfile.open(
                fileobj=source,  # type: ignore[call-overload] # in this mode it only reads
                mode="r|",
                bufsize=_COPY,
                tarinfo=Member,
                encoding="utf-8",
                errors="surrogateescape",
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # tarfile keeps them all.
                    self._take(archive, member)
                    self._check_entries()
        except (tarfile.TarError, RecursionError, ValueError, LookupError, ArithmeticError) as exc:
            raise Refused(f"the archive is damaged: {exc}") from None
        finally:
            self._tree.close()
        self._check_links()
        self._tree.finish()

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._members += 1
        self._check_entries()
        parts = self._parts(member.name)
        if self._options.layer and parts and parts[-1].startswith(WHITEOUT):
            self._take_whiteout(parts)
        elif member.isdir():
            self._tree.directory(parts, member.mode, _mtime(member))
        elif not parts:
            raise Refused("a member that is no directory has no name")
        elif member.issym():
            self._take_symlink(parts, _encode(member.linkname))
        elif member.islnk():
            self._take_hardlink(parts, member)
        elif member.isreg() and member.sparse is None:
            self._take_file(archive, member, parts)
        elif member.isreg():
            raise Refused(f"{_name(parts)} is a sparse file; pack it without --sparse")
        elif not (
            self._options.skip_devices and (member.ischr() or member.isblk() or member.isfifo())
        ):
            raise Refused(f"{_name(parts)} is {_kind(member)}, which is not taken")

    def _check_entries(self) -> None:
        if self.entries > self._bounds.members:
            most = self._bounds.members
            raise Refused(f"the archive has more than {most} members, their directories included")

    def _parts(self, name: str) -> Parts:
        """A member's name as components. Raises Refused."""
        raw = _encode(name)
        if raw.startswith(b"/"):
            raise Refused(f"{shown(raw)} is an absolute name")
        if b"\0" in raw or len(raw) > _MAX_PATH:
            raise Refused(f"{shown(raw)} is too long for a name" if b"\0" not in raw else "NUL")
        parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
        if b".." in parts:
            raise Refused(f"{shown(raw)} has '..' in its name")
        if any(len(part) > _MAX_PART for part in parts):
            raise Refused(f"{shown(raw)} has a part of more than {_MAX_PART} bytes")
        if len(parts) > self._bounds.depth:
            raise Refused(f"{shown(raw)} is more than {self._bounds.depth} levels deep")
        return parts

    # -- members -----------------------------------------------------------------------------

    def _take_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parts: Parts) -> None:
        if member.size < 0:
            raise Refused(f"the archive is damaged: {_name(parts)} has {member.size} bytes")
        if member.size > self._bounds.file_bytes:
            raise Refused(f"{_name(parts)} is larger than {self._bounds.file_bytes} bytes")
        self.bytes += member.size
        if self.bytes > self._bounds.total_bytes:
            most = self._bounds.total_bytes
            raise Refused(f"with {_name(parts)} the files are larger than {most} bytes together")
        data = archive.extractfile(member)
        if data is None:
            raise Refused(f"the archive is damaged: {_name(parts)} has no data")
        self.files += 1
        self._forget(parts)
        fd = self._tree.file(parts, member.mode)
        try:
            _copy(data, fd, member.size, parts)
            set_time(fd, _mtime(member))
        finally:
            os.close(fd)

    def _take_symlink(self, parts: Parts, target: bytes) -> None:
        if not target or b"\0" in target or len(target) > _MAX_PATH:
            raise Refused(f"{_name(parts)} is a link with an impossible target")
        self.files += 1
        self._tree.symlink(parts, target)
        self._links[parts] = target

    def _take_hardlink(self, parts: Parts, member: tarfile.TarInfo) -> None:
        source = self._parts(member.linkname)
        if not source:
            raise Refused(f"{_name(parts)} is a link to the root of the archive")
        self.files += 1
        self._forget(parts)
        self._tree.hardlink(parts, source)
        if source in self._links:
            self._links[parts] = self._links[source]

    def _take_whiteout(self, parts: Parts) -> None:
        if parts[-1] == OPAQUE:
            self._tree.opaque(parts[:-1])
        elif not parts[-1].startswith(_META_WHITEOUT) and parts[-1] != WHITEOUT:
            target = (*parts[:-1], parts[-1].removeprefix(WHITEOUT))
            if target[-1] in (b".", b".."):
                raise Refused(f"{_name(parts)} would remove a directory from within")
            self._tree.whiteout(target)

    def _forget(self, parts: Parts) -> None:
        """In a layer a file may take the place of a link."""
        if self._options.layer:
            self._links.pop(parts, None)

    def _check_links(self) -> None:
        """At the end: where a link leads may depend on one that comes later."""
        if self._options.any_links:
            return
        prefix = os.fsencode(self._options.prefix)
        for parts, target in self._links.items():
            if links.leads_out(parts, self._links, prefix):
                raise Refused(f"{_name(parts)} is a link to {shown(target)}, which leads out")


def _copy(data: IO[bytes], fd: int, size: int, parts: Parts) -> None:
    left = size
    while left:
        chunk = data.read(min(left, _COPY))
        if not chunk:
            raise Refused(f"the archive ends within {_name(parts)}")
        left -= len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]


def _encode(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Refused("a member's name is neither text nor bytes") from None


def _name(parts: Parts) -> str:
    return shown(b"/".join(parts))


def _mtime(member: tarfile.TarInfo) -> int:
    return int(member.mtime) if 0 <= member.mtime <= _MAX_MTIME else 0


def _kind(member: tarfile.TarInfo) -> str:
    if member.isfifo():
        return "a FIFO"
    if member.ischr() or member.isblk():
        return "a device"
    return f"of the unknown type {member.type!r}"
