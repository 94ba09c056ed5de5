"""The members of a zip archive.

zipfile finds the members and decompresses them; nothing of what it can write is used.
"""

from __future__ import annotations

import calendar
import stat
import struct
import zipfile

from sandboxd.unpack.members import Members, named
from sandboxd.unpack.refused import Refused, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from sandboxd.unpack.links import Parts

# What zipfile says about damaged archives; decompressors have their own words.
_DAMAGED = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,
)
_UNIX = 3  # create_system: the upper half of external_attr is a mode.
_ENCRYPTED = 1
_MAX_LINK = 4096
_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644


class ZipExtraction(Members):
    """Writes the members of one zip archive beneath one directory."""

    def run(self, source: IO[bytes]) -> None:
        """Unpack everything. ``source`` can seek. Raises Refused; what was written stays."""
        try:
            with zipfile.ZipFile(source) as archive:
                for member in archive.infolist():
                    self._take(archive, member)
                    self.check_entries()
        except NotImplementedError as exc:
            raise Refused(f"the archive needs what is not taken: {exc}") from None
        except _DAMAGED as exc:
            raise Refused(f"the archive is damaged: {exc}") from None
        except OSError as exc:
            if exc.errno is not None:
                raise
            raise Refused(f"the archive is damaged: {exc}") from None  # bz2 says it so.
        finally:
            self.tree.close()
        self.finish()

    def _take(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self.count()
        name = member.orig_filename  # The other one ends at a NUL.
        parts = self.parts(name.encode("utf-8", "surrogateescape"))
        mode = member.external_attr >> 16 if member.create_system == _UNIX else 0
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFDIR or (not kind and name.endswith("/")):
            self.tree.directory(parts, stat.S_IMODE(mode) or _DIRECTORY_MODE, _mtime(member))
        elif not parts:
            raise Refused("a member that is no directory has no name")
        elif kind not in (0, stat.S_IFREG, stat.S_IFLNK):
            raise Refused(f"{named(parts)} is {_kind(kind)}, which is not taken")
        elif member.flag_bits & _ENCRYPTED:
            raise Refused(f"{named(parts)} is encrypted")
        elif kind == stat.S_IFLNK:
            self.symlink(parts, _target(archive, member, parts))
        else:
            self.check_size(parts, member.file_size)
            with archive.open(member) as data:
                mode = stat.S_IMODE(mode) or _FILE_MODE
                self.file(parts, mode, _mtime(member), member.file_size, data)
                _end(data)


def _target(archive: zipfile.ZipFile, member: zipfile.ZipInfo, parts: Parts) -> bytes:
    if member.file_size > _MAX_LINK:
        raise Refused(f"{named(parts)} is a link with an impossible target")
    with archive.open(member) as data:
        target = data.read(_MAX_LINK)
        _end(data)
    return target


def _end(data: IO[bytes]) -> None:
    """Where the checksum is compared, and where a member says that it had more than it said."""
    if data.read(1):
        raise Refused("the archive is damaged: a member is longer than it says")


def _mtime(member: zipfile.ZipInfo) -> int:
    try:
        return calendar.timegm((*member.date_time, 0, 0, 0))
    except ValueError:  # Month 0 is what a program writes that knows no time.
        return 0


def _kind(kind: int) -> str:
    if kind == stat.S_IFIFO:
        return "a FIFO"
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return "a device"
    return f"of the unknown type {shown(oct(kind).encode())}"
