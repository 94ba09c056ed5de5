"""Command lines with placeholders.

``{sources}`` and ``{args}`` stand alone and become any number of arguments, ``{main}`` and
``{stem}`` (the main source without its extension) may also stand inside one, and so may
``{memory_mib}``, the stage's memory limit in MiB, for tools that otherwise go by the memory of the
host. Nothing else is replaced: a brace of awk or of the shell stays what it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LISTS: Final = {"{sources}": "sources", "{args}": "args"}
_NAMES: Final = ("{main}", "{stem}", "{memory_mib}")
_FILLED: Final = re.compile(rb"\{(main|stem|memory_mib)\}")
_MIB: Final = 1024 * 1024
_LONE_WORD: Final = re.compile(r"\{[a-z_]+\}")


class BadTemplate(ValueError):
    """A command cannot be used; the text says why."""


class Template:
    """One command line of a runtime."""

    def __init__(self, command: Sequence[str]) -> None:
        """Raises BadTemplate."""
        if not command or not command[0]:
            raise BadTemplate("must name a program first")
        self.command = tuple(command)
        self._parts = tuple(_part(text) for text in command)

    def argv(
        self,
        main: bytes,
        sources: Sequence[bytes] = (),
        args: Sequence[bytes] = (),
        memory_bytes: int = 0,
    ) -> tuple[bytes, ...]:
        """The arguments for these files and this memory limit."""
        found: list[bytes] = []
        for kind, data in self._parts:
            if kind == "text":
                found.append(data)
            elif kind == "main":
                found.append(_safe(main))
            elif kind == "args":
                found += args
            elif kind == "sources":
                found += [_safe(source) for source in sources]
            else:
                found.append(_filled(data, main, memory_bytes))
        return tuple(found)

    def uses(self, placeholder: str) -> bool:
        """Whether the command has the placeholder anywhere."""
        return any(placeholder in text for text in self.command)


def _part(text: str) -> tuple[str, bytes]:
    if "\0" in text:
        raise BadTemplate(f"{text!r} must not hold a NUL character")
    if text in _LISTS:
        return _LISTS[text], b""
    if text == "{main}":
        return "main", b""
    for placeholder in _LISTS:
        if placeholder in text:
            raise BadTemplate(f"{placeholder} must be an argument by itself, not part of {text!r}")
    if any(name in text for name in _NAMES):
        return "filled", text.encode()
    if _LONE_WORD.fullmatch(text):
        known = ", ".join((*_NAMES, *_LISTS))
        raise BadTemplate(f"{text} is no placeholder; there is: {known}")
    return "text", text.encode()


def _filled(text: bytes, main: bytes, memory_bytes: int) -> bytes:
    name = _safe(main) if text.startswith(b"{") else main  # Else it cannot become an option.
    values = {
        b"main": name,
        b"stem": stem(name),
        b"memory_mib": str(max(1, memory_bytes // _MIB)).encode(),
    }
    return _FILLED.sub(lambda match: values[match[1]], text)


def _safe(name: bytes) -> bytes:
    """A file's name that no tool takes for an option."""
    return b"./" + name if name.startswith(b"-") else name


def stem(name: bytes) -> bytes:
    """A file's name without its extension; a dot at the beginning is part of the name."""
    directory, slash, last = name.rpartition(b"/")
    base, dot, _ = last.rpartition(b".")
    return directory + slash + (base if dot and base else last)


def extension(name: bytes) -> bytes:
    """A file's extension with its dot; empty where there is none."""
    return name[len(stem(name)) :]
