"""The table of the attack suite: each case has a test, or a reason why it has none."""

import importlib.util
import sys
from pathlib import Path

import pytest

from attacks.cases import CASES, ELSEWHERE, REASONS
from support.requirements import REPOSITORY

spec = importlib.util.spec_from_file_location("attacks_page", REPOSITORY / "docs" / "attacks.py")
assert spec is not None
assert spec.loader is not None
attacks = importlib.util.module_from_spec(spec)
sys.modules["attacks_page"] = attacks  # Where dataclasses look their module up.
spec.loader.exec_module(attacks)

GROUPS = {"P": 25, "M": 15, "D": 12, "O": 15, "F": 16, "K": 30, "N": 7, "X": 10, "C-": 10, "A": 20}
TESTS = list(attacks.suite())


def test_no_case_is_forgotten() -> None:
    expected = [f"{group}{number + 1}" for group, size in GROUPS.items() for number in range(size)]
    assert list(CASES) == expected
    assert len(expected) == 160
    assert all(CASES.values())


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_a_test_or_a_reason(case: str) -> None:
    assert bool(attacks.tests_of(case, TESTS)) != (case in REASONS)


def test_only_known_cases_are_named() -> None:
    named = {case for test in TESTS for case in test.cases}
    assert named <= CASES.keys()
    assert ELSEWHERE.keys() | REASONS.keys() <= CASES.keys()


@pytest.mark.parametrize("name", sorted({name for names in ELSEWHERE.values() for name in names}))
def test_tests_in_other_folders_are_there(name: str) -> None:
    file, _, function = name.partition("::")
    assert function in dict(attacks.functions(REPOSITORY / file))


def test_the_page_is_up_to_date() -> None:
    """Otherwise: `.venv/bin/python docs/attacks.py`."""
    assert attacks.main(["--check"]) == 0


def test_the_page_knows_no_failure() -> None:
    hosts, cells = attacks.parsed(attacks.PAGE.read_text())
    assert hosts
    assert cells.keys() == CASES.keys()
    # A host may lack what a case needs; nowhere may a case fail.
    assert {len(case) for case in cells.values()} == {len(hosts) + 1}
    words = {word.partition(",")[0] for case in cells.values() for word in case[1:]}
    assert words <= {"passed", "not kept", "skipped", "no test"}, words


def test_results_are_read(tmp_path: Path) -> None:
    """Of several runs of a function the worst counts; the mode is in the parameters."""
    xml = (
        '<testsuites><testsuite name="pytest">'
        '<testcase classname="tests.attacks.test_x" name="test_a[recycled-1]"/>'
        '<testcase classname="tests.attacks.test_x" name="test_a[fresh-1]"><failure/></testcase>'
        '<testcase classname="tests.attacks.test_x" name="test_b"><skipped type="pytest.xfail"/>'
        "</testcase></testsuite></testsuites>"
    )
    file = tmp_path / "results.xml"
    file.write_text(xml)
    found = attacks.results(str(file))
    one, two = "tests/attacks/test_x.py::test_a", "tests/attacks/test_x.py::test_b"
    assert found[one].words == {"passed", "FAILED"}
    assert attacks.modes([one], found) == "both"
    assert attacks.verdict([one, two], found) == "FAILED"
    assert attacks.verdict([two], found) == "not kept"
    assert attacks.verdict([two, "tests/other"], found) == "not run"


def test_results_of_other_hosts_are_kept() -> None:
    kept = {case: ["both", "passed", "passed"] for case in CASES} | {"P2": ["both", "passed"]}
    failed = attacks.Outcome(frozenset({"FAILED"}), frozenset())
    found = dict.fromkeys(attacks.tests_of("M10", TESTS), failed)
    rows = attacks.rows({"two": found}, ["one", "two"], kept)
    cells = {case: rest[-3:] for case, *rest in rows}
    assert cells["P1"] == ["both", "passed", "passed"]
    assert cells["P2"] == ["both", "passed", "not run"]
    assert cells["M10"] == ["both", "passed", "FAILED"]


def test_the_summary_has_a_line_for_each_case() -> None:
    lines = attacks.summary(attacks.PAGE.read_text()).splitlines()
    assert [line.split()[0] for line in lines] == ["case", *CASES]


def test_each_test_says_its_outcome() -> None:
    assert [test.name for test in TESTS if not test.outcome] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "passed skipped"], "passed"),
        (["passed", "skipped"], "passed, 1 skipped"),
        (["skipped", "skipped"], "skipped"),
        (["skipped", "FAILED"], "FAILED"),
        (["passed"], "not run"),
    ],
)
def test_a_test_that_is_skipped_is_seen(words: list[str], expected: str) -> None:
    names = ["first", "second"]
    found = {
        name: attacks.Outcome(frozenset(said.split()), frozenset())
        for name, said in zip(names, words, strict=False)
    }
    assert attacks.verdict(names, found) == expected
