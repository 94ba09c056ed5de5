"""Make attacks.md, the table of the attack suite: `attacks.py [--check] [NAME=RESULTS ...]`, or
`attacks.py --tests`, which prints what pytest is to run for it. `make attacks` does both.
`attacks.py --show` prints the cases and their results alone.

What a case does is in tests/attacks/cases.py, its outcome in the docstrings of the tests. RESULTS
is what `pytest --junitxml=RESULTS` wrote on the host called NAME, which may be given several times:
a later one replaces what an earlier one says of the same test. What attacks.md has already is kept
for other hosts, and for a case of which not all tests were run, unless one of these failed. --check
changes nothing and fails where the page is out of date.
"""

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "attacks.md"
SUITE = "tests/attacks"
_CASE = r"(?:[PMDOFKNXA]|C-)\d+"
_LESSON = r"[CS]\d+"
# The cases, perhaps with lessons between them, then what must happen.
_HEAD = re.compile(rf"((?:{_CASE}|{_LESSON})(?:, (?:{_CASE}|{_LESSON}))*): (.*)", re.DOTALL)

sys.path.insert(0, str(REPOSITORY / "tests"))

from attacks.cases import CASES, ELSEWHERE, OUTCOMES, REASONS  # noqa: E402

INTRODUCTION = f"""# The attack suite, case by case

Made by `docs/attacks.py` from the tests; do not edit. Each case is run beside an innocent job, and
after each one the daemon answers in normal time, the innocent job has its result, and processes,
cgroups, mounts, namespaces, descriptors and files of the host are as before
(`{SUITE}/conftest.py`). *both* modes: in recycled and in fresh sandboxes. A case with several tests
has passed when all of them have, *skipped* says how many could not run there; *not kept* marks what
is not promised, shown by a test that would notice if it was kept.

Run it, and write this page anew: `make attacks`.
"""


@dataclass(frozen=True)
class Test:
    """A test function; `module::function` as pytest has it, without parameters."""

    name: str
    cases: tuple[str, ...]
    outcome: str


@dataclass(frozen=True)
class Outcome:
    """Of all runs of one test function."""

    words: frozenset[str]
    modes: frozenset[str]


def suite() -> Iterator[Test]:
    """The tests of the suite that name cases."""
    for path in sorted((REPOSITORY / SUITE).glob("test_*.py")):
        for name, docstring in functions(path):
            found = _HEAD.match(docstring)
            if found:
                cases = tuple(re.findall(rf"(?:^|, )({_CASE})\b", found[1]))
                outcome = " ".join(found[2].split()).rstrip(".")
                yield Test(f"{path.relative_to(REPOSITORY)}::{name}", cases, outcome)


def functions(path: Path) -> Iterator[tuple[str, str]]:
    """The name and docstring of every test of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def tests_of(case: str, tests: list[Test]) -> list[str]:
    return [test.name for test in tests if case in test.cases] + list(ELSEWHERE.get(case, ()))


def results(file: str) -> dict[str, Outcome]:
    """What junit's XML says of each test function."""
    words: dict[str, set[str]] = {}
    modes: dict[str, set[str]] = {}
    for case in ElementTree.parse(file).iter("testcase"):  # noqa: S314 - written by our own tests
        module = case.get("classname", "").replace(".", "/")
        function, _, parameters = case.get("name", "").partition("[")
        name = f"{module if module.startswith('tests/') else 'tests/' + module}.py::{function}"
        words.setdefault(name, set()).add(_word(case))
        modes.setdefault(name, set()).update(re.findall(r"\b(recycled|fresh)\b", parameters))
    return {name: Outcome(frozenset(words[name]), frozenset(modes[name])) for name in words}


def _word(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "FAILED"
    skipped = case.find("skipped")
    if skipped is None:
        return "passed"
    return "not kept" if skipped.get("type") == "pytest.xfail" else "skipped"


def verdict(names: list[str], found: dict[str, Outcome]) -> str:
    """One word for all tests of a case on one host."""
    words = {word for name in names if name in found for word in found[name].words}
    if any(name not in found for name in names):
        words.add("not run")
    for word in ("FAILED", "not run", "not kept"):
        if word in words:
            return word
    if "passed" not in words:
        return "skipped"
    # Of whole tests: one that ran with some of its parameters says what it is there to say.
    left_out = sum(found[name].words == {"skipped"} for name in names)
    return f"passed, {left_out} skipped" if left_out else "passed"


def modes(names: list[str], found: dict[str, Outcome]) -> str:
    """In which modes a case was tried: one that does not depend on it has none."""
    seen = {mode for name in names if name in found for mode in found[name].modes}
    return "both" if len(seen) == 2 else "".join(seen)


def rows(
    hosts: dict[str, dict[str, Outcome]], titles: list[str], kept: dict[str, list[str]]
) -> Iterator[list[str]]:
    """The cells of the table, with a column for each of `titles`. `kept`: the mode and the results
    of the page as it is, for those of which `hosts` says nothing."""
    tests = list(suite())
    every = {name: outcome for found in hosts.values() for name, outcome in found.items()}
    for case, does in CASES.items():
        names = tests_of(case, tests)
        outcomes = dict.fromkeys(test.outcome for test in tests if case in test.cases)
        text = "; ".join(outcomes) or OUTCOMES.get(case) or REASONS[case]
        shown = " ".join(f"`{name.removeprefix('tests/')}`" for name in names)
        mode, *old = kept.get(case, [""])
        mode = modes(names, every) or mode
        cells = dict.fromkeys(titles, "not run") | dict(zip(titles, old, strict=False))
        for title, found in hosts.items():
            word = verdict(names, found)
            if word != "not run":
                cells[title] = word
        if not names:
            mode, cells = "", dict.fromkeys(titles, "no test")
        yield [case, does, text.replace("|", "\\|"), shown, mode, *cells.values()]


def page(hosts: dict[str, dict[str, Outcome]]) -> str:
    titles, kept = parsed(PAGE.read_text() if PAGE.exists() else "")
    titles += [title for title in hosts if title not in titles]
    head = ["case", "what it does", "outcome", "tests", "mode", *titles]
    table = [head, ["---"] * len(head), *rows(hosts, titles, kept)]
    return INTRODUCTION + "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def summary(text: str) -> str:
    """The columns of a page that say what was found, for a terminal."""
    titles, found = parsed(text)
    table = [["case", "what it does", "mode", *titles]]
    table += [[case, CASES.get(case, ""), *cells] for case, cells in found.items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in table
    )


def parsed(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """The names of hosts in a page, and the cells of each case from its mode on."""
    table = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    if not table:
        return [], {}
    return table[0][5:], {cells[0]: cells[4:] for cells in table[2:]}


def selection() -> list[str]:
    """Everything that a case has as its test."""
    return [SUITE, *sorted({name for names in ELSEWHERE.values() for name in names})]


def main(arguments: list[str]) -> int:
    if arguments == ["--tests"]:
        print(*selection(), sep="\n")
        return 0
    if arguments == ["--show"]:
        print(summary(PAGE.read_text()), end="")
        return 0
    check = arguments[:1] == ["--check"]
    hosts: dict[str, dict[str, Outcome]] = {}
    for argument in arguments[check:]:
        name, _, file = argument.partition("=")
        hosts.setdefault(name, {}).update(results(file))
    made = page(hosts)
    if check:
        return 0 if made == PAGE.read_text() else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
