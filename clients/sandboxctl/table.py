"""Columns for people."""

from __future__ import annotations

from sandboxctl.stdio import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines with a title, each column as wide as it must be."""
    shown = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in (head, *shown)) for at in range(len(head))]
    lines = []
    for row in (head, *shown):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"
