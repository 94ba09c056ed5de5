"""The entry point: what was typed, to the module that does it, to an exit status."""

from __future__ import annotations

import os
import sys

from sandboxctl import exitcodes
from sandboxctl.commands import TOP, parse
from sandboxctl.options import UsageError
from sandboxctl.stdio import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxctl.options import Command


def main(argv: Sequence[str] | None = None, stdio: Stdio | None = None) -> int:
    """Do what `argv` says and return the exit status. Never raises, never shows a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    if stdio is None:
        _open_missing()
        stdio = Stdio()
    try:
        return dispatch(argv, stdio)
    except KeyboardInterrupt:
        return exitcodes.INTERRUPTED
    except BrokenPipeError:
        return exitcodes.BROKEN_PIPE
    except UsageError as exc:
        stdio.err(str(exc))
        return exitcodes.SANDBOXD_FAILED if _runs_program(argv) else exitcodes.USAGE
    except Exception as exc:
        code = _failed(exc, stdio)
        return exitcodes.SANDBOXD_FAILED if _runs_program(argv) else code


def _runs_program(argv: Sequence[str]) -> bool:
    """Whether the exit status is that of a program, where 1 and 2 mean something else."""
    command = next((word for word in argv if word in TOP.commands), "")
    return command in ("run", "execute")


def _open_missing() -> None:
    """Make stdin, stdout and stderr be something: a socket must not get one of their numbers."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def dispatch(argv: Sequence[str], stdio: Stdio) -> int:
    """As `main`, but raises."""
    command = parse(argv)
    if command["--version"]:
        from sandboxd import __version__

        stdio.out(f"sandboxctl {__version__}\n")
        return exitcodes.OK
    if command["--help"] or command.spec.commands:
        from sandboxctl.help import help_text

        stdio.out(help_text(command.spec))
        return exitcodes.OK if command["--help"] else exitcodes.USAGE
    return _run(command, stdio)


def _run(command: Command, stdio: Stdio) -> int:
    match command.spec.name.partition(" ")[0]:
        case "run":
            from sandboxctl.run import run
        case "execute":
            from sandboxctl.execute import run
        case "runtimes":
            from sandboxctl.runtimes import run
        case "packages":
            from sandboxctl.packages import run
        case "environments":
            from sandboxctl.environments import run
        case "functions":
            from sandboxctl.functions import run
        case "executions":
            from sandboxctl.executions import run
        case "keys":
            from sandboxctl.keys import run
        case "status":
            from sandboxctl.status import run
        case "check":
            from sandboxctl.check import run
        case _:
            from sandboxctl.completion import run
    return run(command, stdio)


def _failed(exc: Exception, stdio: Stdio) -> int:
    """Say what went wrong; the exit status of a command that runs no program."""
    from sandboxd.protocol.errors import SandboxdError

    if isinstance(exc, SandboxdError):
        stdio.err(str(exc))
    elif isinstance(exc, OSError):
        name = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
        stdio.err(f"{name}{exc.strerror or exc}")
        return exitcodes.FAILED
    elif stdio.environ.get("SANDBOXD_CLIENT_DEBUG"):
        raise exc
    else:
        stdio.err(f"this is a mistake in sandboxctl: {type(exc).__name__}: {exc}")
    return exitcodes.SANDBOXD_FAILED


if __name__ == "__main__":
    sys.exit(main())
