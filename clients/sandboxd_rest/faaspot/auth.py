"""Which API key a request has."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from sandboxd_rest.faaspot.errors import CHALLENGE, refusal

if TYPE_CHECKING:
    from sandboxd_rest.http import Request

MAX_SECRET: Final = 128
_HOW: Final = "make a key with `sandboxctl keys create` and send `Authorization: Token KEY`"


def secret(request: Request) -> str:
    """The key, from `Token KEY`, `Bearer KEY`, or the password of `Basic`. Raises Refusal (401)."""
    value = request.headers.get(b"authorization", b"").decode("latin-1").strip()
    scheme, _, given = value.partition(" ")
    given = given.strip()
    if not value:
        raise refusal(401, "not_authenticated", f"this needs a key: {_HOW}", CHALLENGE)
    match scheme.lower():
        case "token" | "bearer":
            found = given
        case "basic":
            found = _password(given)
        case _:
            raise _wrong("it begins with none of Token, Bearer and Basic")  # Perhaps with the key.
    if not found or not found.isascii() or len(found) > MAX_SECRET:
        raise _wrong("that is no key")
    return found


def _password(text: str) -> str:
    """FaaSpot's own client sends the alphabet for URLs, and from Python 3 a whole `b'…'`."""
    if text.startswith("b'") and text.endswith("'"):
        text = text[2:-1]
    try:
        pair = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _wrong("it is not the base64 of USER:KEY") from None
    return pair.partition(":")[2]


def _wrong(problem: str) -> Exception:
    text = f"Authorization is not understood: {problem}; {_HOW}"
    return refusal(401, "authentication_failed", text, CHALLENGE)
