"""Spec files: which packages are to be installed, in the format of Piston's command line.

Each line is a pattern for languages and a range of versions (node-semver): of every language that
matches, the highest version in the range is wanted. `!` before it takes matching packages from the
list again. Lines that begin with `#` are comments.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, NamedTuple

import nodesemver

from sandboxd_packages import matching

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxd_packages import Package

_PATTERN_ONLY = frozenset("{}")


class BadSpec(Exception):
    """A line that cannot be understood; the text names it."""


class Rule(NamedTuple):
    """One line."""

    line: int
    negated: bool
    language: str
    versions: str

    def of(self, packages: Iterable[Package]) -> list[Package]:
        """The highest version of each language that matches; all that match for a negated one."""
        packages = list(packages)
        names = {package.language for package in packages}
        found = []
        for name in sorted(name for name in names if fnmatch.fnmatchcase(name, self.language)):
            fitting = matching(packages, name, self.versions)
            found += fitting if self.negated else fitting[:1]
        return found


def parse_spec(text: str) -> list[Rule]:
    """The rules in a spec file. Raises BadSpec."""
    rules = []
    for number, line in enumerate(text.split("\n"), 1):
        rule = line.partition(" #")[0].strip()
        if rule and not rule.startswith("#"):
            rules.append(_rule(number, rule))
    return rules


def _rule(number: int, text: str) -> Rule:
    negated = text.startswith("!")
    language, _, versions = text.removeprefix("!").strip().partition(" ")
    versions = versions.strip()
    if not versions:
        raise BadSpec(f"line {number}: {text!r} is not a language and a range, such as python 3.x")
    if not _PATTERN_ONLY.isdisjoint(language):
        raise BadSpec(f"line {number}: braces are not known in {language!r}; write two lines")
    if nodesemver.valid_range(versions, loose=False) is None:
        raise BadSpec(f"line {number}: {versions!r} is not a range of versions, such as 3.x")
    return Rule(number, negated, language, versions)


class Plan(NamedTuple):
    """What has to be done, and which lines named nothing."""

    install: list[Package]
    uninstall: list[Package]
    unmatched: list[Rule]


def plan(
    rules: Iterable[Rule], packages: Iterable[Package], installed: set[tuple[str, str]]
) -> Plan:
    """How what is `installed` (language, version) becomes what `rules` want of `packages`.

    What is installed and not in the index is left alone: nobody could install it again.
    """
    packages = list(packages)
    wanted: dict[tuple[str, str], Package] = {}
    unmatched = []
    for rule in rules:
        found = rule.of(wanted.values() if rule.negated else packages)
        if not found and not rule.negated:
            unmatched.append(rule)
        for package in found:
            if rule.negated:
                del wanted[package[:2]]
            else:
                wanted[package[:2]] = package
    install = [package for key, package in wanted.items() if key not in installed]
    known = {package[:2]: package for package in packages}
    uninstall = [known[key] for key in sorted(installed & known.keys() - wanted.keys())]
    return Plan(install, uninstall, unmatched)
