"""From plain bytes to the members of a tar archive.

tarfile finds where members begin and what their headers say; nothing of what it can write is used.
"""

from __future__ import annotations

import tarfile

from sandboxd.unpack.members import COPY, Members, named, whole
from sandboxd.unpack.refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeVar

    from sandboxd.unpack.links import Parts
    from sandboxd.unpack.members import Source

    AnyMember = TypeVar("AnyMember", bound="Member")

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
    """A header that is refused when it is damaged, where tarfile takes that for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:  # tarfile's own name for it
        """A member with all headers before it: what is wrong with it can show after each of them
        has been read."""
        return _refusing(super().fromtarfile, tarfile)

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Also bounds what tarfile would read into memory."""
        return cls._checked(super().frombuf, buf, encoding, errors)

    @classmethod
    def _frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str, **options: bool) -> Self:
        """What tarfile calls itself since its security update of 2026, instead of the former."""
        inner: Callable[..., Self] = super()._frombuf  # type: ignore[misc]
        return cls._checked(inner, buf, encoding, errors, **options)

    @classmethod
    def _checked(cls, read: Callable[..., Self], *header: object, **options: bool) -> Self:
        member = _refusing(read, *header, **options)
        if member.size < 0 or (member.type in _HEADERS and member.size > _MAX_HEADER):
            raise Refused(f"the archive is damaged: a header of {member.size} bytes")
        return member


def _refusing(read: Callable[..., AnyMember], *arguments: object, **options: bool) -> AnyMember:
    """What ``read`` returns. Raises Refused where it finds anything but the end of the archive."""
    try:
        return read(*arguments, **options)
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # the stubs leave them out
        raise
    except tarfile.HeaderError as exc:
        raise Refused(f"the archive is damaged: {exc}") from None


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
        elif member.isreg() and member.sparse is None:
            self._take_file(archive, member, parts)
        elif member.isreg():
            raise Refused(f"{named(parts)} is a sparse file; pack it without --sparse")
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
