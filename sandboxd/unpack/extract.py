"""From plain bytes to the members of a tar archive.

tarfile finds where members begin and what their headers say; nothing of what it can write is used.
"""

from __future__ import annotations

import tarfile

from sandboxd.unpack.members import COPY, Members, named, whole
from sandboxd.unpack.refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from sandboxd.unpack.links import Parts
    from sandboxd.unpack.members import Source

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

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
# Other names of that form are for aufs's own use.
_META_WHITEOUT = b".wh..wh."


class Member(tarfile.TarInfo):
    """A header that is refused when it is damaged, where tarfile takes that for the end.

    Not by `frombuf`, which tarfile itself does not call any more in the newest releases.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the stubs leave them out
            raise
        except tarfile.HeaderError as exc:
            raise Refused(f"the archive is damaged: {exc}") from None

    def _proc_member(self, tarfile_: tarfile.TarFile) -> Self:
        """Every header comes by here before what follows it is read: bounds what tarfile would
        read into memory."""
        if self.size < 0 or (self.type in _HEADERS and self.size > _MAX_HEADER):
            raise Refused(f"the archive is damaged: a header of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc, no-any-return]


class Extraction(Members):
    """Writes the members of one tar archive beneath one directory."""

    def run(self, source: Source) -> None:
        """Unpack everything. Raises Refused; what was written stays."""
        try:
            with tarfile.open(
                fileobj=source,  # type: ignore[call-overload] # in this mode it only reads
                mode="r|",
                bufsize=COPY,
                tarinfo=Member,
                encoding="utf-8",
                errors="surrogateescape",
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # tarfile keeps them all.
                    self._take(archive, member)
                    self.check_entries()
        except (tarfile.TarError, RecursionError, ValueError, LookupError, ArithmeticError) as exc:
            raise Refused(f"the archive is damaged: {exc}") from None
        finally:
            self.tree.close()
        self.finish()

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.count()
        parts = self.parts(_encode(member.name))
        if member.sparse is not None:  # Whose size says nothing of how much tarfile steps over.
            raise Refused(f"{named(parts)} is a sparse file; pack it without --sparse")
        if self.options.layer and parts and parts[-1].startswith(WHITEOUT):
            self.check_size(parts, member.size)  # tarfile would step over it for as long as it is.
            self._take_whiteout(parts)
        elif member.isdir():
            self.tree.directory(parts, member.mode, whole(member.mtime))
        elif not parts:
            raise Refused("a member that is no directory has no name")
        elif member.issym():
            self.symlink(parts, _encode(member.linkname))
        elif member.islnk():
            self.hardlink(parts, self.parts(_encode(member.linkname)))
        elif member.isreg():
            self._take_file(archive, member, parts)
        elif not (
            self.options.skip_devices and (member.ischr() or member.isblk() or member.isfifo())
        ):
            raise Refused(f"{named(parts)} is {_kind(member)}, which is not taken")

    def _take_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parts: Parts) -> None:
        if member.size < 0:
            raise Refused(f"the archive is damaged: {named(parts)} has {member.size} bytes")
        self.check_size(parts, member.size)
        data = archive.extractfile(member)
        if data is None:
            raise Refused(f"the archive is damaged: {named(parts)} has no data")
        self.file(parts, member.mode, member.mtime, member.size, data)

    def _take_whiteout(self, parts: Parts) -> None:
        if parts[-1] == OPAQUE:
            self.tree.opaque(parts[:-1])
        elif not parts[-1].startswith(_META_WHITEOUT) and parts[-1] != WHITEOUT:
            target = (*parts[:-1], parts[-1].removeprefix(WHITEOUT))
            if target[-1] in (b".", b".."):
                raise Refused(f"{named(parts)} would remove a directory from within")
            self.tree.whiteout(target)


def _encode(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Refused("a member's name is neither text nor bytes") from None


def _kind(member: tarfile.TarInfo) -> str:
    if member.isfifo():
        return "a FIFO"
    if member.ischr() or member.isblk():
        return "a device"
    return f"of the unknown type {member.type!r}"
