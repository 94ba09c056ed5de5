"""Turn the reference pages in this directory into man pages: `man.py OUTPUT_DIRECTORY`.

A page is a Markdown file whose first line is `# name(section): what it is`. Understood is what the
pages use: headings, paragraphs, indented or fenced code, lists, definition lists (a line of code
followed by one that begins with `: `), tables, **bold**, *italic* and `code`.
"""

import datetime
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TITLE = re.compile(r"# ([\w.-]+)\((\d)\): (.+)")
PATTERNS = (
    # Order matters: code is taken out first, nothing is marked up inside it.
    (re.compile(r"\*\*(.+?)\*\*"), r"\\fB\1\\fR"),
    (re.compile(r"(?<!\w)\*(.+?)\*(?!\w)"), r"\\fI\1\\fR"),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
)


def inline(text: str) -> str:
    """One paragraph's text with fonts, safe at the beginning of a line."""
    parts = re.split(r"`([^`]*)`", text)
    for index, part in enumerate(parts):
        plain = part.replace("\\", "\\e").replace("-", "\\-")
        if index % 2:
            parts[index] = f"\\fB{plain}\\fR"
        else:
            for pattern, replacement in PATTERNS:
                plain = pattern.sub(replacement, plain)
            parts[index] = plain
    return re.sub(r"(?m)^([.'])", r"\\&\1", "".join(parts))


def code(lines: list[str]) -> Iterator[str]:
    yield from (".PP", ".RS 4", ".nf")
    for line in lines:
        yield re.sub(r"^([.'])", r"\\&\1", line.replace("\\", "\\e").replace("-", "\\-"))
    yield from (".fi", ".RE")


def table_cell(text: str) -> str:
    """A cell; one with several words may be broken into lines."""
    return f"T{{\n{inline(text)}\nT}}" if len(text.split()) > 2 else inline(text)


def table(rows: list[str]) -> Iterator[str]:
    cells = [[cell.strip() for cell in re.split(r" \|(?= )", row.strip("|"))] for row in rows]
    head, body = cells[0], cells[2:]
    yield ".TS"
    yield "tab(\t);"
    yield " ".join(["lb"] * len(head))
    # The last column is the one with sentences: it takes what the line leaves.
    yield " ".join(["l"] * (len(head) - 1) + ["lx"]) + "."
    yield "\t".join(map(inline, head))
    for row in body:
        yield "\t".join(map(table_cell, row))
    yield ".TE"


def blocks(text: str) -> Iterator[list[str]]:
    """The page's blocks: lines without a blank one between them; a fence counts as one block."""
    block: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if line.strip() or fenced:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def items(block: list[str]) -> Iterator[str]:
    """A list: each item with the lines that are indented below it."""
    for item in re.split(r"(?m)^- ", "\n".join(block))[1:]:
        yield '.IP "\\(bu" 2'
        yield inline(" ".join(line.strip() for line in item.splitlines()))


def definition(block: list[str]) -> Iterator[str]:
    term = next(index for index, line in enumerate(block) if line.startswith(": "))
    yield ".TP"
    yield inline(", ".join(block[:term]))
    yield inline(" ".join([block[term][2:], *(line.strip() for line in block[term + 1 :])]))


def convert(block: list[str]) -> Iterator[str]:
    first = block[0]
    if first.startswith("### "):
        yield f".SS {inline(first[4:])}"
    elif first.startswith("## "):
        yield f".SH {inline(first[3:]).upper()}"
    elif first.startswith("```"):
        yield from code(block[1:-1])
    elif first.startswith("    "):
        yield from code([line[4:] for line in block])
    elif first.startswith("|"):
        yield from table(block)
    elif first.startswith("- "):
        yield from items(block)
    elif any(line.startswith(": ") for line in block):
        yield from definition(block)
    else:
        yield ".PP"
        yield inline("\n".join(block))


def page(text: str, date: str) -> tuple[str, str]:
    """The man page's file name and text."""
    first, _, rest = text.partition("\n")
    title = TITLE.fullmatch(first)
    if title is None:
        raise ValueError(f"{first!r} does not look like '# name(section): what it is'")
    name, section, summary = title.groups()
    lines = ["'\\\" t", f'.TH "{name.upper()}" "{section}" "{date}" "sandboxd"']
    # No hyphenation, no justification: the pages are full of names.
    lines += [".nh", ".ad l", ".SH NAME", f"{name} \\- {inline(summary)}"]
    body = list(blocks(rest))
    if body and not body[0][0].startswith("## "):
        lines.append(".SH DESCRIPTION")
    for block in body:
        lines += convert(block)
    return f"{name}.{section}", "\n".join(lines) + "\n"


def main(target: Path) -> None:
    # Reproducible: the date is that of the release where the builder says so.
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    moment = datetime.datetime.fromtimestamp(epoch, datetime.UTC) if epoch else None
    date = moment.strftime("%Y-%m-%d") if moment else ""
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(Path(__file__).parent.glob("*.md")):
        text = source.read_text()
        if TITLE.match(text):
            name, roff = page(text, date)
            (target / name).write_text(roff)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
