"""Where runtime files are found: the built-in ones, and the administrator's directory.

A file there replaces the built-in one of the same name. The built-in ones are read while the
daemon is still root, because nobody else may be able to; they are parsed when they are first
needed, since a daemon that only runs jobs never needs them.
"""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sandboxd.errors import ConfigError
from sandboxd.logs import fields
from sandboxd.runtimes import model
from sandboxd.runtimes.model import LARGEST_FILE, RuntimeFile

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("sandboxd.runtimes")

BUILTIN: Final = Path(__file__).parent / "builtin"
_SUFFIX: Final = ".toml"
_MOST_FILES: Final = 1000

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of one runtime file."""

    name: str
    text: bytes
    path: str
    stamp: Stamp | None = None
    """To see whether the file has changed; None for a built-in one, which does not."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One good runtime file."""

    name: str
    digest: str
    file: RuntimeFile
    source: Source


class Sources:
    """All runtime files, read once; those of the directory again when it has changed."""

    def __init__(self, directory: str, builtin: Path = BUILTIN) -> None:
        """Read what is there. Never raises: what cannot be read is logged and left out."""
        self._directory = directory
        self._builtin = _read_all(str(builtin), {}) or {}
        self._stamp = stamp(directory)
        self._own = _read_all(directory, {}) or {}

    def load(self) -> list[Loaded]:
        """Parse every file. A bad one is logged and left out."""
        chosen = self._builtin | self._own
        loaded = [_parse(chosen[name]) for name in sorted(chosen)]
        return [item for item in loaded if item is not None]

    def directory_changed(self) -> bool:
        """Whether a file was added to the directory or removed from it. One stat."""
        return stamp(self._directory) != self._stamp

    def changed(self) -> bool:
        """Whether the directory or a file in it has changed. A stat for each."""
        return self.directory_changed() or any(changed(source) for source in self._own.values())

    def reread(self) -> bool:
        """Read again what has changed. Returns whether something has.

        What was read at the start and cannot be read any more, now that the daemon is not root,
        stays as it was.
        """
        if not self.changed():
            return False
        self._stamp = stamp(self._directory)
        own = _read_all(self._directory, self._own)
        if own is not None:
            self._own = own
        return True


def stamp(path: str) -> Stamp | None:
    """What changes when the file or directory does; None when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return file_stamp(status)


def file_stamp(status: os.stat_result) -> Stamp:
    """The part of a stat that tells one file, and one content of it, from another."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def changed(source: Source) -> bool:
    """Whether the file is another one than was read. No cost for a built-in one."""
    return source.stamp is not None and stamp(source.path) != source.stamp


def _read_all(directory: str, before: Mapping[str, Source]) -> dict[str, Source] | None:
    """The files by name, those of ``before`` that are as they were not read again. None when the
    directory cannot be read."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return {}
    except OSError as exc:
        _log.error("runtimes are not read %s", fields(directory=directory, why=exc.strerror))
        return None
    names = [name for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]
    sources = {name: _read(directory, name, before.get(name)) for name in names[:_MOST_FILES]}
    return {name: source for name, source in sources.items() if source is not None}


def _read(directory: str, name: str, before: Source | None) -> Source | None:
    if before is not None and not changed(before):
        return before
    path = os.path.join(directory, name)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError("is not a regular file")
            text = file.read(LARGEST_FILE + 1)
    except (OSError, ConfigError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        _log.error("a runtime is left out %s", fields(file=path, why=why))
        return None
    return Source(name, text, path, None if directory == str(BUILTIN) else file_stamp(status))


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe somebody put there must not hold up the start."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _parse(source: Source) -> Loaded | None:
    try:
        file = model.parse(source.text, source.path)
    except ConfigError as exc:
        _log.error("a runtime is left out: %s", exc)
        return None
    return Loaded(source.name, model.digest(source.text), file, source)
