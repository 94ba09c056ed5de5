"""Opening what an archive made: by directory descriptors, a component at a time, no symlinks.

Nobody else writes in the staging directory, so nothing changes between two steps; but what is
there was named by a stranger.
"""

import contextlib
import os
import stat
from typing import Final

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_file(directory: int, path: str) -> int:
    """A regular file beneath ``directory``, open for reading. The caller owns it.

    Raises OSError: FileNotFoundError for what is no regular file, too.
    """
    *parents, name = path.split("/")
    with contextlib.ExitStack() as opened:
        for parent in parents:
            _require_plain(parent)
            directory = os.open(parent, DIRECTORY, dir_fd=directory)
            opened.callback(os.close, directory)
        _require_plain(name)
        file = os.open(name, _FILE, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(path)
    return file


def _require_plain(part: str) -> None:
    if part in ("", ".", "..") or "\0" in part:
        raise FileNotFoundError(part)


def read_file(directory: int, path: str, most: int) -> bytes:
    """The content of a small regular file. Raises OSError, also for one with more bytes."""
    with open(open_file(directory, path), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(f"{path} has more than {most} bytes")
    return data


def is_file(directory: int, path: str) -> bool:
    try:
        os.close(open_file(directory, path))
    except OSError:
        return False
    return True


def open_directory(directory: int, name: str) -> int:
    """A directory in ``directory``, made if it is not there. The caller owns the descriptor.

    Raises OSError: NotADirectoryError for a file, and ELOOP or ENOTDIR for a symlink.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)
    return os.open(name, DIRECTORY, dir_fd=directory)


def kind(directory: int, name: str) -> int:
    """The file type of an entry as in st_mode (S_IFDIR, …); 0 when there is none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0
