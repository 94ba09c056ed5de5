"""The files of a function that come as one archive: tar, zip, or an image of squashfs.

The program of `sandboxd.unpack` unpacks it into a staging directory. What lies there is read by
descriptors, without following a link; a symbolic link to a file within becomes that file, since a
function's files are files. Empty directories are not kept.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

import trio

from sandboxd.engine.memfd import sealed_memfd
from sandboxd.functions.turns import Turns
from sandboxd.protocol import names
from sandboxd.protocol.errors import INTERNAL, RequestError, invalid
from sandboxd.protocol.jobs import MAX_FILES
from sandboxd.unpack.bounds import MIB, Bounds, Options
from sandboxd.unpack.process import unpack
from sandboxd.unpack.remove import remove_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxd.state import State

FIELD: Final = "archive"
BOUNDS: Final = Bounds(
    archive_bytes=64 * MIB,
    total_bytes=64 * MIB,
    file_bytes=64 * MIB,
    members=MAX_FILES,
    depth=32,
    cpu_s=30,
    memory_bytes=512 * MIB,
)
_OPTIONS: Final = Options(prefix="/task", any_format=True)
_MAX_AT_ONCE: Final = 2
_MAX_WAITING: Final = 256
_MAX_OF_TENANT: Final = 8
_MAX_LINKS: Final = 40
_MAX_PATH: Final = 4095
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_turns: Final = Turns(_MAX_AT_ONCE, _MAX_WAITING, _MAX_OF_TENANT)

Files = dict[str, tuple[bytes, int]]
"""(bytes, mode) by path."""


async def read(state: State, archive: bytes, tenant: int, line: str) -> Files:
    """The files in an archive of this tenant's, or of the key ``line``. Raises RequestError:
    `invalid_argument`, which names the member that is refused; `permission_denied` where nothing
    can be stored; `busy`; `internal`.

    Nothing is left in the staging directory, also when it is cancelled.
    """
    state.require_writable()
    async with _turns.turn(tenant, line):
        name = f"taskfs-{secrets.token_hex(8)}"
        try:
            return await _read(state, name, archive)
        except OSError as exc:
            raise RequestError(INTERNAL, f"cannot unpack: {exc.strerror or exc}") from exc


async def _read(state: State, name: str, archive: bytes) -> Files:
    with contextlib.ExitStack() as stack:
        staging = os.open(state.staging, _DIRECTORY)
        stack.callback(os.close, staging)
        os.mkdir(name, 0o700, dir_fd=staging)
        try:
            into = os.open(name, _DIRECTORY, dir_fd=staging)
            stack.callback(os.close, into)
            packed = await trio.to_thread.run_sync(sealed_memfd, "sandboxd-taskfs", archive)
            stack.callback(os.close, packed)
            await unpack(
                packed, into, spool=None, bounds=BOUNDS, options=_OPTIONS, progress=lambda *_: None
            )
            return await trio.to_thread.run_sync(collect, into)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove_at, staging, name)


def collect(root: int) -> Files:
    """All files beneath a directory's descriptor. Raises RequestError for what is no file and
    for a name that no file of a function may have."""
    found: Files = {}
    links: dict[str, str] = {}
    total = 0
    for path, parent, name in _walk(root, ""):
        try:
            names.check_name(path)
        except (names.BadName, UnicodeEncodeError) as exc:
            raise invalid(FIELD, f"the name {path!r} {exc}") from None
        if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            links[path] = os.readlink(name, dir_fd=parent)
        else:
            # Names of one file are as many copies, which the unpacker did not count.
            total += os.lstat(name, dir_fd=parent).st_size
            _require_room(total)
            found[path] = _content(parent, name)
    contents = {path: followed(path, links) for path in links}
    for path, target in contents.items():
        if target not in found:
            raise invalid(FIELD, f"{path!r} is a link to {links[path]!r}, which is no file in it")
        found[path] = found[target]
    _require_room(sum(len(data) for data, _ in found.values()))
    return found


def _require_room(total: int) -> None:
    if total > BOUNDS.total_bytes:
        raise invalid(FIELD, f"with its links it has more than {BOUNDS.total_bytes} bytes")


def _walk(directory: int, before: str) -> Iterator[tuple[str, int, str]]:
    """(path, descriptor of its directory, name) of everything that is no directory."""
    for name in sorted(os.listdir(directory)):
        path = before + name
        if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            yield path, directory, name
            continue
        inner = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            yield from _walk(inner, f"{path}/")
        finally:
            os.close(inner)


def _content(parent: int, name: str) -> tuple[bytes, int]:
    with open(os.open(name, _FILE, dir_fd=parent), "rb") as file:
        return file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def followed(path: str, links: dict[str, str]) -> str:
    """Where a link leads in the end; the unpacker has seen to it that it is inside. Empty when
    that is nowhere."""
    for _ in range(_MAX_LINKS):
        if len(path) > _MAX_PATH:
            return ""
        position: list[str] = []
        parts = path.split("/")
        for index, part in enumerate(parts):
            if index == BOUNDS.depth:
                return ""  # Nothing lies so deep, no link either.
            target = links.get("/".join([*position, part]))
            if target is not None:
                rest = parts[index + 1 :]
                path = _joined(position, target, rest)
                break
            position.append(part)
        else:
            return path
    return ""


def _joined(position: list[str], target: str, rest: list[str]) -> str:
    if target.startswith("/"):
        position = []
        target = target.removeprefix(_OPTIONS.prefix)
    found = list(position)
    for part in [*target.split("/"), *rest]:
        if part == "..":
            found[-1:] = []
        elif part not in ("", "."):
            found.append(part)
    return "/".join(found)
