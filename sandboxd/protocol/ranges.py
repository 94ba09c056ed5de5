"""Ranges of versions, before they are given to node-semver.

It goes by regular expressions that take seconds to refuse 250 blanks, and a server has others to
serve meanwhile. npm joins blanks first, too, for that reason; so the meaning stays the same.
"""

from __future__ import annotations

from typing import Final

MAX_CHARS: Final = 256


def tidy(range_: str) -> str:
    """The range with one blank where there are several. Raises ValueError when it is too long."""
    if len(range_) > MAX_CHARS:
        raise ValueError(f"a range of versions has at most {MAX_CHARS} characters")
    return " ".join(range_.split())
