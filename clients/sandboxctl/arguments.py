"""Arguments of a function as they are typed, `name=user1, other=b`, and functions' names."""

from __future__ import annotations

from sandboxctl.options import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.stdio import Stdio

KEY_VARIABLE = "SANDBOXD_KEY"
DEFAULT_SPACE = "main"


def parse_parameters(text: str) -> dict[str, str]:
    """The arguments in one `-p`; all values are texts. Raises UsageError.

    A comma ends a value only where another `K=` follows, so a value may have commas in it.
    """
    found: dict[str, str] = {}
    name = ""
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if equals and key:
            name, found[key] = key, value.strip()
        elif name:
            found[name] += f",{part.rstrip()}"
        elif part.strip():
            raise UsageError(f'--parameters: {text!r} is not like "name=value, other=value"')
    return found


def merged(texts: list[str]) -> dict[str, str]:
    """The arguments of all `-p` together. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        found |= parse_parameters(text)
    return found


def reference(word: str) -> dict[str, str]:
    """`space` and `name` of `[SPACE/]NAME`. Raises UsageError."""
    space, slash, name = word.rpartition("/")
    if not name or (slash and not space) or "/" in space:
        raise UsageError(f"{word!r} is not NAME or SPACE/NAME")
    return {"space": space or DEFAULT_SPACE, "name": name}


def shown_name(space: str, name: str) -> str:
    """A function's name as it is typed."""
    return name if space == DEFAULT_SPACE else f"{space}/{name}"


def caller(stdio: Stdio) -> dict[str, str]:
    """Params that say who asks: the key in $SANDBOXD_KEY, which no command line shows, or nothing:
    the daemon knows whose process this is."""
    key = stdio.environ.get(KEY_VARIABLE)
    return {"key": key} if key else {}
