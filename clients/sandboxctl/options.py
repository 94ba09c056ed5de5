"""Everything that can be typed, as one table, and the parser for it.

argparse would do the same in 500 lines fewer of ours and 9 ms more of everybody's time, which is
as much as the interpreter needs to start.
"""

from __future__ import annotations

from sandboxctl.units import parse_count, parse_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class UsageError(Exception):
    """What was typed makes no sense; the text says why and what would."""


class Option:
    """One option. Without `metavar` it is a switch; `limit` is the field of `limits` it sets."""

    __slots__ = ("choices", "convert", "files", "help", "limit", "metavar", "name", "repeat")

    def __init__(
        self,
        name: str,
        metavar: str,
        help: str,
        convert: Callable[[str], Any] = str,
        *,
        limit: str = "",
        choices: tuple[str, ...] = (),
        repeat: bool = False,
        files: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.convert = convert
        self.limit = limit
        self.choices = choices
        self.repeat = repeat
        self.files = files


SOCKET = Option(
    "--socket",
    "PATH",
    "socket of the daemon (else $SANDBOXD_SOCKET, else the usual one)",
    files=True,
)
JSON = Option("--json", "", "print one JSON object instead of text")
HELP = Option("--help", "", "show this and exit")
VERSION = Option("--version", "", "show the version and exit")

RUN = (
    Option("--cpu-time", "TIME", "CPU time of all processes together", parse_time,
           limit="cpu_time_ns"),
    Option("--wall-time", "TIME", "time from start to end", parse_time, limit="wall_time_ns"),
    Option("--memory", "SIZE", "memory of all processes together", parse_size,
           limit="memory_bytes"),
    Option("--output", "SIZE", "bytes on stdout, and on stderr", parse_size, limit="output_bytes"),
    Option("--file-size", "SIZE", "size of one file", parse_size, limit="file_size_bytes"),
    Option("--disk", "SIZE", "everything written to files", parse_size, limit="disk_bytes"),
    Option("--stack", "SIZE", "stack of one process", parse_size, limit="stack_bytes"),
    Option("--processes", "N", "processes and threads at once", parse_count, limit="processes"),
    Option("--open-files", "N", "open files of one process", parse_count, limit="open_files"),
    Option("--stdin", "FILE", "read the program's stdin from FILE", files=True),
    Option("--env", "K=V", "set a variable of the program's environment", repeat=True),
    Option("--cwd", "DIR", "start in DIR, absolute or below the work directory"),
    Option("--file", "PATH[=NAME]", "copy a file into the work directory", repeat=True, files=True),
    Option("--collect", "GLOB", "copy files of the work directory back when it ends", repeat=True),
    Option("--network", "none|loopback", "which network there is", choices=("none", "loopback")),
    Option("--mode", "fresh|recycled", "a sandbox never used before, or a cleaned one",
           choices=("fresh", "recycled")),
    Option("--tty", "", "give the program a terminal"),
    JSON,
    SOCKET,
    HELP,
)  # fmt: skip
PLAIN = (JSON, SOCKET, HELP)
GLOBAL = (SOCKET, HELP, VERSION)


class CommandSpec:
    """One command: its options, what stands after them, and what `--help` says."""

    __slots__ = ("examples", "name", "options", "positional", "summary", "words")

    def __init__(
        self,
        name: str,
        summary: str,
        options: tuple[Option, ...],
        positional: str = "",
        words: tuple[str, ...] = (),
        examples: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.summary = summary
        self.options = options
        self.positional = positional
        self.words = words
        self.examples = examples


COMMANDS = {
    spec.name: spec
    for spec in (
        CommandSpec(
            "run",
            "run one program in a sandbox",
            RUN,
            "-- PROGRAM [ARGS]",
            examples=(
                "sandboxctl run -- echo hello",
                "sandboxctl run --memory 64M --wall-time 2s --file main.py -- python3 main.py",
                "sandboxctl run --json -- /bin/sh -c 'exit 3'",
                "sandboxctl run --tty -- /bin/sh",
            ),
        ),
        CommandSpec("status", "how the daemon is: queue, slots, counts", PLAIN),
        CommandSpec("check", "what this host can do, feature by feature", PLAIN),
        CommandSpec(
            "completion",
            "print completions for a shell",
            (HELP,),
            "bash|zsh|fish",
            words=("bash", "zsh", "fish"),
            examples=('eval "$(sandboxctl completion bash)"',),
        ),
    )
}


class Command:
    """A parsed command line: values by option name, and what stands after the options."""

    __slots__ = ("args", "spec", "values")

    def __init__(self, spec: CommandSpec, values: dict[str, Any], args: Sequence[str]) -> None:
        self.spec = spec
        self.values = values
        self.args = args

    def __getitem__(self, option: str) -> Any:
        """The value of an option: None or False where it was not given, a list if it repeats."""
        return self.values.get(option)

    def limits(self) -> dict[str, int]:
        """`limits` of the protocol: those that were given."""
        return {
            option.limit: self.values[option.name]
            for option in self.spec.options
            if option.limit and option.name in self.values
        }


def parse_options(
    options: Sequence[Option], argv: Sequence[str]
) -> tuple[dict[str, Any], Sequence[str]]:
    """(values by name, what stands after the options). Raises UsageError.

    Options end at `--`, which is swallowed, or at the first word that is none: what follows belongs
    to the program, whatever it looks like.
    """
    table = {option.name: option for option in options}
    values: dict[str, Any] = {}
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            return values, argv[at + 1 :]
        if not word.startswith("-") or word == "-":
            break
        at += 1
        name, equals, value = word.partition("=")
        option = table.get("--help" if name == "-h" else name)
        if option is None:
            raise UsageError(_unknown("option", name, list(table)))
        if not option.metavar:
            if equals:
                raise UsageError(f"{name} takes no value")
            values[option.name] = True
            continue
        if not equals:
            if at == len(argv):
                raise UsageError(f"{name} needs a value: {name} {option.metavar}")
            value = argv[at]
            at += 1
        _store(values, option, value)
    return values, argv[at:]


def _store(values: dict[str, Any], option: Option, text: str) -> None:
    if option.choices and text not in option.choices:
        raise UsageError(f"{option.name}: {text!r} is not {' or '.join(option.choices)}")
    try:
        value = option.convert(text)
    except ValueError as exc:
        raise UsageError(f"{option.name}: {text!r} is not {exc}") from exc
    if option.repeat:
        values.setdefault(option.name, []).append(value)
    elif option.name in values:
        raise UsageError(f"{option.name} was given twice")
    else:
        values[option.name] = value


def parse(argv: Sequence[str]) -> Command:
    """The command in `argv` (without the program's name). Raises UsageError."""
    values, rest = parse_options(GLOBAL, argv)
    if "--help" in values or "--version" in values or not rest:
        name = rest[0] if rest and rest[0] in COMMANDS else ""
        return Command(COMMANDS.get(name, TOP), values, rest)
    spec = COMMANDS.get(rest[0])
    if spec is None:
        raise UsageError(_unknown("command", rest[0], list(COMMANDS)))
    own, args = parse_options(spec.options, rest[1:])
    command = Command(spec, values | own, args)
    if "--help" not in own:
        _check_args(command)
    return command


def _check_args(command: Command) -> None:
    spec, args = command.spec, command.args
    if spec.name == "run":
        if not args:
            raise UsageError("which program? sandboxctl run [OPTIONS] -- PROGRAM [ARGS]")
    elif spec.words:
        if len(args) != 1 or args[0] not in spec.words:
            raise UsageError(f"{spec.name} needs one of: {', '.join(spec.words)}")
    elif args:
        raise UsageError(f"{spec.name} takes no argument, not {args[0]!r}")


TOP = CommandSpec("", "run untrusted programs, each in a sandbox of its own", GLOBAL, "COMMAND")


def _unknown(kind: str, word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see sandboxctl --help"
    return f"unknown {kind} {word!r}; {hint}"
