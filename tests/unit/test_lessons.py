"""docs/lessons.md: every row is there, and names tests and lines that are there."""

import ast
import re
from pathlib import Path

import pytest

from support.requirements import REPOSITORY

PAGE = REPOSITORY / "docs" / "lessons.md"
ROWS = [f"C{number + 1}" for number in range(38)] + [f"S{number + 1}" for number in range(15)]
LINES = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [CS]\d+ \|", line)]
PLACES = sorted({place for line in LINES for place in re.findall(r"`([^`]+::[^`]+)`", line)})


def test_every_row_is_there_and_names_a_place() -> None:
    assert [line.split()[1] for line in LINES] == ROWS
    for line in LINES:
        cells = line.split(" | ")
        assert len(cells) == 4, line
        assert "::" in cells[3], line


@pytest.mark.parametrize("place", PLACES)
def test_the_place_is_there(place: str) -> None:
    file, _, name = place.partition("::")
    path = REPOSITORY / file
    if name.startswith("test_"):
        assert name in _tests(path)
    else:
        assert re.search(rf"\b{re.escape(name)}\b", path.read_text())


def _tests(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_security_points_at_both_tables() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text()
    assert "docs/lessons.md" in text
    assert "docs/attacks.md" in text
