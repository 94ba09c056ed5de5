"""A task's `control` file: which programs run, one after the other, in one sandbox.

Each line is a command, split into arguments much as a shell would, by Pythia's rules. A command
that begins with `!` is the untrusted part: no input, no output, its status does not matter. Any
other gets what the task is given as its input, writes the task's output, and ends the task when it
fails. Between two commands everything that is still running is killed.

The commands become one shell script, which is passed as an argument: no program of the task can
change it, and a shell is the smallest thing every environment has. It keeps no standard error of
its own, or it would add words about killed programs to the task's output.

What is not as in Pythia: both kinds of command run as the same user, because a sandbox has one.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

NAME: Final = "control"
MAX_LINE: Final = 4096
MAX_ARGUMENTS: Final = 100
# The script is one argument of execve: at most 128 KiB, and a quote in it takes four bytes.
MAX_BYTES: Final = 24 * 1024

_SPACE: Final = b" \t\r\n"
_QUOTES: Final = b"\"'"
_ESCAPES: Final = {
    **dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True)),
    **{byte: byte for byte in b"\\'\""},
}
_KILL: Final = b"kill -KILL -1\n"


class BadControl(ValueError):
    """A control file that cannot be run; the text says which line and why."""


class Command(Struct, frozen=True):
    """One line."""

    argv: tuple[bytes, ...]
    untrusted: bool = False
    """It began with `!`."""


def parse(data: bytes) -> tuple[Command, ...]:
    """The commands of a control file. Lines without a word are skipped. Raises BadControl."""
    if len(data) > MAX_BYTES:
        raise BadControl(f"control has {len(data)} bytes; at most {MAX_BYTES}")
    commands = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            argv = split(line.removeprefix(b"!"))
        except BadControl as exc:
            raise BadControl(f"control, line {number}: {exc}") from None
        if argv:
            commands.append(Command(argv, line.startswith(b"!")))
    if not commands:
        raise BadControl("control has no command")
    return tuple(commands)


def split(line: bytes) -> tuple[bytes, ...]:
    """A command line's arguments. Raises BadControl.

    White space separates; `'` and `"` keep it together and may begin anywhere in an argument.
    Outside of `'` a backslash stands for a control character (`\\n`, `\\t`, …), a quote or a
    backslash; before anything else it is a backslash.
    """
    if len(line) > MAX_LINE:
        raise BadControl(f"has {len(line)} characters; at most {MAX_LINE}")
    if b"\0" in line:
        raise BadControl("has a NUL character")
    arguments: list[bytes] = []
    word: bytearray | None = None
    quote = 0
    at = 0
    while at < len(line):
        byte = line[at]
        at += 1
        if not quote and byte in _SPACE:
            if word is not None:
                arguments.append(bytes(word))
            word = None
            continue
        word = bytearray() if word is None else word
        if byte in _QUOTES and quote in (0, byte):
            quote = 0 if quote else byte
        elif byte == ord("\\") and quote != ord("'") and line[at : at + 1] and line[at] in _ESCAPES:
            word.append(_ESCAPES[line[at]])
            at += 1
        else:
            word.append(byte)
    if quote:
        raise BadControl(f"a {chr(quote)} is not closed")
    if word is not None:
        arguments.append(bytes(word))
    return _checked(tuple(arguments))


def _checked(arguments: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if len(arguments) > MAX_ARGUMENTS:
        raise BadControl(f"has {len(arguments)} arguments; at most {MAX_ARGUMENTS}")
    if arguments and (not arguments[0] or arguments[0].startswith(b"-")):
        raise BadControl("must name a program first")
    return arguments


def script(commands: tuple[Command, ...]) -> bytes:
    """What a shell runs to run the commands. The last one takes the place of the shell, so that
    its end is the task's."""
    *others, last = commands
    parts = [b"exec 2>/dev/null\numask 077\n"]
    for command in others:
        parts += [_in_between(command), _KILL]
    parts.append(_in_between(last) + b"exit 0\n" if last.untrusted else _exec(last) + b"\n")
    return b"".join(parts)


def _in_between(command: Command) -> bytes:
    if command.untrusted:
        return b"(umask 000; " + _exec(command) + b")\n"
    return b"(" + _exec(command) + b") || exit\n"


def _exec(command: Command) -> bytes:
    """`exec` finds programs only, never what the shell has built in under their name."""
    streams = b"</dev/null >/dev/null 2>&1" if command.untrusted else b"2>&1"
    return b" ".join((b"exec", *map(_quoted, command.argv), streams))


def _quoted(argument: bytes) -> bytes:
    return b"'" + argument.replace(b"'", b"'\\''") + b"'"
