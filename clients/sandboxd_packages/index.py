"""The index: a text with one line for each package, `language,version,sha256,url`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sandboxd.protocol import package_names
from sandboxd_packages.download import read
from sandboxd_packages.errors import DownloadFailed, IndexUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_INDEX = "https://github.com/engineer-man/piston/releases/download/pkgs/index"
# The second is Piston's own name for it.
INDEX_VARIABLES = ("SANDBOXD_PACKAGE_INDEX", "PISTON_REPO_URL")

_MAX_INDEX_BYTES = 16 * 1024 * 1024
_FIELDS = 4
_SHOWN_CHARS = 100


class Package(NamedTuple):
    """One package of an index."""

    language: str
    version: str
    sha256: str
    url: str


class Index(NamedTuple):
    """What an index has."""

    packages: tuple[Package, ...]
    warnings: tuple[str, ...]
    """One sentence for each line that was left out."""


def index_url(url: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """Where the index is: `url`, else $SANDBOXD_PACKAGE_INDEX, else $PISTON_REPO_URL, else the
    one of Piston."""
    found = (environ.get(name) for name in INDEX_VARIABLES)
    return url or next(filter(None, found), DEFAULT_INDEX)


def fetch_index(url: str | None = None) -> Index:
    """Download and parse the index at `index_url(url)`. Raises IndexUnavailable."""
    where = index_url(url)
    try:
        data = read(where, _MAX_INDEX_BYTES)
    except DownloadFailed as exc:
        raise IndexUnavailable(f"the index of packages cannot be read: {exc}") from exc
    return parse_index(data.decode("utf-8", "replace"), where)


def parse_index(text: str, where: str = "index") -> Index:
    """The packages in an index. Empty lines and fields after the fourth are skipped, and so is a
    line that is no package, with a warning that begins with `where` and its number."""
    packages, warnings = [], []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line:
            continue
        package = Package(*(line.split(",") + [""] * _FIELDS)[:_FIELDS])
        problem = _problem(package)
        if problem:
            shown = line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"
            warnings.append(f"{where}: line {number} is left out, {problem}: {shown!r}")
        else:
            packages.append(package)
    return Index(tuple(packages), tuple(warnings))


def _problem(package: Package) -> str:
    if not package_names.is_language(package.language):
        return "the language is no name"
    if not package_names.is_version(package.version):
        return "the version is not of the form 1.2.3"
    if not package_names.is_sha256(package.sha256):
        return "the checksum is no SHA-256"
    return "" if package.url else "there is no URL"
