"""Why an archive is not unpacked."""


class Refused(Exception):
    """The archive is damaged or holds what is not taken; the text names the member."""


def shown(name: bytes) -> str:
    """A member's name in a message: one line, not too long, whatever bytes it has."""
    text = name.decode("utf-8", "replace")
    text = "".join(char if char.isprintable() else "?" for char in text)
    return repr(text if len(text) <= 120 else f"{text[:80]}…{text[-39:]}")
