"""A task's `control` file: which programs run, one after the other, in one sandbox.

Each line is a command, split into arguments much as a shell would, by Pythia's rules. A command
that begins with `!` is the untrusted part: it runs as another user, with no input and no output,
and its status does not matter. Any other gets what the task is given as its input, writes the
task's output, and ends the task when it fails. Between two commands everything that is still
running is killed, and the limits are those of all together.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from sandboxd.protocol.jobs import Step

NAME: Final = "control"
MAX_LINE: Final = 4096
MAX_ARGUMENTS: Final = 100
MAX_BYTES: Final = 24 * 1024
# What a trusted command makes is its own unless it says otherwise, what an untrusted one makes is
# everybody's.
_UMASK: Final = 0o077
_GUEST_UMASK: Final = 0o000

_SPACE: Final = b" \t\r\n"
_QUOTES: Final = b"\"'"
_ESCAPES: Final = {
    **dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True)),
    **{byte: byte for byte in b"\\'\""},
}


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


def steps(commands: tuple[Command, ...]) -> tuple[Step, ...]:
    """The programs of the task's one run."""
    return tuple(
        [
            Step(
                argv=command.argv,
                umask=_GUEST_UMASK if command.untrusted else _UMASK,
                guest=command.untrusted,
            )
            for command in commands
        ]
    )
