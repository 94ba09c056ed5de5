"""Files that come back from a sandbox, written where `sandboxctl run` was typed.

Their names were chosen by an untrusted program. So a file that is already there is replaced only
when the person named exactly it, and a name can only lead below the current directory.
"""

from __future__ import annotations

import os

from sandboxctl.stdio import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REFUSED = {b"", b".", b".."}


def write_files(files: Mapping[str | bytes, bytes], patterns: Sequence[str]) -> list[str]:
    """Write them and return what went wrong, a sentence for each that was not written."""
    named = {os.fsencode(pattern) for pattern in patterns}
    problems = []
    for name, data in files.items():
        path = os.fsencode(name)
        try:
            _write(path, data, replace=path in named)
        except FileExistsError:
            problems.append(f"{os.fsdecode(path)} is already here and was not replaced")
        except OSError as exc:
            problems.append(f"{os.fsdecode(path)} could not be written: {exc.strerror}")
    return problems


def _write(path: bytes, data: bytes, *, replace: bool) -> None:
    parts = path.split(b"/")
    if not _REFUSED.isdisjoint(parts):
        raise OSError(0, "it has no plain name")
    if len(parts) > 1:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    how = os.O_TRUNC if replace else os.O_EXCL
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | how, 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
