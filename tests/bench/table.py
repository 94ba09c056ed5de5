"""Rows of the result: a table for people, the same as JSON for machines."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

HEADINGS = ("", "target", "measured", "floor", "ratio", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `met` is None where there is no target, only a figure."""

    what: str
    measured: str
    target: str = ""
    floor: str = ""
    ratio: str = ""
    met: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return (self.what, self.target, self.measured, self.floor, self.ratio, verdict)


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def as_text(sections: list[Section]) -> str:
    rows = [row.cells() for section in sections for row in section.rows]
    widths = [max(len(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    lines = []
    for section in sections:
        lines += ["", _paint(section.title, "1"), _line(HEADINGS, widths)]
        lines += [_line(row.cells(), widths) for row in section.rows]
        lines += [f"  {note}" for note in section.notes]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = cells
    verdict = rest.pop()
    padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=False))]
    colour = {"met": "32", "MISSED": "31"}.get(verdict, "0")
    return ("  " + "  ".join(padded) + "  " + _paint(verdict, colour)).rstrip()


def _paint(text: str, colour: str) -> str:
    if not text or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def as_data(sections: list[Section]) -> list[dict[str, Any]]:
    return [{"section": s.title, **asdict(row)} for s in sections for row in s.rows]
