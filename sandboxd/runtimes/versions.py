"""Versions of runtimes: what a tool says made a semantic version, and ranges as npm has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sandboxd.protocol import ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

# semver.org, without build metadata, which says nothing about order. What begins with a number
# after the hyphen is a distribution's revision in what tools print, and no pre-release.
_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_SEMANTIC: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    r"(?:-[A-Za-z][0-9A-Za-z-]*"
    rf"(?:\.(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
)
_NUMBERS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}")
# npm refuses larger numbers (Number.MAX_SAFE_INTEGER) and longer versions.
_LARGEST: Final = 2**53 - 1
_LONGEST: Final = 256


def semantic(text: str) -> str | None:
    """``text`` as a semantic version: "12" is 12.0.0, "9.04" is 9.4.0, "1.2.3.4" is 1.2.3.

    None when there is no number at its beginning, or one that is too large.
    """
    text = text.strip().lstrip("v")
    if _SEMANTIC.fullmatch(text) and len(text) <= _LONGEST:
        numbers = re.split(r"[.-]", text)[:3]
        return text if all(int(number) <= _LARGEST for number in numbers) else None
    match = _NUMBERS.match(text)
    if match is None or len(match[0]) > _LONGEST:
        return None
    values = [int(number) for number in match[0].split(".")]
    if max(values) > _LARGEST:
        return None
    return ".".join(str(value) for value in [*values, 0, 0][:3])


def highest(versions: Sequence[str], range_: str) -> str | None:
    """The highest of ``versions`` (semantic ones) that a node-semver range takes, as npm chooses.

    None where there is none; a range that is none takes nothing.
    """
    if range_ == "*" and len(versions) == 1 and "-" not in versions[0]:
        return versions[0]  # What nearly every request asks for.
    # Takes 30 ms to import, and not every daemon is asked for a range.
    import nodesemver

    try:
        found = nodesemver.max_satisfying(list(versions), ranges.tidy(range_), loose=False)
    except (ValueError, RecursionError):
        return None
    return str(found) if found is not None else None
