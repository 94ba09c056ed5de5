"""Names of packages: a language and a version, which are also names of directories.

Imports nothing but `re`, so that the light clients may.
"""

from __future__ import annotations

import re

MAX_CHARS = 64

# No separator of paths or of PATH, nothing a shell would take apart, no hidden file.
_LANGUAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+#.-]{0,63}")
# semver.org, without the build part, which does not order versions. To the letter: what it does not
# allow, such as 1.2.3-01, cannot be compared, and would hide the other versions of the language.
_NUMBER = r"(?:0|[1-9][0-9]{0,15})"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_language(text: str) -> bool:
    """Whether it can be the language of a package."""
    return _LANGUAGE.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether it is a whole semantic version, `1.2.3` or `1.2.3-rc.1`."""
    return len(text) <= MAX_CHARS and _VERSION.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None
