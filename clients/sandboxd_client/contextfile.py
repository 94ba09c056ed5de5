"""Context files: what a function knows besides its arguments, as lines `KEY = "value"`."""

from __future__ import annotations

from sandboxd.protocol.errors import SandboxdError

MAX_CHARS = 256 * 1024
MAX_KEY_CHARS = 256


class BadContext(SandboxdError):
    """It cannot be understood. The text names the line, and says nothing of what is in it: that may
    be a secret."""


def parse_context(text: str) -> dict[str, str]:
    """The values by key. Raises BadContext.

    Quotes around a value are not part of it. Empty lines and those that begin with `#` are nothing.
    The last of several lines with one key holds.
    """
    if len(text) > MAX_CHARS:
        raise BadContext(f"it is longer than {MAX_CHARS} characters")
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        if not equals or not _is_key(key):
            raise BadContext(f'line {number} is not of the form KEY = "value"')
        found[key] = _unquoted(value.strip())
    return found


def _is_key(key: str) -> bool:
    plain = key.replace("-", "_").replace(".", "_")
    return key.isascii() and plain.isidentifier() and len(key) <= MAX_KEY_CHARS


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
