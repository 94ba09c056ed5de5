"""`--help`, made from the table of options."""

from __future__ import annotations

from sandboxctl.options import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandboxctl.options import CommandSpec

_EXIT_STATUS = """
Exit status: the program's; 128+n when signal n ended it; 124 when a limit stopped it;
125 when sandboxd failed or could not be reached.
"""


def help_text(spec: CommandSpec) -> str:
    """What `sandboxctl COMMAND --help` prints."""
    words = ["sandboxctl", spec.name, "[OPTIONS]", spec.positional]
    text = f"Usage: {' '.join(word for word in words if word)}\n\n"
    text += f"{spec.summary[:1].upper()}{spec.summary[1:]}.\n"
    if not spec.name:
        rows = [(command.name, command.summary) for command in COMMANDS.values()]
        text += f"\nCommands:\n{_rows(rows)}"
    options = [(f"{option.name} {option.metavar}".rstrip(), option.help) for option in spec.options]
    text += f"\nOptions:\n{_rows(options)}"
    if spec.name == "run":
        text += _EXIT_STATUS
    if spec.examples:
        text += "\nExamples:\n" + "".join(f"  {example}\n" for example in spec.examples)
    return text


def _rows(rows: list[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 2
    return "".join(f"  {left.ljust(width)}{right}\n" for left, right in rows)
