"""Making a package of a directory: the archive, byte for byte the same each time, and its line for
an index."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxd.protocol import package_names
from sandboxd_packages.errors import BadPackage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

ARCHIVE = "pkg.tar.gz"
INFO = "pkg-info.json"
# What an installation leaves in the directory; a package must not bring it.
_OF_INSTALLATION = (".env", ".ppman-installed")
_COMPRESSION = 9


class Built(NamedTuple):
    """A package's archive."""

    path: Path
    language: str
    version: str
    sha256: str
    line: str
    """For an index: `language,version,sha256,url`."""


def build(directory: Path | str, output: Path | str | None = None, url: str | None = None) -> Built:
    """Pack `directory`, which has a `pkg-info.json` and a `run`, into `output` (default:
    `pkg.tar.gz` beside it).

    Owners, times and the order of names do not show in the archive ($SOURCE_DATE_EPOCH, else 0, is
    everything's time). `url` is where it will be downloaded from (default: the file itself).
    Raises BadPackage, or OSError when something cannot be read or written.
    """
    root = Path(directory)
    language, version = _check(root)
    target = Path(output) if output is not None else root.resolve().parent / ARCHIVE
    with open(target, "wb") as file:
        _pack(root, file, target)
    with open(target, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    address = url or target.resolve().as_uri()
    return Built(target, language, version, sha256, f"{language},{version},{sha256},{address}")


def _check(root: Path) -> tuple[str, str]:
    try:
        info = json.loads((root / INFO).read_bytes())
    except OSError as exc:
        raise BadPackage(f"{root / INFO}: {exc.strerror}") from exc
    except ValueError as exc:
        raise BadPackage(f"{root / INFO}: {exc}") from exc
    if not isinstance(info, dict):
        raise BadPackage(f"{root / INFO}: must be an object with language and version")
    language, version = info.get("language"), info.get("version")
    if not isinstance(language, str) or not package_names.is_language(language):
        raise BadPackage(f"{root / INFO}: language {language!r} is no name for a package")
    if not isinstance(version, str) or not package_names.is_version(version):
        raise BadPackage(f"{root / INFO}: version {version!r} is not of the form 1.2.3")
    if not (root / "run").is_file():
        raise BadPackage(f"{root / 'run'}: there is no such file; it is what runs a program")
    return language, version


def _pack(root: Path, file: IO[bytes], target: Path) -> None:
    packed = gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0)
    with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        left_out = {target.absolute(), *(root.absolute() / name for name in _OF_INSTALLATION)}
        for path in _sorted(root):
            if path.absolute() not in left_out:
                _add(archive, root, path)


def _sorted(directory: Path) -> Iterator[Path]:
    """Everything beneath, each directory before what is in it."""
    for name in sorted(os.listdir(directory)):
        path = directory / name
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _sorted(path)


def _add(archive: tarfile.TarFile, root: Path, path: Path) -> None:
    status = path.lstat()
    member = tarfile.TarInfo(f"./{path.relative_to(root)}")
    member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.mode = tarfile.SYMTYPE, 0o777
        member.linkname = os.readlink(path)
        archive.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        with open(path, "rb") as file:
            archive.addfile(member, file)
    else:
        raise BadPackage(f"{path}: is no file, directory or link")
