"""Names of input files and patterns of collected ones: what is taken and what is refused.

The process that uses them has no privilege and resolves them beneath the work directory, so these
rules are not what keeps a job inside. They make a request mean one thing only, and they give the
person who sent it a sentence instead of an errno.
"""

from __future__ import annotations

import re
from typing import Final

from sandboxd.protocol.errors import invalid

MAX_PATH_BYTES: Final = 4096  # PATH_MAX
MAX_COMPONENT_BYTES: Final = 255  # NAME_MAX
MAX_LEVELS: Final = 64

# A line break in a name is legal for the kernel and a trap for everything that lists names.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_COMPONENTS_REFUSED: Final = frozenset({"", ".", ".."})


def check_name(name: str, field: str) -> bytes:
    """`name` of an input file or pattern as bytes, canonical by construction.

    Raises RequestError for what is not a plain relative path: empty, absolute, with `.`, `..` or
    empty components, control characters, or beyond the kernel's lengths.
    """
    if not name:
        raise invalid(field, "must not be empty")
    control = _CONTROL.search(name)
    if control:
        raise invalid(field, f"must not hold the control character {control[0]!r}")
    encoded = name.encode()
    parts = name.split("/")
    if not parts[0]:
        raise invalid(field, "must be relative to the work directory, not absolute")
    if not _COMPONENTS_REFUSED.isdisjoint(parts):
        raise invalid(field, "must not have '.', '..' or nothing between slashes")
    if len(encoded) >= MAX_PATH_BYTES:
        raise invalid(field, f"must be shorter than {MAX_PATH_BYTES} bytes")
    if len(encoded) > MAX_COMPONENT_BYTES and max(map(len, encoded.split(b"/"))) > 255:
        raise invalid(field, f"each part must be at most {MAX_COMPONENT_BYTES} bytes")
    if len(parts) > MAX_LEVELS:
        raise invalid(field, f"must be at most {MAX_LEVELS} levels deep")
    return encoded


def check_no_conflict(names: dict[str, object], field: str) -> None:
    """Refuse a name that is also a directory on the way to another. Raises RequestError."""
    directories = set()
    for name in names:
        end = name.rfind("/")
        while end > 0 and (parent := name[:end]) not in directories:
            directories.add(parent)
            end = name.rfind("/", 0, end)
    both = directories.intersection(names)
    if both:
        raise invalid(f"{field}[{min(both)!r}]", "is both a file and a directory")
