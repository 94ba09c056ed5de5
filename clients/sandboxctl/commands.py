"""Everything that can be typed, as one table."""

from __future__ import annotations

from sandboxctl.function_commands import EXECUTIONS, FUNCTIONS, KEYS
from sandboxctl.options import Command, CommandSpec, Option, parse_command
from sandboxctl.shared_options import (
    COLLECT,
    ENV,
    FILE,
    GLOBAL,
    HELP,
    INDEX,
    JSON,
    LIMITS,
    MODE,
    NETWORK,
    NO_FILE_LOCKS,
    PLAIN,
    QUIET,
    SOCKET,
    STDIN,
)
from sandboxctl.units import parse_size, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = CommandSpec(
    "run",
    "run one program in a sandbox",
    (
        *LIMITS,
        STDIN,
        ENV,
        Option("--cwd", "DIR", "start in DIR, absolute or below the work directory"),
        FILE,
        COLLECT,
        NETWORK,
        MODE,
        NO_FILE_LOCKS,
        Option("--environment", "NAME", "root file system, see sandboxctl environments"),
        Option("--tty", "", "give the program a terminal"),
        *PLAIN,
    ),
    "-- PROGRAM [ARGS]",
    least=1,
    most=1_000_000,
    ours=0,
    missing="which program?",
    examples=(
        "sandboxctl run -- echo hello",
        "sandboxctl run --memory 64M --wall-time 2s --file main.py -- python3 main.py",
        "sandboxctl run --json -- /bin/sh -c 'exit 3'",
        "sandboxctl run --tty -- /bin/sh",
    ),
)
EXECUTE = CommandSpec(
    "execute",
    "compile and run one source file in a sandbox",
    (
        *LIMITS,
        Option("--compile-time", "TIME", "CPU time of the compiler, and its time from start to end",
               parse_time),
        Option("--compile-memory", "SIZE", "memory of the compiler", parse_size),
        STDIN,
        ENV,
        FILE,
        COLLECT,
        NETWORK,
        MODE,
        NO_FILE_LOCKS,
        Option("--interactive", "", "give the program a terminal", short="-i"),
        *PLAIN,
    ),
    "LANGUAGE[=VERSION] FILE [ARGS]",
    least=2,
    most=1_000_000,
    ours=2,
    missing="which language, and which file?",
    files=True,
    examples=(
        "sandboxctl execute python main.py",
        "sandboxctl execute c=12.x main.c one two < input",
        "sandboxctl execute --file helper.py python main.py",
        "echo 'puts 6 * 7' | sandboxctl execute ruby -",
        "sandboxctl execute --interactive python game.py",
    ),
)  # fmt: skip
PACKAGES = CommandSpec(
    "packages",
    "languages to install: what is there, and more of it",
    (SOCKET, HELP),
    "COMMAND",
    commands=(
        CommandSpec(
            "packages list",
            "packages that are installed, or that the index has",
            (
                Option("--available", "", "list those of the index, too"),
                INDEX,
                *PLAIN,
            ),
            examples=("sandboxctl packages list --available",),
        ),
        CommandSpec(
            "packages install",
            "download packages and install them",
            (INDEX, QUIET, *PLAIN),
            "LANGUAGE[=RANGE] ...",
            least=1,
            most=1000,
            missing="which package?",
            examples=(
                "sandboxctl packages install python=3.12.x lua",
                "sandboxctl packages install --index http://localhost:8000/index dash",
            ),
        ),
        CommandSpec(
            "packages uninstall",
            "remove packages; jobs that use them finish",
            PLAIN,
            "LANGUAGE[=RANGE] ...",
            least=1,
            most=1000,
            missing="which package?",
            examples=("sandboxctl packages uninstall python=3.12.0",),
        ),
        CommandSpec(
            "packages spec",
            "install the packages that a file lists, remove others",
            (INDEX, QUIET, *PLAIN),
            "FILE",
            least=1,
            most=1,
            missing="which file?",
            files=True,
            examples=("sandboxctl packages spec languages.pps",),
        ),
        CommandSpec(
            "packages build",
            "pack a directory, and print the line for an index",
            (
                Option("--output", "FILE", "write the archive to FILE", files=True, short="-o"),
                Option("--url", "URL", "where the archive will be, for the line of the index"),
                JSON,
                HELP,
            ),
            "DIRECTORY",
            least=1,
            most=1,
            missing="which directory?",
            files=True,
            examples=("sandboxctl packages build lua -o lua-5.4.6.pkg.tar.gz >> index",),
        ),
    ),
)
ENVIRONMENTS = CommandSpec(
    "environments",
    "root file systems for jobs, by name",
    (SOCKET, HELP),
    "COMMAND",
    commands=(
        CommandSpec("environments list", "environments that are there", PLAIN),
        CommandSpec(
            "environments import",
            "make one of a directory, a tar archive or an OCI image",
            (QUIET, *PLAIN),
            "NAME PATH",
            least=2,
            most=2,
            missing="which name, and from where?",
            files=True,
            examples=(
                "sandboxctl environments import bookworm ./rootfs",
                "sandboxctl environments import alpine alpine-minirootfs.tar.gz",
                "skopeo copy docker://debian:12 oci-archive:/dev/stdout |"
                " sandboxctl environments import debian -",
            ),
        ),
        CommandSpec(
            "environments remove",
            "remove environments; jobs that use them finish",
            PLAIN,
            "NAME ...",
            least=1,
            most=1000,
            missing="which environment?",
        ),
    ),
)
TOP = CommandSpec(
    "",
    "run untrusted programs, each in a sandbox of its own",
    GLOBAL,
    "COMMAND",
    commands=(
        RUN,
        EXECUTE,
        CommandSpec(
            "runtimes",
            "languages that execute knows: versions, other names",
            PLAIN,
            examples=("sandboxctl runtimes --json",),
        ),
        PACKAGES,
        ENVIRONMENTS,
        FUNCTIONS,
        EXECUTIONS,
        KEYS,
        CommandSpec("status", "how the daemon is: queue, slots, counts", PLAIN),
        CommandSpec("check", "what this host can do, feature by feature", PLAIN),
        CommandSpec(
            "completion",
            "print completions for a shell",
            (HELP,),
            "bash|zsh|fish",
            most=1,
            words=("bash", "zsh", "fish"),
            examples=('eval "$(sandboxctl completion bash)"',),
        ),
    ),
)


def parse(argv: Sequence[str]) -> Command:
    """The command in `argv` (without the program's name). Raises UsageError."""
    return parse_command(TOP, {}, argv)


def leaves(spec: CommandSpec = TOP) -> list[CommandSpec]:
    """Every command that does something, in the order of the table."""
    inner = list(spec.commands.values())
    return [leaf for command in inner for leaf in leaves(command)] if inner else [spec]
