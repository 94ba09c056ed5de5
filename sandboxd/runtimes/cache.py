"""`runtimes.json` in the state directory: versions that were found out before.

Only a saving of time. It is written by the daemon that owns the state directory, read by all, and
what cannot be read or does not fit is found out anew.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from sandboxd.logs import fields
from sandboxd.runtimes.versions import semantic

if TYPE_CHECKING:
    from sandboxd.runtimes.detect import ToolStamp

_log = logging.getLogger("sandboxd.runtimes")

_FORMAT: Final = 1
_NAME: Final = "runtimes.json"
_LARGEST: Final = 1024 * 1024


class Found(Struct, frozen=True, forbid_unknown_fields=True):
    """One version and what it was found in: the runtime file's content, the tool's stamp."""

    digest: str
    stamp: tuple[tuple[int, int, int, int], ...]
    version: str


class _Content(Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    runtimes: dict[str, Found]


class Cache:
    """The versions by name of the runtime file."""

    def __init__(self, directory: str, *, writable: bool) -> None:
        self._path = os.path.join(directory, _NAME)
        self._writable = writable
        self._found = _read(self._path)
        self.dirty = False

    def version(self, name: str, digest: str, stamp: ToolStamp) -> str | None:
        """The version of exactly this tool by exactly this file, if it is known."""
        found = self._found.get(name)
        if found is None or found.digest != digest or found.stamp != stamp:
            return None
        return found.version

    def put(self, name: str, digest: str, stamp: ToolStamp, version: str) -> None:
        """Remember; `write` makes it last."""
        self._found[name] = Found(digest, stamp, version)
        self.dirty = True

    def keep_only(self, names: set[str]) -> None:
        """Forget runtime files that are gone."""
        for name in self._found.keys() - names:
            del self._found[name]
            self.dirty = True

    def write(self) -> None:
        """Write what is known, whole or not at all. Blocks; never raises."""
        self.dirty = False
        if not self._writable:
            return
        new = self._path + ".new"
        data = msgspec.json.encode(_Content(_FORMAT, dict(self._found)))
        try:
            with open(new, "wb", opener=_create) as file:
                file.write(msgspec.json.format(data))
            os.replace(new, self._path)
        except OSError as exc:
            _log.warning("versions are not kept %s", fields(file=new, why=exc.strerror))


def _create(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def _read(path: str) -> dict[str, Found]:
    try:
        with open(path, "rb") as file:
            content = msgspec.json.decode(file.read(_LARGEST), type=_Content)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    if content.format != _FORMAT:
        return {}
    return {
        name: found
        for name, found in content.runtimes.items()
        if semantic(found.version) == found.version and found.stamp
    }
