"""Which package is meant by a language and a range of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nodesemver

from sandboxd.protocol import ranges
from sandboxd_packages.errors import NoSuchPackage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxd_packages.index import Package


def select(packages: Iterable[Package], language: str, version: str = "*") -> Package:
    """The package of `language` with the highest version in the range `version` (node-semver).

    Raises NoSuchPackage.
    """
    found = matching(packages, language, version)
    if not found:
        raise NoSuchPackage(f"Requested package {language}-{version} does not exist")
    return found[0]


def matching(packages: Iterable[Package], language: str, version: str = "*") -> list[Package]:
    """Every package of `language` with a version in the range, the highest first.

    A range that is none matches nothing.
    """
    of_language = {package.version: package for package in packages if package.language == language}
    try:
        range_ = ranges.tidy(version)
        fitting = [text for text in of_language if nodesemver.satisfies(text, range_, loose=False)]
        return [of_language[text] for text in nodesemver.rsort(fitting, loose=False)]
    except ValueError:
        return []
