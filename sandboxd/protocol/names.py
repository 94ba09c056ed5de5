"""Names of input files and patterns of collected ones: what is taken and what is refused.

The process that uses them has no privilege and resolves them beneath the work directory, so these
rules are not what keeps a job inside. They make a request mean one thing only, and they give the
person who sent it a sentence instead of an errno.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATH_BYTES: Final = 4096  # PATH_MAX
MAX_PART_BYTES: Final = 255  # NAME_MAX
MAX_LEVELS: Final = 64

# A line break in a name is legal for the kernel and a trap for everything that lists names.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PARTS_REFUSED: Final = frozenset({b"", b".", b".."})


class BadName(ValueError):
    """A name is refused; the text reads on after `field: `."""


def check_name(name: str) -> bytes:
    """`name` of an input file or pattern as bytes, canonical by construction.

    Raises BadName for what is not a plain relative path: empty, absolute, with `.`, `..` or empty
    components, control characters, or beyond the kernel's lengths.
    """
    encoded = name.encode()
    parts = encoded.split(b"/")
    if not name:
        raise BadName("must not be empty")
    if not parts[0]:
        raise BadName("must be relative to the work directory, not absolute")
    if not _PARTS_REFUSED.isdisjoint(parts):
        raise BadName("must not have '.', '..' or nothing between slashes")
    if not name.isprintable() and (control := _CONTROL.search(name)):
        raise BadName(f"must not hold the control character {control[0]!r}")
    if len(encoded) >= MAX_PATH_BYTES:
        raise BadName(f"must be shorter than {MAX_PATH_BYTES} bytes")
    if len(encoded) > MAX_PART_BYTES and max(map(len, parts)) > MAX_PART_BYTES:
        raise BadName(f"each part must be at most {MAX_PART_BYTES} bytes")
    if len(parts) > MAX_LEVELS:
        raise BadName(f"must be at most {MAX_LEVELS} levels deep")
    return encoded


def file_and_directory(names: Iterable[str]) -> str | None:
    """A name that is also a directory on the way to another of `names`, if there is one."""
    files = set(names)
    directories: set[str] = set()
    for name in [name for name in files if "/" in name]:
        end = name.rfind("/")
        while end > 0 and (parent := name[:end]) not in directories:
            directories.add(parent)
            end = name.rfind("/", 0, end)
    return min(files & directories, default=None)
