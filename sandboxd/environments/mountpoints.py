"""The directories of a root file system that a sandbox mounts over.

A root is read-only under every job, so they are made when it is imported. What is there under one
of these names stays: a directory is used as it is (a job sees the mount, not its content), and a
symlink or a file is refused, because to replace it would change what the image's author made.
"""

import contextlib
import os
import stat
from typing import Final

from sandboxd.environments import beneath
from sandboxd.environments.errors import ImportRefused

MOUNT_POINTS: Final = ("proc", "dev", "tmp", "work", "piston/packages")
# Where a task's files are for its programs; what an image has there is its own.
_TASK: Final = ("task", "work/task")
# Of the root itself and of the mount points: an archive made of a private directory says 0700.
_MODE: Final = 0o755


def make(root: int) -> None:
    """Make the mount points in ``root``. Raises ImportRefused naming what stands in the way."""
    os.fchmod(root, _MODE)
    for path in MOUNT_POINTS:
        _make(root, path)
    name, target = _TASK
    with contextlib.suppress(FileExistsError):
        os.symlink(target, name, dir_fd=root)


def _make(root: int, path: str) -> None:
    directory = os.dup(root)
    try:
        done = ""
        for part in path.split("/"):
            done += f"/{part}"
            inner = _enter(directory, part, done)
            os.close(directory)
            directory = inner
            os.fchmod(directory, _MODE)
    finally:
        os.close(directory)


def _enter(directory: int, part: str, path: str) -> int:
    found = beneath.kind(directory, part)
    if found and found != stat.S_IFDIR:
        what = "a symbolic link" if found == stat.S_IFLNK else "not a directory"
        raise ImportRefused(
            f"{path} is {what}; sandboxd mounts there, so make it a directory and import again"
        )
    return beneath.open_directory(directory, part)
