"""Versions and ranges. What npm's own `semver` answers stands in the tables."""

import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.runtimes.versions import highest, semantic
from sandboxd_packages.index import Package
from sandboxd_packages.select import matching
from sandboxd_rest.piston import catalogue


def of_the_gateway(versions: Sequence[str], range_: str) -> str | None:
    return catalogue.highest(list(versions), range_)


def of_packages(versions: Sequence[str], range_: str) -> str | None:
    there = [Package("x", version, "", "") for version in versions]
    return next((found.version for found in matching(there, "x", range_)), None)


THERE = ("3.8.20", "3.11.2", "3.12.0", "4.0.0-rc.1", "2.7.18")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.2.0", "12.2.0"),
        ("12", "12.0.0"),
        ("9.4", "9.4.0"),
        ("v18.20.4", "18.20.4"),
        ("5.06", "5.6.0"),
        ("0.5.12-2", "0.5.12"),
        ("1.2.3.4", "1.2.3"),
        ("1.75.0-nightly", "1.75.0-nightly"),
        ("1.75.0-01", "1.75.0"),
        ("2023.09.01", "2023.9.1"),
        (" 20200816\n", "20200816.0.0"),
        ("1.2.3+build", "1.2.3"),
        ("17.0.13+11", "17.0.13"),
        ("9007199254740991.0.0", "9007199254740991.0.0"),
        ("9007199254740992.0.0", None),
        ("9007199254740992", None),
        ("", None),
        ("none", None),
        ("-1.2.3", None),
        ("٣.1.2", None),
    ],
)
def test_semantic(text: str, expected: str | None) -> None:
    assert semantic(text) == expected


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("*", "3.12.0"),
        ("", "3.12.0"),
        ("x", "3.12.0"),
        ("3", "3.12.0"),
        ("3.x", "3.12.0"),
        ("~3.8", "3.8.20"),
        ("^2", "2.7.18"),
        ("3.11.2", "3.11.2"),
        ("=3.11.2", "3.11.2"),
        ("v3.11.2", "3.11.2"),
        (">=3.9 <3.12", "3.11.2"),
        ("3.8.0 - 3.11", "3.11.2"),
        ("<3 || ~3.8", "3.8.20"),
        (">= 3.9", "3.12.0"),
        ("4", None),
        (">=4.0.0-0", "4.0.0-rc.1"),
        ("^4.0.0-rc.1", "4.0.0-rc.1"),
        (">3.12.0", None),
        ("99", None),
        ("latest", None),
        ("3.8.20.1", None),
        ("not a range", None),
        ("3.8.20; rm", None),
    ],
)
def test_highest(range_: str, expected: str | None) -> None:
    assert highest(THERE, range_) == expected


def test_any_version_of_one() -> None:
    assert highest(("1.0.0",), "*") == "1.0.0"
    assert highest(("1.0.0-rc.1",), "*") is None
    assert highest((), "*") is None


@given(st.text(max_size=256))
def test_any_text_is_a_range_or_takes_nothing(range_: str) -> None:
    assert highest(THERE, range_) in (None, *THERE)


@given(st.text(alphabet="0123456789.xX*^~<>=|- v+rc", max_size=256))
def test_what_looks_like_a_range_is_one_or_takes_nothing(range_: str) -> None:
    assert highest(THERE, range_) in (None, *THERE)


@given(st.tuples(*[st.integers(0, 2**53 - 1)] * 3))
def test_a_version_is_itself_and_takes_itself(numbers: tuple[int, int, int]) -> None:
    version = ".".join(map(str, numbers))
    assert semantic(version) == version
    assert highest((version, "0.0.0-0"), version) == version


@given(st.text(max_size=300))
def test_what_is_semantic_stays_so(text: str) -> None:
    version = semantic(text)
    if version is not None:
        assert semantic(version) == version
        assert highest((version,), version) == version


@pytest.mark.parametrize(
    "piece", ["1.", "1 ", "^", "|", " - ", ">=1 ", "1.2.3-", "a.", "x", "<", "~ ", "0", "1.2.3 || "]
)
def test_the_longest_range_takes_no_time(piece: str) -> None:
    range_ = (piece * 256)[:256]
    begin = time.process_time()
    highest(THERE, range_)
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize("begin", ["1 -", ">", "~", "1", "*||"])
@pytest.mark.parametrize("choose", [highest, of_the_gateway, of_packages])
def test_blanks_take_no_time(choose: Callable[[Sequence[str], str], object], begin: str) -> None:
    begun = time.process_time()
    for blank in (" ", "\t", "\u2003", "\n"):
        choose(THERE, f"{begin}{blank * 240}!")
    assert time.process_time() - begun < 1.0
    assert choose(["1.1.0", "2.0.0"], f">={blank * 100}1{blank * 100}<2") == "1.1.0"


def test_no_range_is_too_long() -> None:
    for choose in (highest, of_the_gateway, of_packages):
        assert choose(THERE, "*||" * 86) is None
