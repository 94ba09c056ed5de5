"""Compiles the measuring programs and runs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from times import parse_round

if TYPE_CHECKING:
    from collections.abc import Sequence

    from times import Round

BENCH = Path(__file__).resolve().parent
BUILD = BENCH / "build"
OWN = ("true", "sleep", "touch", "flood", "burn")
ATTACKS = ("fixed_work", "fork_bomb", "fork_bomb_setsid", "respawn", "spin")
JAILED = OWN + ATTACKS
FLAGS = ("-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wmissing-prototypes")

# A measuring program that hangs is a failure, not a reason to wait for ever.
TIMEOUT = 120


class BenchError(Exception):
    """The measurement itself failed; the message is for a person."""


def build_all() -> None:
    """Compile everything that is missing or older than its source."""
    BUILD.mkdir(mode=0o755, exist_ok=True)
    for name in ("floor", "load", "stream"):
        _compile(BENCH / f"{name}.c", ())
    for directory, names in (BENCH, OWN), (BENCH.parent / "attacks", ATTACKS):
        for name in names:
            _compile(directory / "programs" / f"{name}.c", ("-static", "-pthread"))
    _compile(BENCH / "programs" / "filter.c", ("-lseccomp",))
    (BUILD / "filter.bpf").write_bytes(run([str(BUILD / "filter")]))


def _compile(source: Path, flags: Sequence[str]) -> None:
    target = BUILD / source.stem
    newest = max(source.stat().st_mtime, (BENCH / "mp.h").stat().st_mtime)
    if target.exists() and target.stat().st_mtime >= newest:
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("a C compiler is needed: apt-get install gcc libc6-dev libseccomp-dev")
    run([compiler, *FLAGS, "-o", str(target), str(source), *flags])


def run(argv: Sequence[str]) -> bytes:
    """Run a program to its end and return its stdout; BenchError says what it printed."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{Path(argv[0]).name} did not end within {TIMEOUT} s") from error
    if done.returncode != 0:
        raise BenchError(_complaint(argv[0], done))
    return done.stdout


def _complaint(program: str, done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"{Path(program).name} ended with {done.returncode}"


def floor(
    argv: Sequence[str],
    *,
    runs: int,
    workers: int = 1,
    gap_us: int = 0,
    file: Path | None = None,
) -> Round:
    """Start `argv` `runs` times in all, in `workers` processes at once."""
    command = [str(BUILD / "floor"), "-n", str(max(1, runs // workers)), "-w", str(workers)]
    command += ["-g", str(gap_us)]
    command += ["-f", str(file)] if file else []
    return parse_round(run([*command, *argv]).decode())


def load(
    socket: Path,
    frame: Path,
    *,
    jobs: int,
    inflight: int = 1,
    connections: int = 1,
    gap_us: int = 0,
    status: str = "ok",
) -> Round:
    """Send the request in `frame` `jobs` times; every answer must have `status`."""
    command = [str(BUILD / "load"), "-n", str(jobs), "-k", str(inflight), "-c", str(connections)]
    command += ["-g", str(gap_us), "-s", status, str(socket), str(frame)]
    return parse_round(run(command).decode())
