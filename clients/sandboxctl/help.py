"""`--help`, made from the table of options."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.options import CommandSpec, Option

_RUN_STATUS = """
Exit status: the program's; 128+n when signal n ended it; 124 when a limit stopped it;
125 when sandboxd failed or could not be reached.
"""
_EXECUTE_STATUS = """
FILE is - for a source file from stdin. Further files in the same language are compiled with it.

Exit status: that of the stage that was the last, so the compiler's where it found an error;
128+n when signal n ended it; 124 when a limit stopped it; 125 when sandboxd failed or could not be
reached.
"""
_AFTER = {"run": _RUN_STATUS, "execute": _EXECUTE_STATUS}


def help_text(spec: CommandSpec) -> str:
    """What `sandboxctl COMMAND --help` prints."""
    text = f"Usage: {spec.usage}\n\n"
    text += f"{spec.summary[:1].upper()}{spec.summary[1:]}.\n"
    if spec.commands:
        rows = [(command.word, command.summary) for command in spec.commands.values()]
        text += f"\nCommands:\n{_rows(rows)}"
    text += f"\nOptions:\n{_rows([(_left(option), option.help) for option in spec.options])}"
    text += _AFTER.get(spec.name, "")
    if spec.examples:
        text += "\nExamples:\n" + "".join(f"  {example}\n" for example in spec.examples)
    return text


def _left(option: Option) -> str:
    names = f"{option.short}, {option.name}" if option.short else option.name
    return f"{names} {option.metavar}".rstrip()


def _rows(rows: list[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 2
    return "".join(f"  {left.ljust(width)}{right}\n" for left, right in rows)
