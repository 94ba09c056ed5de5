"""What `make run` shows: a real program in a real sandbox, then what a hostile one gets to do.

Starts a sandboxd of its own, compiles and runs picture.c through its socket, then lets forbidden.c
try one forbidden thing after the other. Every figure is from the job's own result. Exits with 1
and one sentence when something that should be prevented was not.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd_client import Client, SandboxdError
from sandboxd_client.private import Daemon

if TYPE_CHECKING:
    from sandboxd_client import Result
    from sandboxd_client.types import Limits

HERE = Path(__file__).resolve().parent
COMPILE = ["gcc", "-O2", "-o"]
MS = 1_000_000
MIB = 1 << 20

# The centre and the width of what picture.c shows.
VIEW = "-0.6 0 4.2\n"

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


class NotEnforced(Exception):
    """A sandboxed program could do what it must not; the message says what."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One forbidden thing: what it is, and the status it must end with.

    The program itself ends with exit code 1 when the kernel refuses, so `nonzero_exit` is the good
    end of everything that is not stopped by a limit.
    """

    name: str
    what: str
    status: str = "nonzero_exit"
    limits: Limits | None = None


ATTEMPTS = (
    Attempt("shadow", "read /etc/shadow"),
    Attempt("usr", "write to /usr/bin"),
    Attempt("connect", "connect to the network"),
    Attempt("kill", "kill pid 1"),
    Attempt("root", "become root"),
    Attempt("ptrace", "trace a process"),
    Attempt("mount", "mount a file system"),
    Attempt("unshare", "make a user namespace"),
    Attempt("fork", "start 500 processes, limit 32", limits={"processes": 32}),
    Attempt("memory", "allocate for ever, limit 64 MiB", "memory_limit",
            {"memory_bytes": 64 * MIB}),
    Attempt("loop", "compute for ever, CPU limit 300 ms", "cpu_time_limit",
            {"cpu_time_ns": 300 * MS}),
    Attempt("wait", "wait for ever, wall limit 200 ms", "wall_time_limit",
            {"wall_time_ns": 200 * MS}),
    Attempt("print", "print for ever, limit 1 MiB", "output_limit", {"output_bytes": MIB}),
)  # fmt: skip


def main() -> int:
    try:
        with Daemon() as daemon, Client(daemon.socket) as client:
            show_picture(client)
            show_attempts(client)
    except (NotEnforced, SandboxdError) as error:
        print(paint(f"make run: {error}", RED), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show_next()
    return 0


def paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if coloured() else text


def coloured() -> bool:
    """https://no-color.org: only on a terminal, and never when the user asks for none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show_picture(client: Client) -> None:
    """Compile and run one program as two stages of one request."""
    print(paint("A program, compiled and run in a sandbox through the daemon's socket", BOLD))
    stages = client.run(
        ["./picture", "colour" if coloured() else "plain"],
        compile={"argv": [*COMPILE, "picture", "picture.c"]},
        files={"picture.c": (HERE / "picture.c").read_bytes()},
        stdin=VIEW,
    )
    if not stages.ok:
        raise NotEnforced(f"the sample did not run: {explain(stages.last)}")
    if stages.run is None:
        raise NotEnforced("the sample was compiled but not run")
    print(stages.run.stdout.decode(errors="replace"), end="")
    print(figures("compile", stages.compile))
    print(figures("run", stages.run))


def figures(stage: str, result: Result) -> str:
    status = paint(f"{result.status:<6}", GREEN if result.ok else RED)
    cpu = f"CPU {result.cpu_time_ns / MS:7.2f} ms"
    wall = f"wall {result.wall_time_ns / MS:7.2f} ms"
    memory = f"peak memory {result.memory_bytes / MIB:6.2f} MiB"
    return f"  {stage:<8} {status} {cpu}   {wall}   {memory}"


def explain(result: Result) -> str:
    details = result.stderr.decode(errors="replace").strip() or result.message
    return f"{result.status}: {details}"


def show_attempts(client: Client) -> None:
    """Compile the hostile program once, then run it once for each thing it tries."""
    print(paint("\nA program that tries what it must not, each time in a sandbox", BOLD))
    built = client.run(
        [*COMPILE, "forbidden", "forbidden.c"],
        files={"forbidden.c": (HERE / "forbidden.c").read_bytes()},
        collect=["forbidden"],
    )
    if not built.ok:
        raise NotEnforced(f"the sample did not compile: {explain(built)}")
    failed = [attempt.what for attempt in ATTEMPTS if not show_attempt(client, built, attempt)]
    if failed:
        raise NotEnforced(f"the sandbox did not stop the program from: {', '.join(failed)}")


def show_attempt(client: Client, built: Result, attempt: Attempt) -> bool:
    result = client.run(
        ["./forbidden", attempt.name],
        files={"forbidden": {"data": built.files["forbidden"], "mode": 0o755}},
        limits=attempt.limits or {},
    )
    stopped = result.status == attempt.status and result.exit_code in (1, None)
    verdict = paint("stopped", GREEN) if stopped else paint("NOT STOPPED", RED)
    print(f"  {attempt.what:<36} {verdict}  {paint(outcome(result), DIM)}")
    return stopped


def outcome(result: Result) -> str:
    """What happened, in the words of the kernel or of the result."""
    spent = {
        "memory_limit": f"at {result.memory_peak_bytes / MIB:.2f} MiB",
        "cpu_time_limit": f"after {result.cpu_time_ns / MS:.1f} ms",
        "wall_time_limit": f"after {result.wall_time_ns / MS:.1f} ms",
        "output_limit": f"after {len(result.stdout) / MIB:.2f} MiB",
    }
    if result.status in spent:
        return f"{result.status} {spent[result.status]}"
    said = result.stdout.decode(errors="replace").strip()
    return said or f"{result.status}: {result.message}"


def show_next() -> None:
    bin_directory = os.path.relpath(Path(sys.executable).parent)
    ctl = f"{bin_directory}/sandboxctl"
    print(paint("\nNext", BOLD))
    print(f"  {ctl} run -- /bin/echo hello")
    print(f"  {ctl} run --memory 64M --cpu-time 1s --json -- python3 -c 'print(2**64)'")
    print(f"  {ctl} check        {paint('what this machine can enforce', DIM)}")
    print(f"  make test · make bench         {paint('prove it · measure it', DIM)}")


if __name__ == "__main__":
    sys.exit(main())
