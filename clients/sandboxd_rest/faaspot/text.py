"""Code and context as FaaSpot's clients send them: percent-encoded, or as they are."""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import quote

from sandboxd_client.contextfile import BadContext, parse_context
from sandboxd_rest.faaspot.errors import invalid

_SPACE: Final = re.compile(r"\s")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def decode_code(text: str) -> str:
    """Source code from the field `code`. Raises Refusal.

    No Python source that has a `main` is without white space, and nothing that is percent-encoded
    has any, so one is never taken for the other.
    """
    return text if _SPACE.search(text) else _decode("code", text)


def decode_context(text: str) -> dict[str, str]:
    """The context from the field `context`: lines `KEY = "value"`. Raises Refusal.

    One line without white space may be either; it is what it says when there is a key before a `=`.
    """
    key, equals, _ = text.partition("=")
    plain = _SPACE.search(text) or (equals and "%" not in key)
    try:
        return parse_context(text if plain else _decode("context", text))
    except BadContext as error:
        raise invalid(f"context: {error}") from None


def encode(text: str) -> str:
    """As the clients expect code back."""
    return quote(text, safe="")


def _decode(field: str, text: str) -> str:
    """Percent-decode a text without white space. Raises Refusal."""
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        problem = f"the % at character {bad.start()} is not followed by two hexadecimal digits"
        raise invalid(f"{field}: {problem}")
    if "+" in text and "%20" not in text:
        text = text.replace("+", " ")  # A form's encoding: its plus signs are %2B.
    # Quoted-printable is the same with another sign, and decoded in C: urllib takes a second and
    # 60 bytes of memory for each byte of some texts.
    quoted = text.encode("utf-8", "surrogatepass").replace(b"=", b"=3D").replace(b"%", b"=")
    try:
        return binascii.a2b_qp(quoted).decode()
    except UnicodeDecodeError:
        raise invalid(f"{field}: what is percent-encoded is not UTF-8") from None
