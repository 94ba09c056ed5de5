"""From an archive's descriptor to a finished environment in the staging directory.

Theory of operation. The program of `sandboxd.unpack` does everything that writes what an archive
says. It unpacks the archive as it comes into a directory; what lies there tells what it is. A plain
root file system is finished with that. An image's layers are then unpacked one after the other, by
the same program, into one root; each must have its digest. (skopeo and umoci can do that, too, also
without privileges. They were tried, and not taken: they know no bound on bytes or files, keep
set-id bits, know no zstd, and the program for packages does it all.)

Nothing of an archive is executed here, and nothing of it is opened but through descriptors, a
component at a time, without following links.
"""

import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

import trio

from sandboxd.environments import beneath, description, image, mountpoints
from sandboxd.environments.description import Defaults, Description
from sandboxd.environments.errors import ImportRefused
from sandboxd.environments.image import Image, Layer
from sandboxd.protocol.errors import INTERNAL, RequestError, invalid
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.process import ChecksumMismatch, Unpacked, unpack
from sandboxd.unpack.remove import remove_at

TAR: Final = "tar"
FIELD: Final = "fds.archive"

_ARCHIVE: Final = "archive"
_SPOOL: Final = "spool"
# Of everything that an image's layers write together, as of a plain archive's files.
BOUNDS: Final = Bounds()
# In a root file system links may lead anywhere, since they are only followed inside a sandbox,
# which has a /dev of its own.
_ROOT: Final = Options(any_links=True, skip_devices=True)
_LAYER: Final = Options(any_links=True, skip_devices=True, layer=True)


async def make(directory: int, name: str, archive: int) -> Description:
    """Fill ``directory``, a new one, with the environment in ``archive``. Both stay the caller's.

    ``archive`` is read from its beginning where it is a regular file, else as it comes. Raises
    RequestError: `invalid_argument` saying what is wrong with the archive. What was made until then
    stays. Cancellation ends it, after the step that is being done.
    """
    try:
        await _unpack_archive(directory, archive)
        found = await trio.to_thread.run_sync(_look, directory)
        if found is not None:
            await _lay_layers(directory, found.layers)
        return await trio.to_thread.run_sync(_finish, directory, name, found)
    except ImportRefused as exc:
        raise invalid(FIELD, str(exc)) from exc
    except OSError as exc:
        raise RequestError(INTERNAL, f"cannot import {name}: {exc.strerror or exc}") from exc


async def _unpack_archive(directory: int, archive: int) -> None:
    regular = stat.S_ISREG(os.fstat(archive).st_mode)
    with _made(directory, _ARCHIVE) as into, _spool(directory, needed=not regular) as spool:
        await _run(archive, into, spool, BOUNDS, _ROOT)


@contextlib.contextmanager
def _made(directory: int, name: str) -> Iterator[int]:
    opened = beneath.open_directory(directory, name)
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _spool(directory: int, *, needed: bool) -> Iterator[int | None]:
    """A file without a name, for what comes through a pipe."""
    if not needed:
        yield None
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(_SPOOL, flags, 0o600, dir_fd=directory)
    try:
        os.unlink(_SPOOL, dir_fd=directory)
        yield file
    finally:
        os.close(file)


def _look(directory: int) -> Image | None:
    """What the archive is; None for a plain root file system."""
    with _made(directory, _ARCHIVE) as archive:
        source = image.find(archive)
        return image.read(archive, source) if source else None


async def _lay_layers(directory: int, layers: list[Layer]) -> None:
    left = BOUNDS
    with _made(directory, _ARCHIVE) as archive, _made(directory, description.ROOT) as root:
        for layer in layers:
            try:
                file = beneath.open_file(archive, layer.path)
            except OSError:
                raise ImportRefused(f"{layer.path} is not in the archive") from None
            try:
                options = dataclasses.replace(_LAYER, sha256=layer.sha256)
                unpacked = await _run(file, root, None, left, options)
            except ChecksumMismatch as exc:
                raise ImportRefused(f"{layer.path} is damaged: its sha256 is {exc.got}") from exc
            finally:
                os.close(file)
            left = _less(left, unpacked)


def _less(bounds: Bounds, unpacked: Unpacked) -> Bounds:
    return dataclasses.replace(
        bounds,
        total_bytes=bounds.total_bytes - unpacked.bytes,
        members=max(1, bounds.members - unpacked.entries),
    )


async def _run(
    archive: int, into: int, spool: int | None, bounds: Bounds, options: Options
) -> Unpacked:
    return await unpack(
        archive, into, spool=spool, bounds=bounds, options=options, progress=lambda *_: None
    )


def _finish(directory: int, name: str, found: Image | None) -> Description:
    if found is None:
        os.rename(_ARCHIVE, description.ROOT, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        remove_at(directory, _ARCHIVE)
    with _made(directory, description.ROOT) as root:
        size, files = _measure(root)
        if not files:
            raise ImportRefused("the archive has no files")
        mountpoints.make(root)
    made = Description(
        name=name,
        source=found.source if found else TAR,
        size_bytes=size,
        files=files,
        imported_ns=time.time_ns(),
        defaults=found.defaults if found else Defaults(),
    )
    description.write(directory, made)
    return made


def _measure(root: int) -> tuple[int, int]:
    """Bytes of all files, each once however many names it has, and the number of names."""
    size = files = 0
    seen = set()
    for _, others, names, directory in os.fwalk(".", dir_fd=root):
        # `others` are directories, and links to what is a directory here, on the host.
        for name in (*names, *others):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                continue
            files += 1
            if found.st_nlink > 1:
                if found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
            if stat.S_ISREG(found.st_mode):
                size += found.st_size
    return size, files
