"""Names of environments: one component of a path, and nothing a person could misread."""

import re
from typing import Final

from sandboxd.protocol.errors import invalid

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHOWN: Final = 80


def is_name(text: str) -> bool:
    """Whether this can be the name of an environment."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, field: str = "name") -> str:
    """The name itself. Raises RequestError `invalid_argument`."""
    if not is_name(text):
        raise invalid(
            field,
            f"{text[:_SHOWN]!r} must be 1 to 64 letters, digits, '.', '_' or '-', beginning with"
            " a letter or a digit",
        )
    return text
